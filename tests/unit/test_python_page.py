"""docs/python.md works as it is written: every block of Python on it, in order, on a table of real galaxies."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from inference import Redshifts
from scripts.catalogs import write_catalog
from scripts.command.errors import CommandError
from scripts.simulation.sdss import load_sources
from tests.factories import make_pz

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
NUM_GALAXIES = 40


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def write_table(path: Path) -> np.ndarray:
    """Write galaxies of the test set under the page's own header and return their redshifts."""
    sources = load_sources().of("held_out")
    numbers = (sources.ra_deg, sources.dec_deg, *sources.photometry.magnitudes.T, sources.redshift)
    rows = np.column_stack([np.arange(len(sources.redshift)), *numbers])[:NUM_GALAXIES]
    np.savetxt(path, rows, fmt=["%d", *["%.6f"] * 8], delimiter=",", header=blocks("csv")[0].strip(), comments="")
    return rows[:, -1]


def test_every_block_of_the_page_runs_and_says_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    z_spec = write_table(tmp_path / "my.csv")
    monkeypatch.chdir(tmp_path)
    notebook: dict[str, Any] = {}

    for block in blocks("python"):
        exec(compile(block, "docs/python.md", "exec"), notebook)

    assert np.median(np.abs(notebook["result"].redshift - z_spec)) < 0.03
    assert notebook["accuracy"].num_labelled == NUM_GALAXIES
    np.testing.assert_array_equal(notebook["catalog"]["z_phot"], notebook["result"].redshift)
    np.testing.assert_allclose(notebook["catalog"]["z_spec"], z_spec, atol=1e-5)
    assert notebook["catalog"]["ra_deg"].unit == "deg"
    said = capsys.readouterr().out
    assert "1 rejected, its redshift is nan" in said
    assert "IMPUTED_BAND" in said
    assert "REFUSED" in said
    assert "coverage_95" in said


def test_a_catalog_of_other_columns_formats_or_lengths_is_refused(tmp_path: Path) -> None:
    result = Redshifts(np.zeros(2, np.float32), np.zeros(2, np.float32), np.zeros(2, np.uint8))

    for name, columns, message in (
        ("a.csv", {}, "neither in .fits nor in .parquet"),
        ("a.fits", {"mag_u": np.zeros(2)}, "no column mag_u"),
        ("a.fits", {"mag_r": np.zeros(3)}, r"mag_r has the shape \(3,\); these are 2"),
    ):
        with pytest.raises(CommandError, match=message):
            write_catalog(tmp_path / name, result, object_id=[1, 2], **columns)
    assert not list(tmp_path.iterdir())


def test_p_z_of_a_notebook_is_written_as_an_ensemble_or_not_at_all(tmp_path: Path) -> None:
    z = np.array([0.1, np.nan, 0.3], np.float32)
    result = Redshifts(z, np.full(3, 0.02, np.float32), np.array([0, 64, 0], np.uint8), make_pz(z))

    write_catalog(tmp_path / "a.hdf5", result, object_id=[1, 2, 3])
    with pytest.raises(CommandError, match=r"No galaxy has a p\(z\)"):
        write_catalog(tmp_path / "b.hdf5", replace(result, pz=None), object_id=[1, 2, 3])

    import qp  # two seconds, for this test alone

    ensemble = qp.read(str(tmp_path / "a.hdf5"))
    np.testing.assert_allclose(ensemble.objdata["means"][:, 0], [0.1, 0.3], rtol=1e-6)
    assert ensemble.ancil["object_id"].tolist() == [1, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["a.hdf5"]


def test_a_catalog_as_parquet_has_the_same_columns(tmp_path: Path) -> None:
    result = Redshifts(np.ones(2, np.float32), np.full(2, np.nan, np.float32), np.array([0, 64], np.uint8))

    write_catalog(tmp_path / "a.parquet", result, object_id=[1, 2**62 + 1])

    found = pq.read_table(tmp_path / "a.parquet")
    assert found["object_id"].to_pylist() == [1, 2**62 + 1]
    assert found["z_phot_err"].to_pylist() == [None, None]
    assert found["flags"].to_pylist() == [0, 64]
    assert found.schema.metadata[b"FLAG_64"].startswith(b"REFUSED")
