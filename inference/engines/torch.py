"""The torch engine: always there, and the definition of the right answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inference.engines.folded import FoldedAstroMAE
from inference.model.weights import load_astromae


class TorchEngine:
    """AstroMAE in torch, folded for prediction or layer by layer as published; see `inference.predict.Engine`."""

    precision = "fp32"

    def __init__(
        self,
        checkpoint: Path,
        sha256: str,
        *,
        num_threads: int,
        as_published: bool = False,
        note: str | None = None,
    ) -> None:
        torch.set_num_threads(num_threads)
        model = load_astromae(checkpoint)
        self.name = f"torch {torch.__version__}"
        self.note = note
        self.num_threads = num_threads
        self.weights_sha256 = sha256
        self.num_parameters = sum(parameter.numel() for parameter in model.parameters())
        self._model = model if as_published else FoldedAstroMAE(model)

    def predict(self, images: NDArray[np.float32], magnitudes: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return one redshift per galaxy of one batch; see `inference.predict.predict_redshift` for the arrays."""
        with torch.inference_mode():
            # Blocks are views of read-only bytes, which torch may not share.
            redshifts = self._model(torch.tensor(images), torch.tensor(magnitudes, dtype=torch.float32))
        return np.asarray(redshifts.numpy(), dtype=np.float32)


@dataclass
class Profile:
    """What torch's profiler summed over its block."""

    cpu_time_s: float = 0.0
    """Self CPU time over all operators [s]: the published ``total_cpu_time``."""

    allocated_bytes: int = 0
    """Sum of the allocations of all operators [bytes], which is not memory in use."""


@contextmanager
def profiler() -> Iterator[Profile]:
    """Profile the block as the published runs did, with memory; the result is filled in when the block ends."""
    profile = Profile()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as trace:
        yield profile
    events = trace.key_averages()
    profile.cpu_time_s = sum(event.self_cpu_time_total for event in events) / 1e6
    profile.allocated_bytes = sum(max(event.self_cpu_memory_usage, 0) for event in events)
