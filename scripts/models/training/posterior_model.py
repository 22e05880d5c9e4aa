"""Fits the distributions of `inference.posterior` to predicted redshifts, and scales them where nothing was fitted."""

import math
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from inference.distributions import distributions
from inference.posterior import (
    MAX_WIDTH,
    MIN_WIDTH,
    NUM_COMPONENTS,
    NUM_NUMBERS,
    SHIFT_UNIT,
    PosteriorModel,
)
from inference.uncertainty import NUM_FEATURES, Array, Layer, error_features
from scripts.models.training.error_model import Predicted, stored
from scripts.models.training.schedule import warm_cosine

HIDDEN = 32
NUM_STEPS = 4_000
BATCH = 1_024
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-3
WARMUP_STEPS = 100
SEED = 0
START_SHIFTS = (0.0, -0.5, 0.5, 1.0)
START_LOG_WIDTHS = (-0.5, 0.0, 0.0, 1.0)


def fit_posterior_model(
    predicted: Predicted, weights_sha256: str, *, importance: Array | None = None, num_steps: int = NUM_STEPS
) -> PosteriorModel:
    """Maximise the likelihood of the true redshifts.

    Parameters
    ----------
    predicted : Predicted
        Galaxies with redshifts from a network that had not learned from them.
    weights_sha256 : str
        Checksum of the weights whose redshifts are to be described.
    importance : array, shape (N,), float64, optional
        How much each galaxy counts; all the same when absent.
    num_steps : int
        Fewer for fewer galaxies.
    """
    features = error_features(predicted.magnitudes, predicted.z_phot)
    center, scale = stored(features.mean(axis=1)), stored(features.std(axis=1))
    dz = (predicted.z_spec - predicted.z_phot) / (1 + predicted.z_phot)
    model = PosteriorModel(center, scale, (), weights_sha256)
    weight = np.ones(len(dz)) if importance is None else importance
    lowest = -predicted.z_phot.astype(np.float64) / (1 + predicted.z_phot)
    x, y, edge, share = (
        torch.from_numpy(np.ascontiguousarray(array)).float()
        for array in (model.standardise(features).T, dz, lowest, weight)
    )
    layers = _fit(x, y, edge, share, num_steps)
    return replace(model, layers=layers)


def rescaled(model: PosteriorModel, untouched: Predicted, importance: Array | None = None) -> PosteriorModel:
    """Stretch and shift all distributions alike, as is most likely for galaxies that nothing was fitted to.

    Two numbers: a network was fitted to the labels of the galaxies that the shapes come from, so its errors there are
    some percent too small.

    Parameters
    ----------
    model : PosteriorModel
        Fitted to galaxies whose labels the redshift network may have learned from.
    untouched : Predicted
        Galaxies drawn like those of the sky, which neither was fitted to.
    importance : array, shape (N,), float64, optional
        How much each of them counts; all the same when absent.
    """

    def changed(numbers: Array) -> PosteriorModel:
        weight, bias = model.layers[-1]
        stretch, shift = np.exp(numbers[0]), numbers[1]
        is_centre, is_width = np.repeat([[False, True, False], [False, False, True]], NUM_COMPONENTS, axis=1)
        scaled = np.where(is_centre, stretch, 1.0)
        moved = bias * scaled + shift * is_centre + numbers[0] * is_width
        return replace(model, layers=(*model.layers[:-1], Layer(stored(weight * scaled), stored(moved))))

    def surprise(numbers: Array) -> float:
        posteriors = changed(numbers).posteriors(untouched.magnitudes, untouched.z_phot)
        likely = np.maximum(distributions(posteriors).density(untouched.z_spec), 1e-9)
        return float(-np.average(np.log(likely), weights=importance))

    return changed(minimize(surprise, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6}).x)


def steps_for(num_galaxies: int) -> int:
    """Return the number of steps that learn the errors of so many galaxies, and not the galaxies."""
    return int(np.clip(num_galaxies / 6, 150, NUM_STEPS))


def _fit(x: Tensor, dz: Tensor, lowest: Tensor, weight: Tensor, num_steps: int) -> tuple[Layer, ...]:
    """Fit features (N, 6) to the true dz (N,), of which none is below the one of redshift 0."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator = torch.Generator().manual_seed(SEED)
        torch.manual_seed(SEED)
        network = nn.Sequential(
            nn.Linear(NUM_FEATURES, HIDDEN),
            nn.Tanh(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.Tanh(),
            nn.Linear(HIDDEN, NUM_NUMBERS),
        )
        last = network[-1]
        assert isinstance(last, nn.Linear), "it was made above"
        with torch.no_grad():
            # Start at one distribution for all.
            last.weight.mul_(0.1)
            last.bias.copy_(torch.tensor([0.0] * NUM_COMPONENTS + [*START_SHIFTS] + [*START_LOG_WIDTHS]))
        optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = warm_cosine(optimizer, WARMUP_STEPS, num_steps)
        for _ in range(num_steps):
            rows = torch.randint(0, len(dz), (min(BATCH, len(dz)),), generator=generator)
            loss = (weight[rows] * _surprise(network(x[rows]), dz[rows], lowest[rows])).sum() / weight[rows].sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        return tuple(
            Layer(*(stored(array.detach().double().numpy()) for array in (part.weight.T, part.bias)))
            for part in network
            if isinstance(part, nn.Linear)
        )
    finally:
        torch.set_num_threads(num_threads)


def _surprise(outputs: Tensor, dz: Tensor, lowest: Tensor) -> Tensor:
    """Minus the logarithm of the density at the true redshift, (n,), in dz."""
    logit, shift, log_width = outputs.chunk(3, dim=1)
    width = (SHIFT_UNIT * log_width.exp()).clamp(MIN_WIDTH, MAX_WIDTH)
    centre = SHIFT_UNIT * shift
    log_weight = torch.log_softmax(logit, dim=1)
    log_density = -0.5 * ((dz[:, None] - centre) / width) ** 2 - torch.log(width) - 0.5 * math.log(2 * math.pi)
    inside = 1 - (log_weight.exp() * torch.special.ndtr((lowest[:, None] - centre) / width)).sum(dim=1)
    return torch.log(inside.clamp_min(1e-3)) - torch.logsumexp(log_weight + log_density, dim=1)
