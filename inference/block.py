"""A block of galaxies in memory: what it holds, where it is read from, and what is refused."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from inference.errors import ShardFormatError
from inference.models.card import Inputs

RECUT = "Cut the shard again with `make dataset`."


class Layout(NamedTuple):
    """What the arrays of a shard hold, and what of it is read."""

    bands: tuple[str, ...] = ("u", "g", "r", "i", "z")
    """Bands in the order of the shard's arrays."""

    wanted: tuple[str, ...] = ("u", "g", "r", "i", "z")
    """Bands to read, in this order; all are among `bands`."""

    side_px: int = 32
    """Side of the cutouts to read [pixels]: the centre of larger ones. 0 reads no images."""

    has_magnitudes: bool = True
    """Whether magnitudes are read."""

    columns: tuple[str, ...] = ()
    """Further numbers of a galaxy to read, each an array of that name."""

    @classmethod
    def for_model(cls, inputs: Inputs, bands: tuple[str, ...] | None = None) -> "Layout":
        """Return how a model reads a shard with these bands; with its own where they are not known."""
        return cls(
            bands or inputs.bands, inputs.bands, inputs.side_px, inputs.magnitudes is not None, tuple(inputs.columns)
        )

    @property
    def order(self) -> list[int] | None:
        """Positions of the wanted bands; None where all are read as they are."""
        return None if self.wanted == self.bands else [self.bands.index(band) for band in self.wanted]

    @property
    def row_bytes(self) -> int:
        """Size of what is read of one galaxy before its bands are picked [bytes]."""
        return len(self.bands) * (self.side_px**2 * 4 + 8)

    def pick(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the wanted bands of an array whose second axis are the shard's: itself where all are wanted."""
        return array if self.order is None else array[:, self.order]


SDSS = Layout()
"""Published shards and the sample: u, g, r, i, z, cutouts of 32 pixels, magnitudes."""


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
    """Cutouts, shape (N, B, H, W), float32 [nanomaggies per pixel]; of size 0 where none are read."""

    magnitudes: NDArray[np.float64]
    """Apparent magnitudes in the same bands, shape (N, B), float64 [mag]; NaN where none are read."""

    redshifts: NDArray[np.float64]
    """Spectroscopic redshifts, shape (N,), float64; NaN where unknown."""

    object_id: NDArray[np.int64]
    """Identifiers, shape (N,), int64; the row number in shards of published formats, which carry none."""

    columns: NDArray[np.float64] | None = None
    """Further numbers, shape (N, K), float64; None where none are read."""

    def __len__(self) -> int:
        return len(self.magnitudes)

    def arrays(self, columns: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """Return the arrays of a shard by name; `columns` are the names of the further numbers."""
        named = {} if self.columns is None else dict(zip(columns, self.columns.T.copy(), strict=True))
        kept = (*(["images"] if self.images.size else []), "magnitudes", "redshifts", "object_id")
        return {name: getattr(self, name) for name in kept} | named

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> "Block":
        columns = None if self.columns is None else self.columns[rows]
        return Block(self.images[rows], self.magnitudes[rows], self.redshifts[rows], self.object_id[rows], columns)


def join(blocks: Sequence[Block]) -> Block:
    """Put blocks one after the other."""
    if len(blocks) == 1:
        return blocks[0]
    return Block(
        images=np.concatenate([block.images for block in blocks]),
        magnitudes=np.concatenate([block.magnitudes for block in blocks]),
        redshifts=np.concatenate([block.redshifts for block in blocks]),
        object_id=np.concatenate([block.object_id for block in blocks]),
        columns=np.concatenate(columns) if (columns := _known(block.columns for block in blocks)) else None,
    )


def _known(columns: Iterable[NDArray[np.float64] | None]) -> list[NDArray[np.float64]]:
    return [part for part in columns if part is not None]


def check_arrays(key: str, arrays: dict[str, tuple[tuple[int, ...], np.dtype[Any]]], layout: Layout = SDSS) -> int:
    """Check names, shapes and dtypes of a shard's arrays, and return the number of rows.

    Parameters
    ----------
    key : str
        Shard, for the message.
    arrays : dict
        Array name to shape and dtype.
    layout : Layout
        What is read of it.

    Raises
    ------
    ShardFormatError
        Naming the shard, the array, what it is and what the model reads.
    """
    needed = [*(["images"] if layout.side_px else []), *(["magnitudes"] if layout.has_magnitudes else [])]
    for name in (*needed, *layout.columns):
        if name not in arrays:
            raise ShardFormatError(
                f"{key} has no array `{name}`; it holds {', '.join(sorted(arrays)) or 'none'}. {RECUT}"
            )
    first = arrays[needed[0]][0]
    num_rows, num_bands, side = first[0] if first else 0, len(layout.bands), layout.side_px
    allowed: dict[str, tuple[tuple[int, ...], str]] = {
        **({"images": ((num_rows, num_bands, side, side), "float32")} if side else {}),
        **({"magnitudes": ((num_rows, num_bands), "float64")} if layout.has_magnitudes else {}),
        **dict.fromkeys(("redshifts", *layout.columns), ((num_rows,), "float64")),
        "object_id": ((num_rows,), "int64"),
    }
    for name, (shape, dtype) in allowed.items():
        if name not in arrays:
            continue
        found, found_dtype = arrays[name]
        fits = found == shape or (name == "images" and _is_larger(found, shape))
        if not fits or found_dtype != np.dtype(dtype):
            raise ShardFormatError(
                f"{key} holds {name} of shape {found} {found_dtype}; the model reads {_shape_text(shape)} {dtype}"
                + (f", bands {' '.join(layout.bands)}. " if len(shape) > 1 else ". ")
                + RECUT
            )
    if num_rows == 0:
        raise ShardFormatError(f"{key} holds no rows. Remove the file or cut the dataset again.")
    return num_rows


def _is_larger(found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Tell whether square cutouts are larger than those that are read, so that their centre is."""
    return len(found) == 4 and found[:2] == shape[:2] and found[2] == found[3] > shape[2]


def centre_crop(images: NDArray[np.float32], side_px: int = SDSS.side_px) -> NDArray[np.float32]:
    """Cut the central square of `side_px` pixels out of cutouts of shape (N, B, H, W) that are at least as large."""
    if images.shape[2] == images.shape[3] == side_px:
        return images
    top = (images.shape[2] - side_px) // 2
    left = (images.shape[3] - side_px) // 2
    return images[:, :, top : top + side_px, left : left + side_px]


def _shape_text(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(["N", *map(str, shape[1:])]) + ("," if len(shape) == 1 else "") + ")"
