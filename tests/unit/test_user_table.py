"""What a file is told to be by what it holds, and what of it becomes columns and units."""

import bz2
import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from astropy.io import fits
from astropy.table import Table

from scripts.command.errors import SourceError
from scripts.data import user_table
from scripts.data.user_table import is_table, open_table

U_G = {"u": [1.5, 2.5, 3.5], "g": [4.0, 5.0, 6.0]}
README = "Byte-by-byte Description of file: {}\n"

Write = Callable[[Path], Any]


def values(path: Path, kind: str = "number") -> dict[str, list[Any]]:
    """Return all columns of a table, read as one kind."""
    table = open_table(path)
    batches = list(table.batches(dict.fromkeys(table.columns, kind)))
    return {name: [value for batch in batches for value in batch[name].tolist()] for name in table.columns}


def text(content: str | bytes) -> Write:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def packed(write: Write, pack: Callable[[bytes], bytes]) -> Write:
    def packed_file(path: Path) -> None:
        write(path)
        path.write_bytes(pack(path.read_bytes()))

    return packed_file


def zipped(*names: str) -> Write:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "u,g\n1.5,4\n2.5,5\n3.5,6\n")

    return write


def of_hdf5(*datasets: tuple[str, Any]) -> Write:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name, content in datasets:
                file[name] = content

    return write


def of_parquet(**columns: Any) -> Write:
    return lambda path: pyarrow.parquet.write_table(pa.table(columns), path)


def of_fits(*parts: fits.hdu.base.ExtensionHDU) -> Write:
    return lambda path: fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(path)


def votable(*tables: str) -> Write:
    fields = {name: f'<FIELD name="{name}" datatype="double" unit="mag"/>' for name in U_G}
    rows = {
        one: "".join(
            "<TR>" + "".join(f"<TD>{U_G[name][row]}</TD>" for name in one.split()) + "</TR>" for row in range(3)
        )
        for one in tables
    }
    inner = "".join(
        f"<TABLE>{''.join(fields[name] for name in one.split())}<DATA><TABLEDATA>{rows[one]}</TABLEDATA></DATA></TABLE>"
        for one in tables
    )
    return text(
        f'<?xml version="1.0"?>\n<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f'<RESOURCE type="results">{inner}</RESOURCE></VOTABLE>'
    )


READ: dict[str, Write] = {
    "aligned.md": text("| u | g |\n| :-- | --: |\n  | 1.5 | 4 |\n| 2.5 | 5 |\n| 3.5 | 6 |\n\nThe end\n"),
    "gzip.fits": packed(of_fits(fits.BinTableHDU(Table(U_G))), gzip.compress),
    "bzip2.fits": packed(of_fits(fits.BinTableHDU(Table(U_G))), bz2.compress),
    "zstd.fits": packed(
        of_fits(fits.BinTableHDU(Table(U_G))), lambda content: pa.compress(content, "zstd", asbytes=True)
    ),
    "gzip.npy": packed(lambda path: np.save(path, Table(U_G).as_array()), gzip.compress),
    "h5.gz": packed(of_hdf5(*U_G.items()), gzip.compress),
    "with numbers.h5": of_hdf5(*U_G.items(), ("version", 3)),
    "in a group.h5": of_hdf5(*((f"a/b/{name}", column) for name, column in U_G.items()), ("c/histogram", [1, 2])),
    "compound.h5": of_hdf5(("galaxies", Table(U_G).as_array())),
    "later.vot": votable("u", "u g"),
    "folder in.zip": zipped("my/", "my/table.csv", "__MACOSX/my/table.csv"),
    "bom.csv": text(b"\xef\xbb\xbfu,g\n1.5,4\n2.5,5\n3.5,6\n"),
}


@pytest.mark.parametrize("name", READ)
def test_a_table_is_told_by_what_it_holds(name: str, tmp_path: Path) -> None:
    READ[name](tmp_path / f"my.{name}")

    assert values(tmp_path / f"my.{name}") == U_G


REFUSED: dict[str, tuple[Write, str]] = {
    "whole.parquet.gz": (packed(of_parquet(**U_G), gzip.compress), "is compressed as a whole: unpack it first"),
    "damaged.csv.gz": (text(b"\x1f\x8b"), "is cut off or damaged: nothing of it can be unpacked"),
    "damaged.zip": (text(b"PK\x03\x04"), r"is no readable \.zip"),
    "two.zip": (zipped("a.csv", "b.csv"), r"holds 2 files, a\.csv, b\.csv…: unpack it and name the table"),
    "book.xlsx": (zipped("xl/workbook.xml", "a.xml"), "is a workbook of Excel: save its sheet as CSV"),
    "page": (text("\r\n <HTML><body>"), "is a page of the web, not a table"),
    "list.json": (text('[{"u": 1}]'), "is JSON, which is no table; it may be any of CSV"),
    "numbers.json": (text("[ -1, 2]"), "is JSON"),
    "picture": (text(b"\x89PNG\r\n\0\0"), "is no table that can be read: it is none of CSV"),
    "text.parquet": (text("u,g\n1,2\n"), "cannot be read as its ending says: it begins as another kind of file"),
    "text.FITS": (text("u,g\n1,2\n"), "cannot be read as its ending says"),
    "image.fits": (of_fits(fits.ImageHDU(np.zeros((2, 2)))), "holds no table; it has 2 parts of other kinds"),
    "one.vot": (votable("u"), "is a VOTable without a table, as services answer that found nothing or failed"),
    "two.h5": (
        of_hdf5(*((f"{group}/{name}", column) for group in "ab" for name, column in U_G.items())),
        r"holds 2 tables: /a, /b\. One is read",
    ),
    "no.h5": (of_hdf5(("u", [1.0, 2.0]), ("g", [1.0])), r"holds 0 tables\. One is read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_refused_with_the_way_out(name: str, tmp_path: Path) -> None:
    write, said = REFUSED[name]
    write(tmp_path / f"my.{name}")

    with pytest.raises(SourceError, match=rf"my\.{name} {said}"):
        open_table(tmp_path / f"my.{name}")


# ------------------------------------------------------------------------------------------------------- units


def parquet_in_structs(path: Path) -> None:
    light = pa.struct([pa.field("u", pa.float64(), metadata={"unit": "mag"}), pa.field("g", pa.float64())])
    schema = pa.schema([pa.field("mag", light), pa.field("ra", pa.float64(), metadata={"unit": "deg"})])
    pyarrow.parquet.write_table(pa.Table.from_pylist([{"mag": {"u": 1.0, "g": 2.0}, "ra": 3.0}], schema), path)


def hdf5_with_units(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, key in (("u", "unit"), ("g", "units"), ("r", "description")):
            file[name] = [1.0]
            file[name].attrs[key] = "mag"


@pytest.mark.parametrize(
    ("name", "write", "units"),
    [
        ("my.parquet", parquet_in_structs, {"mag.u": "mag", "ra": "deg"}),
        ("my.h5", hdf5_with_units, {"u": "mag", "g": "mag"}),
        ("my.vot", votable("u g"), {"u": "mag", "g": "mag"}),
        (
            "astropy.h5",
            lambda path: Table(U_G, units={"u": "mag"}).write(path, format="hdf5", path="a", serialize_meta=True),
            {"u": "mag"},
        ),
        ("my.fits", lambda path: Table(U_G, units={"u": "mag"}).write(path), {"u": "mag"}),
    ],
    ids=str,
)
def test_units_are_those_of_the_columns_that_state_one(
    name: str, write: Write, units: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path / name)

    assert dict(open_table(tmp_path / name).units) == units


# ------------------------------------------------------------------------------------------------------- Parquet


def test_parts_of_a_table_are_read_in_natural_order_and_others_left(tmp_path: Path) -> None:
    for name, number in (("part-10", 3.5), ("part-2", 2.5), ("a/part-1", 1.5), ("_common", 9.0), (".part-0", 9.0)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        of_parquet(u=[number], g=[0.0])(tmp_path / f"{name}.parquet")

    table = open_table(tmp_path)

    assert values(tmp_path)["u"] == [1.5, 2.5, 3.5]
    assert (table.notes, table.about_rows) == ((f"3 files of {tmp_path.name}/ read as one table",), 3)
    assert open_table(tmp_path / "part-2.parquet").notes == ()


@pytest.mark.parametrize(
    ("second", "said"), [({"u": [1.0], "r": [1.0]}, "g, r"), ({"g": [1.0], "u": [1.0]}, "their order")]
)
def test_parts_with_other_columns_are_named(second: dict[str, Any], said: str, tmp_path: Path) -> None:
    of_parquet(u=[1.0], g=[1.0])(tmp_path / "1.parquet")
    of_parquet(**second)(tmp_path / "2.parquet")

    with pytest.raises(SourceError, match=rf"2\.parquet has other columns than 1\.parquet: {said}\.$"):
        open_table(tmp_path)


@pytest.mark.parametrize("write", [pyarrow.parquet.write_table, pyarrow.feather.write_feather, None])
def test_a_table_comes_in_blocks(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_table, "BATCH_ROWS", 2)
    columns = {"u": np.arange(5.0)}
    if write:
        write(pa.table(columns), tmp_path / "my")
    else:
        Table(columns).write(tmp_path / "my", format="fits")

    blocks = [batch["u"].tolist() for batch in open_table(tmp_path / "my").batches({"u": "number"})]

    assert blocks == [[0, 1], [2, 3], [4]]
    assert open_table(tmp_path / "my").about_rows == 5


# ---------------------------------------------------------------------------------------------------------- FITS


def test_the_table_of_most_columns_is_read_and_told(tmp_path: Path) -> None:
    wide, narrow = Table(U_G), Table({"night": [1]})
    parts = [fits.BinTableHDU(narrow), fits.ImageHDU(np.zeros((2, 2))), fits.BinTableHDU(wide, name="GALAXIES")]
    of_fits(*parts)(tmp_path / "named.fits")
    of_fits(fits.BinTableHDU(wide), fits.BinTableHDU(narrow))(tmp_path / "first.fits")
    of_fits(fits.BinTableHDU(wide))(tmp_path / "only.fits")

    notes = [open_table(tmp_path / f"{name}.fits").notes for name in ("named", "first", "only")]

    assert notes == [("table 2 of 2, GALAXIES",), ("table 1 of 2, without a name",), ()]
    assert values(tmp_path / "named.fits") == U_G


@pytest.mark.parametrize("bzero", [None, 2**15])
def test_a_number_that_stands_for_none_is_none(bzero: int | None, tmp_path: Path) -> None:
    """Of unsigned numbers the one in the file is smaller by what is added to all."""
    array = np.array([7, 99, 8], np.uint16 if bzero else np.int16)
    column = fits.Column("n", "I", array=array, null=99 - (bzero or 0), bzero=bzero)
    of_fits(fits.BinTableHDU.from_columns([column]))(tmp_path / "my.fits")

    for kind in ("number", "angle"):
        np.testing.assert_array_equal(values(tmp_path / "my.fits", kind)["n"], [7, np.nan, 8])
    assert values(tmp_path / "my.fits", "text")["n"] == ["7", "", "8"]


# ---------------------------------------------------------------------------------------------------------- HDF5


def test_the_index_of_a_frame_is_a_column_where_it_has_a_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({**U_G, "name": ["a", "b", "c"]})
    frame.set_index(pd.Index([7, 8, 9], name="id")).to_hdf(tmp_path / "named.h5", key="df", mode="w")
    frame.to_hdf(tmp_path / "plain.h5", key="df", mode="w")

    # Texts are pickled.
    assert values(tmp_path / "named.h5") == {**U_G, "id": [7, 8, 9]}
    assert values(tmp_path / "plain.h5") == U_G


# ------------------------------------------------------------------------------------------------------- folders


def test_a_folder_is_a_table_where_it_holds_parts_and_no_images(tmp_path: Path) -> None:
    def holding(name: str, *files: str) -> Path:
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_bytes(b"PAR1")
        return tmp_path / name

    assert is_table(holding("parts", "1.parquet", "notes.txt"))
    assert is_table(holding("deep", "a/b/1.parquet", "a/b/c/1.fits"))
    assert not is_table(holding("cutouts", "1.parquet", "7.FITS"))
    assert not is_table(holding("cutouts below", "1.parquet", "stamps/7.fits.fz"))
    assert not is_table(holding("nothing", "notes.txt"))
    assert not is_table(holding("files", "data.PT") / "data.PT")
    assert not is_table(tmp_path / "gone.csv")


def test_a_description_of_the_cds_leads_to_the_files_that_are_there(tmp_path: Path) -> None:
    readme = tmp_path / "ReadMe"
    readme.write_text(README.format("a.dat, b.dat") + README.format("a.dat c.dat"))
    for name in ("b.dat", "a.dat"):
        (tmp_path / name).write_text("u,g\n1,2\n")
    (tmp_path / "other.csv").write_text("u,g\n1,2\n")

    assert user_table.described_by(readme) == [tmp_path / "a.dat", tmp_path / "b.dat"]
    assert user_table.readme_of(tmp_path / "a.dat") == readme
    assert user_table.readme_of(tmp_path / "other.csv") is None
    assert is_table(tmp_path)
    with pytest.raises(SourceError, match=r"ReadMe describes tables: name one of them, as in SOURCE=.*/a\.dat\.$"):
        open_table(readme)
    assert user_table.described_by(tmp_path / "gone") == []
