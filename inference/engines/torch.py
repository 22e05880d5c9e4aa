"""The torch engine: always there, and the definition of the right answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.engines.folded import Dense, FoldedAstroMAE
from inference.model.astromae import Variant
from inference.model.weights import load_astromae
from inference.predict import MICRO_BATCH

NUM_TOKENS = 17
"""Rows of a product per galaxy, for the packing."""


class TorchEngine:
    """AstroMAE in torch, folded for prediction or layer by layer as published; see `inference.predict.Engine`."""

    precision = "fp32"
    micro_batch = MICRO_BATCH

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
        layer_by_layer = as_published or model.variant != Variant()
        self._model = model if layer_by_layer else prepare(FoldedAstroMAE(model))
        self._memory_format = torch.contiguous_format if layer_by_layer else torch.channels_last

    def predict(self, images: NDArray[np.float32], magnitudes: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return one redshift per galaxy of one batch; see `inference.predict.predict_values` for the arrays."""
        with torch.inference_mode():
            # Blocks are views of read-only bytes, which torch may not share.
            batch = torch.tensor(images).contiguous(memory_format=self._memory_format)
            redshifts = self._model(batch, torch.tensor(magnitudes, dtype=torch.float32))
        return np.asarray(redshifts.numpy(), dtype=np.float32)


def prepare(model: FoldedAstroMAE) -> FoldedAstroMAE:
    """Lay the weights out as this CPU multiplies them: channels last in convolutions, oneDNN's blocks in products."""
    model = cast("FoldedAstroMAE", nn.Module.to(model, memory_format=torch.channels_last))  # type: ignore[call-overload]
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        _pack(model)
    return model


def _pack(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, Dense):
            setattr(module, name, PackedDense(child))
        else:
            _pack(child)


class PackedDense(nn.Module):
    """A `Dense` layer whose weights are packed once, and which applies the activation or residual as it goes.

    These operators are the ones torch's own compiler calls; they are not public, and the version of torch is exact.
    """

    def __init__(self, layer: Dense) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight, MICRO_BATCH * NUM_TOKENS)
        self._bias = layer.bias
        self._activation = layer.activation
        self._algorithm = "none" if layer.activation == "gelu" else ""

    def forward(self, rows: Tensor, residual: Tensor | None = None) -> Tensor:
        """Transform (M, inputs) to (M, outputs)."""
        operators = torch.ops.mkldnn
        if residual is None:
            out = operators._linear_pointwise(rows, self._weight, self._bias, self._activation, [], self._algorithm)
        else:
            out = operators._linear_pointwise.binary(rows, residual, self._weight, self._bias, "add")
        return cast("Tensor", out)


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
    # The profiler inside torch.profiler, which would first load torch's compiler: 4 s, and 20 MB of the image.
    with torch.autograd.profiler.profile(profile_memory=True) as trace:
        yield profile
    events = trace.key_averages()
    profile.cpu_time_s = sum(event.self_cpu_time_total for event in events) / 1e6
    profile.allocated_bytes = sum(max(event.self_cpu_memory_usage, 0) for event in events)
