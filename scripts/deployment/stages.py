"""The three functions as the table of stages describes them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.command.repository import REPOSITORY

STAGES_PATH = REPOSITORY / "terraform" / "stages.json"


def read_stages() -> dict[str, dict[str, Any]]:
    """Return ``terraform/stages.json``: stage to its handler, memory, timeout and ephemeral storage."""
    stages: dict[str, dict[str, Any]] = json.loads(STAGES_PATH.read_text())
    return stages


def function_variables(
    stages: Mapping[str, Mapping[str, Any]],
    *,
    code_version: str,
    image_digest: str,
    max_concurrency: int | None = None,
    starts_per_s: float = 100,
    rendezvous: str = "",
    model: Path | None = None,
) -> dict[str, str]:
    """Return what a deployment sets in the environment of every function.

    Parameters
    ----------
    stages : mapping
        See `read_stages`.
    code_version, image_digest : str
        What the records state.
    max_concurrency : int, optional
        Ranks that run at the same time, where that is known.
    starts_per_s : float
        Ranks that are started in a second.
    rendezvous : str
        Where ranks meet, ``host:port``; empty where there is no such server.
    model : Path, optional
        Folder of the model; where it is absent, what the function runs in names one, as an image does.
    """
    variables = {"CODE_VERSION": code_version, "IMAGE_DIGEST": image_digest}
    if model is not None:
        variables["MODEL_FOLDER"] = str(model.resolve())
    if "infer" in stages:
        # Initialize refuses a plan whose ranks would not fit the Infer function.
        variables["INFER_MEMORY_MB"] = str(stages["infer"]["memory_mb"])
        variables["INFER_QUALIFIER"] = "$LATEST"
        variables["INFER_TIMEOUT_S"] = str(stages["infer"]["timeout_s"])
        if max_concurrency:
            # And ranks that talk to each other must be alive at the same time.
            variables["INFER_MAX_CONCURRENCY"] = str(max_concurrency)
            variables["INFER_STARTS_PER_S"] = f"{starts_per_s:g}"
    if rendezvous:
        variables["RENDEZVOUS_ENDPOINT"] = rendezvous
    return variables
