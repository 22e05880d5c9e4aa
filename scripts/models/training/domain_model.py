"""Fits the density of `inference.domain`: a mixture over training galaxies, its threshold on untouched ones."""

import warnings
from dataclasses import replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from inference.domain import FLAGGED_SHARE, DomainModel
from inference.uncertainty import Array
from scripts.models.training.error_model import stored

NUM_COMPONENTS = 8
"""Four leave shifted bands inside that eight find; sixteen find no more."""
REGULARISATION = 1e-3
"""Added to the variances of the standardised features: no component may shrink onto a few galaxies."""
MAX_ITERATIONS = 200
SEED = 0


def fit_domain_model(taught: Array, untouched: Array) -> DomainModel:
    """Fit the density of the training galaxies, and put the threshold where few untouched ones fall below.

    Parameters
    ----------
    taught, untouched : array, shape (11, N), float64
        See `inference.domain.domain_features`.
    """
    center, scale = stored(taught.mean(axis=1)), stored(taught.std(axis=1))
    mixture = GaussianMixture(NUM_COMPONENTS, reg_covar=REGULARISATION, max_iter=MAX_ITERATIONS, random_state=SEED)
    # One thread: the same sums in the same order on any machine's number of cores.
    with warnings.catch_warnings(), threadpool_limits(1):
        # The last iterations move densities in the third digit; the threshold is set afterwards anyway.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(((taught - center[:, None]) / scale[:, None]).T)
    # A precision's Cholesky factor is upper triangular, and its diagonal multiplies to the root of its determinant.
    whitening = np.asarray(mixture.precisions_cholesky_)
    log_determinant = np.log(np.diagonal(whitening, axis1=1, axis2=2)).sum(axis=1)
    model = DomainModel(
        center=center,
        scale=scale,
        log_weight=stored(np.log(mixture.weights_) + log_determinant),
        mean=stored(mixture.means_),
        whitening=stored(whitening),
        threshold=-np.inf,
    )
    return replace(model, threshold=float(np.quantile(model.log_density(untouched), FLAGGED_SHARE)))
