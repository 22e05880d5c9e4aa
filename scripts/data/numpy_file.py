"""Columns as numpy saves them: arrays of an ``.npz``, a structured ``.npy``."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.command.errors import SourceError
from scripts.data.compressed import compression_of, open_bytes
from scripts.data.table_file import ArrayTable, first_line

CUBES = ("cube", "images")
"""An archive with one of these has cutouts."""
NPY = b"\x93NUMPY"


def arrays_in(path: Path) -> list[str]:
    """Return the names of the arrays in an ``.npz``; none where it is no such archive."""
    if not path.is_file() or compression_of(path) != "zip":
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return []
    return [name.removesuffix(".npy") for name in names] if all(name.endswith(".npy") for name in names) else []


def has_cutouts(path: Path) -> bool:
    """Return whether an ``.npz`` holds cutouts next to labels."""
    return not set(CUBES).isdisjoint(arrays_in(path))


def open_npz(path: Path) -> ArrayTable:
    """Open one array per column, or one structured array.

    Raises
    ------
    SourceError
        If the arrays are of different lengths, or none is a column.
    """
    arrays: dict[str, NDArray[Any]] = {}
    pickled = []
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            try:
                arrays[name] = archive[name]
            except ValueError:
                pickled.append(name)
    columns = {name: array for name, array in arrays.items() if array.ndim and array.dtype.kind != "O"}
    if not columns:
        held = f"; Python's own objects in it, {', '.join(pickled)}, are pickled and not read" if pickled else ""
        raise SourceError(f"{path} holds no array of numbers or text{held}.")
    lengths = {name: len(array) for name, array in columns.items()}
    if len(set(lengths.values())) > 1:
        held = ", ".join(f"{num:,} {name}" for name, num in lengths.items())
        raise SourceError(f"{path} holds {held}: columns of one table have one length.")
    if len(columns) == 1:
        (array,) = columns.values()
        return _structured(path, array)
    how = (f"{', '.join(pickled)} left out: Python's own objects are not read",) if pickled else ()
    return ArrayTable.of(path, columns, how=how)


def open_npy(path: Path) -> ArrayTable:
    """Open a structured array, mapped into memory where it is not compressed.

    Raises
    ------
    SourceError
        If it has no named columns.
    """
    if compression_of(path):
        return _structured(path, np.load(io.BytesIO(open_bytes(path).read()), allow_pickle=False))
    try:
        return _structured(path, np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError as error:
        raise SourceError(f"{path} cannot be read: {first_line(error)} Plain numbers and text are read.") from error


def _structured(path: Path, array: NDArray[Any]) -> ArrayTable:
    if array.dtype.names and array.ndim == 1:
        return ArrayTable.of(path, array)
    shape = " x ".join(map(str, array.shape))
    if array.ndim == 4:
        raise SourceError(
            f"{path} holds {shape} numbers, as cutouts have, without magnitudes: "
            f"np.savez('{path.stem}.npz', images=images, magnitudes=magnitudes) saves both."
        )
    raise SourceError(
        f"{path} holds {shape} numbers whose columns have no names: "
        f"np.savez('{path.stem}.npz', u=array[:, 0], g=array[:, 1], …) saves them with their names."
    )
