"""What a deployment sets: the environment of a function, read here and nowhere else."""

import os
from functools import cache

from handlers.storage import ObjectStore
from inference import engines
from inference.calibration import Calibration, calibration_path, load_calibration
from inference.checkpoints import CHECKPOINT
from inference.errors import RunError, WeightsError
from inference.plan import MB_PER_VCPU, Limits
from inference.predict import Engine


class SettingMissingError(RunError):
    """The deployment did not set an environment variable this stage needs. Not retried: deploy again."""


def _read(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise SettingMissingError(f"The function has no environment variable {name}; deploy it again.")
    return value


def infer_limits() -> Limits:
    """Return what the Infer function may use, for the plan."""
    return Limits(memory_mb=int(_read("INFER_MEMORY_MB")), timeout_s=int(_read("INFER_TIMEOUT_S")))


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
    return ObjectStore(bucket)


@cache
def engine(name: str, precision: str, *, as_published: bool) -> Engine:
    """Return the engine with its weights, loaded once per process."""
    num_threads = max(1, function_memory_mb() // MB_PER_VCPU)
    return engines.load(name, CHECKPOINT, num_threads=num_threads, precision=precision, as_published=as_published)


@cache
def calibration(weights_sha256: str) -> tuple[Calibration | None, str | None]:
    """Return the calibration of the weights that predict, once per process, or None and why there is none.

    Redshifts without sigma are worth having; a sigma that was measured on other weights is not.
    """
    try:
        return load_calibration(calibration_path(CHECKPOINT), weights_sha256), None
    except WeightsError as error:
        return None, f"No sigma and no OUT_OF_DOMAIN flags: {error}"
