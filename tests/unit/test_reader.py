"""An existing dataset is read row by row, across its shards and row groups, and what it says of itself is believed."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file

from inference.block import SDSS, Layout
from inference.contract import DatasetCard, encode
from inference.models.card import Inputs, Magnitudes
from inference.quality import Quality
from scripts.command.errors import SourceError
from scripts.data.reader import FolderReader, ShardFolder, read_shapes, read_table_rows
from scripts.data.split_column import SELECTION, TRAIN

NUM = 7
SIZES = (3, 2, 2)
LIGHT = np.arange(NUM * 5, dtype=float).reshape(NUM, 5) + 15


def make(folder: Path, *, bands: str = "ugriz", side: int = 4, card: bool = True, **further: Any) -> Path:
    """Write seven galaxies in three shards, in the order of numbers: 2, 10, 11."""
    folder.mkdir(exist_ok=True)
    first, number = 0, np.arange(NUM)
    for name, size in zip(("2", "10", "11"), SIZES, strict=True):
        rows = slice(first, first + size)
        arrays = {
            "magnitudes": np.ascontiguousarray(LIGHT[rows, : len(bands)]),
            "redshifts": number[rows] / 10,
            "object_id": number[rows] + 100,
            **{name: np.asarray(values, float)[rows] for name, values in further.items()},
        }
        if side:
            pixels = number[rows, None, None, None] * np.ones((1, len(bands), side, side))
            arrays["images"] = pixels.astype(np.float32)
        save_file(arrays, folder / f"{name}.safetensors")
        first += size
    if card:
        stated = DatasetCard(
            name="mine",
            partition="1MB",
            num_rows=NUM,
            shards=(),
            arrays={},
            seed=0,
            provenance="x",
            bands=tuple(bands),
            image_origin="measured" if side else "none",
            pixel_scale_arcsec=0.3 if side else None,
            dereddened=True,
        )
        (folder / "dataset.json").write_bytes(encode(stated))
    return folder


def table(folder: Path, **columns: Any) -> Path:
    """Write a table in three row groups."""
    kinds = {"quality": pa.uint8()}
    arrays = {
        "ra_deg": np.arange(NUM) + 0.5,
        "dec_deg": np.arange(NUM) - 3.5,
        "quality": np.full(NUM, 0xFF, np.uint8),
        **columns,
    }
    whole = pa.table({name: pa.array(values, kinds.get(name)) for name, values in arrays.items()})
    with pyarrow.parquet.ParquetWriter(folder / "table.parquet", whole.schema) as writer:
        for start, size in zip((0, 3, 5), SIZES, strict=True):
            writer.write_table(whole.slice(start, size))
    return folder / "table.parquet"


def inputs(bands: str, side: int, *columns: str) -> Inputs:
    return Inputs(bands=tuple(bands), side_px=side, magnitudes=Magnitudes(dereddened=True), columns=columns)


# ----------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize(("start", "stop"), [(0, 7), (0, 3), (2, 4), (3, 5), (4, 7), (6, 7), (1, 6)])
def test_rows_are_those_asked_for_across_the_shards(start: int, stop: int, tmp_path: Path) -> None:
    dataset = ShardFolder(make(tmp_path))

    block = dataset.rows(start, stop)

    assert len(dataset) == NUM
    assert block.object_id.tolist() == list(range(100 + start, 100 + stop))
    assert block.redshifts.tolist() == pytest.approx([row / 10 for row in range(start, stop)])
    assert block.magnitudes.tolist() == LIGHT[start:stop].tolist()
    assert block.images[:, 0, 0, 0].tolist() == list(range(start, stop))
    assert block.images.flags.c_contiguous


def test_shards_are_in_natural_order_and_nothing_else_is_one(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "notes.txt").touch()

    assert ShardFolder(tmp_path).names == ["2.safetensors", "10.safetensors", "11.safetensors"]
    assert ShardFolder(tmp_path).starts == [0, 3, 5, 7]


def test_a_file_is_read_in_parts(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    reader = FolderReader(tmp_path)

    assert reader.read("a") == b"0123456789"
    assert [reader.read_range("a", *span) for span in ((0, 3), (4, 6), (8, 99))] == [b"012", b"45", b"89"]


# --------------------------------------------------------------------------------------------------- layout


def test_everything_in_the_shards_is_read_where_no_model_asks_for_less(tmp_path: Path) -> None:
    dataset = ShardFolder(make(tmp_path, bands="grz", seeing=np.ones(NUM), ebv=np.zeros(NUM)))

    layout = dataset.layout

    assert (layout.bands, layout.wanted, layout.side_px) == (tuple("grz"), tuple("grz"), 4)
    assert layout.columns == ("ebv", "seeing")
    assert dataset.rows(0, 2).columns is not None
    assert ShardFolder(make(tmp_path / "without", side=0)).layout.side_px == 0
    assert ShardFolder(make(tmp_path / "no card", card=False)).layout.bands == SDSS.bands


def test_a_model_reads_what_it_needs_of_it(tmp_path: Path) -> None:
    folder = make(tmp_path, ebv=np.arange(NUM))

    dataset = ShardFolder(folder, inputs("grz", 0, "ebv"))

    assert dataset.layout == Layout(SDSS.bands, tuple("grz"), 0, True, ("ebv",))
    block = dataset.rows(2, 4)
    assert block.magnitudes.tolist() == LIGHT[2:4, [1, 2, 4]].tolist()
    assert block.columns is not None
    assert block.columns[:, 0].tolist() == [2, 3]


def test_a_band_that_the_card_does_not_have_is_named(tmp_path: Path) -> None:
    make(tmp_path, bands="grz")

    with pytest.raises(SourceError, match="has the bands g r z; u i is missing for this model"):
        _ = ShardFolder(tmp_path, inputs("ugriz", 0)).layout
    # Without a card it is not known.
    (tmp_path / "dataset.json").unlink()
    assert ShardFolder(tmp_path, inputs("Yri", 0)).layout.bands == ("Y", "r", "i")


def test_what_holds_for_all_galaxies_is_what_the_card_says(tmp_path: Path) -> None:
    stated = ShardFolder(make(tmp_path / "card", ebv=np.zeros(NUM))).origin
    unknown = ShardFolder(make(tmp_path / "none", card=False)).origin
    without = ShardFolder(make(tmp_path / "without", side=0)).origin

    assert (stated.image_origin, stated.pixel_scale_arcsec, stated.dereddened) == ("measured", 0.3, True)
    assert (stated.bands, stated.side_px, stated.columns, stated.text_columns) == (SDSS.bands, 4, ("ebv",), ())
    assert (unknown.image_origin, unknown.pixel_scale_arcsec, unknown.dereddened) == (None, None, None)
    assert without.image_origin == "none"
    # A model that reads no images has none of them.
    assert ShardFolder(tmp_path / "card", inputs("grz", 0)).origin.image_origin == "none"


def test_a_card_that_is_none_is_named(tmp_path: Path) -> None:
    assert ShardFolder(tmp_path).card is None
    (tmp_path / "dataset.json").write_text("{}")

    with pytest.raises(SourceError, match=r"/dataset\.json: "):
        _ = ShardFolder(tmp_path).card


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        (5).to_bytes(8, "little") + b"{} xx",
        (2).to_bytes(8, "little") + b"[]",
        (9).to_bytes(8, "little") + b'{"a": {}}',
        (8).to_bytes(8, "little") + b'{"a": 1}',
        (17).to_bytes(8, "little") + b'{"a":{"shape":1}}',
    ],
)
def test_a_shard_that_is_none_has_no_shapes(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)

    assert read_shapes(tmp_path / "a") == {}


def test_shapes_are_those_of_the_arrays(tmp_path: Path) -> None:
    save_file({"a": np.zeros((2, 3)), "b": np.zeros(4)}, tmp_path / "a", {"note": "x"})

    assert read_shapes(tmp_path / "a") == {"a": (2, 3), "b": (4,)}


# --------------------------------------------------------------------------------------------------- facts


def test_facts_are_those_of_the_table(tmp_path: Path) -> None:
    folder = make(tmp_path)
    parts = ["train", None, "selection", "train", "train", None, "test"]
    table(folder, split=parts, source_id=["a", None, "c", "d", "e", "f", "g"])

    facts = ShardFolder(folder).facts(1, 5)

    assert facts.ra_deg.tolist() == [1.5, 2.5, 3.5, 4.5]
    assert facts.dec_deg.tolist() == [-2.5, -1.5, -0.5, 0.5]
    # Pixels and magnitudes are judged again.
    assert set(facts.quality.tolist()) == {(Quality.LOW_SIGNAL | Quality.HIGH_EXTINCTION).value}
    assert facts.split is not None
    assert facts.split.tolist() == [0, SELECTION, TRAIN, TRAIN]
    assert facts.source_id is not None
    assert facts.source_id.tolist() == ["", "c", "d", "e"]
    assert ShardFolder(folder).origin.text_columns == ("split", "source_id")


def test_without_a_table_nothing_is_known(tmp_path: Path) -> None:
    facts = ShardFolder(make(tmp_path)).facts(1, 4)

    assert np.isnan(facts.ra_deg).all()
    assert (len(facts.ra_deg), facts.quality.tolist(), facts.split, facts.source_id) == (3, [0, 0, 0], None, None)


@pytest.mark.parametrize(("start", "stop"), [(0, 7), (0, 3), (3, 5), (2, 6), (4, 5), (6, 7)])
def test_rows_of_a_table_come_from_the_groups_that_hold_them(start: int, stop: int, tmp_path: Path) -> None:
    path = table(tmp_path, number=np.arange(NUM), empty=[1, None, 3, 4, 5, 6, 7])

    found = read_table_rows(path, start, stop, ["number", "ra_deg", "empty"])

    assert list(found) == ["number", "ra_deg", "empty"]
    assert found["number"].tolist() == list(range(start, stop))
    assert found["ra_deg"].tolist() == [row + 0.5 for row in range(start, stop)]
    np.testing.assert_array_equal(found["empty"], np.array([1, np.nan, 3, 4, 5, 6, 7])[start:stop])


def test_rows_that_a_table_does_not_have_are_named(tmp_path: Path) -> None:
    path = table(tmp_path)

    with pytest.raises(SourceError, match=r"table\.parquet has 7 rows; the dataset has 9\."):
        read_table_rows(path, 7, 9, ["ra_deg"])
    with pytest.raises(SourceError, match=r"table\.parquet has 7 rows; the dataset has at least 8\."):
        read_table_rows(path, 6, 8, ["ra_deg"])
    pyarrow.parquet.write_metadata(pa.schema([("ra_deg", pa.float64())]), path)
    with pytest.raises(SourceError, match=r"table\.parquet has 0 rows; the dataset has 1\."):
        read_table_rows(path, 0, 1, ["ra_deg"])
