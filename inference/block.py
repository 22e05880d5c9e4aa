"""A block of galaxies in memory: what it holds, where it is read from, and what is refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from inference.errors import ShardFormatError

NUM_BANDS = 5
SIDE = 32
RECUT = "Cut the shard again with `make dataset`."


class RangeReader(Protocol):
    """Reads objects of the data bucket; an `etag` that no longer matches raises ShardChangedError."""

    def read(self, key: str, *, etag: str | None = None) -> bytes:
        """Return the whole object."""
        ...

    def read_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes | memoryview:
        """Return bytes start … stop-1 of the object, fewer at its end."""
        ...


@dataclass(frozen=True)
class Block:
    """Consecutive galaxies in memory."""

    images: NDArray[np.float32]
    """Cutouts, shape (N, 5, 32, 32), float32 [nanomaggies per pixel], bands u, g, r, i, z."""

    magnitudes: NDArray[np.float64]
    """Dereddened apparent magnitudes, shape (N, 5), float64 [mag]."""

    redshifts: NDArray[np.float64]
    """Spectroscopic redshifts, shape (N,), float64; NaN where unknown."""

    object_id: NDArray[np.int64]
    """Identifiers, shape (N,), int64; the row number in shards of published formats, which carry none."""

    def __len__(self) -> int:
        return len(self.magnitudes)

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> "Block":
        return Block(self.images[rows], self.magnitudes[rows], self.redshifts[rows], self.object_id[rows])


def join(blocks: Sequence[Block]) -> Block:
    """Put blocks one after the other."""
    if len(blocks) == 1:
        return blocks[0]
    return Block(
        images=np.concatenate([block.images for block in blocks]),
        magnitudes=np.concatenate([block.magnitudes for block in blocks]),
        redshifts=np.concatenate([block.redshifts for block in blocks]),
        object_id=np.concatenate([block.object_id for block in blocks]),
    )


def check_arrays(key: str, arrays: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> int:
    """Check names, shapes and dtypes of a shard's arrays, and return the number of rows.

    Parameters
    ----------
    key : str
        Shard, for the message.
    arrays : dict
        Array name to shape and dtype.

    Raises
    ------
    ShardFormatError
        Naming the shard, the array, what it is and what the model reads.
    """
    for name in ("images", "magnitudes"):
        if name not in arrays:
            raise ShardFormatError(
                f"{key} has no array `{name}`; it holds {', '.join(sorted(arrays)) or 'none'}. {RECUT}"
            )
    num_rows = arrays["images"][0][0] if arrays["images"][0] else 0
    allowed: dict[str, tuple[list[tuple[int, ...]], str]] = {
        "images": ([(num_rows, NUM_BANDS, SIDE, SIDE), (num_rows, NUM_BANDS, 2 * SIDE, 2 * SIDE)], "float32"),
        "magnitudes": ([(num_rows, NUM_BANDS)], "float64"),
        "redshifts": ([(num_rows,)], "float64"),
        "object_id": ([(num_rows,)], "int64"),
    }
    for name, (shapes, dtype) in allowed.items():
        if name not in arrays:
            continue
        shape, found = arrays[name]
        if shape not in shapes or found != np.dtype(dtype):
            raise ShardFormatError(
                f"{key} holds {name} of shape {shape} {found}; the model reads {_shape_text(shapes[0])} {dtype}. "
                + RECUT
            )
    if num_rows == 0:
        raise ShardFormatError(f"{key} holds no rows. Remove the file or cut the dataset again.")
    return num_rows


def centre_crop(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut the central 32 by 32 pixels out of cutouts of shape (N, 5, H, W) with H, W >= 32."""
    top = (images.shape[2] - SIDE) // 2
    left = (images.shape[3] - SIDE) // 2
    return images[:, :, top : top + SIDE, left : left + SIDE]


def _shape_text(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(["N", *map(str, shape[1:])]) + ("," if len(shape) == 1 else "") + ")"
