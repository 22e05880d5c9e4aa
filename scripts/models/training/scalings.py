"""Input and output scalings of the network, measured on training rows."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from inference.model.astromae import AstroMAE
from scripts.models.training.pretrain import Images
from scripts.simulation.render import SKY_NOISE

if TYPE_CHECKING:
    from scripts.models.training.rows import TrainingRows

SOFTENING_IN_SKY_NOISE = 2.0
"""Pixels much brighter than this many standard deviations of the sky enter logarithmically."""

NUM_IMAGES = 4_000


@torch.no_grad()
def set_scalings(model: AstroMAE, rows: "TrainingRows") -> None:
    """Fill the scaling buffers of a new model so that its inputs and outputs are centred and of unit variance."""
    set_scalings_of(model, rows.images, rows.magnitudes, rows.redshifts)


@torch.no_grad()
def set_scalings_of(model: AstroMAE, images: Images, magnitudes: Tensor, redshifts: Tensor) -> None:
    """Do the same from cutouts in memory or on disk, of which some are read, and the numbers of their galaxies."""
    model.image_softening.copy_(SOFTENING_IN_SKY_NOISE * torch.from_numpy(SKY_NOISE)[:, None, None])
    spread = torch.linspace(0, len(images) - 1, min(NUM_IMAGES, len(images))).long()
    stretched = torch.asinh(images[spread].to(model.image_softening.device) / model.image_softening)
    _copy(model.image_center, model.image_scale, stretched.transpose(0, 1).flatten(1))
    _copy(model.magnitude_center, model.magnitude_scale, magnitudes.T)
    _copy(model.redshift_center, model.redshift_scale, redshifts[None])


def _copy(center: Tensor, scale: Tensor, values: Tensor) -> None:
    """Store mean and standard deviation of the rows of `values` in two buffers."""
    center.copy_(values.mean(dim=1).view(center.shape))
    scale.copy_(values.std(dim=1).view(scale.shape))
