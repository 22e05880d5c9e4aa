"""Reads the two published shard formats, TensorDataset ``.pt`` and ``.npz`` with a cube, without running their code."""

import io
import lzma
import pickle
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.block import Block, Layout, RangeReader, centre_crop, check_arrays
from inference.contract import RowRange
from inference.errors import ShardFormatError

_FIX = "Convert it with `make dataset` or cut it again."
ARRAYS = ("images", "magnitudes", "redshifts", "object_id")
_MAGNITUDE_FIELDS = tuple(f"modelMag_{band}" for band in "ugriz")


DAMAGED = (
    *(
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        EOFError,
        OSError,
        RuntimeError,
        SyntaxError,
    ),
    *(MemoryError, pickle.UnpicklingError, struct.error, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
"""What zipfile, numpy and torch raise for files that were cut off or damaged; `tests/fuzz.py` looks for more."""


@contextmanager
def _refusing(key: str, kind: str) -> Iterator[None]:
    """Turn what the libraries raise into one error that names the shard.

    Raises
    ------
    ShardFormatError
        If anything in the block does.
    """
    try:
        yield
    except DAMAGED as error:
        reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
        raise ShardFormatError(f"{key} is not {kind}, or damaged ({reason}). {_FIX}") from error


def read_blocks(content: bytes, rows: RowRange, layout: Layout, block_rows: int) -> Iterator[Block]:
    """Yield `rows` of a whole shard; see `inference.shard.read_blocks`."""
    is_tensors = rows.key.endswith(".pt")
    arrays = _read_tensor_dataset(content, rows.key) if is_tensors else _read_npz(content, rows.key, layout)
    num_rows = check_arrays(rows.key, {name: (array.shape, array.dtype) for name, array in arrays.items()}, layout)
    if rows.stop_row > num_rows:
        raise ShardFormatError(f"{rows.key} holds {num_rows} rows; the manifest says {rows.stop_row}. {_FIX}")
    arrays.setdefault("redshifts", np.full(num_rows, np.nan))
    arrays.setdefault("object_id", np.arange(num_rows))
    num_wanted = len(layout.wanted)
    if not layout.has_magnitudes:
        arrays["magnitudes"] = np.full((num_rows, len(layout.bands)), np.nan)
    if not layout.side_px:
        arrays["images"] = np.empty((num_rows, num_wanted, 0, 0), np.float32)
    columns = np.stack([arrays[name] for name in layout.columns], axis=1) if layout.columns else None
    for start in range(rows.start_row, rows.stop_row, block_rows):
        part = slice(start, min(start + block_rows, rows.stop_row))
        images = arrays["images"][part]
        yield Block(
            images=np.ascontiguousarray(layout.pick(centre_crop(images, layout.side_px))) if layout.side_px else images,
            magnitudes=layout.pick(arrays["magnitudes"][part]),
            redshifts=arrays["redshifts"][part],
            object_id=arrays["object_id"][part],
            columns=None if columns is None else columns[part],
        )


def count_rows(reader: RangeReader, key: str, size_bytes: int, layout: Layout, *, etag: str) -> int:
    """Return the number of galaxies from the file's table of contents; nothing is unpickled."""
    file = io.BufferedReader(_RemoteFile(reader, key, size_bytes, etag))
    with _refusing(key, "a zip archive, as .pt and .npz shards are"), zipfile.ZipFile(file) as archive:
        return _count_tensor_rows(archive, key, layout) if key.endswith(".pt") else _count_npz_rows(archive, key)


# ------------------------------------------------------------------------------------------------ TensorDataset .pt


def _read_tensor_dataset(content: bytes, key: str) -> dict[str, NDArray[Any]]:
    """Load images, magnitudes and redshifts, in the published order; only tensors and that one class are allowed."""
    import torch
    from torch.utils.data import TensorDataset

    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise ShardFormatError(f"{key} is not a zip archive, as torch.save writes. {_FIX}")
    with (
        _refusing(key, "a TensorDataset that loads without running code"),
        torch.serialization.safe_globals([TensorDataset]),
    ):
        dataset = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    tensors = getattr(dataset, "tensors", None)
    if not isinstance(tensors, tuple) or not 2 <= len(tensors) <= 3:
        raise ShardFormatError(
            f"{key} holds a {type(dataset).__name__}, not a TensorDataset of two or three tensors. {_FIX}"
        )
    with _refusing(key, "a TensorDataset of plain tensors"):
        plain = [tensor.detach().numpy() for tensor in tensors]
    return _widen(dict(zip(("images", "magnitudes", "redshifts"), plain, strict=False)))


def _count_tensor_rows(archive: zipfile.ZipFile, key: str, layout: Layout) -> int:
    """Infer the rows from the sizes of the stored tensors: images (N, B, H, H) float32, magnitudes (N, B)."""
    sizes = sorted(
        (entry.file_size for entry in archive.infolist() if re.search(r"/data/\d+$", entry.filename)), reverse=True
    )
    num_bands = len(layout.bands)
    for side in (layout.side_px, 2 * layout.side_px):
        rows, rest = divmod(sizes[0], num_bands * side * side * 4) if sizes and side else (0, 1)
        if rest == 0 and rows and len(sizes) in (2, 3) and sizes[1] in (rows * num_bands * 8, rows * num_bands * 4):
            return rows
    raise ShardFormatError(f"{key} holds tensors of {sizes} bytes, not images and magnitudes of galaxies. {_FIX}")


# ------------------------------------------------------------------------------------------------ cube .npz


def _read_npz(content: bytes, key: str, layout: Layout) -> dict[str, NDArray[Any]]:
    """Load ``cube`` (N, H, W, B) or (N, B, H, W) and labels, or arrays named as in our own shards."""
    with _refusing(key, "an .npz of plain arrays"), np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if "cube" in arrays:
        cube = arrays.pop("cube")
        arrays["images"] = np.moveaxis(cube, -1, 1) if cube.ndim == 4 and cube.shape[-1] == len(layout.bands) else cube
    if "labels" in arrays:
        arrays.update(_named_labels(arrays.pop("labels")))
    return _widen({name: arrays[name] for name in (*ARRAYS, *layout.columns) if name in arrays})


def _named_labels(labels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Take what is known by name from a structured array: ``z`` and ``modelMag_u`` … ``modelMag_z``."""
    names = labels.dtype.names or ()
    found: dict[str, NDArray[Any]] = {}
    if "z" in names:
        found["redshifts"] = labels["z"]
    if set(_MAGNITUDE_FIELDS) <= set(names):
        found["magnitudes"] = np.stack([labels[name] for name in _MAGNITUDE_FIELDS], axis=1)
    return found


def _count_npz_rows(archive: zipfile.ZipFile, key: str) -> int:
    for name in ("cube.npy", "images.npy"):
        if name in archive.namelist():
            with archive.open(name) as member:
                version = np.lib.format.read_magic(member)
                read_header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                num_rows = int(read_header(member)[0][0])
                if num_rows < 0:
                    raise ShardFormatError(f"{key} says that it holds {num_rows} galaxies. {_FIX}")
                return num_rows
    raise ShardFormatError(f"{key} has neither `cube` nor `images`; it holds {', '.join(archive.namelist())}. {_FIX}")


# ------------------------------------------------------------------------------------------------ both


def _widen(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Bring float32 magnitudes and redshifts, as some published shards hold them, to float64; redshifts to one axis."""
    for name in ("magnitudes", "redshifts"):
        if name in arrays and arrays[name].dtype == np.float32:
            arrays[name] = arrays[name].astype(np.float64)
    if "redshifts" in arrays and arrays["redshifts"].ndim == 2 and arrays["redshifts"].shape[1] == 1:
        arrays["redshifts"] = arrays["redshifts"][:, 0]
    return arrays


class _RemoteFile(io.RawIOBase):
    """An object of the store as a seekable file, read by byte range."""

    def __init__(self, reader: RangeReader, key: str, size_bytes: int, etag: str) -> None:
        self._reader, self._key, self._etag = reader, key, etag
        self._size = size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self._size)
        if self._position >= stop:
            return 0
        content = self._reader.read_range(self._key, self._position, stop, etag=self._etag)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)
