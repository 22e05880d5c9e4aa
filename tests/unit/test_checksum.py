"""Every byte of a shard whose checksums are known is proved before it is handed on, whichever part is read."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.checksum import MAX_BLOCKS, MIN_BLOCK_BYTES, ProvedReader, block_bytes, file_crc32, without_crc32
from inference.contract import RowRange
from inference.errors import ShardChangedError, ShardFormatError
from tests.factories import MemoryReader

CONTENT = np.random.default_rng(0).bytes(2 * MIN_BLOCK_BYTES + 1000)
KEY = "0.safetensors"


@pytest.fixture(scope="module")
def crc32(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("shards") / KEY
    path.write_bytes(CONTENT)
    return file_crc32(path)


def reader_of(content: bytes, crc32: bytes) -> tuple[ProvedReader, MemoryReader]:
    rows = RowRange(key=KEY, start_row=0, stop_row=1, crc32=crc32, size_bytes=len(CONTENT))
    under = MemoryReader(**{KEY: content, "other": b"any"})
    return ProvedReader(under, [rows]), under


@given(data=st.data())
def test_any_range_is_the_bytes_of_the_file(crc32: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(CONTENT) + 10))
    stop = data.draw(st.integers(start, len(CONTENT) + 10))
    proved, under = reader_of(CONTENT, crc32)

    assert bytes(proved.read_range(KEY, start, stop, etag=under.etag)) == CONTENT[start:stop]
    assert len(under.requests) <= 1


@pytest.mark.parametrize("at", [0, 7, MIN_BLOCK_BYTES - 1, MIN_BLOCK_BYTES, len(CONTENT) - 1])
def test_a_flipped_bit_is_noticed_by_whoever_reads_its_part(crc32: bytes, at: int) -> None:
    content = bytearray(CONTENT)
    content[at] ^= 0x10
    proved, _ = reader_of(bytes(content), crc32)

    begin = at // MIN_BLOCK_BYTES * MIN_BLOCK_BYTES
    end = min(begin + MIN_BLOCK_BYTES, len(CONTENT)) - 1
    with pytest.raises(ShardFormatError, match=rf"0\.safetensors is not what it was: its bytes {begin} to {end} have"):
        proved.read_range(KEY, at, at + 1)
    with pytest.raises(ShardFormatError):
        proved.read(KEY)
    elsewhere = (at + MIN_BLOCK_BYTES) % len(CONTENT)
    if elsewhere // MIN_BLOCK_BYTES != at // MIN_BLOCK_BYTES:
        assert bytes(proved.read_range(KEY, elsewhere, elsewhere + 1)) == CONTENT[elsewhere : elsewhere + 1]


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:MIN_BLOCK_BYTES], b""])
def test_a_file_that_ends_early_is_noticed(crc32: bytes, content: bytes) -> None:
    proved, _ = reader_of(content, crc32)

    with pytest.raises(ShardFormatError):
        assert len(proved.read_range(KEY, 0, len(CONTENT))) == len(CONTENT)


def test_a_part_of_a_file_that_ends_early_says_where(crc32: bytes) -> None:
    proved, _ = reader_of(CONTENT[:MIN_BLOCK_BYTES], crc32)

    with pytest.raises(ShardFormatError, match=f"ends at byte {MIN_BLOCK_BYTES} of {len(CONTENT)}. Upload it again"):
        proved.read_range(KEY, 100, MIN_BLOCK_BYTES + 1)


@pytest.mark.parametrize(("size_bytes", "has_crc32"), [(None, True), (5, False)])
def test_checksums_without_a_size_or_a_size_without_checksums_prove_nothing(
    crc32: bytes, size_bytes: int | None, has_crc32: bool
) -> None:
    rows = RowRange(key=KEY, start_row=0, stop_row=1, crc32=crc32 if has_crc32 else b"", size_bytes=size_bytes)

    assert ProvedReader(MemoryReader(**{KEY: b"other"}), [rows]).read(KEY) == b"other"


@pytest.mark.parametrize("key", [KEY, "other"])
def test_a_shard_that_was_replaced_is_refused_whether_it_is_proved_or_not(crc32: bytes, key: str) -> None:
    proved, _ = reader_of(CONTENT, crc32)

    with pytest.raises(ShardChangedError):
        proved.read(key, etag='"old"')
    with pytest.raises(ShardChangedError):
        proved.read_range(key, 0, 1, etag='"old"')


def test_what_has_no_checksums_is_read_as_it_is(crc32: bytes) -> None:
    proved, under = reader_of(CONTENT, crc32)

    assert proved.read("other") == b"any"
    assert proved.read_range("other", 1, 2) == b"n"
    assert under.requests[-1] == ("other", 1, 2)


@pytest.mark.parametrize("size_bytes", [0, 1, MIN_BLOCK_BYTES * MAX_BLOCKS, MIN_BLOCK_BYTES * MAX_BLOCKS + 1, 10**12])
def test_a_shard_has_few_checksums_however_large_it_is(size_bytes: int) -> None:
    assert -(-size_bytes // block_bytes(size_bytes)) <= MAX_BLOCKS


@pytest.mark.parametrize(
    ("size_bytes", "part_bytes"), [(1, 2**18), (2**26, 2**18), (2**26 + 1, 2**18 + 1), (2**28, 2**20)]
)
def test_parts_are_those_of_the_checksums_that_datasets_have(size_bytes: int, part_bytes: int) -> None:
    assert block_bytes(size_bytes) == part_bytes


def test_a_record_names_the_rows_without_them(crc32: bytes) -> None:
    rows = RowRange(key=KEY, start_row=0, stop_row=1, etag="e", sha256="s", crc32=crc32, size_bytes=5)

    assert without_crc32(rows) == RowRange(key=KEY, start_row=0, stop_row=1, etag="e", sha256="s")
