"""How a model is loaded: its card, its engine and its calibration."""

import os
import warnings
from pathlib import Path

from inference import engines
from inference.calibration import find_calibration
from inference.errors import EngineError
from inference.models import SHIPPED, read_model
from inference.models.card import Redshift
from inference.redshift_model import RedshiftModel


def load_model(
    model: str | Path = SHIPPED,
    *,
    engine: str = "auto",
    precision: str = "fp32",
    num_threads: int | None = None,
) -> RedshiftModel:
    """Load a model and its calibration.

    Parameters
    ----------
    model : path
        Folder of a model, such as ``models/mine``; the shipped one when absent.
    engine : str
        What computes: ``auto`` is what a run takes, ``native``; or ``onnxruntime``, ``openvino``, ``torch``. One that
        cannot be used is replaced, with a warning: ``native`` by ``onnxruntime``, the others by ``torch``.
    precision : str
        ``fp32``, or ``int8`` or ``bf16`` where they were found accurate enough.
    num_threads : int, optional
        Threads to compute with; one per CPU that this process may use when absent.

    Returns
    -------
    RedshiftModel

    Raises
    ------
    ModelError
        If the folder is none of a model.
    WeightsError
        If the weights are missing or do not fit the network.
    EngineError
        If the engine is unknown, or the precision is not available.
    """
    if engine not in ("auto", *engines.NAMES):
        raise EngineError(f"There is no engine {engine}; use auto, {', '.join(engines.NAMES)}.")
    found = read_model(Path(model))
    computing = engines.load_model(engine, found, num_threads=num_threads or _num_cpus(), precision=precision)
    calibration, sigma_note = find_calibration(
        found.weights, computing.weights_sha256, needs_one=isinstance(found.card.output, Redshift)
    )
    for note in filter(None, (computing.note, sigma_note)):
        warnings.warn(note, stacklevel=2)
    return RedshiftModel(computing, calibration, found.card)


def _num_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
