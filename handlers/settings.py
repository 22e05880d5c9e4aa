"""What a deployment sets: the environment of a function, read here and nowhere else."""

import os
from functools import cache
from pathlib import Path

from msgspec import structs

from handlers.storage import ObjectStore
from inference import contract
from inference.errors import RunError
from inference.models import Model, read_model
from inference.plan import Limits


class SettingMissingError(RunError):
    """The deployment did not set an environment variable this stage needs. Not retried: deploy again."""


def _read(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise SettingMissingError(f"The function has no environment variable {name}; deploy it again.")
    return value


def infer_limits(memory_mb: int | None, max_concurrency: int | None = None) -> Limits:
    """Return what the Infer function may use, for the plan.

    As deployed, or its version with that memory [MB]; as many at the same time as deployed, or fewer.
    """
    qualifier = contract.memory_alias(memory_mb) if memory_mb is not None else _read("INFER_QUALIFIER")
    limits = Limits(
        memory_mb=memory_mb if memory_mb is not None else int(_read("INFER_MEMORY_MB")),
        timeout_s=int(_read("INFER_TIMEOUT_S")),
        qualifier=qualifier,
    )
    # A deployment made before ranks could talk does not say.
    if starts_per_s := os.environ.get("INFER_STARTS_PER_S"):
        limits = structs.replace(limits, starts_per_s=float(starts_per_s))
    deployed = os.environ.get("INFER_MAX_CONCURRENCY")
    at_most = [int(limit) for limit in (deployed, max_concurrency) if limit]
    return structs.replace(limits, max_concurrency=min(at_most)) if at_most else limits


def rendezvous_endpoint() -> str | None:
    """Return where ranks meet, ``host:port``; None where the deployment has no such server."""
    return os.environ.get("RENDEZVOUS_ENDPOINT") or None


def rendezvous_secret_arn() -> str | None:
    """Return the secret with the server's key; None where the server lets every name in."""
    return os.environ.get("RENDEZVOUS_SECRET_ARN") or None


def model() -> Model:
    """Return the model that is deployed, read once per process."""
    return _model_in(_read("MODEL_FOLDER"))


@cache
def _model_in(folder: str) -> Model:
    return read_model(Path(folder))


def code_version() -> str:
    """Return the version of the deployed code."""
    return _read("CODE_VERSION")


def image_digest() -> str:
    """Return the digest of the container image, or ``local``."""
    return _read("IMAGE_DIGEST")


def function_memory_mb() -> int:
    """Return the configured memory of this function [MB]; Lambda sets it."""
    return int(_read("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"))


def function_name() -> str:
    """Return the name of this function; Lambda sets it."""
    return _read("AWS_LAMBDA_FUNCTION_NAME")


@cache
def object_store(bucket: str) -> ObjectStore:
    """Return the store of a bucket, one per process."""
    return ObjectStore(bucket, requester_pays=bucket == os.environ.get("REQUESTER_PAYS_BUCKET"))
