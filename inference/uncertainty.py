"""How wrong a redshift may be: an error model of brightness, colour and redshift, scaled until its intervals cover.

The network gives one number, so its error is learned separately, in two steps that use different galaxies:

1. The *shape*. A small network (6-32-32-1) learns from residuals how the error depends on r, the four colours and
   z_phot: the mean of abs(dz), by a Laplace likelihood, which outliers do not rule. Its galaxies are the training
   sources in renderings and simulations the redshift network never saw. That network was fitted to their labels all
   the same, so their residuals are some percent too small; the shape does not mind, and the scale is set elsewhere.
2. The *scale*. Split conformal prediction: on the selection galaxies, which no weight was fitted to, the factor is
   chosen with which z_phot ± sigma holds 68 % of the redshifts, and a second one for 95 %. For a galaxy drawn like
   these the coverage holds however good the shape is; a good shape makes it hold for bright and faint, near and far.

Chosen over a second output of the network, whose size is part of the published architecture, and over an ensemble,
which multiplies the cost of a run and needs a conformal step as well.

References
----------
Lei et al. 2018, JASA 113, 1094, section 5.2 (locally weighted split conformal prediction); Vovk, Gammerman & Shafer
2005, Algorithmic Learning in a Random World.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

R_BAND = 2
NUM_FEATURES = 6
MAX_FEATURE = 4.0
"""Features further out, in standard deviations, count as this far: the error model must not extrapolate."""


class Layer(NamedTuple):
    """A dense layer."""

    weight: Array
    """Shape (inputs, outputs)."""

    bias: Array
    """Shape (outputs,)."""


@dataclass(frozen=True)
class FeatureNetwork:
    """A small network that sees what is known about a galaxy: the features of `error_features`."""

    center: Array
    """Mean of each feature, shape (6,)."""

    scale: Array
    """Standard deviation of each feature, shape (6,)."""

    layers: tuple[Layer, ...]
    """Dense layers with tanh between them."""

    def standardise(self, features: Array) -> Array:
        """Return features, (6, N), in units of their scatter, limited to `MAX_FEATURE`."""
        return np.clip((features - self.center[:, None]) / self.scale[:, None], -MAX_FEATURE, MAX_FEATURE)

    def outputs(self, magnitudes: Array, z_phot: NDArray[np.floating]) -> Array:
        """Return what the last layer says of each galaxy: (N, 5) and (N,) to (outputs, N), float64."""
        hidden = self.standardise(error_features(magnitudes, z_phot))
        for layer in self.layers[:-1]:
            hidden = np.tanh(dense(hidden, layer))
        return dense(hidden, self.layers[-1])


@dataclass(frozen=True)
class ErrorModel(FeatureNetwork):
    """Predicts the typical error of a redshift: the last layer gives the logarithm of the mean abs(dz)."""

    factor_68: float
    """Conformal factor of sigma."""

    factor_95: float
    """Conformal factor of the 95 % interval."""

    @property
    def ratio_95(self) -> float:
        """Half-width of the 95 % interval in units of sigma."""
        return self.factor_95 / self.factor_68

    def sigma(self, magnitudes: Array, z_phot: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the half-width of the interval z_phot ± sigma that holds 68 % of the galaxies.

        Parameters
        ----------
        magnitudes : array, shape (N, 5), float64
            Dereddened magnitudes in u, g, r, i, z [mag].
        z_phot : array, shape (N,)
            Redshifts that the network predicted from them and the images.

        Returns
        -------
        array, shape (N,), float32
            Each one depends on its own row alone, bit for bit.
        """
        return (self.factor_68 * self.expected_error(magnitudes, z_phot)).astype(np.float32)

    def expected_error(self, magnitudes: Array, z_phot: NDArray[np.floating]) -> Array:
        """Return the uncalibrated error of each redshift, in z, shape (N,), float64."""
        expected: Array = np.exp(self.outputs(magnitudes, z_phot)[0]) * (1.0 + z_phot.astype(np.float64))
        return expected


def error_features(magnitudes: Array, z_phot: NDArray[np.floating]) -> Array:
    """Return r, u-g, g-r, r-i, i-z and z_phot, one row each: (6, N)."""
    return np.vstack([photometry_features(magnitudes), z_phot])


def photometry_features(magnitudes: Array) -> Array:
    """Return r and the four colours, one row each: (5, N) [mag]."""
    bands = magnitudes.T
    return np.vstack([bands[R_BAND], bands[:-1] - bands[1:]])


def dense(rows: Array, layer: Layer) -> Array:
    """Apply a layer to columns of galaxies, (inputs, N) to (outputs, N), term by term.

    A matrix product would round a galaxy by the number of its neighbours: it would get another sigma in another batch.
    """
    total = np.repeat(layer.bias[:, None], rows.shape[1], axis=1)
    for weights, row in zip(layer.weight, rows, strict=True):
        total += weights[:, None] * row
    return total


def conformal_factor(scores: Array, coverage: float) -> float:
    """Return the factor that covers at least `coverage` of galaxies drawn like those with these scores.

    Parameters
    ----------
    scores : array, shape (N,), float64
        Error over expected error of galaxies that nothing was fitted to.
    coverage : float
        Between 0 and 1.

    References
    ----------
    Lei et al. 2018, JASA 113, 1094: the smallest score of rank ceil((N + 1) · coverage).
    """
    rank = min(math.ceil((len(scores) + 1) * coverage), len(scores))
    return float(np.sort(scores)[rank - 1])
