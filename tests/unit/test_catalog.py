import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table
from msgspec.structs import replace as replace_struct
from scipy.stats import norm

from inference import contract
from inference.contract import LostRank, RankFailure, RankTask
from inference.distributions import distributions, summary
from inference.pipeline import Predictions
from inference.pz import LEVELS, MEDIAN
from inference.quality import Quality
from scripts import catalog
from scripts.catalogs import merge
from scripts.catalogs.columns import COLUMNS, FLAG_MEANINGS, LOST, NO_ID, ROW
from scripts.catalogs.parquet_file import row_of
from scripts.command import program
from scripts.runs import journal
from scripts.runs.journal import Entry
from tests.factories import RUN, make_pz, make_record_for, make_request, make_task
from tests.unit.test_run_present import make_summary

ROOT = Path(__file__).parents[2]
SIZES = (3, 5, 2)
NUM_ROWS = sum(SIZES)
FIRST_ID = 2**62 + 1
"""Larger than a float holds exactly."""


def make_tasks() -> list[RankTask]:
    return [make_task(rank=rank, world_size=len(SIZES), num_samples=size) for rank, size in enumerate(SIZES)]


def make_predictions(task: RankTask) -> Predictions:
    first = FIRST_ID + sum(SIZES[: task.rank])
    size = task.num_samples
    z_phot = np.linspace(0.1, 0.2, size, dtype=np.float32)
    quality = np.zeros(size, dtype=np.uint8)
    z_spec = np.full(size, 0.15)
    z_phot[-1], quality[-1], z_spec[0] = np.nan, Quality.REFUSED, np.nan
    ids = np.arange(first, first + size, dtype=np.int64)
    return Predictions(
        object_id=ids, z_phot=z_phot, sigma=z_phot / 10, quality=quality, z_spec=z_spec, pz=make_pz(z_phot)
    )


def write_predictions(here: Path, task: RankTask, predictions: Predictions) -> None:
    (folder_of(here) / "predictions" / f"{task.rank:05d}.npz").write_bytes(predictions.to_npz())
    record = make_record_for(task, predictions)
    (folder_of(here) / "ranks" / f"{task.rank:05d}.json").write_bytes(contract.encode(record))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with one complete run of three ranks."""
    folder = tmp_path / "runs" / RUN
    for name in ("ranks", "predictions", "failures"):
        (folder / name).mkdir(parents=True)
    (folder / "manifest.json").write_bytes(contract.encode(make_tasks()))
    (folder / "summary.json").write_bytes(
        contract.encode(make_summary(num_samples_planned=NUM_ROWS, request=make_request()))
    )
    for task in make_tasks():
        (folder / "predictions" / f"{task.rank:05d}.npz").write_bytes(make_predictions(task).to_npz())
        (folder / "ranks" / f"{task.rank:05d}.json").write_bytes(
            contract.encode(make_record_for(task, make_predictions(task)))
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder_of(here: Path) -> Path:
    return here / "runs" / RUN


def exit_status(**variables: str) -> int:
    return program.exit_status(catalog.main, {"RUN": RUN, **variables})


@contextmanager
def full_at(num_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size: a full disk, under another name."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def fits_rows(here: Path) -> np.ndarray:
    with fits.open(folder_of(here) / "catalog.fits") as hdus:
        return np.array(hdus[1].data).astype(ROW)


def parquet_rows(here: Path) -> np.ndarray:
    return row_of(pq.read_table(folder_of(here) / "catalog.parquet").combine_chunks().to_batches()[0])


def write_table(path: Path, num_rows: int = NUM_ROWS, *, first_id: int = FIRST_ID, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "object_id": pa.array(range(first_id, first_id + num_rows), pa.int64()),
        "ra_deg": pa.array([None, *np.arange(1.0, num_rows)], pa.float64()),
        "dec_deg": pa.array(np.full(num_rows, -0.5)),
        "mag_r": pa.array(np.full(num_rows, 17.25)),
        "quality": pa.array(np.full(num_rows, 4, dtype=np.uint8)),
        "z_spec": pa.array(np.full(num_rows, 0.3)),
        **changes,
    }
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), path)
    return path


def lose(here: Path, rank: int, reason: str = "1.pt is dirt") -> None:
    """Let the state machine have noted that a rank failed."""
    (folder_of(here) / "ranks" / f"{rank:05d}.json").unlink()
    failure = RankFailure(run_id=RUN, rank=rank, error="ShardFormatError", cause=reason)
    (folder_of(here) / "failures" / f"{rank:05d}.json").write_bytes(contract.encode(failure))


# ---------------------------------------------------------------------------------------------- rows


def test_the_command_counts_what_the_catalog_holds(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exit_status()

    assert capsys.readouterr().out.startswith(
        f"{RUN}: 10 galaxies, 7 with a redshift, 7 with its error, 7 with p(z), 7 clean\nFlags: 3 REFUSED\n"
    )


@pytest.mark.parametrize("read", [fits_rows, parquet_rows])
def test_rows_are_those_of_the_ranks_in_dataset_order(read: Any, here: Path) -> None:
    assert exit_status() == 0

    rows, predictions = read(here), [make_predictions(task) for task in make_tasks()]
    np.testing.assert_array_equal(rows["object_id"], np.arange(FIRST_ID, FIRST_ID + NUM_ROWS))
    for column, name in (("z_phot", "z_phot"), ("z_phot_err", "sigma"), ("flags", "quality"), ("z_spec", "z_spec")):
        np.testing.assert_array_equal(rows[column], np.concatenate([getattr(one, name) for one in predictions]))
    assert np.isnan(rows["ra_deg"]).all()


@pytest.mark.parametrize("read", [fits_rows, parquet_rows])
def test_columns_of_p_z_say_what_is_read_from_it(read: Any, here: Path) -> None:
    assert exit_status() == 0

    rows = read(here)
    pz = np.concatenate([make_predictions(task).pz for task in make_tasks()])
    for name, values in summary(pz).items():
        np.testing.assert_array_equal(rows[name], values)
    known = np.isfinite(rows["z_phot"])
    assert np.isnan(rows["z_median"][~known]).all()
    np.testing.assert_allclose(rows["z_median"][known], rows["z_phot"][known], atol=1e-5)
    np.testing.assert_allclose((rows["z_u68"] - rows["z_l68"])[known], 2 * 0.9945 * 0.02, rtol=1e-3)


def test_without_p_z_its_columns_are_unknown(here: Path) -> None:
    for task in make_tasks():
        write_predictions(here, task, replace(make_predictions(task), pz=None))

    assert exit_status() == 0

    assert np.isnan(fits_rows(here)["odds"]).all()
    assert np.isfinite(fits_rows(here)["z_phot"]).sum() == 7


@pytest.mark.parametrize("block_rows", [1, 3, 4, 100])
def test_blocks_of_any_size_hold_the_same_rows(block_rows: int, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "BLOCK_ROWS", block_rows)
    write_table(here / "d" / "table.parquet")

    assert exit_status() == 0
    assert pq.ParquetFile(folder_of(here) / "catalog.parquet").num_row_groups == -(-NUM_ROWS // block_rows)
    np.testing.assert_array_equal(parquet_rows(here)["object_id"], np.arange(FIRST_ID, FIRST_ID + NUM_ROWS))
    np.testing.assert_array_equal(parquet_rows(here)["ra_deg"], [np.nan, *np.arange(1.0, NUM_ROWS)])


def test_an_unknown_float_is_null_in_parquet(here: Path) -> None:
    exit_status()

    table = pq.read_table(folder_of(here) / "catalog.parquet")
    assert table["z_phot"].null_count == len(SIZES)
    assert table["ra_deg"].null_count == NUM_ROWS
    assert table["object_id"].null_count == 0


# ------------------------------------------------------------------------------------- as astronomers read


def read_fits(here: Path) -> Table:
    return Table.read(folder_of(here) / "catalog.fits")


def read_parquet(here: Path) -> Table:
    return Table.read(folder_of(here) / "catalog.parquet", format="parquet")


def read_voparquet(here: Path) -> Table:
    return Table.read(folder_of(here) / "catalog.parquet", format="parquet.votable")


@pytest.mark.parametrize("read", [read_fits, read_parquet, read_voparquet])
def test_astropy_knows_units_descriptions_and_provenance(read: Any, here: Path) -> None:
    exit_status()

    table = read(here)
    assert table.colnames == [column.name for column in COLUMNS]
    assert [column.unit and str(column.unit) for column in table.columns.values()] == [one.unit for one in COLUMNS]
    assert [column.description for column in table.columns.values()] == [one.description for one in COLUMNS]
    assert list(table["object_id"]) == list(range(FIRST_ID, FIRST_ID + NUM_ROWS))
    assert table.meta["RUN_ID"] == RUN
    assert table.meta["WEIGHTS"] == "sha256:" + "0" * 64
    assert table.meta["ENGINE"] == "fake 1"
    assert table.meta["DATASET"] == "d/"


def test_fits_has_the_keywords_that_topcat_reads(here: Path) -> None:
    exit_status()

    with fits.open(folder_of(here) / "catalog.fits") as hdus:
        hdus.verify("exception")
        header = hdus[1].header
    for number, column in enumerate(COLUMNS, start=1):
        assert header[f"TUCD{number}"] == column.ucd
        assert header[f"TCOMM{number}"] == column.description
        assert header.get(f"TUNIT{number}") == column.unit
    assert header["TNULL1"] == NO_ID


def test_every_flag_has_a_meaning_in_the_header(here: Path) -> None:
    exit_status()

    assert set(FLAG_MEANINGS) == set(Quality)
    assert LOST not in {flag.value for flag in Quality}
    assert {f"FLAG_{flag.value}" for flag in Quality} | {f"FLAG_{LOST}"} <= set(read_fits(here).meta)


def test_every_ucd_is_one_of_the_virtual_observatory() -> None:
    assert all(check_ucd(column.ucd, check_controlled_vocabulary=True) for column in COLUMNS)


# ------------------------------------------------------------------------------------------------ as RAIL reads


def read_qp(path: Path) -> Any:
    """Read an ensemble, with what takes two seconds to import."""
    import qp

    assert qp.is_qp_file(str(path))
    return qp.read(str(path))


@pytest.mark.parametrize("block_rows", [2, 100])
def test_qp_reads_an_ensemble_of_gaussians(block_rows: int, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "BLOCK_ROWS", block_rows)
    write_table(here / "d" / "table.parquet")
    lose(here, 1)

    assert exit_status(FORMAT="qp", PARTIAL="1") == 0

    ensemble = read_qp(folder_of(here) / "catalog.hdf5")
    kept = [make_predictions(task) for task in make_tasks() if task.rank != 1]
    pz = np.concatenate([one.pz[:-1] for one in kept])
    z = np.linspace(0, 0.4, 50)
    assert ensemble.metadata["pdf_name"] == [b"mixmod"]
    assert ensemble.npdf == len(pz) == 3
    np.testing.assert_allclose(ensemble.pdf(z), distributions(pz).density(np.tile(z, (3, 1))), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(ensemble.ancil["object_id"], np.concatenate([one.object_id[:-1] for one in kept]))
    np.testing.assert_array_equal(ensemble.ancil["zmode"], summary(pz)["z_mode"])
    assert set(ensemble.ancil) == {"zmode", *(column.name for column in COLUMNS)} - {"z_mode"}
    assert not list(folder_of(here).glob("catalog.fits"))


def test_qp_reads_an_ensemble_of_quantiles(here: Path) -> None:
    pz = np.empty((0, len(LEVELS)), np.float32)
    for task in make_tasks():
        predictions = make_predictions(task)
        rows = predictions.z_phot[:, None] + 0.02 * norm.ppf(LEVELS).astype(np.float32)
        write_predictions(here, task, replace(predictions, pz=rows))
        pz = np.concatenate([pz, rows[:-1]])

    assert exit_status(FORMAT="qp") == 0

    ensemble = read_qp(folder_of(here) / "catalog.hdf5")
    assert ensemble.metadata["pdf_name"] == [b"quant"]
    z = np.linspace(0.1, 0.2, 50)
    np.testing.assert_allclose(ensemble.ppf(np.array([[0.5]]))[:, 0], pz[:, MEDIAN], atol=1e-4)
    np.testing.assert_allclose(ensemble.cdf(z), distributions(pz).cumulative(np.tile(z, (7, 1))), atol=0.02)
    # qp interpolates the density that has steps here; the highest is 20 per unit of redshift.
    np.testing.assert_allclose(ensemble.pdf(z), distributions(pz).density(np.tile(z, (7, 1))), atol=3)


def test_ranks_with_p_z_in_different_forms_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions = make_predictions(make_tasks()[1])
    write_predictions(here, make_tasks()[1], replace(predictions, pz=np.zeros((5, len(LEVELS)), np.float32)))

    assert exit_status() == 1
    assert "p(z) in different forms" in capsys.readouterr().err


def test_a_run_without_p_z_makes_no_ensemble(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for task in make_tasks():
        write_predictions(here, task, replace(make_predictions(task), pz=None))

    assert exit_status(FORMAT="qp") == 1

    assert "No galaxy has a p(z)" in capsys.readouterr().err
    assert not list(folder_of(here).glob("*catalog*"))


def test_another_format_is_refused_with_what_there_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(FORMAT="csv") == 2
    assert "FORMAT=csv is not valid: FORMAT is qp" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------- positions


def test_positions_come_from_the_table_beside_the_shards(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_table(here / "d" / "table.parquet")

    assert exit_status() == 0
    rows = fits_rows(here)
    np.testing.assert_array_equal(rows["ra_deg"], [np.nan, *np.arange(1.0, NUM_ROWS)])
    np.testing.assert_array_equal(rows["mag_r"], np.full(NUM_ROWS, np.float32(17.25)))
    assert read_fits(here).meta["POSITION"] == str(path.relative_to(here))
    assert "Positions and mag_r: d/table.parquet\n" in capsys.readouterr().out


def test_the_run_s_own_redshifts_and_flags_win_over_the_table_s(here: Path) -> None:
    write_table(here / "d" / "table.parquet", quality=pa.array(np.full(NUM_ROWS, 1 | 8 | 64, dtype=np.uint8)))

    exit_status()

    assert not (fits_rows(here)["z_spec"] == 0.3).any()
    assert not (fits_rows(here)["flags"] & 8).any()


def test_flags_that_no_worker_can_raise_come_from_the_table(here: Path) -> None:
    write_table(here / "d" / "table.parquet", quality=pa.array(np.full(NUM_ROWS, 4 | 16, dtype=np.uint8)))

    exit_status()

    assert (fits_rows(here)["flags"] & (4 | 16) == (4 | 16)).all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"first_id": FIRST_ID + 1}, f"its row 0 is object_id {FIRST_ID + 1} and the run predicted {FIRST_ID}"),
        ({"num_rows": NUM_ROWS + 1}, "has 11 rows and the run 10"),
        ({"num_rows": NUM_ROWS - 1}, "has 9 rows and the run 10"),
        ({"object_id": None}, "no column object_id"),
    ],
    ids=["other galaxies", "longer", "shorter", "no identifiers"],
)
def test_another_dataset_s_table_is_refused(
    changes: dict[str, Any], reason: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(here / "d" / "table.parquet", **changes)

    assert exit_status() == 1
    assert reason in capsys.readouterr().err
    assert not list(folder_of(here).glob("*catalog*"))


@pytest.mark.parametrize(("limit", "card"), [({"file_limit": 1}, ("FILES", 1)), ({"row_limit": 7}, ("ROWS", 7))])
def test_a_run_over_the_first_galaxies_takes_the_first_rows_of_the_table(
    limit: dict[str, int], card: tuple[str, int], here: Path
) -> None:
    summary = make_summary(num_samples_planned=NUM_ROWS, request=make_request(**limit))
    (folder_of(here) / "summary.json").write_bytes(contract.encode(summary))
    write_table(here / "d" / "table.parquet", NUM_ROWS + 4)

    assert exit_status() == 0
    assert len(fits_rows(here)) == NUM_ROWS
    assert read_fits(here).meta[card[0]] == card[1]


def test_a_table_may_lie_elsewhere_or_be_left_out(here: Path) -> None:
    write_table(here / "d" / "table.parquet", first_id=1)
    write_table(here / "elsewhere.parquet")

    assert exit_status(TABLE="elsewhere.parquet") == 0
    assert np.isfinite(fits_rows(here)["dec_deg"]).all()
    assert exit_status(TABLE="none") == 0
    assert np.isnan(fits_rows(here)["dec_deg"]).all()


# ------------------------------------------------------------------------------------------ incomplete


def test_an_incomplete_run_is_refused_by_naming_its_lost_ranks(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lose(here, 1)

    assert exit_status() == 1
    assert "1 of 3 ranks are lost: rank 1: ShardFormatError: 1.pt is dirt" in capsys.readouterr().err
    assert not list(folder_of(here).glob("*catalog*"))


def test_lost_rows_keep_their_place_with_nothing_predicted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lose(here, 1)

    assert exit_status(PARTIAL="1") == 0
    rows, is_lost = fits_rows(here), np.repeat([False, True, False], SIZES)
    np.testing.assert_array_equal(rows["flags"] & LOST == LOST, is_lost)
    np.testing.assert_array_equal(rows["object_id"] == NO_ID, is_lost)
    assert np.isnan(rows["z_phot"][is_lost]).all()
    assert read_fits(here)["object_id"].mask.tolist() == is_lost.tolist()
    assert read_fits(here).meta["COMPLETE"] is False
    assert "Lost: rank 1: ShardFormatError" in capsys.readouterr().out


def test_a_reason_in_any_language_fits_the_header(here: Path) -> None:
    lose(here, 1, "größer als\nz = 5 · " + "sehr " * 40)

    assert exit_status(PARTIAL="1") == 0
    assert "gr??er als z = 5 ? sehr" in read_fits(here).meta["LOST"]
    assert "größer als\nz = 5" in read_parquet(here).meta["LOST"]


def test_a_rank_that_summarize_found_lost_stays_so(here: Path) -> None:
    lost = LostRank(rank=2, error="DuplicateRecord", message="2 objects claim rank 2.", shards=("d/0.safetensors",))
    summary = make_summary(
        num_samples_planned=NUM_ROWS, request=make_request(tolerated_failure_percentage=40), lost_ranks=(lost,)
    )
    (folder_of(here) / "summary.json").write_bytes(contract.encode(summary))

    assert exit_status() == 0
    np.testing.assert_array_equal(fits_rows(here)["flags"] & LOST == LOST, np.repeat([False, False, True], SIZES))


def test_the_table_says_whose_the_lost_rows_are(here: Path) -> None:
    lose(here, 1)
    write_table(here / "d" / "table.parquet")

    assert exit_status(PARTIAL="1") == 0
    rows, lost = fits_rows(here), slice(3, 8)
    np.testing.assert_array_equal(rows["object_id"], np.arange(FIRST_ID, FIRST_ID + NUM_ROWS))
    assert (rows["z_spec"][lost] == 0.3).all()
    assert (rows["flags"][lost] == LOST | Quality.LOW_SIGNAL).all()


@pytest.mark.parametrize(("tolerated", "status"), [(40, 0), (100 / 3, 0), (33, 1)])
def test_what_the_request_tolerated_needs_no_second_permission(tolerated: float, status: int, here: Path) -> None:
    lose(here, 1)
    summary = make_summary(num_samples_planned=NUM_ROWS, request=make_request(tolerated_failure_percentage=tolerated))
    (folder_of(here) / "summary.json").write_bytes(contract.encode(summary))

    assert exit_status() == status


@pytest.mark.parametrize("content", [None, b"no zip", make_predictions(make_task(num_samples=5)).to_npz()])
def test_predictions_that_are_not_the_rank_s_make_it_a_lost_one(
    content: bytes | None, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder_of(here) / "predictions" / "00001.npz"
    path.unlink() if content is None else path.write_bytes(content)

    assert exit_status(TABLE="none") == 1
    error = "MissingPredictions" if content is None else "WrongPredictions"
    assert f"rank 1: {error}" in capsys.readouterr().err


def test_a_record_of_another_run_does_not_count(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stale = make_record_for(make_tasks()[2], run_id="run-b")
    (folder_of(here) / "ranks" / "00002.json").write_bytes(contract.encode(stale))

    assert exit_status() == 1
    assert "rank 2: StaleRecord" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("options", "named"), [({"TABLE": "no.parquet"}, "TABLE=no"), ({"PARTIAL": "maybe"}, "PARTIAL=maybe")]
)
def test_wrong_usage_names_the_variable(
    options: dict[str, str], named: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(**options) == 2
    assert named in capsys.readouterr().err


def test_a_run_that_was_refused_has_no_catalog(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder_of(here) / "manifest.json").unlink()

    assert exit_status() == 1
    assert "manifest.json is missing" in capsys.readouterr().err


def test_make_hands_its_variables_to_the_command() -> None:
    make = ["make", "--no-print-directory", "-o", f"{sys.prefix}/.ready", f"VENV={sys.prefix}"]

    done = subprocess.run([*make, "catalog", "PARTIAL=maybe"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "PARTIAL=maybe is not valid" in done.stderr


def test_a_catalog_stays_when_a_second_one_cannot_be_written(here: Path) -> None:
    exit_status()
    before = (folder_of(here) / "catalog.fits").read_bytes()
    write_table(here / "d" / "table.parquet", first_id=1)

    assert exit_status() == 1
    assert (folder_of(here) / "catalog.fits").read_bytes() == before
    assert sorted(path.name for path in folder_of(here).glob(".catalog*")) == []


def test_files_that_differ_are_not_left_behind(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Careless(catalog.ParquetWriter):
        def write(self, rows: np.ndarray) -> None:
            changed = rows.copy()
            changed["z_spec"] = 0.5
            super().write(changed)

    monkeypatch.setattr(catalog, "ParquetWriter", Careless)

    assert exit_status() == 1
    assert "differ in rows 0 to 10" in capsys.readouterr().err
    assert not list(folder_of(here).glob("*catalog*"))


# ------------------------------------------------------------------------------------- one's own table


def write_own(here: Path, names: str, rows: list[str]) -> Path:
    (here / "my.csv").write_text("\n".join([names, *rows]) + "\n")
    return here / "my.csv"


@pytest.mark.parametrize(
    ("names", "identify"),
    [("objid,mass,kind", lambda row: FIRST_ID + row), ("ra,dec,mass,kind", lambda row: f"{row + 0.0001},0.0")],
)
def test_columns_of_one_s_own_table_are_joined_by_identifier_or_position(
    names: str, identify: Any, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(here / "d" / "table.parquet", dec_deg=pa.array(np.zeros(NUM_ROWS)))
    write_own(here, names, [f"{identify(row)},{row}.5,E{row}" for row in (7, 2, 99)])

    assert exit_status(TABLE="my.csv") == 0

    assert "2 of 10 galaxies found in my.csv by " in " ".join(capsys.readouterr().out.split())
    for kind in ("fits", "parquet"):
        joined = Table.read(folder_of(here) / f"joined.{kind}")
        assert joined["mass"][[2, 7]].tolist() == [2.5, 7.5]
        assert [str(value) for value in joined["kind"][[2, 7]]] == ["E2", "E7"]
        assert np.isnan(np.ma.filled(joined["mass"], np.nan)[[0, 1, 3, 9]]).all()
        assert len(joined) == NUM_ROWS


def test_identifiers_of_the_source_stay_with_their_galaxies(here: Path) -> None:
    names = [f"SDSS J{row:02}" for row in range(NUM_ROWS - 2)] + ["星", None]
    write_table(here / "d" / "table.parquet", source_id=pa.array(names))
    write_own(here, "objid,mass", ["SDSS J03,3.5", "星,8.5"])

    assert exit_status(FORMAT="votable") == 0
    assert exit_status(FORMAT="qp") == 0
    assert exit_status(TABLE="my.csv") == 0

    expected = [*names[:-2], "\\u661f", ""]
    for kind in ("fits", "parquet", "vot"):
        found = Table.read(folder_of(here) / f"catalog.{kind}", format="votable" if kind == "vot" else kind)
        found.convert_bytestring_to_unicode()
        assert found.colnames[:3] == ["object_id", "source_id", "ra_deg"]
        assert np.ma.getdata(found["source_id"]).tolist() == expected
    with h5py.File(folder_of(here) / "catalog.hdf5") as file:
        assert file["ancil/source_id"][0] == b"SDSS J00"
    joined = Table.read(folder_of(here) / "joined.parquet")
    assert joined["mass"][[3, 8]].tolist() == [3.5, 8.5]


def test_positions_are_found_where_the_dataset_is(here: Path) -> None:
    write_table(here / "d" / "table.parquet", first_id=1)  # of other galaxies
    write_table(here / "elsewhere" / "table.parquet")
    entry = {"run_id": RUN, "target": "local", "execution_arn": "a", "bucket": "b", "run_prefix": f"runs/{RUN}/"}
    ended = Entry(**entry, started_at_s=1.0, dataset=str(here / "elsewhere"), status="SUCCEEDED")
    journal.write(folder_of(here), ended)

    assert exit_status() == 0
    assert read_fits(here).meta["POSITION"].endswith("elsewhere/table.parquet")
    # The terminal knows when the run began; without its note, the first rank does.
    assert read_fits(here).meta["RUNDATE"] == "1970-01-01T00:00:01"
    (folder_of(here) / "execution.json").unlink()
    assert exit_status(TABLE="none") == 0
    began_s = min(json.loads(path.read_text())["started_at_s"] for path in (folder_of(here) / "ranks").iterdir())
    assert read_fits(here).meta["RUNDATE"] == f"{datetime.fromtimestamp(began_s, UTC):%Y-%m-%dT%H:%M:%S}"


def test_a_table_of_other_galaxies_is_not_joined(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_own(here, "objid,mass", ["1,2.5"])

    assert exit_status(TABLE="my.csv") == 2
    assert "TABLE=my.csv: none of its rows is a galaxy of this run, by objid" in capsys.readouterr().err


def test_a_catalog_says_which_shards_and_which_commit(here: Path) -> None:
    exit_status()

    meta = read_fits(here).meta
    assert meta["DATAHASH"] == "unknown"
    assert len(meta["COMMIT"].rstrip("+")) == 40


@pytest.mark.parametrize(("sha256", "status"), [("a" * 64, 0), ("b" * 64, 1)])
def test_positions_of_a_dataset_that_has_changed_are_not_taken(
    sha256: str, status: int, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = [replace_struct(task, rows=(replace_struct(task.rows[0], sha256="a" * 64),)) for task in make_tasks()]
    (folder_of(here) / "manifest.json").write_bytes(contract.encode(read))
    for task in read:
        write_predictions(here, task, make_predictions(task))
    write_table(here / "d" / "table.parquet")
    shard = contract.ShardEntry(name="0.safetensors", num_rows=NUM_ROWS, size_bytes=1, sha256=sha256)
    facts = {"name": "d", "partition": "10MB", "num_rows": NUM_ROWS, "arrays": {}, "seed": 0, "provenance": ""}
    (here / "d" / "dataset.json").write_bytes(contract.encode(contract.DatasetCard(shards=(shard,), **facts)))

    assert exit_status() == status
    said = capsys.readouterr().err
    assert ("d has changed since the run: its positions may be those of other galaxies. TABLE=" in said) == bool(status)
    assert exit_status(TABLE="none") == 0
    assert read_fits(here).meta["DATAHASH"].startswith("sha256:")


def test_a_votable_has_the_same_rows_with_units_and_meanings(here: Path) -> None:
    assert exit_status(FORMAT="votable") == 0
    assert exit_status() == 0

    found = Table.read(folder_of(here) / "catalog.vot", format="votable")
    for name in ROW.names or ():
        np.testing.assert_array_equal(np.ma.getdata(found[name]), parquet_rows(here)[name])
    assert (str(found["ra_deg"].unit), found["ra_deg"].description) == ("deg", "Right ascension, ICRS")
    assert found["z_phot"].meta["ucd"] == "src.redshift.phot"


# ------------------------------------------------------------------------------------------- a full disk


@pytest.mark.parametrize("part", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("form", catalog.WRITERS)
def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(
    form: str, part: float, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(FORMAT=form) == 0
    names = catalog.WRITERS[form][1]
    largest = max((folder_of(here) / name for name in names), key=lambda path: path.stat().st_size)
    size_bytes = largest.stat().st_size
    before = {path for path in here.rglob("*") if path.name not in names}
    for name in names:
        (folder_of(here) / name).unlink()
    capsys.readouterr()

    with full_at(int(part * size_bytes)):
        assert exit_status(FORMAT=form) == 1

    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert re.match(r"\[Errno 27\] File too large: 'runs/.*/catalog\.\w+'\. A limit on the size", said), said
    assert set(here.rglob("*")) == before
