"""Sizes and shapes of galaxies: from what is measured for real ones, from physics for synthetic ones."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scripts.simulation.cosmology import angular_diameter_distance_mpc
from scripts.simulation.photometry import Photometry

ARCSEC_PER_RADIAN = 206_264.806
RADIUS_LIMITS_ARCSEC = (0.3, 25.0)

# Fitted by fit_sizes.py to 2,468 real SDSS galaxies of the public repository CurtinIDS/cic-ml-workshop
# (CC-BY-4.0; Galaxy Zoo: Lintott et al. 2008, 2011; SDSS): exponential and de Vaucouleurs half-light radii and axis
# ratios in r. The terms are those of `quadratic_terms`.
APPARENT_LAW = np.array([0.2965, -0.1199, -0.4199, 0.0113, -0.0123, 0.1286])
"""log10 disc radius [arcsec] from r - 17 and g - r - 0.8."""
PHYSICAL_LAW = np.array([0.5871, -0.153, -0.6228, 0.0067, 0.0544, 0.2157])
"""log10 disc radius [kpc] from M_r + 21.5 and rest-frame g - r - 0.65."""
LOG_RADIUS_SCATTER = 0.19
LOG_BULGE_OVER_DISC_RADIUS = 0.243
LOG_BULGE_OVER_DISC_SCATTER = 0.106
AXIS_RATIO_LOGIT_LAW = np.array([0.7301, 0.3371])
"""logit of the axis ratio from 1 and g - r - 0.8."""
AXIS_RATIO_LOGIT_SCATTER = 1.1

PETROSIAN_LAW = np.array(
    [
        [0.0339, 0.0002, 0.1448, -0.0005, -0.0322, -0.0786],
        [0.0324, -0.0436, 0.153, -0.0107, -0.0335, -0.1056],
        [0.0525, -0.0419, 0.1542, -0.0089, -0.0089, -0.1307],
        [0.0682, -0.0376, 0.1374, -0.0078, -0.0025, -0.1208],
        [0.0992, -0.051, 0.1241, -0.0081, 0.0242, -0.0894],
    ]
)
"""Median Petrosian minus model magnitude in u, g, r, i, z from r - 17 and g - r - 0.8 [mag], fitted by
fit_petrosian.py to the 6,197 real training galaxies of `sdss.py`."""


class Structure(NamedTuple):
    """Profile of N galaxies: an exponential disc and a de Vaucouleurs bulge with common axes."""

    disc_radius_arcsec: NDArray[np.float64]
    """Half-light radius of the disc along the major axis, shape (N,)."""

    bulge_radius_arcsec: NDArray[np.float64]
    """Half-light radius of the bulge along the major axis, shape (N,)."""

    axis_ratio: NDArray[np.float64]
    """Minor over major axis, shape (N,)."""

    angle_rad: NDArray[np.float64]
    """Direction of the major axis, shape (N,)."""

    bulge_fraction: NDArray[np.float64]
    """Share of the bulge in the light of r, shape (N,)."""


NUM_CHANCES = 5
"""Standard normal numbers each galaxy's structure takes."""


def apparent_structure(photometry: Photometry, chances: NDArray[np.float64]) -> Structure:
    """Guess the structure of galaxies from their photometry and chance alone.

    Real galaxies come without sizes. Drawing those from a law that knows the redshift would write the label into the
    image, so this function is given no redshift.

    Parameters
    ----------
    photometry : Photometry
        N galaxies.
    chances : array, shape (N, 5), float64
        Standard normal numbers.

    Returns
    -------
    Structure
        Plausible, not true, structure.
    """
    magnitudes = photometry.magnitudes
    color = magnitudes[:, 1] - magnitudes[:, 2] - 0.8
    log_radius = quadratic_terms(np.clip(magnitudes[:, 2] - 17, -4, 3), np.clip(color, -0.7, 1.0)) @ APPARENT_LAW
    return _assemble(log_radius, photometry, chances)


def physical_structure(
    photometry: Photometry,
    absolute_r: NDArray[np.float64],
    rest_g_minus_r: NDArray[np.float64],
    redshift: NDArray[np.float64],
    chances: NDArray[np.float64],
) -> Structure:
    """Draw the structure of synthetic galaxies from luminosity, rest-frame colour and distance.

    Parameters
    ----------
    photometry : Photometry
        N galaxies as observed.
    absolute_r, rest_g_minus_r : array, shape (N,), float64
        Absolute magnitude in r and colour at rest [mag].
    redshift : array, shape (N,), float64
        True redshift.
    chances : array, shape (N, 5), float64
        Standard normal numbers.

    Returns
    -------
    Structure
        Structure whose apparent size follows from the redshift.
    """
    magnitude_term = np.clip(absolute_r + 21.5, -2.5, 5)
    log_kpc = quadratic_terms(magnitude_term, np.clip(rest_g_minus_r - 0.65, -0.6, 0.3)) @ PHYSICAL_LAW
    log_arcsec = log_kpc + np.log10(ARCSEC_PER_RADIAN / 1000 / angular_diameter_distance_mpc(redshift))
    return _assemble(log_arcsec, photometry, chances)


def _assemble(log_radius: NDArray[np.float64], photometry: Photometry, chances: NDArray[np.float64]) -> Structure:
    size, ratio, angle, bulge_size, bulge = chances.T
    magnitudes = photometry.magnitudes
    color = magnitudes[:, 1] - magnitudes[:, 2] - 0.8
    radius = 10 ** (log_radius + LOG_RADIUS_SCATTER * size)
    bulge_over_disc = 10 ** (LOG_BULGE_OVER_DISC_RADIUS + LOG_BULGE_OVER_DISC_SCATTER * bulge_size)
    ratio_logit = AXIS_RATIO_LOGIT_LAW[0] + AXIS_RATIO_LOGIT_LAW[1] * color + AXIS_RATIO_LOGIT_SCATTER * ratio
    # A de Vaucouleurs profile puts a fifth of its light outside the Petrosian aperture, an exponential one almost none.
    excess = photometry.petrosian_minus_model[:, 2] - 0.07
    bulge_logit = 1.0 * np.clip(color, -0.6, 0.6) + 25.0 * np.clip(excess, -0.15, 0.15) + 0.7 * bulge
    return Structure(
        disc_radius_arcsec=np.clip(radius, *RADIUS_LIMITS_ARCSEC),
        bulge_radius_arcsec=np.clip(radius * bulge_over_disc, *RADIUS_LIMITS_ARCSEC),
        axis_ratio=np.clip(_logistic(ratio_logit), 0.1, 1.0),
        angle_rad=angle * 1e3 % np.pi,  # a normal number this wide is uniform in direction
        bulge_fraction=_logistic(bulge_logit),
    )


def typical_petrosian_minus_model(magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Petrosian minus model magnitude where none is measured: (N, 5) dereddened magnitudes to (N, 5) [mag].

    One number for all galaxies would be a wrong measurement: the network reads the light in the image.
    """
    difference: NDArray[np.float64] = petrosian_terms(magnitudes) @ PETROSIAN_LAW.T
    return difference


def petrosian_terms(magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Terms of `PETROSIAN_LAW`, shape (N, 6); beyond the galaxies it was fitted to, those at their limit."""
    color = magnitudes[:, 1] - magnitudes[:, 2] - 0.8
    return quadratic_terms(np.clip(magnitudes[:, 2] - 17, -3, 1.5), np.clip(color, -0.6, 0.8))


def quadratic_terms(magnitude: NDArray[np.float64], color: NDArray[np.float64]) -> NDArray[np.float64]:
    """Terms 1, m, c, m², mc, c² of a second-order law, shape (N, 6)."""
    one = np.ones_like(magnitude)
    return np.stack([one, magnitude, color, magnitude**2, magnitude * color, color**2], axis=-1)


def _logistic(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-value))
