"""A catalog as a FITS binary table, written block by block behind a header that knows the number of rows."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from scripts.catalogs.columns import NO_ID, ROW, columns_of
from scripts.catalogs.provenance import Card
from scripts.catalogs.template import described_table

BLOCK_BYTES = 2_880
"""FITS files consist of whole blocks of this size."""

LONGEST_TEXT = 68
"""Characters of a text that fit on one line of a header."""


def table_header(provenance: Mapping[str, Card], num_rows: int, row: np.dtype[Any] = ROW) -> fits.Header:
    """Return the header of the table: columns with units, meanings (TCOMM) and UCDs (TUCD), and the provenance.

    Notes
    -----
    astropy reads descriptions from the comments that its own writer leaves; TOPCAT reads TCOMM and TUCD.
    """
    buffer = io.BytesIO()
    described_table({}, np.empty(0, row)).write(buffer, format="fits")
    buffer.seek(0)
    with fits.open(buffer) as hdus:
        header = hdus[1].header.copy()
    header["NAXIS2"] = num_rows
    header["EXTNAME"] = ("REDSHIFTS", "photometric redshifts of galaxies")
    for number, column in enumerate(columns_of(row), start=1):
        header.set(f"TUCD{number}", column.ucd, after=f"TFORM{number}")
        header.set(f"TCOMM{number}", column.description, after=f"TUCD{number}")
        if column.name == "object_id":
            header.set(f"TNULL{number}", NO_ID, "stands for unknown", after=f"TFORM{number}")
    for name, card in provenance.items():
        value = _printable(card.value) if isinstance(card.value, str) else card.value
        header[name] = (value, card.comment if _leaves_room(card) else None)
    return header


def _printable(text: str) -> str:
    """Return a text as a header may hold it: one line of ASCII."""
    return " ".join(text.split()).encode("ascii", "replace").decode("ascii")


def _leaves_room(card: Card) -> bool:
    """Return whether value and comment fit: a line has 80 characters, longer values continue in lines of their own."""
    length = len(str(card.value))
    return length > LONGEST_TEXT or length + len(card.comment) <= LONGEST_TEXT - 3


class FitsWriter:
    """Writes rows to a FITS file whose length is known."""

    def __init__(self, path: Path, provenance: Mapping[str, Card], num_rows: int, row: np.dtype[Any] = ROW) -> None:
        primary = fits.PrimaryHDU()
        primary.header["EXTEND"] = True
        headers = primary.header.tostring() + table_header(provenance, num_rows, row).tostring()
        self._missing = num_rows
        path.write_bytes(headers.encode("ascii"))
        self._file = path.open("ab")

    def write(self, rows: NDArray[Any]) -> None:
        """Append rows: shape (N,)."""
        self._missing -= len(rows)
        self._file.write(rows.astype(rows.dtype.newbyteorder(">")).tobytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            if kind is None:
                assert self._missing == 0, "the header counts other rows than were written"
                self._file.write(b"\0" * (-self._file.tell() % BLOCK_BYTES))


def read_rows(path: Path, offset: int, *, start: int, num_rows: int, row: np.dtype[Any] = ROW) -> NDArray[Any]:
    """Read rows back, without mapping the file: shape (num_rows,)."""
    there = row.newbyteorder(">")
    return np.fromfile(path, dtype=there, count=num_rows, offset=offset + start * row.itemsize).astype(row)


def data_offset(path: Path) -> int:
    """Return where the table's rows begin, after astropy has found nothing wrong with the file.

    Raises
    ------
    astropy.io.fits.VerifyError
        If the file breaks a rule of the FITS standard.
    """
    with fits.open(path, memmap=True, lazy_load_hdus=False) as hdus:
        hdus.verify("exception")
        offset: int = hdus[1].fileinfo()["datLoc"]
    return offset
