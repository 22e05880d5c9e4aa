"""Spectral energy distributions by kcorrect: what a galaxy's fluxes would be at another redshift."""

import gc
import warnings
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

MAX_REDSHIFT = 0.8
NUM_REDSHIFTS = 401

_NANOMAGGY = 1e-9


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
    models = _template_fluxes_at(z) / flux_error[:, :, None]
    # The solver stalls on columns of very different size; it gets columns of unit length.
    lengths = np.linalg.norm(models, axis=1)
    problems = zip(models / lengths[:, None, :], flux / flux_error, strict=True)
    return np.array([nnls(model, target, maxiter=200)[0] for model, target in problems]) / lengths


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
    """Project kcorrect's templates onto the SDSS bands on a grid of redshifts: (401, 5 bands, 5 templates)."""
    from kcorrect.kcorrect import Kcorrect  # imported here: it takes seconds, and real galaxies do without it

    with warnings.catch_warnings():
        # kcorrect 5.1.9 leaves its template file open; collecting it here keeps the warning from appearing later.
        warnings.simplefilter("ignore", ResourceWarning)
        responses = [f"sdss_{band}0" for band in "ugriz"]
        projector = Kcorrect(responses=responses, redshift_range=[0.0, MAX_REDSHIFT], nredshift=NUM_REDSHIFTS)
        table = np.array(projector.Amatrix.y, dtype=np.float64) / _NANOMAGGY
        del projector
        gc.collect()
    return table
