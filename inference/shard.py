"""Reads the rows of a shard block by block, without loading the file, and checks that they have the right shape."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.block import RECUT, SDSS, Block, Layout, RangeReader, centre_crop, check_arrays
from inference.contract import RowRange
from inference.errors import ShardFormatError
from inference.header import StoredArray, read_header
from inference.plan import MIN_BLOCK_ROWS

BLOCK_ROWS = 512
"""Rows held in memory at a time, of the sample's: 10.5 MB of images."""

SMALL_BLOCK_ROWS = 256
"""The same for an engine that takes no more per call: smaller ones would ask S3 too often."""


def block_rows_of(layout: Layout, at_once: int = BLOCK_ROWS) -> int:
    """Return how many galaxies to read at a time, in whole micro-batches.

    Parameters
    ----------
    layout : Layout
    at_once : int
        Galaxies of the sample's that are as many bytes: those of a call of the engine, within `SMALL_BLOCK_ROWS` and
        `BLOCK_ROWS`.
    """
    fitting = min(max(at_once, SMALL_BLOCK_ROWS), BLOCK_ROWS) * SDSS.row_bytes // layout.row_bytes
    return min(max(fitting // MIN_BLOCK_ROWS * MIN_BLOCK_ROWS, MIN_BLOCK_ROWS), 8 * BLOCK_ROWS)


def read_blocks(
    reader: RangeReader, rows: RowRange, layout: Layout = SDSS, *, block_rows: int | None = None
) -> Iterator[Block]:
    """Yield the galaxies of `rows` in order, at most `block_rows` at a time.

    Parameters
    ----------
    reader : RangeReader
    rows : RowRange
        Rows of one shard. ``.safetensors`` is read by byte range; the published ``.pt`` and ``.npz`` as a whole.
    layout : Layout
        What the shard holds and what of it is read.
    block_rows : int, optional
        Largest block, which bounds the memory; `block_rows_of` the layout when absent.

    Yields
    ------
    Block

    Raises
    ------
    ShardFormatError
        If an array is missing or has another shape or dtype, or the file ends early.
    ShardChangedError
        If the object is no longer the one that was planned.
    """
    block_rows = block_rows or block_rows_of(layout)
    if rows.key.endswith(".safetensors"):
        yield from _read_safetensors(reader, rows, layout, block_rows)
    else:
        # Imported here: it brings zipfile and pickle, which our own shards do without.
        from inference import published_shard

        yield from published_shard.read_blocks(reader.read(rows.key, etag=rows.etag), rows, layout, block_rows)


def count_rows(reader: RangeReader, key: str, size_bytes: int, layout: Layout = SDSS, *, etag: str) -> int:
    """Return the number of galaxies in a shard from its header alone.

    Raises
    ------
    ShardFormatError
        If the file is not a shard, or its arrays have another shape or dtype than the model reads.
    """
    if key.endswith(".safetensors"):
        arrays, _ = read_header(reader, key, etag=etag, size_bytes=size_bytes)
        return _count(key, arrays, layout)
    from inference import published_shard

    return published_shard.count_rows(reader, key, size_bytes, layout, etag=etag)


def _count(key: str, arrays: dict[str, StoredArray], layout: Layout) -> int:
    return check_arrays(key, {name: (array.shape, array.dtype) for name, array in arrays.items()}, layout)


def _read_safetensors(reader: RangeReader, rows: RowRange, layout: Layout, block_rows: int) -> Iterator[Block]:
    arrays, head = read_header(reader, rows.key, etag=rows.etag)
    num_rows = _count(rows.key, arrays, layout)
    if rows.stop_row > num_rows:
        raise ShardFormatError(f"{rows.key} holds {num_rows} rows; the manifest says {rows.stop_row}. {RECUT}")

    def read(name: str, start_row: int, stop_row: int) -> NDArray[Any]:
        array = arrays[name]
        start, stop = (array.offset + row * array.row_bytes for row in (start_row, stop_row))
        # Small arrays come first in the file, and tiny shards are all head.
        inside_head = stop <= len(head)
        source = head[start:stop] if inside_head else reader.read_range(rows.key, start, stop, etag=rows.etag)
        if len(source) != stop - start:
            missing = stop - start - len(source)
            what = f"ends {missing} bytes early" if missing > 0 else f"came with {-missing} bytes more than asked for"
            raise ShardFormatError(f"{rows.key} {what}. Upload it again.")
        return np.frombuffer(source, dtype=array.dtype).reshape(stop_row - start_row, *array.shape[1:])

    if layout.has_magnitudes:
        magnitudes = layout.pick(read("magnitudes", rows.start_row, rows.stop_row))
    else:
        magnitudes = np.full((rows.num_rows, len(layout.wanted)), np.nan)
    columns = None
    if layout.columns:
        columns = np.stack([read(name, rows.start_row, rows.stop_row) for name in layout.columns], axis=1)
    if "redshifts" in arrays:
        redshifts = read("redshifts", rows.start_row, rows.stop_row)
    else:
        redshifts = np.full(rows.num_rows, np.nan)
    if "object_id" in arrays:
        object_id = read("object_id", rows.start_row, rows.stop_row)
    else:
        object_id = np.arange(rows.start_row, rows.stop_row)
    for start in range(rows.start_row, rows.stop_row, block_rows):
        stop = min(start + block_rows, rows.stop_row)
        part = slice(start - rows.start_row, stop - rows.start_row)
        yield Block(
            images=layout.pick(centre_crop(read("images", start, stop), layout.side_px))
            if layout.side_px
            else np.empty((stop - start, len(layout.wanted), 0, 0), np.float32),
            magnitudes=magnitudes[part],
            redshifts=redshifts[part],
            object_id=object_id[part],
            columns=None if columns is None else columns[part],
        )
