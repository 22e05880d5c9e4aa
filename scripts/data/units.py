"""Whether what is read as magnitudes or nanomaggies can be that: stated units and the values themselves."""

import numpy as np
from numpy.typing import NDArray

from inference.cleaning import missing_bands
from scripts.command.errors import SourceError
from scripts.data.columns import Columns
from scripts.data.user_table import TableFile

MAGNITUDE_UNITS = ("mag", "magnitude", "magnitudes", "abmag", "mag(ab)", "luptitude", "luptitudes", "asinh mag")
FLUX_UNITS = ("nanomaggy", "nanomaggies", "nmgy", "nanomgy", "1e-09 mgy")
RADIUS_UNITS = ("arcsec", "arcseconds", '"')
POSITION_UNITS = ("deg", "degree", "degrees")

MIN_ROWS = 10
"""Fewer galaxies can all be odd."""

FLUX_LIMITS = (0.04, 1e5)
"""No survey has half of its galaxies fainter than 26 mag or brighter than 10 in r [nanomaggy]."""


def check_units(table: TableFile, columns: Columns) -> None:
    """Refuse a column whose stated unit is another one.

    Raises
    ------
    SourceError
    """
    light = {"magnitude": MAGNITUDE_UNITS, "flux": FLUX_UNITS}
    radii, position = ("disc_radius", "bulge_radius", "half_light_radius"), ("ra", "dec")
    allowed: dict[str, tuple[str, ...]] = {
        **dict.fromkeys(columns.light, light[columns.quantity]),
        **dict.fromkeys(columns.petrosian, light[columns.petrosian_quantity]),
        **dict.fromkeys(columns.extinction, MAGNITUDE_UNITS),
        **{columns.single[field]: RADIUS_UNITS for field in radii if field in columns.single},
        **{columns.single[field]: POSITION_UNITS for field in position if field in columns.single},
    }
    for name, units in allowed.items():
        unit = table.units.get(name, "").strip().lower()
        if unit and unit not in units:
            raise SourceError(f"{table.name}: {name} is in {unit!r}; it is read in {units[0]}. Convert it first.")


def check_light(measured: NDArray[np.float64], columns: Columns, source: str) -> None:
    """Refuse numbers that cannot be galaxies in the unit they are read in.

    Galaxies are red: brighter in r than in u. So magnitudes fall from u to r and fluxes rise, which tells one from the
    other even where their values overlap.

    Parameters
    ----------
    measured : array, shape (N, 5), float64
        As in the table.
    columns : Columns
    source : str
        The table, for messages.

    Raises
    ------
    SourceError
    """
    values = np.where(np.isfinite(measured) & (measured != 0) & (measured > -9999), measured, np.nan)
    u, r = values[:, 0], values[:, 2]
    if np.isfinite(r).sum() < MIN_ROWS:
        return
    both = np.isfinite(u) & np.isfinite(r)
    rises = bool(both.sum() >= MIN_ROWS and np.median(r[both] - u[both]) > 0)
    is_magnitude = bool(np.mean(~missing_bands(r[np.isfinite(r)])) > 0.5)
    low, high = np.nanpercentile(values, [5, 95])
    shown = f"{source}: {', '.join(columns.light)} hold values from {low:.4g} to {high:.4g} (5 to 95 %)"
    if columns.quantity == "magnitude" and (rises or not is_magnitude):
        reason = "brighter in u than in r, as fluxes are" if is_magnitude else "outside 10 to 30"
        raise SourceError(
            f"{shown}, {reason}: these are no magnitudes of galaxies. "
            'If they are fluxes in nanomaggies, say so: FIELDS="flux_u=…,flux_g=…,…".'
        )
    if columns.quantity == "flux":
        if is_magnitude and not rises:
            raise SourceError(
                f"{shown}, falling from u to r as magnitudes do: these are no fluxes of galaxies. "
                'If they are magnitudes, say so: FIELDS="u=…,g=…,…".'
            )
        if not FLUX_LIMITS[0] < np.nanmedian(r) < FLUX_LIMITS[1]:
            raise SourceError(f"{shown}: these are no nanomaggies (flux 1 is magnitude 22.5). Convert them first.")
