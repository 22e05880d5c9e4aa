"""An evaluation leads with NMAD, says what it does not know, and leaves plots that show every galaxy or count it."""

import json
import math
import resource
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import StepPatch
from safetensors.numpy import save_file

from inference import contract, intervals
from inference.distributions import distributions
from inference.metrics import normalised_residuals, redshift_accuracy
from inference.pz_metrics import LIMITS_68, LIMITS_95, pit, share_inside
from inference.quality import Quality
from scripts import evaluate as command
from scripts.command.errors import CommandError
from scripts.command.program import exit_status
from scripts.reports.bins import by_bin
from scripts.reports.evaluated import Evaluated, of_run
from scripts.reports.figures.redshifts import STACK, coverage, running
from scripts.reports.numbers import Numbers, evaluate, table, to_json
from scripts.reports.plots import plots, write_plots
from scripts.runs.run_folder import Run
from tests.factories import make_arrays, make_predictions, make_pz, make_record_for, make_task


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thousand draws are worth is a question of test_intervals.py."""
    monkeypatch.setattr(intervals, "NUM_DRAWS", 20)


def make_evaluated(num_rows: int = 200, *, seed: int = 0, **changes: np.ndarray) -> Evaluated:
    """Galaxies whose Gaussian error is the sigma they are given."""
    generator = np.random.default_rng(seed)
    z_spec = generator.uniform(0.05, 0.3, num_rows)
    sigma = generator.uniform(0.01, 0.03, num_rows).astype(np.float32)
    z_phot = (z_spec + sigma * generator.standard_normal(num_rows)).astype(np.float32)
    arrays = {"z_spec": z_spec, "sigma": sigma, "z_phot": z_phot, **changes}
    return Evaluated(
        name="drawn",
        predictions=make_predictions(**arrays),
        r=generator.uniform(15, 18, num_rows),
        g_r=generator.uniform(0.3, 1.2, num_rows),
        ratio_95=1.96,
        weights_sha256=("a" * 64,),
        engines=("fake 1",),
    )


def numbers_of(galaxies: Evaluated) -> Numbers:
    found = evaluate(galaxies)
    assert found is not None
    return found


def test_the_table_leads_with_nmad_and_its_interval_and_fits_80_columns() -> None:
    text = table([numbers_of(make_evaluated()), numbers_of(make_evaluated(seed=1))])

    metrics = [line for line in text.splitlines() if "[" in line and "," in line]
    assert metrics[0].startswith("NMAD ")
    assert max(map(len, text.splitlines())) <= 80


def test_without_sigma_and_magnitudes_the_table_says_unknown_and_has_no_bins_by_r() -> None:
    unknown = make_evaluated(sigma=np.full(200, np.nan, dtype=np.float32))

    text = table([numbers_of(Evaluated(**{**vars(unknown), "r": np.full(200, np.nan)}))])

    assert [line.split()[-1] for line in text.splitlines() if line.startswith("within")] == ["unknown", "unknown"]
    assert "by r" not in text
    assert "by z_spec" in text


def test_a_bin_of_a_few_galaxies_shows_no_scatter() -> None:
    z_spec = np.append(np.full(199, 0.1), 0.38)

    text = table([numbers_of(make_evaluated(z_spec=z_spec, z_phot=z_spec.astype(np.float32)))])

    (line,) = [line for line in text.splitlines() if line.startswith("0.3 to 0.4")]
    assert "too few to say" in line


def test_the_json_holds_every_bin_and_interval() -> None:
    galaxies = make_evaluated()

    (found,) = json.loads(to_json([galaxies], [numbers_of(galaxies)]))["sets"]
    low, high = found["intervals"]["nmad"]
    assert low < found["accuracy"]["nmad"] < high
    assert sum(one["accuracy"]["num_labelled"] for one in found["by_r"]) == 200
    assert found["ratio_95"] == 1.96
    assert found["weights_sha256"] == ["a" * 64]


def test_the_share_inside_each_interval_is_that_of_the_drawn_errors() -> None:
    found = numbers_of(make_evaluated(2_000))

    # Errors are drawn from a Gaussian of sigma; two standard errors of these shares are 2 % and 1 %.
    assert found.accuracy.coverage_68 == pytest.approx(0.68, abs=0.02)
    assert found.accuracy.coverage_95 == pytest.approx(0.95, abs=0.01)
    low, high = found.intervals["coverage_95"]
    assert 0.9 < low < found.accuracy.coverage_95 < high < 1
    assert all(one.accuracy.coverage_95 > 0.85 for one in found.by_redshift + found.by_r)


def test_every_plot_is_a_picture_on_white(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")

    command.write([make_evaluated()], tmp_path)

    plots = ("density", "residuals-z", "residuals-r", "redshifts", "calibration", "calibration-sigma")
    assert {path.name for path in tmp_path.glob("*.png")} == {f"{name}.png" for name in plots}
    for name in plots:
        with image.open(tmp_path / f"{name}.png") as picture:
            assert picture.convert("RGBA").getpixel((2, 2)) == (255, 255, 255, 255)
            assert picture.width > 900


def test_plots_show_the_galaxies_with_both_redshifts() -> None:
    galaxies = make_evaluated()
    galaxies.predictions.z_spec[:50] = np.nan
    dz = normalised_residuals(galaxies.predictions.z_phot, galaxies.predictions.z_spec)

    drawn = {name: figure.axes[0] for name, figure, _ in plots(galaxies)}

    for name, along in (("residuals-z", galaxies.predictions.z_spec[50:]), ("residuals-r", galaxies.r[50:])):
        expected = running(along, dz)
        found = np.asarray(drawn[name].lines[1].get_xydata())
        np.testing.assert_allclose(found, np.stack([expected.centers, expected.medians], axis=1))
    (nominal,) = np.asarray(drawn["calibration"].lines[-1].get_xydata())
    assert nominal == pytest.approx([1.96, 0.95])


def test_the_calibration_is_that_of_the_galaxies_with_a_sigma() -> None:
    galaxies = make_evaluated()
    found = galaxies.predictions
    found.sigma[:60] = np.repeat([math.nan, 0], 30)
    error = found.z_phot.astype(np.float64) - found.z_spec

    drawn = {name: figure.axes[0] for name, figure, _ in plots(galaxies)}

    expected = coverage(error[60:], found.sigma[60:].astype(np.float64), 1.96)
    np.testing.assert_allclose(np.asarray(drawn["calibration"].lines[1].get_ydata()), expected.observed)


def test_plots_that_need_magnitudes_or_sigma_are_left_out_without_them() -> None:
    galaxies = make_evaluated(sigma=np.full(200, np.nan, dtype=np.float32))

    drawn = plots(Evaluated(**{**vars(galaxies), "r": np.full(200, np.nan)}))

    assert [name for name, _, _ in drawn] == ["density", "residuals-z", "redshifts"]


# -------------------------------------------------------------------------------------------------- p(z)


def with_pz(num_rows: int = 600, width_of_sigma: float = 1.0) -> Evaluated:
    """The same with Gaussian distributions as wide as the errors, or that many times as wide."""
    found = make_evaluated(num_rows)
    sigma = found.predictions.sigma[:, None].astype(float)
    pz = make_pz(found.predictions.z_phot)
    pz[:, 8:] = width_of_sigma * sigma
    return replace(found, predictions=replace(found.predictions, pz=pz))


def test_distributions_are_measured_by_the_statistics_of_the_field() -> None:
    found = numbers_of(with_pz())
    narrow = numbers_of(with_pz(width_of_sigma=0.5))

    assert found.pz is not None
    assert narrow.pz is not None
    assert found.pz.num_galaxies == 600
    assert found.pz.ks < 0.06 < narrow.pz.ks
    lines = [line.split()[:3] for line in table([found]).splitlines()]
    assert ["PIT,", "KS", f"{found.pz.ks:.4f}"] in lines
    assert ["PIT,", "CvM", f"{found.pz.cvm:.3f}"] in lines
    assert ["PIT,", "AD", f"{found.pz.ad:.2f}"] in lines
    assert ["CRPS", f"{found.pz.crps:.5f}"] in lines
    assert ["CDE", "loss", f"{found.pz.cde_loss:.3f}"] in lines
    assert max(map(len, table([found]).splitlines())) <= 80


def test_coverage_is_known_by_magnitude_colour_and_redshift() -> None:
    galaxies = with_pz()
    galaxies.predictions.z_spec[:20] = np.nan

    by_label = {one.label: one for one in numbers_of(galaxies).coverage}

    thirds = [one for label, one in by_label.items() if label.startswith("r ")]
    assert [one.num_galaxies for one in thirds] == pytest.approx([193, 193, 194], abs=1)
    assert sum(label.startswith("g-r ") for label in by_label) == 3
    assert by_label["all"].num_galaxies == 580
    assert {"z_phot 0.0-0.1", "z_phot 0.1-0.2", "z_spec 0.1-0.2", "z_spec 0.2-0.3"} <= set(by_label)
    inside = pit(distributions(galaxies.predictions.pz[20:]), galaxies.predictions.z_spec[20:])
    assert by_label["all"].coverage_95 == share_inside(inside, LIMITS_95)
    is_near = galaxies.predictions.z_phot[20:] < 0.1
    assert by_label["z_phot 0.0-0.1"].coverage_68 == share_inside(inside[is_near], LIMITS_68)
    # Two standard errors of a third.
    assert all(abs(one.coverage_68 - 0.68) < 0.08 for one in thirds)


def test_without_distributions_coverage_is_that_of_sigma_and_null_where_unknown() -> None:
    galaxies = make_evaluated(600)
    found, unknown = numbers_of(galaxies), numbers_of(replace(galaxies, ratio_95=math.nan))

    assert found.pz is None
    assert found.stack is None
    assert found.coverage[0].coverage_68 == found.accuracy.coverage_68
    assert found.coverage[0].coverage_95 == found.accuracy.coverage_95
    assert unknown.coverage[0].coverage_68 == found.accuracy.coverage_68
    assert unknown.coverage[0].coverage_95 is None
    assert unknown.accuracy.coverage_95 is None
    document = json.loads(to_json([galaxies], [unknown]))
    assert document["sets"][0]["accuracy"]["coverage_95"] is None


def test_distributions_added_up_count_the_labelled_galaxies() -> None:
    found = numbers_of(with_pz()).stack

    assert found is not None
    assert len(found.edges) == len(found.p_z) + 1 == len(found.z_spec) + 1
    assert sum(found.z_spec) == sum(found.z_phot) == 600
    assert sum(found.p_z) == pytest.approx(600, rel=0.01)


def test_a_plot_shows_the_pit_and_the_distributions_added_up() -> None:
    galaxies = with_pz()
    drawn = {name: figure.axes[0] for name, figure, _ in plots(galaxies)}

    found = numbers_of(galaxies).pz
    assert found is not None
    shares = drawn["pit"].findobj(StepPatch)[-1].get_data().values
    np.testing.assert_allclose(shares, 100 * np.array(found.pit_counts) / 600)
    assert [text.get_text() for text in drawn["redshifts"].get_legend().get_texts()] == ["z_spec", "z_phot", STACK]


def test_no_labelled_galaxy_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No galaxy of drawn has both"):
        command.write([make_evaluated(z_spec=np.full(200, np.nan))], tmp_path)


def test_a_galaxy_beyond_the_axes_is_counted_above_the_plot() -> None:
    galaxies = make_evaluated()
    galaxies.predictions.z_phot[7] = 3.0

    remarks = {name: remark for name, _, remark in plots(galaxies)}

    assert remarks["density"] == "; 1 beyond the axes, at the border"
    assert remarks["redshifts"] == ""


@pytest.mark.parametrize("num_rows", [1, 2])
def test_one_or_two_galaxies_are_plotted_like_many(num_rows: int, tmp_path: Path) -> None:
    # Warnings are errors here: an empty scale or a bin without galaxies would raise.
    assert len(write_plots(make_evaluated(num_rows), tmp_path, prefix="a-")) == 6
    assert all(path.name.startswith("a-") for path in tmp_path.iterdir())


def test_a_run_is_read_in_rank_order_with_the_magnitudes_of_its_shards(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "run-a"
    arrays = make_arrays(6)
    tasks = [
        make_task(
            rank=rank,
            world_size=2,
            rows=(contract.RowRange(key="d/0.safetensors", start_row=3 * rank, stop_row=3 * rank + 3, etag='"e"'),),
        )
        for rank in range(2)
    ]
    (tmp_path / "d").mkdir()
    save_file(arrays, tmp_path / "d" / "0.safetensors")
    for name in ("ranks", "predictions"):
        (folder / name).mkdir(parents=True)
    (folder / "manifest.json").write_bytes(contract.encode(tasks))
    for task in tasks:
        part = make_predictions(object_id=arrays["object_id"][3 * task.rank :][:3])
        (folder / "ranks" / f"{task.rank:05d}.json").write_bytes(contract.encode(make_record_for(task, part)))
        (folder / "predictions" / f"{task.rank:05d}.npz").write_bytes(part.to_npz())

    found = of_run(Run(folder, "run-a"), tmp_path)
    elsewhere = of_run(Run(folder, "run-a"), tmp_path / "elsewhere")

    np.testing.assert_array_equal(found.predictions.object_id, arrays["object_id"])
    np.testing.assert_array_equal(found.r, arrays["magnitudes"][:, 2])
    np.testing.assert_array_equal(found.g_r, arrays["magnitudes"][:, 1] - arrays["magnitudes"][:, 2])
    assert np.isnan(elsewhere.r).all()
    assert math.isnan(found.ratio_95)


def test_flags_are_counted_by_name() -> None:
    quality = np.zeros(200, dtype=np.uint8)
    quality[:3] = Quality.OUT_OF_DOMAIN.value

    assert any(
        line.split() == ["out_of_domain", "3"]
        for line in table([numbers_of(make_evaluated(quality=quality))]).splitlines()
    )


def test_bins_hold_their_lower_edge_and_every_galaxy_once() -> None:
    z_spec = np.array([0.1, 0.2, 0.2, 0.3])

    bins = by_bin(z_spec, (0.1, 0.2, 0.25, math.inf), z_spec + 0.01, z_spec)

    assert [(one.low, one.accuracy.num_labelled) for one in bins] == [(0.1, 1), (0.2, 2), (0.25, 1)]


def test_an_empty_bin_is_left_out() -> None:
    z_spec = np.array([0.1, 0.3])

    assert [one.low for one in by_bin(z_spec, (0.0, 0.15, 0.25, 1.0), z_spec, z_spec)] == [0.0, 0.25]


def test_a_bin_has_the_accuracy_of_its_own_galaxies() -> None:
    generator = np.random.default_rng(0)
    z_spec = generator.uniform(0.05, 0.3, 200)
    z_phot = z_spec + 0.02 * generator.standard_normal(200)

    (low, _) = by_bin(z_spec, (0.0, 0.15, 1.0), z_phot, z_spec)

    rows = z_spec < 0.15
    assert low.accuracy == redshift_accuracy(z_phot[rows], z_spec[rows])
    assert low.nmad.low < low.accuracy.nmad < low.nmad.high


@pytest.mark.parametrize(("num_bytes", "named"), [(100, "numbers.json"), (20_000, r"\w+\.png")])
def test_a_disk_that_is_full_names_the_file_and_leaves_no_half(num_bytes: int, named: str, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        with pytest.raises(OSError, match=rf"File too large: '.*/{named}'$"):
            command.write([make_evaluated()], tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert {path.name for path in tmp_path.iterdir()} <= {"numbers.json"}


# ------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize("names", [("real", "simulated"), ("real",)])
def test_plots_of_several_sets_bear_their_names(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    galaxies = [replace(make_evaluated(seed=seed), name=f"{name}, test") for seed, name in enumerate(names)]
    unlabelled = replace(make_evaluated(z_spec=np.full(200, np.nan)), name="without labels")
    monkeypatch.setattr(command, "write_plots", lambda _, folder, *, prefix: [f"{prefix}density.png"])

    command.write([*galaxies, unlabelled], tmp_path / "a" / "b")

    said = capsys.readouterr().out
    plots = "real-density.png, simulated-density.png" if len(names) == 2 else "density.png"
    assert said == f"{table([numbers_of(one) for one in galaxies])}\n\n{tmp_path}/a/b/: numbers.json, {plots}\n"
    expected = to_json(galaxies, [numbers_of(one) for one in galaxies])
    assert (tmp_path / "a" / "b" / "numbers.json").read_bytes() == expected


@pytest.mark.parametrize("lost", ["", "2 of 3 ranks are lost"])
def test_a_run_is_evaluated_in_its_folder(
    lost: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[Any] = []
    run = SimpleNamespace(run_id="run-a", path=Path("runs/run-a"), incomplete_in_words=lost)
    monkeypatch.setattr(command, "open_run", lambda name, where, *, root, model: written.append((name, model)) or run)
    monkeypatch.setattr(command, "of_run", lambda found, root: f"galaxies of {found.run_id}")
    monkeypatch.setattr(command, "write", lambda galaxies, folder: written.append((galaxies, folder)))

    assert exit_status(command.main, {"RUN": "run-a", "MODEL": "mine"}) == 0

    assert written == [("run-a", "mine"), (["galaxies of run-a"], Path("runs/run-a/evaluation"))]
    assert capsys.readouterr().out == (f"run-a is incomplete, {lost}: these are the others.\n\n" if lost else "")


def test_a_model_is_evaluated_on_the_test_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[Any] = []
    monkeypatch.setattr(command, "astromae", lambda name, *, root: f"the model {name}")
    monkeypatch.setattr("scripts.models.evaluation.predict_test_set", lambda model: f"galaxies by {model}")
    monkeypatch.setattr(command, "write", lambda galaxies, folder: written.append((galaxies, folder)))

    assert exit_status(command.main, {"MODEL": "mine"}) == 0

    assert written == [("galaxies by the model mine", Path("evaluation/mine"))]
    assert capsys.readouterr().err == "predicting the test set: about a minute\n"
