"""Every format of docs/inputs.md gives the same galaxies, and odd files of real tools come out right."""

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from astropy.io import fits
from astropy.table import Table

from inference.models import without_images
from scripts.command.errors import SourceError
from scripts.data import read_galaxies
from scripts.data.source import missing, open_source
from scripts.data.user_table import is_table, open_table

MAGNITUDES = np.round(np.array([19.6, 18.5, 17.6, 17.2, 17.0]) + np.arange(4)[:, None] / 10, 3)
COLUMNS = {
    "objid": np.arange(4) + 1_237_648_720_693_755_918,
    "ra": np.array([10.0, 20.5, 30.0, 359.5]),
    "dec": np.array([-1.0, 0.5, 30.0, 60.5]),
    **{f"{band}mag": MAGNITUDES[:, number] for number, band in enumerate("ugriz")},
    "zsp": np.array([0.1, 0.2, 0.3, np.nan]),
}
TABLE = Table(COLUMNS)
CSV = "\n".join([",".join(COLUMNS), *(",".join(map(str, row)) for row in TABLE.iterrows())]) + "\n"
LINES = CSV.splitlines()

Write = Callable[[Path], object]


def text(content: str, encoding: str = "utf-8") -> Write:
    return lambda path: path.write_bytes(content.encode(encoding))


def by_astropy(format_name: str, **options: object) -> Write:
    return lambda path: TABLE.write(path, format=format_name, **options)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("galaxies.csv", CSV)
        archive.writestr("__MACOSX/galaxies.csv", "x")


def of_rail(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, values in COLUMNS.items():
            file[f"photometry/{name}"] = values


def parts(path: Path) -> None:
    for number in (0, 1):
        folder = path / "dataset" / f"Norder=0/Dir=0/Npix={number}"
        folder.mkdir(parents=True)
        rows = slice(2 * number, 2 * number + 2)
        pyarrow.parquet.write_table(pa.table({name: c[rows] for name, c in COLUMNS.items()}), folder / "0.parquet")
    pyarrow.parquet.write_metadata(pa.schema([]), path / "dataset" / "_metadata")


README = """J/A+A/1/1  Galaxies
Byte-by-byte Description of file: table1.dat
--------------------------------------------------------------------------------
   Bytes Format Units  Label Explanations
--------------------------------------------------------------------------------
   1- 20 I20    ---    objid Identifier
  21- 30 F10.4  deg    RAdeg Right ascension
  31- 40 F10.4  deg    DEdeg Declination
{magnitudes}
  91-100 F10.4  ---    zsp   ? Redshift
--------------------------------------------------------------------------------
"""


def described(path: Path) -> None:
    path.mkdir()
    magnitudes = [
        f"  {41 + 10 * n}-{50 + 10 * n:3} F10.4  mag    {band}mag  Magnitude" for n, band in enumerate("ugriz")
    ]
    (path / "ReadMe").write_text(README.format(magnitudes="\n".join(magnitudes)))
    rows = ("".join(f"{value:{20 if n == 0 else 10}}" for n, value in enumerate(row)) for row in TABLE.iterrows())
    (path / "table1.dat").write_text("\n".join(row.replace("nan", "   ") for row in rows) + "\n")


def second(path: Path) -> None:
    parts = [fits.BinTableHDU(Table({"night": [1], "airmass": [1.2]})), fits.BinTableHDU(TABLE, name="GALAXIES")]
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(path)


def by_r(delimiter: str, quote: str) -> Write:
    """`write.table` of R: no name above the names of the rows."""
    rows = [[str(number), *line.split(",")] for number, line in enumerate(LINES[1:], start=1)]
    lines = [[f"{quote}{name}{quote}" for name in LINES[0].split(",")]]
    lines += [[f"{quote}{cells[0]}{quote}", *cells[1:]] for cells in rows]
    return text("\n".join(map(delimiter.join, lines)).replace("nan", "NA"))


def boxed(corner: str, crossing: str) -> str:
    """The table in a box, as programs of databases print it; without its lid and bottom it is Markdown."""
    rows = [line.replace("nan", "").split(",") for line in LINES]
    widths = [max(map(len, cells)) + 2 for cells in zip(*rows, strict=True)]
    rule = corner + crossing.join("-" * width for width in widths) + corner
    lines = ["|" + "|".join(map(str.center, row, widths)) + "|" for row in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule]) + "\n"


def nested() -> pa.Table:
    """The columns in structs, one of which is in another."""
    flat = pa.table(COLUMNS)
    inner = pa.StructArray.from_arrays([flat[name].combine_chunks() for name in ("ra", "dec")], ["ra", "dec"])
    light = [f"{band}mag" for band in "ugriz"]
    sdss = pa.StructArray.from_arrays([*(flat[name].combine_chunks() for name in light), inner], [*light, "icrs"])
    return pa.table({"objid": flat["objid"], "sdss": sdss, "zsp": flat["zsp"]})


NESTED = ",".join([*(f"{band}=sdss.{band}mag" for band in "ugriz"), "ra=sdss.icrs.ra,dec=sdss.icrs.dec"])

SPACED = CSV.replace(",", "   ")
SEXTRACTOR = "".join(
    f"#  {i} {name}  a comment [{unit}]\n"
    for i, (name, unit) in enumerate(zip(COLUMNS, ["", "deg", "deg", *["mag"] * 5, ""], strict=True), start=1)
)

FORMATS: dict[str, Write] = {
    "csv": text(CSV),
    "tsv": text(CSV.replace(",", "\t")),
    "semicolons.csv": text(CSV.replace(",", ";")),
    "pipes.txt": text(CSV.replace(",", "|")),
    "decimal commas.csv": text(CSV.replace(",", ";").replace(".", ",")),
    "sep.csv": text("sep=;\n" + CSV.replace(",", ";")),
    "excel.txt": text(CSV.replace(",", "\t"), "utf-16"),
    "latin.csv": text("\n".join([f"{LINES[0]},note", *(f"{line},é" for line in LINES[1:])]), "latin-1"),
    "blank first.csv": text(f"\n\n{CSV}"),
    "comments.csv": text("\n".join([f"# a\n{LINES[0]}", LINES[1], "# between", *LINES[2:], "#END#"])),
    "names in a comment.csv": text(f"# of TOPCAT\n# {CSV}"),
    "vizier.tsv": text(
        "\n".join(
            ["#Table", LINES[0], ",deg,deg,mag,mag,mag,mag,mag,", ",".join(["----"] * 9), *LINES[1:], ""]
        ).replace(",", "\t")
    ),
    "units in names.csv": text(CSV.replace("ra,dec,umag", "ra (deg),dec [deg],umag (mag)")),
    "psql.txt": text("\n".join([LINES[0], "----,---", *LINES[1:], "(4 rows)"]).replace(",", " | ")),
    "spaces.dat": text(SPACED),
    "spaces.cat": text(f"#{SPACED}"),
    "sextractor.cat": text(SEXTRACTOR + "\n".join(SPACED.splitlines()[1:])),
    "r.txt": by_r(" ", '"'),
    "r.tsv": by_r("\t", ""),
    "r.csv": by_r(",", '"'),
    "commas behind.csv": text("\n".join([LINES[0], *(f"{line}," for line in LINES[1:])])),
    "ecsv": by_astropy("ascii.ecsv"),
    "comma.ecsv": by_astropy("ascii.ecsv", delimiter=","),
    "ipac.tbl": by_astropy("ascii.ipac"),
    "machine readable.txt": by_astropy("ascii.mrt"),
    "bars.txt": by_astropy("ascii.fixed_width"),
    "mysql.txt": lambda path: path.write_text(boxed("+", "+")),
    "markdown.md": lambda path: path.write_text("\n".join(boxed("|", "|").splitlines()[1:-1]) + "\n"),
    "matlab.dat": text("% of a program\n% " + CSV.replace(",", " ")),
    "title.csv": text("Galaxies of somebody\n" + CSV),
    "units below.csv": text(CSV.replace("\n", "\n,deg,deg,mag,mag,mag,mag,mag,\n", 1)),
    "brackets.csv": text("\n".join([",".join(f"[{name}]" for name in COLUMNS), *LINES[1:]])),
    "restructured.rst": by_astropy("ascii.rst"),
    "table.tex": by_astropy("ascii.latex"),
    "deluxetable.tex": by_astropy("ascii.aastex"),
    "of cds": described,
    "wide.txt": text(CSV, "utf-32"),
    "second table.fits": second,
    "indexed.h5": lambda path: pd.DataFrame(COLUMNS).set_index("objid").to_hdf(path, key="df", mode="w"),
    "votable.xml": by_astropy("votable"),
    "binary.vot": by_astropy("votable", tabledata_format="binary2"),
    "fits": by_astropy("fits"),
    "upper.FITS": by_astropy("fits"),
    "parquet": lambda path: pyarrow.parquet.write_table(pa.table(COLUMNS), path),
    "folder of parts": parts,
    "columns.npz": lambda path: np.savez(path, **COLUMNS, note=np.array([None] * 4)),
    "structured.npz": lambda path: np.savez(path, galaxies=TABLE.as_array()),
    "magnitudes.npz": lambda path: np.savez(
        path,
        magnitudes=MAGNITUDES,
        redshifts=COLUMNS["zsp"],
        **{name: COLUMNS[name] for name in ("objid", "ra", "dec")},
    ),
    "npy": lambda path: np.save(path, TABLE.as_array()),
    "feather": lambda path: pyarrow.feather.write_feather(pa.table(COLUMNS), path),
    "rail.hdf5": of_rail,
    "astropy.h5": by_astropy("hdf5", path="data", serialize_meta=True),
    "pandas.h5": lambda path: pd.DataFrame(COLUMNS).to_hdf(path, key="df", mode="w"),
    "csv.gz": lambda path: path.write_bytes(gzip.compress(CSV.encode())),
    "csv.bz2": lambda path: path.write_bytes(bz2.compress(CSV.encode())),
    "csv.xz": lambda path: path.write_bytes(lzma.compress(CSV.encode())),
    "csv.zst": lambda path: path.write_bytes(pa.compress(CSV.encode(), "zstd", asbytes=True)),
    "csv.zip": zipped,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_galaxies(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"my.{name}"
    FORMATS[name](path)

    found = read_galaxies(path)

    assert is_table(path)
    assert found.block.object_id.tolist() == COLUMNS["objid"].tolist()
    assert found.block.magnitudes == pytest.approx(MAGNITUDES, abs=1e-9)
    np.testing.assert_array_equal(found.block.redshifts, COLUMNS["zsp"])
    np.testing.assert_array_equal(found.ra_deg, COLUMNS["ra"])


@pytest.mark.parametrize("write", [pyarrow.parquet.write_table, pyarrow.feather.write_feather])
def test_columns_in_structs_are_named_with_a_dot(write: Callable[[pa.Table, Path], None], tmp_path: Path) -> None:
    write(nested(), tmp_path / "my")

    found = read_galaxies(tmp_path / "my", NESTED)

    assert found.block.magnitudes == pytest.approx(MAGNITUDES)
    np.testing.assert_array_equal(found.dec_deg, COLUMNS["dec"])


def test_names_of_rows_are_no_guess_where_the_last_column_may_lack_a_name(tmp_path: Path) -> None:
    """Numbers that do not count the rows may be identifiers below their own name."""
    text("\n".join(["objid,u,g,r,i,z", "17,1,19.6,18.5,17.6,17.2,17.0", "18,1,19.6,18.5,17.6,17.2,17.0"]))(
        tmp_path / "my"
    )

    with pytest.raises(SourceError, match=r"line 2 has 7 cells, and there are 6 names.*give every column a name"):
        read_galaxies(tmp_path / "my")


def tiled(path: Path) -> None:
    part = fits.BinTableHDU(TABLE)
    part.header["ZTABLE"] = True
    fits.HDUList([fits.PrimaryHDU(), part]).writeto(path)


REFUSED: dict[str, tuple[Write, str]] = {
    "tiled.fits.fz": (tiled, "`funpack` unpacks it"),
    "table.h5": (
        lambda path: pd.DataFrame(COLUMNS).to_hdf(path, key="df", mode="w", format="table"),
        r"names are pickled, .* pd\.read_hdf\('my\.table\.h5'\)\.to_parquet\('my\.table\.parquet'\)",
    ),
    "plain.npy": (
        lambda path: np.save(path, MAGNITUDES),
        r"4 x 5 numbers .*: np\.savez\('my\.plain\.npz', u=",
    ),
    "cutouts.npy": (
        lambda path: np.save(path, np.zeros((1, 5, 32, 32))),
        r"without magnitudes: np\.savez\('my\.cutouts\.npz', images=images, magnitudes=magnitudes\)",
    ),
    "objects.npy": (lambda path: np.save(path, np.array([None])), "Plain numbers and text are read"),
    "lengths.npz": (lambda path: np.savez(path, u=[1, 2], g=[1]), "holds 2 u, 1 g: columns of one table have one len"),
    "objects.npz": (lambda path: np.savez(path, a=np.array([None])), "Python's own objects in it, a, are pickled"),
    "text.npz": (text("u,g"), "cannot be read as its ending says"),
    "json": (text('{"u": 1}'), "is JSON, which is no table"),
    "html": (text("<!doctype html>"), "is a page of the web"),
    "numbers.csv": (text(CSV.partition("\n")[2]), "begins with numbers, not with the names of its columns"),
    "short.csv": (text(CSV[:-20]), r"line 5 has \d cells, and there are 9 names"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_the_way_out(name: str, tmp_path: Path) -> None:
    write, said = REFUSED[name]
    write(tmp_path / f"my.{name}")

    with pytest.raises(SourceError, match=said):
        read_galaxies(tmp_path / f"my.{name}")


def test_a_device_and_an_address_are_no_files() -> None:
    with pytest.raises(SourceError, match="/dev/null is a pipe or a device, which cannot be read twice"):
        read_galaxies("/dev/null")
    assert missing("https://a.b/c.csv").startswith("SOURCE=https://a.b/c.csv is an address: download the file first")


@pytest.mark.parametrize(("name", "num"), [("csv", 4), ("spaces.dat", 4), ("fits", 4), ("parquet", 4), ("csv.xz", 0)])
def test_it_is_known_about_how_many_rows_will_be_read(name: str, num: int, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / f"my.{name}")

    assert open_table(tmp_path / f"my.{name}").about_rows == num


ODD = Path("../shared/data/odd_inputs")


@pytest.mark.parametrize(
    ("name", "num", "said"),
    [
        ("mask.fits", None, "is kept as source_id"),
        ("Z.csv", 30, ""),
        ("comma.csv", 30, "decimal commas"),
        ("mib.csv", 12_984, ""),
        ("latin.csv", 30, "latin-1"),
        ("sexa.csv", 30, "hours, minutes and seconds"),
        ("ldac.fits", 30, ""),
        ("slices_of_larger_tensors.pt", 10, ""),
        ("requires_grad.pt", 40, ""),
    ],
)
def test_odd_files_are_read(name: str, num: int | None, said: str, tmp_path: Path) -> None:
    if not ODD.is_dir():
        pytest.skip(f"{ODD} is not here")

    # As tables, without images that would have to be rendered.
    card = None if name.endswith(".pt") else without_images().card
    source = open_source(ODD / name, fields="", scratch=tmp_path, seed=0, card=card)

    assert num is None or len(source.galaxies) == num
    assert np.isfinite(source.galaxies.rows(0, len(source.galaxies)).magnitudes).all()
    assert said in " ".join(source.report.notes)
