"""A catalog with the columns of one's own table next to it, matched by identifier or position; all in memory."""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Column, Table
from numpy.typing import NDArray

from scripts.catalogs.columns import SOURCE_ID, as_ascii
from scripts.command.errors import SourceError, UsageError
from scripts.command.whole_file import written_whole
from scripts.data.columns import SINGLE
from scripts.data.table_file import NotWholeError, TableFile
from scripts.data.units import degrees_of
from scripts.data.user_table import open_table

RADIUS_ARCSEC = 1.0
"""Farther apart, two positions are not one galaxy."""
NAMES = ("joined.fits", "joined.parquet")
PREFIX = "own_"
"""Of a column whose name the catalog has too."""


def write_joined(catalog: Path, own: Path, folder: Path) -> str:
    """Write the rows of a catalog with the columns of a table, as FITS and Parquet; say how many were found.

    Parameters
    ----------
    catalog : Path
        ``catalog.fits``.
    own : Path
        Any table that `make dataset` reads.
    folder : Path
        Gets `NAMES`.

    Raises
    ------
    UsageError
        If nothing says which row is which galaxy.
    """
    table, file = Table.read(catalog, unit_parse_strict="silent"), open_table(own)
    table.convert_bytestring_to_unicode()
    rows, how = _rows_of(table, file)
    is_found = rows >= 0
    if not is_found.any():
        raise UsageError(f"TABLE={own}: none of its rows is a galaxy of this run, {how}. TABLE=none leaves it out.")
    for name in file.columns:
        values = _column(file, name)
        if values.dtype.kind == "U":
            values = as_ascii(values.tolist()).astype(str)
        shown = np.zeros((len(table), *values.shape[1:]), values.dtype)
        if values.dtype.kind == "f":
            shown[:] = np.nan
        shown[is_found] = values[rows[is_found]]
        label = f"{PREFIX}{name}" if name.lower() in {one.lower() for one in table.colnames} else name
        table[label] = Column(shown, unit=file.units.get(name) or None)
    for name in NAMES:
        with written_whole(folder / name) as partial:
            table.write(partial, format=name.rsplit(".", maxsplit=1)[-1], overwrite=True)
    return f"{is_found.sum():,} of {len(table):,} galaxies found in {own} {how}"


def _rows_of(table: Table, file: TableFile) -> tuple[NDArray[np.int64], str]:
    """Return the row of each galaxy in the table, -1 where it has none, and how that was found."""
    if name := _named(file, "object_id"):
        own = SOURCE_ID.name if SOURCE_ID.name in table.colnames else "object_id"
        ours, theirs = np.asarray(table[own]), _column(file, name)
        if theirs.dtype.kind == "U" or own == SOURCE_ID.name:
            ours = ours.astype(str)
            theirs = as_ascii(theirs.astype(str).tolist()).astype(str)
        order = np.argsort(theirs, kind="stable")
        place = np.minimum(np.searchsorted(theirs[order], ours), len(theirs) - 1)
        found = order[place]
        return np.where(theirs[found] == ours, found, -1), f"by {name}"
    ra, dec = _named(file, "ra"), _named(file, "dec")
    if not ra or not dec:
        raise UsageError(
            f"TABLE={file.path} has neither identifiers nor positions: name a column {SINGLE['object_id'][0]}, or "
            f"{SINGLE['ra'][0]} and {SINGLE['dec'][0]}."
        )
    return _nearest(table, _degrees(file, ra, is_hours=True), _degrees(file, dec, is_hours=False)), f"by {ra}, {dec}"


def _nearest(table: Table, ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> NDArray[np.int64]:
    from scipy.spatial import cKDTree

    here, there = _vectors(np.asarray(table["ra_deg"]), np.asarray(table["dec_deg"])), _vectors(ra_deg, dec_deg)
    # Unknown positions go to different places that are no directions.
    here[np.isnan(here).any(axis=1)], there[np.isnan(there).any(axis=1)] = 2.0, -2.0
    chord, rows = cKDTree(there).query(here)
    rows[chord > np.radians(RADIUS_ARCSEC / 3600)] = -1
    return np.asarray(rows, np.int64)


def _vectors(ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def _named(file: TableFile, field: str) -> str:
    lower = {name.lower(): name for name in reversed(file.columns)}
    return next((lower[alias.lower()] for alias in SINGLE[field] if alias.lower() in lower), "")


def _degrees(file: TableFile, name: str, *, is_hours: bool) -> NDArray[np.float64]:
    values = np.concatenate([batch[name] for batch in file.batches({name: "angle"})])
    if values.dtype.kind != "U":
        return np.asarray(values)
    return degrees_of(values, is_hours=is_hours, source=f"{file.name}: {name}")


def _column(file: TableFile, name: str) -> NDArray[Any]:
    """Read one column as whole numbers where all are, as numbers, or as text."""
    file.odd_cells.clear()
    for kind in ("whole", "number", "text"):
        try:
            values = np.concatenate([batch[name] for batch in file.batches({name: kind})])
        except (NotWholeError, SourceError):
            continue
        if not file.odd_cells or kind == "text":
            return values
    raise AssertionError("every column is text")
