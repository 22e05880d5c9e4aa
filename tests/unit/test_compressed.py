"""The bytes of a file, whatever it is packed by, and as far as it is whole."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from scripts.data import compressed
from scripts.data.compressed import compression_of, open_bytes, read_head

CONTENT = np.random.default_rng(0).bytes(300_000)
"""Which no compression makes smaller, so that half of a file holds about half of it."""


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("my.csv", content)
    return file.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda content: pa.compress(content, "zstd", asbytes=True),
    "zip": zipped,
}


@pytest.mark.parametrize("name", PACKED)
def test_a_file_is_unpacked_by_what_it_begins_with(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "HEAD_BYTES", 100_000)
    path = tmp_path / "my"
    path.write_bytes(PACKED[name](CONTENT))

    with open_bytes(path) as file:
        assert file.read() == CONTENT
    assert compression_of(path) == name
    assert read_head(path) == CONTENT[:100_000]


@pytest.mark.parametrize("name", ["gzip", "bz2", "xz"])
def test_of_a_damaged_file_the_beginning_is_looked_at(name: str, tmp_path: Path) -> None:
    content = PACKED[name](CONTENT + bytes(3_000_000))
    (tmp_path / "my").write_bytes(content[: len(content) // 2])

    head = read_head(tmp_path / "my")

    assert CONTENT.startswith(head[: len(CONTENT)])
