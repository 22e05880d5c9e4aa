"""Reads a finished catalog back and proves that both files hold the same rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from astropy.io.fits import VerifyError
from numpy.typing import NDArray

from scripts.catalogs import fits_file
from scripts.catalogs.columns import ROW
from scripts.catalogs.parquet_file import row_of
from scripts.command.errors import CommandError


def prove_equal(fits: Path, parquet: Path, num_rows: int, row: np.dtype[Any] = ROW) -> None:
    """Compare the two files block by block, after astropy has checked the FITS file against its standard.

    Raises
    ------
    CommandError
        If astropy objects, the number of rows is not `num_rows`, or a row differs.
    """
    try:
        offset = fits_file.data_offset(fits)
    except VerifyError as error:
        raise CommandError(f"{fits} breaks the FITS standard: {error}") from error
    expected_bytes = offset + num_rows * row.itemsize
    size_bytes = fits.stat().st_size
    with pq.ParquetFile(parquet, pre_buffer=False) as file:
        found = file.metadata.num_rows
        if found != num_rows or not expected_bytes <= size_bytes < expected_bytes + fits_file.BLOCK_BYTES:
            raise CommandError(f"{parquet} holds {found:,} rows, {fits} {size_bytes:,} bytes, for {num_rows:,} rows.")
        start = 0
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(row_groups=[group]):
                there = row_of(batch, row)
                here = fits_file.read_rows(fits, offset, start=start, num_rows=len(there), row=row)
                if not all(_are_equal(here[name], there[name]) for name in row.names or ()):
                    raise CommandError(f"{fits} and {parquet} differ in rows {start:,} to {start + len(here):,}.")
                start += len(here)


def _are_equal(here: NDArray[Any], there: NDArray[Any]) -> bool:
    return np.array_equal(here, there, equal_nan=here.dtype.kind == "f")
