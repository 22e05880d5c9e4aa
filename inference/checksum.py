"""Checksums: one that names files in cards, records and exported graphs, and many that prove parts of a shard."""

import hashlib
import zlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from inference.block import RangeReader
from inference.contract import RowRange
from inference.errors import ShardFormatError

MIN_BLOCK_BYTES = 2**18
"""What is read at least of a shard whose parts are proved: 13 galaxies of the sample."""

MAX_BLOCKS = 256
"""Checksums of a shard: every rank gets those of its shards with its task."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def block_bytes(size_bytes: int) -> int:
    """Return the size of the parts in which a file of some size is proved [bytes]."""
    return max(MIN_BLOCK_BYTES, -(-size_bytes // MAX_BLOCKS))


def file_crc32(path: Path) -> bytes:
    """Return the CRC-32 of every part of a file: 4 bytes each, little-endian, in order."""
    size = block_bytes(path.stat().st_size)
    with path.open("rb") as file:
        return b"".join(_crc32(part) for part in iter(lambda: file.read(size), b""))


def without_crc32(rows: RowRange) -> RowRange:
    """Return the rows as a record names them."""
    return msgspec.structs.replace(rows, crc32=b"", size_bytes=None) if rows.crc32 else rows


class ProvedReader:
    """A reader that proves every byte of the shards whose checksums are known before it hands it on.

    Parameters
    ----------
    reader : RangeReader
    rows : iterable of RowRange
        With the checksums that ``dataset.json`` states, where it does.

    Raises
    ------
    ShardFormatError
        By its methods, if a part of a shard is not what it was: a bit was flipped, or it is another file.
    """

    def __init__(self, reader: RangeReader, rows: Iterable[RowRange]) -> None:
        self._reader = reader
        self._known = {one.key: (one.size_bytes, one.crc32) for one in rows if one.crc32 and one.size_bytes}

    def read(self, key: str, *, etag: str | None = None) -> bytes:
        """Return the whole object."""
        if key not in self._known:
            return self._reader.read(key, etag=etag)
        content = self._reader.read(key, etag=etag)
        self._prove(key, content, 0)
        return content

    def read_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes | memoryview:
        """Return bytes start … stop-1 of the object, fewer at its end."""
        if key not in self._known:
            return self._reader.read_range(key, start, stop, etag=etag)
        size_bytes, _ = self._known[key]
        step, stop = block_bytes(size_bytes), min(stop, size_bytes)
        if stop <= start:
            return b""
        first = start // step
        # To the borders of the parts: half of one more at either end.
        wider = self._reader.read_range(key, first * step, min(-(-stop // step) * step, size_bytes), etag=etag)
        content = memoryview(wider)
        self._prove(key, content, first)
        if len(content) < stop - first * step:
            raise ShardFormatError(
                f"{key} ends at byte {first * step + len(content)} of {size_bytes}. Upload it again."
            )
        return content[start - first * step : stop - first * step]

    def _prove(self, key: str, content: bytes | memoryview, first: int) -> None:
        size_bytes, known = self._known[key]
        step = block_bytes(size_bytes)
        view = memoryview(content)
        for index, offset in enumerate(range(0, len(view), step), start=first):
            part = view[offset : offset + step]
            if _crc32(part) != known[4 * index : 4 * index + 4]:
                begin = index * step
                raise ShardFormatError(
                    f"{key} is not what it was: its bytes {begin} to {begin + len(part) - 1} have another checksum "
                    "than dataset.json states. Upload it again; `make verify` compares the file here."
                )


def _crc32(part: bytes | memoryview) -> bytes:
    return zlib.crc32(part).to_bytes(4, "little")
