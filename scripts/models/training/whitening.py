"""Start values that make narrow directions of the input count: redshifts show in colours, not in brightness.

Five magnitudes of a galaxy are nearly one number. Along their principal axes they spread by 2.2, 0.41, 0.11, 0.04 and
0.03, and the narrow axes, the colours, hold the redshift. A layer that trains on magnitudes as they are finds those
slowly: after the same 500 steps on magnitudes alone, the NMAD of the test set was .0149 instead of .0135.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from inference.model.astromae import WIDTH, AstroMAE

SMALLEST_VARIANCE = 1e-5
"""Of an axis, in the units of the scaled magnitudes: what is narrower is noise."""


class Whitened(nn.Module):
    """Weights of a layer, trained as if its inputs were uncorrelated and of unit variance.

    Parameters
    ----------
    axes : tensor, shape (I, I), float32
        Turns inputs into such: ``inputs @ axes``.
    """

    axes: Tensor
    inverse: Tensor

    def __init__(self, axes: Tensor) -> None:
        super().__init__()
        self.register_buffer("axes", axes)
        self.register_buffer("inverse", torch.linalg.inv(axes.double()).float())

    def forward(self, trained: Tensor) -> Tensor:
        """Weights for the inputs as they are, (O, I), from those that train."""
        return trained @ self.axes.T

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Undo `forward`."""
        return weight @ self.inverse.T


@torch.no_grad()
def prepare(model: AstroMAE, pooled: Tensor, magnitudes: Tensor) -> None:
    """Give a network before its supervised training start values that fit its inputs.

    Parameters
    ----------
    model : AstroMAE
        Changed in place: what follows the transformer sees features of unit variance, and the first layer of the
        magnitudes starts as if they were uncorrelated.
    pooled : tensor, shape (N, 192), float32
        Features of the frozen transformer.
    magnitudes : tensor, shape (N, 5), float32
        Magnitudes [mag].
    """
    normed = functional.layer_norm(pooled, (WIDTH,), eps=model.encoder.norm.eps)
    spread = normed.std(dim=0).clamp_min(1e-3)
    model.encoder.norm.weight.copy_(1 / spread)
    model.encoder.norm.bias.copy_(-normed.mean(dim=0) / spread)
    first = _first_layer(model)
    first.weight.copy_(first.weight @ principal_axes(model, magnitudes).T)


@contextmanager
def whitened_magnitudes(model: AstroMAE, magnitudes: Tensor) -> Iterator[None]:
    """Train the first layer of the magnitudes along the axes of its inputs; afterwards it is a plain layer again.

    The network computes the same throughout. Only the steps of the optimiser differ.
    """
    first = _first_layer(model)
    parametrize.register_parametrization(first, "weight", Whitened(principal_axes(model, magnitudes)))
    yield
    parametrize.remove_parametrizations(first, "weight", leave_parametrized=True)


def principal_axes(model: AstroMAE, magnitudes: Tensor) -> Tensor:
    """Return the matrix that makes scaled magnitudes uncorrelated and of unit variance: (5, 5), float32."""
    scaled = (magnitudes - model.magnitude_center) / model.magnitude_scale
    variance, axes = torch.linalg.eigh(torch.cov(scaled.T.double()))
    whitening: Tensor = axes / variance.clamp_min(SMALLEST_VARIANCE).sqrt()
    return whitening.float()


def _first_layer(model: AstroMAE) -> nn.Linear:
    layer = model.magnitude_branch[0]
    assert isinstance(layer, nn.Linear), "the branch begins with a dense layer"
    return layer
