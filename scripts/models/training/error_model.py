"""Fits the error model of `inference.uncertainty`: its shape on residuals, its scale where nothing was fitted."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.uncertainty import NUM_FEATURES, Array, ErrorModel, Layer, conformal_factor, error_features
from scripts.models.training.schedule import warm_cosine

HIDDEN = 32
NUM_EPOCHS = 60
BATCH = 256
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-3
WARMUP_STEPS = 50
SEED = 0


class Predicted(NamedTuple):
    """Galaxies and what the network said about them."""

    magnitudes: Array
    """Shape (N, 5) [mag]."""

    z_phot: NDArray[np.float32]
    """Shape (N,)."""

    z_spec: Array
    """Shape (N,)."""


def fit_error_model(taught: Predicted, untouched: Predicted) -> ErrorModel:
    """Learn the shape of the errors from some galaxies, and the factors that make its intervals cover from others.

    Parameters
    ----------
    taught : Predicted
        May be galaxies whose labels the network was fitted to; see `inference.uncertainty`.
    untouched : Predicted
        Galaxies drawn like those of the sky, which neither the network nor the shape was fitted to.
    """
    features = error_features(taught.magnitudes, taught.z_phot)
    center, scale = stored(features.mean(axis=1)), stored(features.std(axis=1))
    model = ErrorModel(center=center, scale=scale, layers=(), factor_68=1.0, factor_95=1.0)
    error = np.abs(taught.z_phot - taught.z_spec) / (1 + taught.z_phot)
    model = replace(model, layers=_fit_layers(model.standardise(features), error))
    scores = conformal_scores(model, untouched)
    return replace(model, factor_68=conformal_factor(scores, 0.68), factor_95=conformal_factor(scores, 0.95))


def fit_error_model_by_folds(predicted: Predicted, fold: NDArray[np.int64]) -> ErrorModel:
    """Do the same where no galaxies can be spared: each fold is scored by a shape learned from the others.

    Parameters
    ----------
    predicted : Predicted
        Galaxies with redshifts from networks that had not learned from them.
    fold : array, shape (N,), int64
        Of each galaxy.
    """
    scores = np.empty(len(fold))
    for one in np.unique(fold):
        asked = fold == one
        others, mine = (Predicted(*(column[rows] for column in predicted)) for rows in (~asked, asked))
        scores[asked] = conformal_scores(fit_error_model(others, mine), mine)
    shape = fit_error_model(predicted, predicted)
    return replace(shape, factor_68=conformal_factor(scores, 0.68), factor_95=conformal_factor(scores, 0.95))


def conformal_scores(model: ErrorModel, galaxies: Predicted) -> Array:
    """Return the error of each redshift over what the shape expects, shape (N,)."""
    scores: Array = np.abs(galaxies.z_phot - galaxies.z_spec) / model.expected_error(
        galaxies.magnitudes, galaxies.z_phot
    )
    return scores


def stored(array: Array) -> Array:
    """Return an array as the calibration's file will hold it, so that what is measured is what is shipped."""
    return array.astype(np.float32).astype(np.float64)


def _fit_layers(features: Array, error: Array) -> tuple[Layer, ...]:
    """Fit the logarithm of the mean error by a Laplace likelihood: features (6, N), error (N,)."""
    torch.manual_seed(SEED)
    # Products this small only wait for a second thread, and the order of its sums would be another.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _descend(features, error)
    finally:
        torch.set_num_threads(num_threads)


def _descend(features: Array, error: Array) -> tuple[Layer, ...]:
    x, y = torch.from_numpy(features.T).float(), torch.from_numpy(error).float()
    network = nn.Sequential(
        nn.Linear(NUM_FEATURES, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1)
    )
    last = network[-1]
    assert isinstance(last, nn.Linear), "it was made above"
    with torch.no_grad():
        # Start at one error for all.
        last.weight.mul_(0.1)
        last.bias.fill_(float(np.log(error.mean())))
    num_batches = max(1, len(y) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = warm_cosine(optimizer, WARMUP_STEPS, NUM_EPOCHS * num_batches)
    for _ in range(NUM_EPOCHS):
        for rows in torch.randperm(len(y)).chunk(num_batches):
            loss = _laplace_loss(network(x[rows]).squeeze(1), y[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return tuple(_layer(part) for part in network if isinstance(part, nn.Linear))


def _laplace_loss(log_error: Tensor, error: Tensor) -> Tensor:
    return (log_error + error * torch.exp(-log_error)).mean()


def _layer(linear: nn.Linear) -> Layer:
    weight, bias = (parameter.detach().double().numpy() for parameter in (linear.weight, linear.bias))
    return Layer(np.ascontiguousarray(weight.T), bias)
