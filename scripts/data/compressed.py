"""The bytes of a file, decompressed by what it begins with."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from scripts.command.errors import SourceError

HEAD_BYTES = 2**20
"""What is looked at to tell what a file is."""

MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip"}
"""First bytes to compression."""


def compression_of(path: Path) -> str:
    """Return how a file is compressed; nothing where it is not."""
    with path.open("rb") as file:
        start = file.read(6)
    return next((name for magic, name in MAGIC.items() if start.startswith(magic)), "")


def open_bytes(path: Path) -> IO[bytes] | Any:
    """Open a file to be read from its beginning to its end, decompressed.

    Raises
    ------
    SourceError
        If it is an archive of several files.
    """
    found = compression_of(path)
    if found == "xz":
        return lzma.open(path)
    if found == "zip":
        return _only_member(path)
    return pa.input_stream(str(path), compression=found or None)


def read_head(path: Path) -> bytes:
    """Return the first bytes, decompressed; up to the damage where there is some.

    Raises
    ------
    SourceError
        If it is an archive of several files.
    """
    head = b""
    with suppress(EOFError, OSError, lzma.LZMAError, zlib.error), _open_to_the_damage(path) as file:
        while len(head) < HEAD_BYTES and (piece := file.read(HEAD_BYTES - len(head))):
            head += piece
    return head


def _open_to_the_damage(path: Path) -> Any:
    found = compression_of(path)
    # pyarrow hands over nothing of a block that ends early.
    return gzip.open(path) if found == "gzip" else bz2.open(path) if found == "bz2" else open_bytes(path)


def _only_member(path: Path) -> IO[bytes]:
    try:
        archive = zipfile.ZipFile(path)
        members = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
        if "xl/workbook.xml" in members:
            raise SourceError(f"{path} is a workbook of Excel: save its sheet as CSV.")
        if len(members) == 1:
            return archive.open(members[0])
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise SourceError(f"{path} is no readable .zip: {error}.") from error
    raise SourceError(f"{path} holds {len(members)} files, {', '.join(members[:5])}…: unpack it and name the table.")
