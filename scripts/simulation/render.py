"""Five-band SDSS-like cutouts of a bulge and a disc, convolved, sampled and made noisy."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from inference.cleaning import SKY
from scripts.simulation import conditions
from scripts.simulation.conditions import FWHM_OVER_SIGMA, PIXEL_ARCSEC, SIZE, Conditions, Neighbours
from scripts.simulation.photometry import Photometry
from scripts.simulation.structure import Structure

SEEING_ARCSEC = 1.4
"""Full width at half maximum of the point-spread function."""
SEEING_SCATTER = 0.07
WING_FRACTION = 0.1
WING_WIDTH = 2.6
"""The point-spread function is a Gaussian core plus a fainter one this much wider."""

SKY_NOISE = conditions.SKY_NOISE.astype(np.float32)
"""Standard deviation of the sky in one pixel, u, g, r, i, z [nanomaggy]."""
ELECTRONS_PER_NANOMAGGY = np.array([130.0, 950.0, 900.0, 730.0, 130.0], dtype=np.float32)
"""Typical SDSS gain over calibration, for the photon noise of the galaxy itself."""

BULGE_COLOR = np.array([-0.25, -0.1, 0.0, 0.03, 0.05])
"""How much brighter the bulge is than the galaxy's mean colour in each band, as a change of logit of its share."""

BLOCK = 16
"""Galaxies rendered at a time: their 28 components stay in the processor's cache."""

NUM_CHANCES = 3
"""Standard normal numbers each cutout takes besides its pixel noise: seeing and centre."""


def render(
    photometry: Photometry,
    structure: Structure,
    chances: NDArray[np.float64],
    noise: NDArray[np.float32],
    conditions: Conditions | None = None,
) -> NDArray[np.float32]:
    """Draw cutouts in physical units.

    Parameters
    ----------
    photometry : Photometry
        N galaxies; their Petrosian fluxes, where well measured, are the light in the images.
    structure : Structure
        Their profiles.
    chances : array, shape (N, 3), float64
        Standard normal numbers for the seeing and the centre.
    noise : array, shape (N, 5, 32, 32), float32
        Standard normal numbers for the pixels; overwritten with the cutouts and returned.
    conditions : Conditions, optional
        How the galaxies were observed. Without it every night is alike: seeing and centre follow from `chances`, the
        noise is white, and there are no neighbours and no masked pixels.

    Returns
    -------
    array, shape (N, 5, 32, 32), float32
        Sky-subtracted cutouts, extinction included [nanomaggy / pixel].
    """
    flux = photometry.model_flux * 10 ** (-0.4 * photometry.petrosian_minus_model)
    light = _light(flux, structure)
    core_sigma, centre = _alike(chances)
    sky_noise: NDArray[np.float32] = np.broadcast_to(SKY_NOISE, (len(photometry), 5))
    if conditions:
        core_sigma, centre, sky_noise = conditions.core_sigma_arcsec, conditions.centre_arcsec, conditions.sky_noise
    for start in range(0, len(photometry), BLOCK):
        rows = slice(start, start + BLOCK)
        shape = Structure(*(field[rows] for field in structure))
        images = (light[rows] @ _profiles(shape, core_sigma[rows], centre[rows])).reshape(-1, 5, SIZE, SIZE)
        if conditions:
            _add(images, conditions.neighbours, core_sigma, start)
            noise[rows] = conditions.correlate(noise[rows], rows)
        variance = sky_noise[rows, :, None, None] ** 2 + np.maximum(images, 0) / ELECTRONS_PER_NANOMAGGY[:, None, None]
        noise[rows] = images + np.sqrt(variance) * noise[rows]
    if conditions:
        noise[conditions.is_masked] = SKY
    return noise


def _light(flux: NDArray[np.float64], structure: Structure) -> NDArray[np.float32]:
    """Share the flux of each band between bulge and disc: (N, 5) to (N, 5, 2)."""
    logit = np.log(structure.bulge_fraction / (1 - structure.bulge_fraction))[:, None] + BULGE_COLOR
    share = 1 / (1 + np.exp(-logit))
    return np.stack([flux * share, flux * (1 - share)], axis=2).astype(np.float32)


def _alike(chances: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Width of the point-spread function and centre of the galaxy in a survey without bad nights."""
    core_sigma = SEEING_ARCSEC / FWHM_OVER_SIGMA * np.exp(SEEING_SCATTER * chances[:, :1])
    return core_sigma, 0.5 * PIXEL_ARCSEC * np.tanh(chances[:, 1:3])  # within half a pixel of the middle


def _add(images: NDArray[np.float32], neighbours: Neighbours, core_sigma: NDArray[np.float64], start: int) -> None:
    """Add the neighbours of the galaxies from `start` on to their images, (n, 5, 32, 32), in place."""
    first, last = np.searchsorted(neighbours.row, [start, start + len(images)])
    rows, into = slice(first, last), neighbours.row[first:last]
    shape = Structure(*(field[rows] for field in neighbours.structure))
    profiles = _profiles(shape, core_sigma[into], neighbours.centre_arcsec[rows])
    light = (_light(neighbours.flux[rows], shape) @ profiles).reshape(-1, 5, SIZE, SIZE)
    np.add.at(images, into - start, light)


def _profiles(
    structure: Structure, core_sigma: NDArray[np.float64], centre: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Unit-flux bulge and disc of n galaxies, convolved and sampled: (n, 2, 1024)."""
    disc_variance, disc_weight = gaussian_mixture(1.0)
    bulge_variance, bulge_weight = gaussian_mixture(4.0)
    major = np.concatenate(
        [
            bulge_variance * structure.bulge_radius_arcsec[:, None] ** 2,
            disc_variance * structure.disc_radius_arcsec[:, None] ** 2,
        ],
        axis=1,
    )  # (n, K): variances along the major axis [arcsec²]
    minor = major * structure.axis_ratio[:, None] ** 2
    cos, sin = np.cos(structure.angle_rad)[:, None], np.sin(structure.angle_rad)[:, None]
    xx, yy, xy = major * cos**2 + minor * sin**2, major * sin**2 + minor * cos**2, (major - minor) * cos * sin

    core = core_sigma**2
    # Sampling at pixel centres after adding the variance of a square pixel stands in for integrating over it.
    psf = np.concatenate([core, core * WING_WIDTH**2], axis=1)[:, :, None] + PIXEL_ARCSEC**2 / 12  # (n, 2, 1)
    weight = np.concatenate([bulge_weight, disc_weight])
    psf_weight = np.array([1 - WING_FRACTION, WING_FRACTION])[:, None]
    xx, yy, xy = (xx[:, None] + psf), (yy[:, None] + psf), np.broadcast_to(xy[:, None], (len(xx), 2, len(weight)))
    determinant = xx * yy - xy**2
    amplitude = PIXEL_ARCSEC**2 * psf_weight * weight / (2 * np.pi * np.sqrt(determinant))  # (n, 2, K)

    x0, y0 = centre.T[:, :, None, None]
    a, b, c = -0.5 * yy / determinant, xy / determinant, -0.5 * xx / determinant
    coefficients = np.stack(
        [a, b, c, -2 * a * x0 - b * y0, -2 * c * y0 - b * x0, a * x0**2 + b * x0 * y0 + c * y0**2 + np.log(amplitude)],
        axis=-1,
    ).astype(np.float32)  # (n, 2, K, 6): exponent of each Gaussian as a polynomial of x and y
    gaussians = coefficients.reshape(-1, 6) @ _pixel_terms()
    np.exp(gaussians, out=gaussians)
    gaussians = gaussians.reshape(len(xx), 2, len(weight), SIZE * SIZE)
    split = len(bulge_weight)
    return np.stack([gaussians[:, :, :split].sum(axis=(1, 2)), gaussians[:, :, split:].sum(axis=(1, 2))], axis=1)


@cache
def _pixel_terms() -> NDArray[np.float32]:
    """Terms x², xy, y², x, y, 1 of every pixel centre [arcsec], shape (6, 1024)."""
    axis = (np.arange(SIZE) - (SIZE - 1) / 2) * PIXEL_ARCSEC
    y, x = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    return np.stack([x * x, x * y, y * y, x, y, np.ones_like(x)]).astype(np.float32)


@cache
def gaussian_mixture(sersic_index: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Write a Sérsic profile of unit half-light radius and unit flux as a sum of round Gaussians.

    Parameters
    ----------
    sersic_index : float
        1 for an exponential disc, 4 for a de Vaucouleurs bulge.

    Returns
    -------
    variances, weights : array, shape (K,), float64
        Variance of each Gaussian in units of the squared half-light radius, and its share of the flux.

    References
    ----------
    Hogg & Lang 2013, PASP 125, 719 (the idea; the numbers are fitted here).
    """
    # Imported here: half a second that whoever reads a table of their own need not wait for.
    from scipy.optimize import nnls

    b = 2 * sersic_index - 1 / 3 + 4 / (405 * sersic_index)  # Ciotti & Bertin 1999
    radius = np.geomspace(0.01, 8.0, 400)
    profile = np.exp(-b * radius ** (1 / sersic_index))
    variances = np.geomspace(*((0.02, 1.6) if sersic_index < 2 else (0.0015, 14.0)), 7 if sersic_index < 2 else 9)
    gaussians = np.exp(-0.5 * radius[:, None] ** 2 / variances) / variances
    # Equal weight to equal light: surface brightness times radius, on a logarithmic grid.
    flux_density = radius**1.0
    weights, _ = nnls(gaussians * flux_density[:, None], profile * flux_density)
    kept = weights > 0
    return variances[kept], weights[kept] / weights[kept].sum()
