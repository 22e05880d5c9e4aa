"""A user's table becomes a dataset: dirt is flagged and counted, nothing is lost, and training gets clean rows only."""

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from astropy.table import Table
from rich.progress import Progress
from safetensors.numpy import load_file

from inference.cleaning import shipped_limits
from inference.quality import Quality
from scripts import clean_table as clean_table_command
from scripts.clean_table import clean_table
from scripts.command import program
from scripts.command.errors import CommandError, SourceError, UsageError
from scripts.data import read_galaxies, records, writer
from scripts.data.columns import recognize
from scripts.data.plan import DatasetVariables, plan_dataset
from scripts.data.reader import ShardFolder
from scripts.data.records import SFD_COEFFICIENTS
from scripts.data.split_column import SELECTION, TEST, TRAIN
from scripts.data.table_galaxies import RenderedTable, measured_structure
from scripts.data.taken import name_of
from scripts.data.user_table import open_table
from scripts.data.verification import find_problems
from scripts.data.writer import is_complete, make
from scripts.simulation.photometry import asinh_magnitudes
from scripts.simulation.structure import Structure

KNOWN = shipped_limits().photometry
MEAN_MAGNITUDES = KNOWN.mean

NAN = np.nan


def galaxies(num: int = 12, **changes: Any) -> dict[str, np.ndarray]:
    """Columns of clean galaxies; name one to replace it, None leaves it out."""
    magnitudes = MEAN_MAGNITUDES + np.linspace(-0.5, 0.5, num)[:, None]
    columns: dict[str, Any] = {
        "objID": np.arange(num) + 1_237_648_720_693_755_918,
        "ra": np.linspace(10, 20, num),
        "dec": np.linspace(-5, 5, num),
        **{f"modelMag_{band}": magnitudes[:, number] for number, band in enumerate("ugriz")},
        "z": np.linspace(0.05, 0.2, num),
        **changes,
    }
    return {name: np.asarray(values) for name, values in columns.items() if values is not None}


def changed(column: np.ndarray, **rows: Any) -> np.ndarray:
    """Replace single values: changed(column, r3=NAN)."""
    column = column.astype(float)
    for row, value in rows.items():
        column[int(row[1:])] = value
    return column


def write(folder: Path, columns: dict[str, np.ndarray], ending: str = "csv") -> Path:
    path = folder / f"my.{ending}"
    if ending == "csv":
        pyarrow.csv.write_csv(pa.table(columns), path)
    elif ending == "parquet":
        pyarrow.parquet.write_table(pa.table(columns), path, row_group_size=5)
    else:
        Table(columns).write(path)
    return path


def make_dataset(
    folder: Path, path: Path, *, training: bool = False, fields: str = "", shard_mb: int = 1, model: str = "astromae"
) -> Path:
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    variables = DatasetVariables(
        source=str(path), name="mine", fields=fields, training=training, shard_mb=shard_mb, model=model
    )
    plan = plan_dataset(variables, root=folder, scratch=scratch)
    make(plan, processes=1)
    assert is_complete(plan)
    return plan.folder


def read_table(folder: Path) -> dict[str, np.ndarray]:
    table = pyarrow.parquet.read_table(folder / "table.parquet")
    return {name: table.column(name).to_numpy() for name in table.column_names}


def report(folder: Path) -> dict[str, int]:
    document = json.loads((folder / "cleaning.json").read_bytes())
    return {
        **{entry["rule"]: entry["num_rows"] for entry in document["rules"] if entry["num_rows"]},
        **{name: count for name, count in document["outcomes"].items() if count},
    }


# -------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("ending", ["csv", "parquet", "fits"])
def test_every_format_gives_the_same_dataset(ending: str, tmp_path: Path) -> None:
    columns = galaxies()

    folder = make_dataset(tmp_path, write(tmp_path, columns, ending))
    arrays, table = load_file(folder / "0.safetensors"), read_table(folder)

    assert arrays["object_id"].tolist() == columns["objID"].tolist() == table["object_id"].tolist()
    assert arrays["magnitudes"][:, 0] == pytest.approx(columns["modelMag_u"], abs=1e-9)
    assert arrays["redshifts"] == pytest.approx(columns["z"])
    assert table["ra_deg"] == pytest.approx(columns["ra"])
    assert report(folder) == {"clean": 12}
    assert list(find_problems(folder)) == []


def test_rendered_images_hold_the_light_of_the_table(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, write(tmp_path, galaxies(expRad_r=np.full(12, 1.0))))

    light = load_file(folder / "0.safetensors")["images"].sum(axis=(2, 3))[:, 2]
    flux = 10 ** (-0.4 * (galaxies()["modelMag_r"] - 22.5))

    # Some light falls outside 12.7 arcsec, and the Petrosian aperture holds 6 % less than the model.
    assert np.all((light > 0.7 * flux) & (light < 1.02 * flux))


def test_measured_sizes_are_those_of_the_images(tmp_path: Path) -> None:
    def central_share(folder: Path, radius: float) -> float:
        folder.mkdir()
        made = make_dataset(folder, write(folder, galaxies(expRad_r=np.full(12, radius), deVRad_r=np.full(12, radius))))
        images = load_file(made / "0.safetensors")["images"][:, 2]
        return float((images[:, 12:20, 12:20].sum(axis=(1, 2)) / images.sum(axis=(1, 2))).mean())

    assert central_share(tmp_path / "small", 0.5) > 1.3 * central_share(tmp_path / "large", 4.0)


def test_another_process_renders_the_same_galaxies(tmp_path: Path) -> None:
    path, scratch = write(tmp_path, galaxies()), tmp_path / "scratch"
    scratch.mkdir()
    variables = DatasetVariables(source=str(path), training=True, shard_mb=1)
    plan = plan_dataset(variables, root=tmp_path, scratch=scratch)

    # What a pool hands to its processes.
    elsewhere = pickle.loads(pickle.dumps(plan))

    assert np.array_equal(elsewhere.galaxies.rows(2, 9).images, plan.galaxies.rows(2, 9).images)
    assert elsewhere.ranges == plan.ranges


def test_a_cleaned_table_is_never_that_of_another_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    first, second = write(tmp_path, galaxies(10)), write(tmp_path / "other", galaxies(11))

    for path in (first, second, first):
        assert program.exit_status(clean_table_command.main, {"SOURCE": str(path)}) == 0

    numbers = [len(read_table(tmp_path / f"datasets/{name}/cleaned")["object_id"]) for name in ("my", "my-2")]
    assert numbers == [10, 11]
    assert program.exit_status(clean_table_command.main, {"SOURCE": str(second), "NAME": "my"}) == 2


@pytest.mark.parametrize(
    ("asked", "source", "name", "fields", "for_training"),
    [
        ({"SOURCE": "my.csv", "TRAINING": "1", "FIELDS": "u=umag"}, "my.csv", "my", "u=umag", True),
        ({"SOURCE": "my.csv", "NAME": "named"}, "my.csv", "named", "", False),
        ({}, "real.fits", "sdss", "", False),
        ({"NAME": "named"}, "real.fits", "named", "", False),
    ],
)
def test_a_table_or_the_real_catalogue_is_cleaned_as_it_is_asked(
    asked: dict[str, str],
    source: str,
    name: str,
    fields: str,
    for_training: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("my.csv", "real.fits"):
        (tmp_path / file).touch()
    cleaned: list[tuple[object, ...]] = []

    def clean(path: Path, folder: Path, *, fields: str, for_training: bool) -> int:
        folder.mkdir(parents=True)
        cleaned.append((path, folder, fields, for_training))
        return 12

    monkeypatch.setattr(clean_table_command, "kcorrect_data", lambda *_: Path("real.fits"))
    monkeypatch.setattr(clean_table_command, "clean_table", clean)
    monkeypatch.setattr(clean_table_command, "print_report", lambda folder: print(f"report of {folder}"))

    assert program.exit_status(clean_table_command.main, asked) == 0

    folder = Path("datasets", name, "cleaned")
    assert cleaned == [(Path(source), folder, fields, for_training)]
    said = f"report of {folder}\n{folder}: 12 galaxies in table.parquet and table.csv\n"
    assert capsys.readouterr().out == said
    # Where the galaxies are from is noted of all but the sample.
    noted = folder.parent / "source.txt"
    assert (noted.read_text() if noted.exists() else "") == ("" if name == "sdss" else f"{tmp_path / source}\n")


def test_a_galaxy_is_rendered_alike_whatever_its_name_its_place_and_its_neighbours(tmp_path: Path) -> None:
    columns = galaxies()
    (tmp_path / "other").mkdir()
    other = {name: values[:4:-1] for name, values in {**columns, "objID": np.arange(12) + 5}.items()}

    first, second = (
        RenderedTable(records.read_records(open_table(write(folder, table)), "", folder / "records"), seed=1)
        for folder, table in ((tmp_path, columns), (tmp_path / "other", other))
    )

    images, others = first.rows(0, 12).images, second.rows(0, 7).images
    assert np.array_equal(images[5:][::-1], others)
    assert not np.array_equal(images[0], images[1])


def test_a_table_longer_than_a_block_keeps_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_dataset(tmp_path, write(tmp_path, galaxies(120), "parquet"))

    table = pyarrow.parquet.ParquetFile(folder / "table.parquet")

    # The file came in row groups of 5; the dataset's are its shards.
    assert [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)] == [51, 51, 18]
    assert read_table(folder)["object_id"].tolist() == galaxies(120)["objID"].tolist()


def test_a_notebook_reads_what_a_dataset_holds(tmp_path: Path) -> None:
    path = write(tmp_path, dirty())
    folder = make_dataset(tmp_path, path)

    found = read_galaxies(path)

    arrays, table = load_file(folder / "0.safetensors"), read_table(folder)
    for name, array in found.block.arrays().items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)
    for name in ("ra_deg", "dec_deg", "quality"):
        np.testing.assert_array_equal(getattr(found, name), table[name], err_msg=name)
    assert found.report.to_json() == (folder / "cleaning.json").read_bytes()


# ------------------------------------------------------------------------------------ what is measured


def test_fluxes_become_magnitudes_corrected_for_extinction(tmp_path: Path) -> None:
    flux = 10 ** (-0.4 * (MEAN_MAGNITUDES - 22.5)) * np.linspace(0.8, 1.2, 12)[:, None]
    flux[3, 0] = -0.5  # a measurement like any other
    columns = {f"modelFlux_{band}": flux[:, number] for number, band in enumerate("ugriz")}

    folder = make_dataset(tmp_path, write(tmp_path, {**columns, "EBV": np.full(12, 0.02)}))

    expected = asinh_magnitudes(flux) - 0.02 * SFD_COEFFICIENTS
    assert load_file(folder / "0.safetensors")["magnitudes"] == pytest.approx(expected)
    assert read_table(folder)["object_id"].tolist() == list(range(1, 13))


def test_errors_and_extinction_flag_what_magnitudes_do_not_show(tmp_path: Path) -> None:
    errors = {f"modelMagErr_{band}": np.full(12, 0.02) for band in "ugriz"}
    errors["modelMagErr_u"][0] = 0.5
    errors["modelMagErr_g"][1] = 0.5
    extinction = {f"extinction_{band}": np.full(12, 0.1) for band in "ugriz"}
    extinction["extinction_r"][2] = 0.6

    folder = make_dataset(tmp_path, write(tmp_path, galaxies(**errors, **extinction)))
    quality = read_table(folder)["quality"]

    assert quality[:4].tolist() == [0, Quality.LOW_SIGNAL, Quality.HIGH_EXTINCTION | Quality.COLOR_OUTLIER, 0]
    assert report(folder)["signal-to-noise below 5 in g, r, i or z"] == 1
    assert list(find_problems(folder)) == []


# ----------------------------------------------------------------------------------------------- dirt


def dirty() -> dict[str, np.ndarray]:
    clean = galaxies()
    return galaxies(
        objID=np.where(np.arange(12) == 11, clean["objID"][10], clean["objID"]),
        modelMag_u=changed(clean["modelMag_u"], r0=-9999, r1=0, r5=25.0),
        modelMag_g=changed(clean["modelMag_g"], r2=NAN, r4=NAN),
        modelMag_r=changed(clean["modelMag_r"], r3=-9999),
        modelMag_i=changed(clean["modelMag_i"], r4=99),
        modelMag_z=changed(clean["modelMag_z"], r4=np.inf),
        z=changed(clean["z"], r6=-9999, r7=0, r8=NAN),
        zWarning=changed(np.zeros(12), r9=4),
        **{"class": np.array(["GALAXY"] * 10 + ["STAR", "GALAXY"])},
    )


@pytest.mark.parametrize("ending", ["csv", "parquet", "fits"])
def test_dirt_is_flagged_counted_and_kept(ending: str, tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, write(tmp_path, dirty(), ending))
    table, arrays = read_table(folder), load_file(folder / "0.safetensors")

    imputed, refused = Quality.IMPUTED_BAND, Quality.IMPUTED_BAND | Quality.REFUSED
    assert table["quality"].tolist() == [imputed, imputed, imputed, refused, refused, Quality.COLOR_OUTLIER] + [0] * 6
    assert np.isnan(table["mag_r"][3])
    assert table["mag_g"][2] == pytest.approx(galaxies()["modelMag_g"][2], abs=0.1)
    assert np.isfinite(arrays["images"]).all()
    assert np.isnan(table["z_spec"][6:11]).all()
    assert np.isnan(arrays["redshifts"][6:11]).all()
    assert report(folder) == {
        "magnitude is NaN or infinite": 2,
        "magnitude is -9999": 2,
        "magnitude is 0": 1,
        "magnitude outside 10-30": 1,
        "one or two bands missing": 3,
        "no r": 1,
        "more than two bands missing": 1,
        "colour beyond 8 robust sigma": 1,
        "object_id repeated": 1,
        "redshift not positive": 2,
        "zWarning not 0": 1,
        "class not GALAXY": 1,
        "clean": 6,
        "imputed": 3,
        "flagged": 1,
        "rejected": 2,
    }
    assert list(find_problems(folder)) == []


def test_training_gets_clean_labelled_galaxies_once(tmp_path: Path) -> None:
    columns = dirty()
    columns["modelMag_u"][0], columns["z"][9], columns["objID"][9] = MEAN_MAGNITUDES[0] - 0.5, 0.1, columns["objID"][0]

    folder = make_dataset(tmp_path, write(tmp_path, {**columns, "zWarning": np.zeros(12)}), training=True)

    table = read_table(folder)
    # Row 9 repeats row 0; row 10 is a star; row 11 repeats row 10.
    assert table["object_id"].tolist() == [columns["objID"][0]]
    assert not table["quality"].any()
    assert (report(folder)["clean"], report(folder)["dropped"]) == (1, 11)
    assert list(find_problems(folder)) == []


def test_a_table_of_which_nothing_is_left_for_training_says_why(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="None of the 12 galaxies may be used for training: 12 no usable redshift"):
        make_dataset(tmp_path, write(tmp_path, galaxies(z=None)), training=True)


def test_a_table_without_redshifts_is_a_dataset_without_labels(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, write(tmp_path, galaxies(z=None)))

    assert np.isnan(read_table(folder)["z_spec"]).all()
    assert report(folder) == {"clean": 12}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("u,g,r,i,z\n", "has column names but no rows"),
        ("# only a comment\n", "holds no line of column names"),
        ("19,18,17,16,15\n19,18,17,16,15\n", "begins with numbers, not with the names of its columns"),
        ("19,18,17,16,15,GALAXY\n", "begins with numbers, not with the names of its columns"),
        ("u,g,r,i,z\n19,18,seventeen,16,15\n", "r does not hold numbers, the first is 'seventeen'"),
        ("u,g,r,i,z\n\n19,18,17,16,15\n19,18,17\n", "line 4 has 3 cells, and there are 5 names: '19,18,17'"),
        ("u g r i z\n19 18 17 16 15\n19  18 17\n", "line 3 has 3 cells, and there are 5 names"),
        ("u,g,r,i,z,z\n19,18,17,16,15,0.1\n", "has 2 columns named z: rename all but the one that is meant"),
        ("ra,RA,u,g,r,i,z\n1,2,19,18,17,16,15\n", 'columns ra and RA: which is ra? FIELDS="ra=ra" or "ra=RA"'),
        ("<!DOCTYPE html><html></html>", "is a page of the web, not a table"),
        ('{"u": [19]}', "is JSON"),
        ("<?xml version='1.0'?><gpx/>", "is XML, but no VOTable"),
    ],
)
def test_a_table_that_is_none_is_refused_by_name(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text(content)

    with pytest.raises(SourceError, match=r"my\.csv") as error:
        make_dataset(tmp_path, path)

    assert message in str(error.value)


def test_codes_of_missing_values_in_a_csv_are_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    codes = ["", "null", "NULL", "None", "NA", "N/A", "nan", "NaN", "NAN", "-", "--"]
    path.write_text("u,g,r,i,z,redshift\n" + "".join(f"{code},17.5,16.6,16.1,15.8,0.1\n" for code in codes))

    table = read_table(make_dataset(tmp_path, path))

    assert table["quality"].tolist() == [Quality.IMPUTED_BAND] * len(codes)


def test_only_radii_that_a_galaxy_can_have_are_taken(tmp_path: Path) -> None:
    radii = np.array([0.5, 99.0, 500.0, -9999.0, 0.0, np.nan, np.inf, 100.0, 1, 1, 1, 1])
    ratios = np.array([1.0, 0.3, 1.2, -9999.0, 0.0, np.nan, 0.001, 1, 1, 1, 1, 1])
    path = write(tmp_path, galaxies(expRad_r=radii, petroR50_r=radii, deVRad_r=radii, expAB_r=ratios))

    rows = records.read_records(open_table(path), "", tmp_path / "records").rows(0, 12)

    for name in ("disc_radius", "half_light_radius", "bulge_radius"):
        np.testing.assert_array_equal(rows[name], [0.5, 99.0, *[np.nan] * 6, 1, 1, 1, 1])
    np.testing.assert_array_equal(rows["axis_ratio"], [1, 0.3, np.nan, np.nan, np.nan, np.nan, 0.001, *[1] * 5])


def test_only_positions_on_the_sky_are_taken(tmp_path: Path) -> None:
    ra, dec = np.array([0.0, 360, -1, 361, 10, 10]), np.array([90.0, -90, 0, 0, 90.1, -9999])

    found = records.read_records(open_table(write(tmp_path, galaxies(6, ra=ra, dec=dec))), "", tmp_path / "records")
    rows = found.rows(0, 6)

    assert found.rules["no position on the sky"] == 3
    np.testing.assert_array_equal(rows["ra_deg"], [0, 360, 359, *[np.nan] * 3])
    np.testing.assert_array_equal(rows["dec_deg"], [90, -90, 0, *[np.nan] * 3])


def test_comments_and_other_separators_of_csv_are_read(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text("#Table1\nu;g;r;i;z;Redshift\n19.2;17.5;16.6;16.1;15.8;NULL\n")

    folder = make_dataset(tmp_path, path)

    assert load_file(folder / "0.safetensors")["magnitudes"][0].tolist() == [19.2, 17.5, 16.6, 16.1, 15.8]


def test_a_table_can_be_cleaned_without_making_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, dirty())
    with_images = make_dataset(tmp_path, path)

    progress, bars, read = Progress(disable=True), [], clean_table_command.open_source

    def bars_now() -> tuple[object, ...]:
        (bar,) = progress.tasks
        return bar.description, bar.total, bar.completed

    def open_source(path: Path, *, scratch: Path, tick: Any, expect: Any, **asked: Any) -> Any:
        assert (scratch.parent, scratch.name[0]) == (tmp_path, ".")
        bars.append(bars_now())
        expect(13)
        tick(12)
        bars.append(bars_now())
        return read(path, scratch=scratch, **asked)

    monkeypatch.setattr(clean_table_command, "progress_bar", lambda: progress)
    monkeypatch.setattr(clean_table_command, "open_source", open_source)

    num_rows = clean_table(path, tmp_path / "new" / "cleaned", fields="", for_training=False)

    assert num_rows == 12
    assert [*bars, bars_now()] == [("reading", None, 0), ("reading", 13, 12), ("galaxies", 12, 12)]
    folder = tmp_path / "new" / "cleaned"
    assert (folder / "table.csv").read_text() == (with_images / "table.csv").read_text()
    assert report(folder) == report(with_images)


def test_cleaning_for_training_writes_the_rows_that_are_left(tmp_path: Path) -> None:
    num_rows = clean_table(write(tmp_path, dirty()), tmp_path / "cleaned", fields="", for_training=True)

    table = read_table(tmp_path / "cleaned")
    assert num_rows == len(table["quality"]) == 0
    assert report(tmp_path / "cleaned")["dropped"] == 12


def test_repeated_identifiers_are_the_later_ones(tmp_path: Path) -> None:
    path = tmp_path / "records"
    rows = np.zeros(5, dtype=records.row_type())
    rows["object_id"] = [7, 3, 7, 7, 3]
    rows.tofile(path)

    read = records.Records(path, 5, recognize("ugriz", "", source=""), records.Counter())

    assert records.repeated(read).tolist() == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("my data (1).csv", "my-data-1"),
        ("a/SDSS_dr17.fits.gz", "SDSS_dr17"),
        ("my.sample.v2.csv", "my.sample.v2"),
        ("星系.csv", "galaxies"),
        (".csv", "galaxies"),
    ],
)
def test_a_dataset_is_named_after_its_source(path: str, name: str) -> None:
    assert name_of(Path(path)) == name


def test_no_source_takes_the_dataset_of_another_one(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "gals.csv", tmp_path / "b" / "gals.csv"
    for number, path in enumerate((first, second)):
        path.parent.mkdir()
        pyarrow.csv.write_csv(pa.table(galaxies(ra=np.linspace(10, 20, 12) + number)), path)

    def made(path: Path, **more: Any) -> str:
        plan = plan_dataset(DatasetVariables(source=str(path), **more), root=tmp_path, scratch=tmp_path)
        make(plan, processes=1)
        return plan.name

    assert [made(first), made(second), made(first), made(second)] == ["gals", "gals-2", "gals", "gals-2"]
    for taken in ({"source": str(second), "name": "gals"}, {"name": "gals", "n": 10}):
        with pytest.raises(UsageError, match=r"datasets/gals was made from .*a/gals\.csv.*NAME, or say YES=1"):
            plan_dataset(DatasetVariables(**taken), root=tmp_path, scratch=tmp_path)
    assert made(second, name="gals", yes=True) == "gals"
    assert first.rename(tmp_path / "sdss.csv")
    assert made(tmp_path / "sdss.csv", yes=True) == "sdss-2"


def test_galaxies_that_a_disk_does_not_hold_are_refused_before_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_dataset(
        DatasetVariables(source=str(write(tmp_path, galaxies())), name="mine"), root=tmp_path, scratch=tmp_path
    )
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000))

    with pytest.raises(CommandError, match=r"mine/10MB would take \d kB, and 1 kB are free there"):
        make(plan, processes=1)
    assert not list(plan.folder.glob("*"))


# ------------------------------------------------------------------------------------------ sizes and splits


def structure_of(tmp_path: Path, **columns: np.ndarray) -> Any:
    """Draw the structure of galaxies whose table has these columns."""
    path = write(tmp_path, galaxies(4, **columns))
    rows = records.read_records(open_table(path), "", tmp_path / "records").rows(0, 4)
    one = np.ones(4)
    return measured_structure(rows, Structure(one, 2 * one, 0.5 * one, 0 * one, 0.25 * one))


def test_axis_ratios_of_disc_and_bulge_count_by_their_light(tmp_path: Path) -> None:
    disc, bulge = np.array([0.4, 0.4, NAN, NAN]), np.array([0.8, NAN, 0.8, -9999])

    found = structure_of(tmp_path, expAB_r=disc, deVAB_r=bulge)

    assert found.axis_ratio == pytest.approx([0.75 * 0.4 + 0.25 * 0.8, 0.4, 0.8, 0.5])


def test_a_measured_bulge_fraction_is_taken_for_a_drawn_one(tmp_path: Path) -> None:
    fraction = np.array([1.0, 0.0, NAN, 3.0])

    found = structure_of(tmp_path, fracDeV_r=fraction, expAB_r=np.full(4, 0.4), deVAB_r=np.full(4, 0.8))

    assert found.bulge_fraction.tolist() == [1.0, 0.0, 0.25, 0.25]
    assert found.axis_ratio == pytest.approx([0.8, 0.4, 0.5, 0.5])


def test_a_split_that_the_user_names_is_kept_with_every_galaxy(tmp_path: Path) -> None:
    parts = np.array(["train", "TRAINING", "validation", "selection", "test", ""] * 2)
    path = write(tmp_path, galaxies(PART=parts))

    folder = make_dataset(tmp_path, path, fields="split=PART", model="magnitudes")

    facts = ShardFolder(folder).facts(0, 12)
    assert facts.split is not None
    assert facts.split.tolist() == [TRAIN, TRAIN, SELECTION, SELECTION, TEST, 0] * 2
    assert read_table(folder)["split"][:6].tolist() == ["train", "train", "selection", "selection", "test", None]
    assert list(find_problems(folder)) == []
    assert ShardFolder(make_dataset(tmp_path, path, model="magnitudes")).facts(0, 12).split is None


def test_a_part_of_no_split_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, galaxies(PART=np.array(["train", "holdout"] * 6)))

    with pytest.raises(SourceError, match=r"my\.csv: PART holds 'holdout'; a split is train, selection, test, or"):
        make_dataset(tmp_path, path, fields="split=PART")


# ------------------------------------------------------------------------------------------ some of the galaxies


def kept(tmp_path: Path, source: Path, **asked: Any) -> Any:
    plan = plan_dataset(DatasetVariables(source=str(source), name="part", **asked), root=tmp_path, scratch=tmp_path)
    make(plan, processes=1)
    return load_file(plan.folder / "0.safetensors")["object_id"] - 1_237_648_720_693_755_918


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ({"rows": 3}, [0, 1, 2]),
        ({"rows": "small"}, range(12)),
        ({"where": "z_spec > 0.1 and not ra >= 19"}, [4, 5, 6, 7, 8, 9]),
        ({"where": "(dec < -4 or dec > 4.1) and 0 < u - g", "rows": 2}, [0, 1]),
        ({"where": "z_spec * 2 <= .1 + ra / 1e9"}, [0]),
        ({"where": "z_spec > 0.1", "training": True, "rows": 2}, [4, 5]),
    ],
)
def test_rows_and_where_leave_some_galaxies(asked: dict[str, Any], rows: Any, tmp_path: Path) -> None:
    assert kept(tmp_path, write(tmp_path, galaxies()), **asked).tolist() == list(rows)


def test_a_subset_of_a_dataset_is_one(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, write(tmp_path, galaxies()))

    assert kept(tmp_path, folder, where="object_id == 1237648720693755920 or ra > 19.5", rows=2).tolist() == [2, 11]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("q < 3", "q is none of u, g, r, i, z, z_spec, ra, dec, object_id"),
        ("r < 3", "none of the 12 galaxies is left"),
        ("r", "is not valid: it compares values"),
        ("r <", "is not valid: it compares values"),
        ("r < '3'", "is not valid"),
        ("r in (3, 4)", "is not valid"),
        ("__import__('os').system('true') < 3", "is not valid"),
        ("r.__class__ < 3", "is not valid"),
    ],
)
def test_a_condition_that_is_none_is_refused(where: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=message):
        kept(tmp_path, write(tmp_path, galaxies()), where=where)
