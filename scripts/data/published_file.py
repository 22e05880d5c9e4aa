"""The two published files, TensorDataset ``.pt`` and ``.npz`` with a cube, whole, without loading them."""

import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from inference.block import SDSS, centre_crop
from scripts.command.console import counted
from scripts.command.errors import SourceError
from scripts.data.fits_cutouts import order_of
from scripts.data.numpy_file import CUBES
from scripts.data.table_file import ArrayTable, first_line

TENSORS = ("images", "magnitudes", "redshifts", "object_id")
NAMES = {
    **dict.fromkeys(("image", "cube", "cutouts"), "images"),
    **dict.fromkeys(("magnitude", "mags", "mag"), "magnitudes"),
    **dict.fromkeys(("redshift", "z", "z_spec", "labels"), "redshifts"),
    **dict.fromkeys(("id", "ids", "objid"), "object_id"),
}
"""What people call them."""
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

        if not self.path.stat().st_size:
            raise SourceError(f"{self.path} is empty.")
        try:
            # Files of torch before 1.6 are no archives, and cannot be mapped.
            with torch.serialization.safe_globals([TensorDataset]):
                mmap = zipfile.is_zipfile(self.path)
                found = torch.load(self.path, map_location="cpu", weights_only=True, mmap=mmap)
        except pickle.UnpicklingError as error:
            raise SourceError(
                f"{self.path} is not a TensorDataset that loads without running code: it is damaged, or holds more "
                "than tensors. Save torch.utils.data.TensorDataset(images, magnitudes, redshifts)."
            ) from error
        except (RuntimeError, ValueError, EOFError, KeyError, AttributeError, OSError) as error:
            raise SourceError(
                f"{self.path} is not a TensorDataset that loads without running code, it may be cut off or damaged: "
                f"{first_line(error)}"
            ) from error
        arrays = {name: _as_array(tensor) for name, tensor in self._named(found).items()}
        for name in {"images", "magnitudes"} & arrays.keys():
            if arrays[name].dtype.kind not in "fiub":
                raise SourceError(f"{self.path}: {name} are {arrays[name].dtype}; real numbers are read.")
        _check_shape(self.path, arrays["images"].shape, self.bands, self.side_px)
        lengths = {name: len(array) for name, array in arrays.items() if name in TENSORS}
        if len(set(lengths.values())) > 1:
            held = ", ".join(f"{num:,} {name}" for name, num in lengths.items())
            raise SourceError(f"{self.path} holds {held}: there must be as many of each.")
        return arrays

    def _named(self, found: Any) -> dict[str, Any]:
        """Return tensors by name: as a dict names them, or images, magnitudes, redshifts and identifiers in order."""
        import torch

        tensors = getattr(found, "tensors", found)
        if isinstance(tensors, tuple | list) and 2 <= len(tensors) <= len(TENSORS):
            tensors = dict(zip(TENSORS, tensors, strict=False))
        if isinstance(tensors, dict):
            named = {NAMES.get(str(name).lower(), str(name)): tensor for name, tensor in tensors.items()}
            if {"images", "magnitudes"} <= named.keys() and all(map(torch.is_tensor, named.values())):
                return named
        held = f" of {', '.join(map(str, list(found)[:10]))}" if isinstance(found, dict) else ""
        raise SourceError(
            f"{self.path} holds a {type(found).__name__}{held}, not images, magnitudes and, perhaps, redshifts and "
            "object_id, as a TensorDataset in this order or a dict of these names."
        )

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
        self._cube = next(name for name in names if name in CUBES)
        self._rewind()
        _check_shape(path, self._shape, bands, side_px)

    def table(self) -> ArrayTable:
        """Return the labels, or magnitudes and redshifts where they are arrays of their own."""
        arrays = {}
        for name in self._others:
            with self._archive.open(f"{name}.npy") as member:
                try:
                    array = np.lib.format.read_array(member, allow_pickle=False)
                except ValueError as error:
                    if name not in (*_ARRAYS, "object_id"):
                        continue  # of something else, such as Python's own objects
                    raise SourceError(
                        f"{self.path}: `{name}` holds Python's own objects, which are pickled and not read; plain "
                        "numbers are."
                    ) from error
            # Labels may be a table of their own: the word means redshifts only where they are numbers.
            is_table = name == "labels" or (array.ndim == 1 and name in SDSS.bands)
            arrays[name if is_table else NAMES.get(name.lower(), name)] = array
        if "labels" in arrays and arrays["labels"].dtype.names:
            table = ArrayTable.of(self.path, arrays["labels"])
        elif "magnitudes" not in arrays and set(self._bands) <= arrays.keys():
            table = ArrayTable.of(self.path, {name: array for name, array in arrays.items() if array.ndim == 1})
        else:
            table = _as_table(self.path, arrays, self._bands)
        if len(table) != self._shape[0]:
            raise SourceError(
                f"{self.path} has {counted(self._shape[0], 'cutout')} and {counted(len(table), 'label')}."
            )
        return table

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return cutouts, cropped to their centre."""
        if start < self._next:
            self._rewind()
        while self._next < start:
            self._take(min(start - self._next, 1_000))
        return _bands_first(self._take(stop - start), self._bands, self._side_px)

    def _rewind(self) -> None:
        self._member: IO[bytes] = self._archive.open(f"{self._cube}.npy")
        version = np.lib.format.read_magic(self._member)
        is_old = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if is_old else np.lib.format.read_array_header_2_0
        self._shape, is_fortran, self._dtype = read(self._member)
        if self._dtype.kind not in "fiu":
            raise SourceError(f"{self.path}: `{self._cube}` is {self._dtype}; numbers are read.")
        self._next = 0
        if is_fortran:  # galaxies are not one after the other in the file
            with self._archive.open(f"{self._cube}.npy") as member:
                cube = np.lib.format.read_array(member, allow_pickle=False)
            self._member = io.BytesIO(np.ascontiguousarray(cube).tobytes())

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
            f"{path} has no magnitudes of shape (N, {len(order)}), nor labels with named columns, next to its images; "
            f"it holds {', '.join(arrays) or 'nothing else'}."
        )
    columns = {f"dered_{band}": magnitudes[:, number] for number, band in enumerate(order)}
    columns |= {
        name: arrays[source].reshape(len(magnitudes))
        for name, source in (("z_spec", "redshifts"), *((name, name) for name in arrays if name not in _ARRAYS))
        if source in arrays and arrays[source].size == len(magnitudes)
        if arrays[source].dtype.kind in ("fiuUS" if name == "object_id" else "fiu")
    }
    return ArrayTable.of(path, columns)


def _as_array(tensor: Any) -> NDArray[Any]:
    """Return the numbers of any tensor; numpy knows neither sparse ones nor half precision of the other kind."""
    import torch

    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    array: NDArray[Any] = (dense.float() if dense.dtype == torch.bfloat16 else dense).numpy()
    return array


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
