"""Input and output scalings of the network, measured on training rows."""

import torch
from torch import Tensor

from inference.model.astromae import AstroMAE
from scripts.models.training.rows import TrainingRows
from scripts.simulation.render import SKY_NOISE

SOFTENING_IN_SKY_NOISE = 2.0
"""Pixels much brighter than this many standard deviations of the sky enter logarithmically."""

NUM_IMAGES = 4_000


@torch.no_grad()
def set_scalings(model: AstroMAE, rows: TrainingRows) -> None:
    """Fill the scaling buffers of a new model so that its inputs and outputs are centred and of unit variance."""
    model.image_softening.copy_(SOFTENING_IN_SKY_NOISE * torch.from_numpy(SKY_NOISE)[:, None, None])
    spread = torch.linspace(0, len(rows) - 1, min(NUM_IMAGES, len(rows))).long()
    stretched = torch.asinh(rows.images[spread] / model.image_softening)
    _copy(model.image_center, model.image_scale, stretched.transpose(0, 1).flatten(1))
    _copy(model.magnitude_center, model.magnitude_scale, rows.magnitudes.T)
    _copy(model.redshift_center, model.redshift_scale, rows.redshifts[None])


def _copy(center: Tensor, scale: Tensor, values: Tensor) -> None:
    """Store mean and standard deviation of the rows of `values` in two buffers."""
    center.copy_(values.mean(dim=1).view(center.shape))
    scale.copy_(values.std(dim=1).view(scale.shape))
