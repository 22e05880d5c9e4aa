"""Synthetic galaxies: real ones moved to other redshifts, as a survey would select and measure them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.simulation import sed
from scripts.simulation.cosmology import (
    comoving_distance_mpc,
    distance_modulus,
    redshift_at_comoving_distance,
)
from scripts.simulation.photometry import Photometry
from scripts.simulation.sdss import SourceCatalog

MAIN_SAMPLE_LIMIT_R = 17.77
"""Magnitude limit of the SDSS Main Galaxy Sample (Strauss et al. 2002)."""
RED_SHARE = 0.15
"""Share of luminous red galaxies, which reach higher redshifts (Eisenstein et al. 2001, Dawson et al. 2013)."""
RED_LIMIT_R = 19.9
RED_REDSHIFTS = (0.25, 0.55)
RED_ABSOLUTE_R = -22.0
RED_REST_COLOR = 0.72
MIN_REDSHIFT = 0.015

TEMPLATE_ERROR = 0.03
"""Relative error added in the template fit, and the floor of a synthetic flux error relative to what was measured."""
RESIDUAL_SIGNAL_TO_NOISE = 20.0
"""Bands measured better than this keep their departure from the templates when the galaxy is moved."""

NUM_UNIFORM = 3
NUM_NORMAL = 5


@dataclass(frozen=True)
class SyntheticGalaxies:
    """N synthetic galaxies."""

    photometry: Photometry
    """As measured, with errors."""

    true_photometry: Photometry
    """Without measurement errors: the light of the images."""

    redshift: NDArray[np.float64]
    absolute_r: NDArray[np.float64]
    rest_g_minus_r: NDArray[np.float64]


class Population:
    """Distribution of synthetic galaxies around a set of real source galaxies.

    Each main-sample galaxy is placed uniformly in the comoving volume within which it is brighter than the survey's
    limit; a share of luminous red galaxies does the same at higher redshift. Because the sources are themselves a
    magnitude-limited sample, every source is equally likely and luminosities come out as observed.

    Parameters
    ----------
    sources : SourceCatalog
        Real galaxies. Give training sources only to make training rows.
    """

    def __init__(self, sources: SourceCatalog) -> None:
        self._photometry = sources.photometry
        self._z = sources.redshift
        self._flux = self._photometry.model_flux * 10 ** (0.4 * self._photometry.extinction)
        error = self._photometry.model_flux_error * 10 ** (0.4 * self._photometry.extinction)
        self._coefficients = sed.fit(self._z, np.maximum(self._flux, 0), np.hypot(error, TEMPLATE_ERROR * self._flux))
        self._template_flux = sed.fluxes(self._z, self._coefficients)
        rest = 22.5 - 2.5 * np.log10(sed.fluxes(np.zeros(len(self._z)), self._coefficients))
        self._rest_color = rest[:, 1] - rest[:, 2]
        self._absolute_r = rest[:, 2] - distance_modulus(self._z)

        is_main = self._apparent_r(self._z) < MAIN_SAMPLE_LIMIT_R
        is_red = (self._absolute_r < RED_ABSOLUTE_R) & (self._rest_color > RED_REST_COLOR)
        main_limit, red_limit = self._limit(MAIN_SAMPLE_LIMIT_R), np.minimum(self._limit(RED_LIMIT_R), RED_REDSHIFTS[1])
        self._main = np.flatnonzero(is_main & (main_limit > MIN_REDSHIFT))
        self._red = np.flatnonzero(is_red & (red_limit > RED_REDSHIFTS[0]))
        self._main_limit, self._red_limit = main_limit[self._main], red_limit[self._red]

    def draw(
        self, object_id: NDArray[np.int64], uniform: NDArray[np.float64], normal: NDArray[np.float64]
    ) -> SyntheticGalaxies:
        """Make one galaxy per row of chance numbers.

        Parameters
        ----------
        object_id : array, shape (N,), int64
            Identifiers of the new galaxies.
        uniform : array, shape (N, 3), float64
            Numbers in [0, 1): kind, source, place.
        normal : array, shape (N, 5), float64
            Standard normal numbers: measurement errors of the bands.
        """
        kind, source_chance, place = uniform.T
        is_red = kind < RED_SHARE
        pick = np.where(is_red, source_chance * len(self._red), source_chance * len(self._main)).astype(np.intp)
        red_pick, main_pick = np.where(is_red, pick, 0), np.where(is_red, 0, pick)
        source = np.where(is_red, self._red[red_pick], self._main[main_pick])
        nearest = np.where(is_red, RED_REDSHIFTS[0], MIN_REDSHIFT)
        farthest = np.where(is_red, self._red_limit[red_pick], self._main_limit[main_pick])
        near, far = comoving_distance_mpc(nearest) ** 3, comoving_distance_mpc(farthest) ** 3
        z = redshift_at_comoving_distance(np.cbrt(near + place * (far - near)))
        true, measured = self._observe(source, z, object_id, normal)
        return SyntheticGalaxies(measured, true, z, self._absolute_r[source], self._rest_color[source])

    def _observe(
        self,
        source: NDArray[np.intp],
        z: NDArray[np.float64],
        object_id: NDArray[np.int64],
        normal: NDArray[np.float64],
    ) -> tuple[Photometry, Photometry]:
        old = self._photometry[source]
        dimming = 10 ** (-0.4 * (distance_modulus(z) - distance_modulus(self._z[source])))[:, None]
        template_flux = sed.fluxes(z, self._coefficients[source]) * dimming
        residual = np.maximum(self._flux[source], 1e-3) / self._template_flux[source]
        noise_share = (old.model_flux_error / np.maximum(old.model_flux, 1e-3) * RESIDUAL_SIGNAL_TO_NOISE) ** 2
        flux = template_flux * residual ** (1 / (1 + noise_share)) * 10 ** (-0.4 * old.extinction)
        # Sky and photons both matter: between a constant error and one that follows the square root of the flux.
        error = old.model_flux_error * (flux / np.maximum(old.model_flux, 1e-3)) ** 0.25
        petrosian_ratio = 10 ** (-0.4 * old.petrosian_minus_model)
        true = Photometry(object_id, flux, error, flux * petrosian_ratio, old.extinction)
        measured = flux + error * normal
        return true, Photometry(object_id, measured, error, measured * petrosian_ratio, old.extinction)

    def _apparent_r(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        dimming = distance_modulus(z) - distance_modulus(self._z)
        return np.asarray(22.5 - 2.5 * np.log10(sed.fluxes(z, self._coefficients)[:, 2]) + dimming)

    def _limit(self, magnitude_r: float) -> NDArray[np.float64]:
        """Redshift at which each source fades to a magnitude, by bisection."""
        low, high = np.full(len(self._z), 0.005), np.full(len(self._z), sed.MAX_REDSHIFT - 0.01)
        for _ in range(16):
            middle = (low + high) / 2
            is_brighter = self._apparent_r(middle) < magnitude_r
            low, high = np.where(is_brighter, middle, low), np.where(is_brighter, high, middle)
        return low
