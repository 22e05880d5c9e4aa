"""Whether a galaxy is like those of the training: a density of its photometry and of the light in its cutout.

Eleven numbers describe a galaxy: r, the four colours, in each band the light in the central 16 by 16 pixels compared
with what the magnitude implies, and the concentration of that light in r. So a magnitude that was shifted, swapped or
taken from a neighbour stands out twice, against the other bands and against the image; noise, other units or an empty
image against the magnitudes; a point source by its concentration. Of a model that reads no images the first five count.

A Gaussian mixture over the training galaxies gives their density. A galaxy less likely than all but `FLAGGED_SHARE` of
the selection galaxies is out of domain: its redshift and sigma are kept, but their errors were never measured.

References
----------
Bishop 2006, Pattern Recognition and Machine Learning, chapter 9.2 (Gaussian mixtures) and page 5 (novelty detection).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.cleaning import central
from inference.models import shipped
from inference.models.card import DomainLimits
from inference.uncertainty import R_BAND, Array, photometry_features

NUM_FEATURES = 11
ZERO_POINT = 22.5
"""Magnitude of one nanomaggy."""

FLAGGED_SHARE = 0.01
"""Share of the selection galaxies that the threshold leaves outside: what the flag costs where nothing is wrong."""


@dataclass(frozen=True)
class DomainModel:
    """A Gaussian mixture in standardised features, and the density below which a galaxy is out of domain."""

    center: Array
    """Mean of each feature, shape (11,)."""

    scale: Array
    """Standard deviation of each feature, shape (11,)."""

    log_weight: Array
    """Logarithm of each component's weight times the determinant of its whitening, shape (K,)."""

    mean: Array
    """Centres of the components, shape (K, 11)."""

    whitening: Array
    """Upper triangular; a difference from the centre times it has unit covariance, shape (K, 11, 11)."""

    threshold: float
    """Logarithm of the density below which a galaxy is out of domain."""

    def is_outside(
        self, images: NDArray[np.float32], magnitudes: Array, limits: DomainLimits | None = None
    ) -> NDArray[np.bool_]:
        """Return which galaxies are unlike the training galaxies.

        Parameters
        ----------
        images : array, shape (N, 5, 32, 32), float32
            Sky-subtracted cutouts, cleaned [nanomaggy / pixel].
        magnitudes : array, shape (N, 5), float64
            Dereddened magnitudes, cleaned [mag].
        limits : DomainLimits, optional
            Of the model; those of the shipped one when absent.

        Returns
        -------
        array, shape (N,), bool
            Each one depends on its own row alone, bit for bit; a density that is not a number is outside.
        """
        return ~(self.log_density(domain_features(images, magnitudes, limits)) >= self.threshold)

    def log_density(self, features: Array) -> Array:
        """Return the logarithm of the density up to a constant: (11, N) to (N,)."""
        standardised = (features - self.center[:, None]) / self.scale[:, None]
        parts = [
            log_weight - 0.5 * _squared_length(standardised - mean[:, None], whitening)
            for log_weight, mean, whitening in zip(self.log_weight, self.mean, self.whitening, strict=True)
        ]
        highest: Array = np.maximum.reduce(parts)
        total = np.zeros(features.shape[1])
        for part in parts:
            total += np.exp(part - highest)
        return highest + np.log(total)


def _squared_length(difference: Array, whitening: Array) -> Array:
    """Return the squared Mahalanobis distance, (11, N) to (N,), added up in an order that no batch size changes."""
    total = np.zeros(difference.shape[1])
    for column in range(len(whitening)):
        whitened = np.zeros(difference.shape[1])
        for weight, row in zip(whitening[: column + 1, column], difference, strict=False):
            whitened += weight * row
        total += whitened**2
    return total


def domain_features(images: NDArray[np.float32], magnitudes: Array, limits: DomainLimits | None = None) -> Array:
    """Return the eleven features, one row each: (11, N), float64; of galaxies without images the first five.

    Parameters
    ----------
    images, magnitudes, limits
        See `DomainModel.is_outside`.
    """
    if not images.shape[-1]:
        return photometry_features(magnitudes)
    limits = limits or shipped().card.domain
    assert limits is not None, "only a model whose card has them can be calibrated"
    sky_noise = np.array(limits.sky_noise)
    promised = 10.0 ** (0.4 * (ZERO_POINT - magnitudes))
    aperture, core = (
        _light(images, central(images.shape[-1], width_px)) for width_px in (limits.aperture_px, limits.core_px)
    )
    # Light below the noise is compared in units of it, not as a ratio.
    aperture_noise, core_noise = sky_noise * limits.aperture_px, sky_noise * limits.core_px
    excess = _log_light(aperture, aperture_noise) - _log_light(promised, aperture_noise)
    concentration = _log_light(core, core_noise) - _log_light(aperture, core_noise)
    return np.vstack([photometry_features(magnitudes), excess.T, concentration[:, R_BAND]])


def _light(images: NDArray[np.float32], side: slice) -> Array:
    """Sum the light in a central square of each band: (N, 5) [nanomaggy]."""
    square = np.ascontiguousarray(images[:, :, side, side])
    light: Array = square.reshape(*square.shape[:2], math.prod(square.shape[2:])).sum(axis=2).astype(np.float64)
    return light


def _log_light(light: Array, noise: Array) -> Array:
    """Return a logarithm of light that is linear below its noise, so that it takes negative light too."""
    stretched: Array = np.arcsinh(light / (2 * noise))
    return stretched
