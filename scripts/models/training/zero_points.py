"""Zero points of a survey: five numbers after which a network is given magnitudes as it knows them.

Surveys differ first of all by constants, one in each band. A few hundred redshifts find these five numbers, where they
would mislead the millions of weights that could learn the same. They end up in the scalings of the magnitudes, so the
network stays one. What reads the images is left as it is: magnitudes may be off where pixels are not.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.model.astromae import BANDS, IMAGE_FEATURES, AstroMAE
from scripts.models.training.network import Batch, Sample, from_images, from_magnitudes

USUAL_ERROR_MAG = 0.1
"""Standard deviation of a zero point where the galaxies say little of it, as of all five together."""
USUAL_DZ = 0.02
"""Errors of dz beyond this count by their size, those below by their square."""
FEW, MANY = 300, 1_000
"""So many galaxies find about where the zero points are; so many, their differences to some thousandths [mag]."""
NEGLIGIBLE_GAIN = 0.1
"""Of the chi-square."""
MAX_ROUNDS = 30


def fit_zero_points(model: AstroMAE, sample: Sample, rows: Tensor) -> Tensor:
    """Find what is to be added to magnitudes so that the network errs least.

    With 1,000 galaxies the differences from band to band are certain to some thousandths of a magnitude, and the mean
    of the five to some hundredths only, since redshifts show in colours.

    Parameters
    ----------
    model : AstroMAE
        In evaluation mode, without gradients.
    sample : Sample
        With what the frozen parts make of the images.
    rows : tensor, shape (n,), int64
        Of the sample: galaxies to learn from; at most `MANY` of them are looked at.

    Returns
    -------
    tensor, shape (5,), float32
        [mag].

    References
    ----------
    Steps of Gauss and Newton with the weights of Huber 1964, Annals of Mathematical Statistics 35, 73; halved where
    they go too far.
    """
    shift = torch.zeros(len(BANDS), dtype=torch.float64)
    for num in (FEW, MANY):
        some = rows[torch.linspace(0, len(rows) - 1, min(num, len(rows))).long()]
        shift = _descend(shift, _Linearised(model, sample, some.to(sample.magnitudes.device)))
    return shift.float()


@torch.no_grad()
def add_to_magnitudes(model: AstroMAE, shift: Tensor) -> None:
    """Make a network predict for magnitudes what it predicted for these plus `shift`, shape (5,) [mag]."""
    model.magnitude_center.sub_(shift.to(model.magnitude_center))


class _Linearised:
    """Errors of some galaxies, and how they change with the zero points."""

    def __init__(self, model: AstroMAE, sample: Sample, rows: Tensor) -> None:
        joint = model.final[0]
        assert isinstance(joint, nn.Linear), "the branches are joined by a dense layer"
        self.model, self.magnitudes, self.redshifts = model, sample.magnitudes[rows], sample.redshifts[rows]
        of_images, self.of_magnitudes = joint.weight.tensor_split([2 * IMAGE_FEATURES], dim=1)
        with torch.no_grad():
            self.images = functional.linear(from_images(model, sample.batch(rows, "last")), of_images, joint.bias)

    def at(self, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Return the errors of dz in `USUAL_DZ`, (n,), and their derivatives, (n, 5), both float64 on the CPU."""
        model = self.model
        magnitudes = (self.magnitudes + shift.to(self.magnitudes)).requires_grad_()
        with torch.enable_grad():
            hidden = self.images + functional.linear(from_magnitudes(model, Batch(magnitudes)), self.of_magnitudes)
            predicted = model.final[1:](hidden).squeeze(1) * model.redshift_scale + model.redshift_center
            # Each redshift depends on its own row, so the gradient of their sum is that of each.
            (slopes,) = torch.autograd.grad(predicted.sum(), magnitudes)
        unit = USUAL_DZ * (1 + self.redshifts)
        errors = (self.redshifts - predicted.detach()) / unit
        return errors.double().cpu(), (slopes / unit[:, None]).double().cpu()


def _descend(shift: Tensor, galaxies: _Linearised) -> Tensor:
    step, gradient, lowest = torch.zeros_like(shift), torch.zeros_like(shift), torch.inf
    for _ in range(MAX_ROUNDS):
        errors, slopes = galaxies.at(shift + step)
        in_sigma = (shift + step) / USUAL_ERROR_MAG
        loss = functional.huber_loss(errors, torch.zeros_like(errors), reduction="sum") + in_sigma.square().sum() / 2
        if loss < lowest:
            shift, lowest = shift + step, float(loss)
            weighted = slopes / errors.abs().clamp_min(1)[:, None]
            gradient = weighted.T @ errors - in_sigma / USUAL_ERROR_MAG
            step = torch.linalg.solve(slopes.T @ weighted + torch.eye(len(shift)) / USUAL_ERROR_MAG**2, gradient)
        else:
            step = step / 2
        if gradient @ step < NEGLIGIBLE_GAIN:
            break
    return shift
