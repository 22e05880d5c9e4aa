"""The header of a safetensors file: which arrays are in it and where, as the library itself judges it."""

import json
import math
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from inference.block import RECUT, RangeReader
from inference.errors import ShardFormatError

HEAD_BYTES = 64 * 2**10
"""First read of a shard: header, ids, magnitudes and redshifts of a 10 MB shard, or the whole of a tiny one."""

MAX_HEADER_BYTES = 2**24
"""More names no shard has; the length stands in the file, which may be anyone's."""

_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4"}


@dataclass(frozen=True)
class StoredArray:
    """The position of one array in a file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Size of one row [bytes]."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


def read_header(
    reader: RangeReader, key: str, *, etag: str | None, size_bytes: int | None = None
) -> tuple[dict[str, StoredArray], bytes | memoryview]:
    """Read the header of a file.

    Parameters
    ----------
    reader : RangeReader
    key, etag : str
        The object.
    size_bytes : int, optional
        Its size, where it is known [bytes].

    Returns
    -------
    arrays : dict
        Name to position; arrays of types that no shard has are left out.
    head : bytes
        The beginning of the file, at least its header.

    Raises
    ------
    ShardFormatError
        If the library would refuse the file: arrays that overlap, leave gaps or are longer than their data, offsets
        that are none, other JSON; or, where its size is known, more data than arrays.
    """
    # Of an empty object S3 refuses every range.
    head = b"" if size_bytes == 0 else reader.read_range(key, 0, HEAD_BYTES, etag=etag)
    length = int.from_bytes(head[:8], "little")
    try:
        if not 0 < length <= MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes")
        if 8 + length > len(head) >= HEAD_BYTES:
            head = reader.read_range(key, 0, 8 + length, etag=etag)
        if 8 + length > len(head):
            raise ValueError(f"a header of {length} bytes in {len(head)}")
        entries = json.loads(bytes(head[8 : 8 + length]))
        entries.pop("__metadata__", None)
        ends = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        # A file that ends early costs the rank that reads its end, not the run.
        _judge(head[: 8 + length], max(8 + length + ends, size_bytes or 0))
        arrays = {
            name: StoredArray(
                8 + length + entry["data_offsets"][0], tuple(entry["shape"]), np.dtype(_DTYPES[entry["dtype"]])
            )
            for name, entry in entries.items()
            if entry["dtype"] in _DTYPES
        }
    except (
        *(ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError),
        SafetensorError,
    ) as error:
        raise ShardFormatError(f"{key} is not a safetensors file ({error}). {RECUT}") from error
    return arrays, head


def _judge(header: bytes | memoryview, size_bytes: int) -> None:
    """Let the library open a file of that size with that header and no data: it reads only the header."""
    if not len(header) <= size_bytes < 2**62:
        raise ValueError(f"data up to byte {size_bytes}")
    # What is never written in a file takes no room in it.
    with tempfile.NamedTemporaryFile(buffering=0) as file:
        file.write(header)
        file.truncate(size_bytes)
        with safe_open(file.name, framework="numpy"):
            pass
