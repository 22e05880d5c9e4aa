"""Whether numbers that are read as magnitudes or nanomaggies can be those of galaxies."""

import numpy as np
from numpy.typing import NDArray

from inference.cleaning import missing_bands
from scripts.data.columns import Columns

MIN_ROWS = 10
"""Fewer galaxies can all be odd."""

FLUX_LIMITS = (0.04, 1e5)
"""No survey has half of its galaxies fainter than 26 mag or brighter than 10 in r [nanomaggy]."""


def fault_of_light(measured: NDArray[np.float64], columns: Columns) -> str:
    """Say what is wrong with the light of a table; nothing when it can be that of galaxies.

    Galaxies are red: brighter in r than in u. So magnitudes fall from u to r and fluxes rise, which
    distinguishes them even where their values overlap.

    Parameters
    ----------
    measured : array, shape (N, 5), float64
        As in the table [mag or nanomaggy].
    columns : Columns
        What they are read as.
    """
    values = np.where(np.isfinite(measured) & (measured != 0) & (measured > -9999), measured, np.nan)
    u, r = values[:, 0], values[:, 2]
    if np.isfinite(r).sum() < MIN_ROWS:
        return ""
    both = np.isfinite(u) & np.isfinite(r)
    rises = bool(both.sum() >= MIN_ROWS and np.median(r[both] - u[both]) > 0)
    is_magnitude = bool(np.mean(~missing_bands(r[np.isfinite(r)])) > 0.5)
    low, high = np.nanpercentile(values, [5, 95])
    shown = f"{', '.join(columns.light)} hold values from {low:.4g} to {high:.4g} (5 to 95 %)"
    if columns.quantity == "magnitude" and (rises or not is_magnitude):
        reason = "brighter in u than in r, as fluxes are" if is_magnitude else "outside 10 to 30"
        return (
            f"{shown}, {reason}: these are not magnitudes of galaxies. "
            'If they are fluxes in nanomaggies, say so: FIELDS="flux_u=…,flux_g=…,…".'
        )
    if columns.quantity == "flux" and is_magnitude and not rises:
        return (
            f"{shown}, falling from u to r as magnitudes do: these are not fluxes of galaxies. "
            'If they are magnitudes, say so: FIELDS="u=…,g=…,…".'
        )
    if columns.quantity == "flux" and not FLUX_LIMITS[0] < np.nanmedian(r) < FLUX_LIMITS[1]:
        return (
            f"{shown}: these are not nanomaggies (flux 1 is magnitude 22.5). "
            'If they have another unit, say so: FIELDS="flux_u=F_U[nJy],flux_g=F_G[nJy],…".'
        )
    return ""
