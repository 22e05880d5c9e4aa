"""The transformer blocks in a form that trains twice as fast on a CPU: same parameters, same mathematics."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from inference.model.astromae import CONV_GROUPS, WIDTH, ConvBranch


@contextmanager
def fast_blocks() -> Iterator[None]:
    """Swap in dense products for grouped convolutions and plain products for attention over few tokens.

    The CPU kernels of grouped 1x1 convolutions and of fused attention are made for large images and long sequences.
    """
    original = ConvBranch.forward
    ConvBranch.forward = _dense_forward  # type: ignore[method-assign]
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        ConvBranch.forward = original  # type: ignore[method-assign]


def _dense_forward(self: ConvBranch, tokens: Tensor) -> Tensor:
    n, length, _ = tokens[:, 1:].shape
    x = tokens[:, 1:].reshape(n * length, WIDTH)  # (N L, 192)
    x = functional.linear(x, _block_diagonal(self.expand), self.expand.bias)  # (N L, 768)
    x = functional.silu(self.norm(x[:, :, None, None]).flatten(1))
    x = functional.linear(x, _block_diagonal(self.reduce), self.reduce.bias)  # (N L, 192)
    return functional.pad(x.view(n, length, WIDTH), (0, 0, 1, 0))


def _block_diagonal(convolution: nn.Conv2d) -> Tensor:
    outputs, inputs = convolution.weight.shape[:2]
    grouped = convolution.weight.view(CONV_GROUPS, outputs // CONV_GROUPS, inputs)
    dense = grouped.new_zeros(CONV_GROUPS, outputs // CONV_GROUPS, CONV_GROUPS, inputs)
    groups = torch.arange(CONV_GROUPS)
    dense[groups, :, groups] = grouped
    return dense.view(outputs, CONV_GROUPS * inputs)
