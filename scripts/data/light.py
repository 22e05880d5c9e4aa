"""Whether numbers that are read as magnitudes or nanomaggies can be those of galaxies."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inference.cleaning import missing_bands
from scripts.data.columns import Columns

MIN_ROWS = 10
"""Fewer galaxies can all be odd."""

WAVELENGTH_ORDER = ("u", "g", "r", "i", "z", "y", "Y", "J", "H", "K", "Ks")
"""Bands whose order of wavelength is known."""

FLUX_LIMITS = (0.04, 1e5)
"""No survey has half of its galaxies fainter than 26 mag or brighter than 10 in r [nanomaggy]."""


def fault_of_light(measured: NDArray[np.float64], columns: Columns) -> str:
    """Say what is wrong with the light of a table; nothing when it can be that of galaxies.

    Galaxies are red: brighter in r than in u. So magnitudes fall from u to r and fluxes rise, which
    distinguishes them even where their values overlap.

    Parameters
    ----------
    measured : array, shape (N, B), float64
        As in the table [mag or nanomaggy].
    columns : Columns
        What they are read as.
    """
    values = np.where(np.isfinite(measured) & (measured != 0) & (measured > -9999), measured, np.nan)
    # Of bands without a known order the first is compared with itself: it neither rises nor falls.
    blue, red = _blue_and_red(columns.bands)
    u, r = values[:, blue], values[:, red]
    if np.isfinite(r).sum() < MIN_ROWS:
        return ""
    both = np.isfinite(u) & np.isfinite(r)
    rises = bool(both.sum() >= MIN_ROWS and np.median(r[both] - u[both]) > 0)
    is_magnitude = bool(np.mean(~missing_bands(r[np.isfinite(r)])) > 0.5)
    low, high = np.nanpercentile(values, [5, 95])
    first, second = columns.bands[:2]
    shown = f"{', '.join(columns.light)} hold values from {low:.4g} to {high:.4g} (5 to 95 %)"
    if columns.quantity == "magnitude" and (rises or not is_magnitude):
        brighter = f"brighter in {columns.bands[blue]} than in {columns.bands[red]}, as fluxes are"
        reason = brighter if is_magnitude else "outside 10 to 30"
        return (
            f"{shown}, {reason}: these are not magnitudes of galaxies. "
            f'If they are fluxes in nanomaggies, say so: FIELDS="flux_{first}=…,flux_{second}=…,…".'
        )
    if columns.quantity == "flux" and is_magnitude and not rises and blue != red:
        return (
            f"{shown}, falling from {columns.bands[blue]} to {columns.bands[red]} as magnitudes do: these are not "
            f'fluxes of galaxies. If they are magnitudes, say so: FIELDS="{first}=…,{second}=…,…".'
        )
    if columns.quantity == "flux" and not FLUX_LIMITS[0] < np.nanmedian(r) < FLUX_LIMITS[1]:
        return (
            f"{shown}: these are not nanomaggies (flux 1 is magnitude 22.5). "
            f'If they have another unit, say so: FIELDS="flux_{first}=F_{first.upper()}[nJy],'
            f'flux_{second}=F_{second.upper()}[nJy],…".'
        )
    return ""


def _blue_and_red(bands: Sequence[str]) -> tuple[int, int]:
    """Return the positions of two bands, the second of longer wavelength: r where it is one of several."""
    known = [position for position, band in enumerate(bands) if band in WAVELENGTH_ORDER]
    ordered = sorted(known, key=lambda position: WAVELENGTH_ORDER.index(bands[position]))
    if len(ordered) < 2:
        return 0, 0
    red = bands.index("r") if "r" in bands and ordered[0] != bands.index("r") else ordered[-1]
    return ordered[0], red
