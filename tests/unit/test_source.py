"""What is found at a path decides how it is read; what cannot be is named with what there is."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.io import fits
from torch.utils.data import TensorDataset

from inference.cleaning import shipped_limits
from inference.models import without_images
from scripts.command.errors import SourceError, UsageError
from scripts.data.source import Source, open_source
from scripts.data.table_galaxies import CutoutsWithTable, PlainTable, RenderedTable

KNOWN = shipped_limits().photometry
assert KNOWN is not None
MEAN = KNOWN.mean
CSV = "id,u,g,r,i,z\n" + "".join(f"{number},{','.join(map(str, MEAN))}\n" for number in (1, 2))
IMAGES = np.random.default_rng(0).normal(size=(2, 5, 32, 32)).astype(np.float32)
TABLE_OF_CDS = "Byte-by-byte Description of file: {}\n"


def opened(path: Path, scratch: Path, fields: str = "", *, plain: bool = False, **more: Any) -> Source:
    card = without_images().card if plain else None
    return open_source(path, fields=fields, scratch=scratch, seed=0, card=card, **more)


def of_csv(path: Path) -> Path:
    path.write_text(CSV)
    return path


def of_npz(path: Path) -> Path:
    np.savez(path, images=IMAGES, magnitudes=np.array([MEAN, MEAN]))
    return path


def of_tensors(path: Path) -> Path:
    torch.save(TensorDataset(torch.from_numpy(IMAGES), torch.tensor(np.array([MEAN, MEAN]))), path)
    return path


def of_cutouts(path: Path) -> Path:
    path.mkdir()
    of_csv(path / "list.csv")
    for number, pixels in zip((1, 2), IMAGES, strict=True):
        fits.writeto(path / f"{number}.fits", pixels)
    return path


@pytest.mark.parametrize(
    ("write", "name", "kind", "origin", "is_sequential"),
    [
        (of_csv, "my.csv", RenderedTable, "rendered", False),
        (of_npz, "my.npz", CutoutsWithTable, "measured", True),
        (of_tensors, "my.PT", CutoutsWithTable, "measured", True),
        (of_cutouts, "folder", CutoutsWithTable, "measured", False),
    ],
)
def test_a_source_has_measured_images_or_rendered_ones_or_none_where_none_are_read(
    write: Any, name: str, kind: type, origin: str, is_sequential: bool, tmp_path: Path
) -> None:
    path = write(tmp_path / name)

    source, plain = opened(path, tmp_path), opened(path, tmp_path, plain=True)

    assert isinstance(source.galaxies, kind)
    assert (source.origin.image_origin, source.origin.side_px) == (origin, 32)
    assert (source.is_sequential, source.is_rendered) == (is_sequential, origin == "rendered")
    assert source.origin.pixel_scale_arcsec == (0.396 if origin == "rendered" else None)
    assert source.description.startswith("magnitude = ")
    assert isinstance(plain.galaxies, PlainTable)
    assert (plain.origin.image_origin, plain.origin.side_px, plain.is_rendered) == ("none", 0, True)
    assert (len(source.galaxies), len(plain.galaxies), plain.is_sequential) == (2, 2, False)


def test_the_size_of_a_pixel_is_said_where_the_cutouts_do_not(tmp_path: Path) -> None:
    source = opened(of_npz(tmp_path / "my.npz"), tmp_path, "pixel_scale_arcsec=0.3")

    assert source.origin.pixel_scale_arcsec == 0.3
    said = r"^FIELDS: pixel_scale_arcsec=0\.3 is for cutouts that do not say it; these have pixels of 0\.396 arcsec\.$"
    with pytest.raises(UsageError, match=said):
        opened(of_csv(tmp_path / "my.csv"), tmp_path, "pixel_scale_arcsec=0.3")


def test_pixels_in_another_unit_are_noted(tmp_path: Path) -> None:
    np.savez(tmp_path / "my.npz", images=np.abs(IMAGES) * 1e6, magnitudes=np.array([MEAN, MEAN]))

    (note,) = opened(tmp_path / "my.npz", tmp_path).report.notes

    assert "are their pixels in nanomaggies?" in note


@pytest.mark.parametrize(("is_packed", "expected"), [(False, [2]), (True, [])])
def test_about_how_many_rows_there_are_is_told_where_it_is_known(
    is_packed: bool, expected: list[int], tmp_path: Path
) -> None:
    path, told = tmp_path / "my.csv", list[int]()
    path.write_bytes(gzip.compress(CSV.encode()) if is_packed else CSV.encode())

    opened(path, tmp_path, expect=told.append)

    assert told == expected


def test_what_is_not_there_is_said_with_what_may_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^SOURCE=.*gone\.csv does not exist\. It may be a table \(CSV or other text"):
        opened(tmp_path / "gone.csv", tmp_path)


def test_a_folder_of_shards_has_no_columns_to_name(tmp_path: Path) -> None:
    of_tensors(tmp_path / "0.pt")
    of_tensors(tmp_path / "1.pt")

    source = opened(tmp_path, tmp_path)

    assert (source.description, source.is_sequential, source.records) == ("shards 0.pt to 1.pt", True, None)
    assert len(source.galaxies) == 4
    with pytest.raises(UsageError, match=r"^FIELDS names columns of a table; .* holds shards\.$"):
        opened(tmp_path, tmp_path, "u=a")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            ["a.txt", "b.txt", "c", "d/e.txt"],
            r"neither shards nor FITS cutouts, but 2 \.txt, 1 without an ending\. A s",
        ),
        (["d/e.txt"], r"holds neither shards nor FITS cutouts, but no file\. A source may be a table"),
        ([f"a.{ending}" for ending in "abcdefg"], r"1 \.[a-g], 1 \.[a-g], 1 \.[a-g], 1 \.[a-g], 1 \.[a-g]\. A source"),
        (["1.fits"], r"needs one table of its cutouts, \.csv, \.parquet or table\.fits; it has none\.$"),
        (["1.fits", "a.csv", "b.CSV.gz", "table.fits"], r"; it has a\.csv, b\.CSV\.gz, table\.fits\.$"),
    ],
)
def test_a_folder_that_is_no_source_is_said_with_what_it_holds(files: list[str], said: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / "my" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "my" / name).touch()

    with pytest.raises(SourceError, match=said):
        opened(tmp_path / "my", tmp_path)


def test_a_description_of_the_cds_leads_to_its_table_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "ReadMe").write_text(TABLE_OF_CDS.format("a.dat") + TABLE_OF_CDS.format("b.dat"))
    for name in ("a.dat", "b.dat"):
        (tmp_path / name).write_text("x\n")

    said = r"ReadMe describes several tables, a\.dat, b\.dat: name one, SOURCE=.*/a\.dat\.$"
    with pytest.raises(SourceError, match=said):
        opened(tmp_path, tmp_path)
