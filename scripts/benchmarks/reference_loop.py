"""The inference loop the published runs timed, in our own words: what every speed here is a ratio to.

torch's profiler with memory around everything, a DataLoader over a TensorDataset, a garbage collection after every
batch, no_grad, and the network layer by layer. References: Staylor et al. 2025, arXiv:2501.06249.
"""

import gc
from contextlib import nullcontext
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, TensorDataset

from inference.model.astromae import AstroMAE


def predict(
    model: AstroMAE, images: torch.Tensor, magnitudes: torch.Tensor, *, batch_size: int, profiled: bool = True
) -> tuple[torch.Tensor, float | None]:
    """Return the redshifts and the profiler's total CPU time [s]; without profiler and collections, None."""
    loader = DataLoader(TensorDataset(images, magnitudes), batch_size=batch_size, shuffle=False)
    redshifts = []
    tracing: Any = profile(activities=[ProfilerActivity.CPU], profile_memory=True) if profiled else nullcontext()
    with tracing as trace, torch.no_grad():
        for batch_images, batch_magnitudes in loader:
            redshifts.append(model(batch_images, batch_magnitudes))
            if profiled:
                gc.collect()
    total_s = sum(event.self_cpu_time_total for event in trace.key_averages()) / 1e6 if profiled else None
    return torch.cat(redshifts), total_s
