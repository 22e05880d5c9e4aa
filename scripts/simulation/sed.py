"""Spectral energy distributions with kcorrect's templates: what a galaxy's fluxes would be at another redshift."""

from functools import cache

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from scripts.simulation.photometry import NANOMAGGY
from scripts.simulation.sdss import kcorrect_data

MAX_REDSHIFT = 0.8
NUM_REDSHIFTS = 401

AB_FLUX_DENSITY = 3.631e-20
"""Of magnitude 0 [erg/s/cm2/Hz]."""
SPEED_OF_LIGHT_ANGSTROM_S = 2.99792458e18
WAVELENGTH_STEP_ANGSTROM = 2.5


def fit(z: NDArray[np.float64], flux: NDArray[np.float64], flux_error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit five non-negative template coefficients to each galaxy.

    Parameters
    ----------
    z : array, shape (N,), float64
        Redshift.
    flux, flux_error : array, shape (N, 5), float64
        Extinction-corrected flux and its error in u, g, r, i, z [nanomaggy].

    Returns
    -------
    array, shape (N, 5), float64
        Coefficients of the templates of Blanton & Roweis 2007.

    References
    ----------
    Blanton & Roweis 2007, AJ 133, 734 (kcorrect).
    """
    # Imported here: half a second that whoever reads a table of their own need not wait for.
    from scipy.optimize import nnls

    models = _template_fluxes_at(z) / flux_error[:, :, None]
    # The solver stalls on columns of very different size; it gets columns of unit length.
    lengths = np.linalg.norm(models, axis=1)
    problems = zip(models / lengths[:, None, :], flux / flux_error, strict=True)
    coefficients: NDArray[np.float64] = np.array([nnls(*problem, maxiter=200)[0] for problem in problems])
    coefficients /= lengths
    return coefficients


def fluxes(z: NDArray[np.float64], coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the fluxes of SEDs moved to redshifts, without the change of distance.

    Parameters
    ----------
    z : array, shape (N,), float64
        Redshift at which each galaxy is observed.
    coefficients : array, shape (N, 5), float64
        From `fit`.

    Returns
    -------
    array, shape (N, 5), float64
        Flux in u, g, r, i, z [nanomaggy], as if the luminosity distance were still that of the fitted redshift.
    """
    moved: NDArray[np.float64] = np.einsum("nbt,nt->nb", _template_fluxes_at(z), coefficients)
    return moved


def _template_fluxes_at(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate the flux of every template in every band [nanomaggy]: (N,) to (N, 5 bands, 5 templates)."""
    position = z / MAX_REDSHIFT * (NUM_REDSHIFTS - 1)
    below = np.clip(position.astype(np.intp), 0, NUM_REDSHIFTS - 2)
    share = (position - below)[:, None, None]
    table = _template_fluxes()
    return (1 - share) * table[below] + share * table[below + 1]


@cache
def _template_fluxes() -> NDArray[np.float64]:
    """Project kcorrect's templates onto the SDSS bands on a grid of redshifts: (401, 5 bands, 5 templates).

    The package itself would take seconds to start and to do the same.
    """
    with fits.open(kcorrect_data("templates", "kcorrect-default-v4.fits")) as file:
        table = file["FLUX"].data[0]
        wavelength, templates = np.array(table["wave"], dtype=float), np.array(table["flux"], dtype=float)
    redshifts = np.linspace(0, MAX_REDSHIFT, NUM_REDSHIFTS)
    return np.stack([_through_band(band, wavelength, templates, redshifts) for band in "ugriz"], axis=1)


def _through_band(
    band: str, wavelength: NDArray[np.float64], templates: NDArray[np.float64], redshifts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Integrate redshifted templates [erg/s/cm2/A] over one SDSS band [nanomaggy]: (num redshifts, num templates).

    References
    ----------
    Hogg et al. 2002, arXiv:astro-ph/0210394, for fluxes counted in photons.
    """
    lines = kcorrect_data("responses", f"sdss_{band}0.dat").read_text().splitlines()
    head, *rows = (line.replace("|", " ").split() for line in lines if not line.startswith("#"))
    # `pass` is the column seen through 1.3 airmasses, to which SDSS magnitudes are calibrated.
    columns = head.index("lambda"), head.index("pass")
    node, transmission = np.array([[row[column] for column in columns] for row in rows], dtype=float).T
    observed = np.arange(node[0], node[-1], WAVELENGTH_STEP_ANGSTROM)
    weight = observed * np.interp(observed, node, transmission)
    rest = observed / (1 + redshifts[:, None])
    density = np.stack([np.interp(rest, wavelength, template) for template in templates], axis=2)  # (Z, W, T)
    zero_point = weight @ (AB_FLUX_DENSITY * SPEED_OF_LIGHT_ANGSTROM_S / observed**2)
    flux: NDArray[np.float64] = np.einsum("w,zwt->zt", weight, density)
    flux /= (1 + redshifts[:, None]) * zero_point * NANOMAGGY
    return flux
