"""The two published files, TensorDataset ``.pt`` and ``.npz`` with a cube, whole, without loading them."""

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.block import SDSS, centre_crop
from scripts.command.errors import SourceError
from scripts.data.fits_cutouts import order_of
from scripts.data.table_file import ArrayTable, first_line

CUBES = ("cube", "images")
_ARRAYS = (*CUBES, "magnitudes", "redshifts", "labels")


@dataclass(frozen=True)
class TensorFile:
    """A TensorDataset of images, magnitudes and, perhaps, redshifts, mapped into memory page by page."""

    path: Path
    bands: tuple[str, ...] = SDSS.bands
    side_px: int = SDSS.side_px

    @cached_property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Tensors by name; nothing but tensors and that one class is unpickled.

        Raises
        ------
        SourceError
            If the file is something else.
        """
        import torch
        from torch.utils.data import TensorDataset

        try:
            with torch.serialization.safe_globals([TensorDataset]):
                dataset = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, AttributeError) as error:
            raise SourceError(
                f"{self.path} is not a TensorDataset that loads without running code: {first_line(error)}"
            ) from error
        tensors = getattr(dataset, "tensors", ())
        if not 2 <= len(tensors) <= 3:
            raise SourceError(f"{self.path} holds a {type(dataset).__name__}, not images, magnitudes and redshifts.")
        names = ("images", "magnitudes", "redshifts")
        arrays = {name: tensor.detach().numpy() for name, tensor in zip(names, tensors, strict=False)}
        _check_shape(self.path, arrays["images"].shape, self.bands, self.side_px)
        return arrays

    def table(self) -> ArrayTable:
        """Return magnitudes and redshifts as a table."""
        return _as_table(self.path, self.arrays, self.bands)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return cutouts, cropped to their centre."""
        return _bands_first(self.arrays["images"][start:stop], self.bands, self.side_px)


class CubeFile:
    """An archive with ``cube`` (N, H, W, B), read from the first galaxy to the last, and labels."""

    def __init__(self, path: Path, bands: tuple[str, ...] = SDSS.bands, side_px: int = SDSS.side_px) -> None:
        self.path, self._bands, self._side_px = path, bands, side_px
        try:
            self._archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise SourceError(f"{path} is no .npz archive: {error}") from error
        names = [name.removesuffix(".npy") for name in self._archive.namelist()]
        self._others = [name for name in names if name not in CUBES]
        cubes = [name for name in names if name in CUBES]
        if not cubes:
            raise SourceError(f"{path} has neither `cube` nor `images`; it holds {', '.join(names) or 'nothing'}.")
        self._cube = cubes[0]
        self._rewind()
        _check_shape(path, self._shape, bands, side_px)

    def table(self) -> ArrayTable:
        """Return the labels, or magnitudes and redshifts where they are arrays of their own."""
        arrays = {}
        for name in self._others:
            with self._archive.open(f"{name}.npy") as member:
                try:
                    arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
                except ValueError as error:
                    raise SourceError(f"{self.path}: `{name}` is not a plain array: {error}") from error
        if "labels" in arrays and arrays["labels"].dtype.names:
            table = ArrayTable.of(self.path, arrays["labels"])
        else:
            table = _as_table(self.path, arrays, self._bands)
        if len(table) != self._shape[0]:
            raise SourceError(f"{self.path} has {self._shape[0]} cutouts and {len(table)} labels.")
        return table

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return cutouts, cropped to their centre."""
        if start < self._next:
            self._rewind()
        while self._next < start:
            self._take(min(start - self._next, 1_000))
        return _bands_first(self._take(stop - start), self._bands, self._side_px)

    def _rewind(self) -> None:
        self._member = self._archive.open(f"{self._cube}.npy")
        version = np.lib.format.read_magic(self._member)
        is_old = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if is_old else np.lib.format.read_array_header_2_0
        self._shape, is_fortran, self._dtype = read(self._member)
        if is_fortran or self._dtype.kind != "f":
            order = "column" if is_fortran else "row"
            raise SourceError(
                f"{self.path}: `{self._cube}` is {self._dtype} in {order} order; numbers row by row are read."
            )
        self._next = 0

    def _take(self, num: int) -> NDArray[Any]:
        num_bytes = num * int(np.prod(self._shape[1:])) * self._dtype.itemsize
        content = self._member.read(num_bytes)
        if len(content) != num_bytes:
            raise SourceError(f"{self.path}: `{self._cube}` ends early.")
        self._next += num
        return np.frombuffer(content, dtype=self._dtype).reshape(num, *self._shape[1:])


def _as_table(path: Path, arrays: Mapping[str, NDArray[Any]], bands: tuple[str, ...]) -> ArrayTable:
    """Put separate arrays into the columns of a table; published magnitudes are taken as corrected for extinction."""
    magnitudes = arrays.get("magnitudes")
    order = order_of(bands, magnitudes.shape[1:2] if magnitudes is not None else ())
    if magnitudes is None or magnitudes.ndim != 2 or magnitudes.shape[1] != len(order):
        raise SourceError(
            f"{path} has no magnitudes of shape (N, {len(order)}); it holds {', '.join(arrays) or 'nothing'}."
        )
    columns = {f"dered_{band}": magnitudes[:, number] for number, band in enumerate(order)}
    columns |= {
        name: arrays[source].reshape(len(magnitudes))
        for name, source in (("z_spec", "redshifts"), *((name, name) for name in arrays if name not in _ARRAYS))
        if source in arrays and arrays[source].size == len(magnitudes) and arrays[source].dtype.kind in "fiu"
    }
    return ArrayTable.of(path, columns)


def _check_shape(path: Path, shape: tuple[int, ...], bands: tuple[str, ...], side_px: int) -> None:
    num = len(order_of(bands, (shape[1], shape[-1]))) if len(shape) == 4 else len(bands)
    if len(shape) != 4 or num not in (shape[1], shape[3]) or min(shape[2], max(shape[1], shape[3])) < side_px:
        raise SourceError(
            f"{path} holds images of shape {shape}; (N, {num}, H, W) and (N, H, W, {num}) from {side_px} pixels are "
            "read."
        )


def _bands_first(images: NDArray[Any], bands: tuple[str, ...], side_px: int) -> NDArray[np.float32]:
    order = order_of(bands, (images.shape[1], images.shape[3]))
    if images.shape[1] != len(order):
        images = np.moveaxis(images, -1, 1)
    cropped = centre_crop(images, side_px)
    picked = cropped if order == bands else cropped[:, [order.index(band) for band in bands]]
    return np.ascontiguousarray(picked, dtype=np.float32)
