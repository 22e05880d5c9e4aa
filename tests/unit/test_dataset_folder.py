"""A folder holds the dataset that its card describes, or what differs is named."""

import pytest
from safetensors.numpy import save

from inference.contract import DatasetCard, ShardEntry
from inference.dataset import (
    Extent,
    find_differences,
    find_miscounts,
    judge_copies,
    note_ignored,
    note_others,
    note_unproved,
    refuse_differences,
)
from inference.errors import DatasetError
from tests.factories import make_arrays, make_shard, make_shard_bytes


def entry(name: str, *, num_rows: int = 3, size_bytes: int = 100) -> ShardEntry:
    return ShardEntry(name=name, num_rows=num_rows, size_bytes=size_bytes, sha256="a" * 64)


def card(*shards: ShardEntry, num_rows: int | None = None) -> DatasetCard:
    total = sum(one.num_rows for one in shards) if num_rows is None else num_rows
    return DatasetCard(name="d", partition="10MB", num_rows=total, shards=shards, arrays={}, seed=0, provenance="p")


TWO = (entry("2.safetensors"), entry("10.safetensors", num_rows=4))
SIZES = {"2.safetensors": 100, "10.safetensors": 100}


@pytest.mark.parametrize(
    ("described", "sizes", "differences"),
    [
        (card(*TWO), SIZES, []),
        (card(*TWO, num_rows=8), SIZES, ["dataset.json says 8 galaxies, its shards add up to 7"]),
        (card(*TWO), {"2.safetensors": 100}, ["10.safetensors is missing"]),
        (card(TWO[0]), SIZES, ["10.safetensors is not in dataset.json"]),
        (card(*TWO), {**SIZES, "2.safetensors": 99}, ["2.safetensors has 99 bytes, dataset.json says 100"]),
        (card(*TWO, TWO[0]), SIZES, ["dataset.json describes 2.safetensors 2 times"]),
    ],
)
def test_every_difference_between_a_folder_and_its_card_is_named(
    described: DatasetCard, sizes: dict[str, int], differences: list[str]
) -> None:
    assert list(find_differences(described, sizes)) == differences


def test_a_card_that_says_nothing_of_its_pixels_means_nanomaggies() -> None:
    assert (card().pixel_unit, card().zero_point_mag, card().bands) == ("nanomaggy", 22.5, tuple("ugriz"))


def test_of_shards_that_a_run_does_not_read_nothing_is_asked() -> None:
    assert list(find_differences(card(*TWO), {"2.safetensors": 100}, file_limit=1)) == []
    assert list(find_differences(card(*TWO), {"10.safetensors": 1, "2.safetensors": 100}, file_limit=1)) == []


def test_a_shard_with_another_number_of_galaxies_than_stated_is_named() -> None:
    assert list(find_miscounts([(TWO[0], 3), (TWO[1], 5)])) == ["10.safetensors holds 5 galaxies, dataset.json says 4"]


@pytest.mark.parametrize(("num", "end"), [(1, "json: 0. Make"), (5, "3; 4. Make"), (6, "4; and 1 more. Make")])
def test_the_first_five_differences_are_named_and_the_others_counted(num: int, end: str) -> None:
    refuse_differences("d/", [])
    with pytest.raises(DatasetError) as refused:
        refuse_differences("d/", [str(number) for number in range(num)])

    assert end in str(refused.value)


# ------------------------------------------------------------------------------------------ what counts twice


@pytest.mark.parametrize("name", ["0 (1).pt", "0-copy.pt", "0 copy 2.pt", "Copy of 0.pt"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_copy_that_is_named_as_one_is_refused_unless_it_is_wanted(name: str, is_first: bool) -> None:
    names = [name, "0.pt"] if is_first else ["0.pt", name]
    contents = [(one, ("etag", 9)) for one in names]

    with pytest.raises(DatasetError, match=r"d/ holds .* a copy of .*: its galaxies would count twice"):
        list(judge_copies("d/", contents))
    assert len(list(judge_copies("d/", contents, are_allowed=True))) == 1


@pytest.mark.parametrize(
    ("sizes", "notes"),
    [
        ([1, 2, 3], []),
        ([1, 2, 1], ["1 shard has the content of another, as 2.pt of 0.pt: their galaxies count twice."]),
        ([1, 1, 1], ["2 shards have the content of another, as 1.pt of 0.pt: their galaxies count twice."]),
    ],
)
def test_shards_of_the_same_content_are_noted(sizes: list[int], notes: list[str]) -> None:
    assert list(judge_copies("d/", [(f"{n}.pt", ("etag", size)) for n, size in enumerate(sizes)])) == notes


# ------------------------------------------------------------------------------------------ what is not read


@pytest.mark.parametrize(
    ("names", "start"),
    [
        (["0.pt", ".DS_Store"], ""),
        (["._0.pt"], "._0.pt was ignored"),
        (["._1.pt", "._0.pt", "0.pt"], "._0.pt and 1 more was ignored"),
    ],
)
def test_hidden_files_are_no_shards(names: list[str], start: str) -> None:
    note = "".join(note_ignored(names))

    assert note.startswith(start)
    assert bool(note) == bool(start)


@pytest.mark.parametrize(
    ("names", "start"),
    [
        (["0.pt", "dataset.json", "table.csv", "table.parquet", ".DS_Store"], ""),
        (["0.pt", "notes.txt"], "notes.txt was not read: shards"),
        (["more/", "0.pt", "a.fits"], "a.fits and 1 more was not read: shards"),
    ],
)
def test_what_may_have_been_meant_as_a_shard_is_noted(names: list[str], start: str) -> None:
    note = "".join(note_others(names))

    assert note.startswith(start)
    assert bool(note) == bool(start)


@pytest.mark.parametrize(("num", "which"), [(1, "1 shard"), (2, "2 shards")])
def test_shards_without_checksums_are_counted(num: int, which: str) -> None:
    (note,) = note_unproved([make_shard()] * num)

    assert f"for the parts of {which}: their" in note
    assert list(note_unproved([])) == []


# ------------------------------------------------------------------------------------------ rows by the size


def extent_of(content: bytes, size_bytes: int | None = None) -> Extent | None:
    return Extent.of_header(content[:4096], len(content) if size_bytes is None else size_bytes)


def test_a_header_and_a_size_say_how_many_galaxies_there_are() -> None:
    content = make_shard_bytes(7)
    length = int.from_bytes(content[:8], "little")

    # float32 pixels, float64 magnitudes and redshift, int64 identifier.
    assert extent_of(content) == Extent(7, 8 + length, 5 * 32 * 32 * 4 + 5 * 8 + 8 + 8)
    described = save(make_arrays(7), metadata={"made": "here"})
    assert extent_of(described).num_rows == 7  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", (2).to_bytes(8, "little") + b"[]", (2).to_bytes(8, "little") + b"{}", make_shard_bytes(0)],
)
def test_a_file_that_is_no_shard_says_nothing(content: bytes) -> None:
    assert extent_of(content) is None


def test_a_size_that_no_whole_number_of_galaxies_takes_says_nothing() -> None:
    content = make_shard_bytes(7)

    assert extent_of(content, len(content) + 1) is None
    assert extent_of(content, 8 + int.from_bytes(content[:8], "little")) is None
    assert extent_of(save({"a": make_arrays(7)["images"], "b": make_arrays(8)["images"]})) is None


@pytest.mark.parametrize(
    ("name", "num_rows", "off_bytes", "is_proved"),
    [
        ("1.safetensors", 5, 0, True),
        ("1.safetensors", 5, 49, True),
        ("1.safetensors", 5, -49, True),
        ("1.safetensors", 5, 50, False),
        ("1.safetensors", 5, -50, False),
        ("1.safetensors", 6, -100, False),
        ("1.pt", 5, 0, False),
    ],
)
def test_a_size_proves_a_number_of_galaxies_to_half_of_one(
    name: str, num_rows: int, off_bytes: int, is_proved: bool
) -> None:
    stated = entry(name, num_rows=num_rows, size_bytes=80 + 100 * num_rows + off_bytes)

    assert Extent(num_rows=7, head_bytes=80, row_bytes=100).proves(stated) == is_proved
