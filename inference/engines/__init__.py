"""What computes the redshifts: one small interface (`inference.predict.Engine`), one module per library."""

from pathlib import Path

from inference.predict import Engine

NAMES = ("torch",)
"""Engines in order of preference for ``auto``, the fastest first."""


def load(name: str, checkpoint: Path, *, num_threads: int) -> Engine:
    """Load an engine with its weights.

    Parameters
    ----------
    name : str
        ``auto`` or one of `NAMES`.
    checkpoint : Path
        Weights as safetensors.
    num_threads : int
        Threads to compute with; one per vCPU, since a quota hides behind the cores the process sees.

    Raises
    ------
    WeightsError
        If the weights do not fit the network.
    """
    # Imported here: the other stages know the names and never load a library.
    from inference.engines.torch import TorchEngine

    assert name in ("auto", *NAMES), f"{name} passed the contract"
    return TorchEngine(checkpoint, num_threads=num_threads)
