"""What the published runs say of the model's parameters, and how a forecast is scored."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats

from scripts.command.errors import UsageError
from scripts.forecasts.constants import Constant, Fitted, read_constants
from scripts.forecasts.fit import (
    FARTHEST,
    GUMBEL_MEDIAN,
    NAMES,
    _curvature,
    _student,
    _surprise,
    edge_median,
    fit,
    map_median,
    predict,
)
from scripts.forecasts.judge import linear_regression, mean_of_others, score, setting_of_run
from scripts.forecasts.published import Runs, read_runs
from tests.unit.test_cost_estimate import make_run

PRIOR = read_constants().published
ROW_BYTES = 20_520
TRUE = np.log([4.0, 0.006, 0.4, 1.5, 90.0, 2.0, 0.05, 4.0, 0.25, 0.05, 0.07, 5.0])


def make_runs(num: int = 3, **changes: Any) -> Runs:
    values: dict[str, Any] = {
        "shard_mb": 25.0,
        "data_gb": np.arange(1.0, num + 1),
        "batch_size": 512.0,
        "num_ranks": 40.0,
        "end_to_end_s": 30.0,
        "map_s": 20.0,
    }
    return Runs(**{name: np.broadcast_to(value, num).copy() for name, value in (values | changes).items()})


def believed(spread: float, **spreads: float) -> dict[str, Constant]:
    """Return what was believed before, each number as surely."""
    return {name: Constant(PRIOR[name].value, spreads.get(name, spread), "a test") for name in NAMES}


def fixed(**changes: float) -> Fitted:
    """Return parameters that are known exactly, of a system whose runs differ in nothing but cold starts."""
    values = dict(zip(NAMES, np.exp(TRUE), strict=True)) | {"map_noise": 1e-9, "edge_noise": 1e-9} | changes
    logs = tuple(math.log(values[name]) for name in NAMES)
    return Fitted("a test", NAMES, logs, tuple(map(tuple, 1e-18 * np.eye(len(NAMES)))))


# ------------------------------------------------------------------------------------------------------ the runs


def test_the_galaxies_and_batches_of_a_rank_are_those_of_its_shard() -> None:
    runs = make_runs(shard_mb=[1.0, 25.0, 100.0], batch_size=[51.0, 50.0, 512.0])

    assert runs.num_rows.tolist() == [round(mb * 2**20 / ROW_BYTES) for mb in (1, 25, 100)]
    assert runs.num_batches.tolist() == [1, 26, 10]


def test_a_cell_is_a_shard_size_with_a_size_of_the_data() -> None:
    runs = make_runs(4, shard_mb=[50.0, 25.0, 25.0, 50.0], data_gb=[1.0, 12.0, 1.0, 1.0])

    assert runs.cells == [(25, 1), (25, 12), (50, 1)]
    assert runs.in_cell((50.0, 1.0)).tolist() == [True, False, False, True]
    assert runs[np.array([1, 2])].data_gb.tolist() == [12, 1]
    assert len(runs) == 4


@pytest.mark.parametrize(
    ("last", "answer"),
    [
        ("20", "line 3: the Map takes as long"),
        ("0", "`map_s` is '0', not a number above 0"),
        ("inf", "'inf', not"),
        ("nan", "'nan', not"),
        ("", "'', not"),
        (None, "line 3: `map_s` is None, not"),
    ],
)
def test_a_number_of_a_table_is_above_0_and_the_map_shorter_than_the_run(
    last: str | None, answer: str, tmp_path: Path
) -> None:
    header, good = "partition_mb,data_gb,batch_size,ranks,end_to_end_s,map_s\n", "25,1,512,41,20,15\n"
    (tmp_path / "runs.csv").write_text(header + good)
    found = read_runs(tmp_path / "runs.csv")
    assert [float(getattr(found, field.name)[0]) for field in fields(Runs)] == [25, 1, 512, 41, 20, 15]

    (tmp_path / "runs.csv").write_text(f"{header}{good}25,1,512,41,20{'' if last is None else f',{last}'}\n")
    with pytest.raises(UsageError, match=answer):
        read_runs(tmp_path / "runs.csv")


# ------------------------------------------------------------------------------------------------------ the model


def test_the_median_of_a_map_is_that_of_the_largest_of_its_ranks_ends() -> None:
    runs = make_runs(num_ranks=[1.0, 7.0, 300.0], batch_size=[128.0, 512.0, 64.0])
    fixed_s, row_s, batch_s, tail_s, rate = np.exp(TRUE[:5])
    rank_s = fixed_s + row_s * runs.num_rows + batch_s * runs.num_batches
    late = [math.log(sum(math.exp(i / (rate * tail_s)) for i in range(int(num)))) for num in runs.num_ranks]

    expected = rank_s + tail_s * (np.array(late) + GUMBEL_MEDIAN)

    np.testing.assert_allclose(map_median(TRUE, runs), expected, rtol=1e-10)
    assert pytest.approx(-math.log(math.log(2))) == GUMBEL_MEDIAN


def test_a_summarizer_reads_at_most_one_page_of_records() -> None:
    found = edge_median(TRUE, make_runs(num_ranks=[10.0, 1000.0, 1001.0]))

    np.testing.assert_allclose(found, [2.5, 52.0, 52.0])


def test_the_surprise_is_the_likelihood_of_students_distribution_around_the_medians() -> None:
    runs = make_runs(end_to_end_s=[30.0, 24.0, 50.0], map_s=[20.0, 21.0, 19.0])
    cold_s, odds, map_noise, edge_noise, freedom = np.exp(TRUE[7:])
    edge_s, warm_s = runs.end_to_end_s - runs.map_s, edge_median(TRUE, runs)

    def density(of: np.ndarray, around: np.ndarray, noise: float) -> np.ndarray:
        return np.asarray(stats.t.pdf(np.log(of / around), freedom, scale=noise))

    cold = odds / (1 + odds)
    edge = (1 - cold) * density(edge_s, warm_s, edge_noise) + cold * density(edge_s, warm_s + cold_s, edge_noise)
    expected = -np.log(density(runs.map_s, map_median(TRUE, runs), map_noise) * edge).sum()

    assert _surprise(TRUE, runs) == pytest.approx(expected, rel=1e-9)


def test_the_curvature_is_the_second_derivative() -> None:
    matrix = np.array([[3.0, 1.0, 0.5], [1.0, 2.0, -0.7], [0.5, -0.7, 4.0]])

    found = _curvature(lambda x: float(x @ matrix @ x) / 2 + x[0], np.array([1.0, -2.0, 0.3]))

    np.testing.assert_allclose(found, matrix, rtol=1e-6)


def test_no_run_is_drawn_off_farther_than_the_farthest() -> None:
    scale, freedom = np.repeat([10.0, 0.1], 4000), np.full(8000, 5.0)

    drawn = np.log(_student(scale, freedom, np.random.default_rng(0))).reshape(2, -1)

    assert (drawn[0].min(), drawn[0].max()) == pytest.approx((-FARTHEST, FARTHEST))
    assert pytest.approx(3) == FARTHEST
    # 1.29 is the standard deviation of Student's distribution with 5 degrees of freedom.
    assert drawn[1].std() == pytest.approx(0.129, rel=0.1)


def test_what_the_runs_say_nothing_of_stays_as_it_was_believed() -> None:
    """Of a single rank, the rate at which ranks are dispatched cannot be seen."""
    two_of_a_cell = make_runs(6, num_ranks=1.0, data_gb=[1.0, 2.0, 3.0] * 2)

    found = fit(two_of_a_cell)

    rate = NAMES.index("dispatch_per_s")
    assert found.log_values[rate] == pytest.approx(math.log(PRIOR["dispatch_per_s"].value))
    # Runs of one cell say no more than one run does: the variance is twice that of one of each.
    assert found.log_covariance[rate][rate] == pytest.approx(2 * PRIOR["dispatch_per_s"].spread ** 2, rel=1e-3)
    assert found.source == "6 published runs in 3 cells"
    assert found.names == NAMES


@pytest.mark.parametrize(("num_cells", "factor"), [(3, 3 / 1), (6, 6 / 1), (9, 9 / 4)])
def test_noise_is_larger_for_runs_that_were_not_fitted(num_cells: int, factor: float) -> None:
    found = fit(make_runs(num_cells), believed(1e-4))

    off = np.array(found.log_values) - np.log([PRIOR[name].value for name in NAMES])
    grown = [i for i, name in enumerate(NAMES) if name in ("map_noise", "edge_noise")]
    np.testing.assert_allclose(off[grown], math.log(factor) / 2, atol=1e-3)
    np.testing.assert_allclose(np.delete(off, grown), 0, atol=1e-3)


@pytest.mark.parametrize(("edge_s", "bound"), [(300.0, 0.5), (0.1, -0.5)])
def test_no_parameter_leaves_what_was_believed_by_more_than_five_deviations(edge_s: float, bound: float) -> None:
    found = fit(make_runs(400, end_to_end_s=20 + edge_s), believed(1e-4, edge_s=0.1))

    assert found.log_values[NAMES.index("edge_s")] - math.log(PRIOR["edge_s"].value) == pytest.approx(bound)


# -------------------------------------------------------------------------------------------------- the forecasts


def test_runs_are_forecast_as_their_ranks_are_dispatched_start_and_work() -> None:
    fitted = fixed(tail_s=1e-9, edge_cold_odds=0.25)
    runs = make_runs(num_ranks=[2000.0, 40.0, 40.0], batch_size=[512.0, 512.0, 64.0])

    found = predict(fitted, runs, num_replications=2000)

    rank_s = 4.0 + 0.006 * runs.num_rows + 0.4 * runs.num_batches
    np.testing.assert_allclose(found.map_s, (rank_s + (runs.num_ranks - 1) / 90)[:, None] + np.zeros(2000), rtol=1e-6)
    rest_s = found.end_to_end_s - found.map_s
    warm_s = np.array([2 + 0.05 * 1000, 2 + 0.05 * 40, 2 + 0.05 * 40])
    np.testing.assert_allclose(rest_s.min(axis=1), warm_s, rtol=1e-6)
    np.testing.assert_allclose(rest_s.max(axis=1), warm_s + 4, rtol=1e-6)
    np.testing.assert_allclose((rest_s > warm_s[:, None] + 2).mean(axis=1), 0.2, atol=0.03)


def test_a_forecast_has_as_many_replications_as_asked_for_and_the_same_seed_gives_the_same() -> None:
    one = make_runs(1)

    first, same, other = (
        predict(read_constants().fitted, one, num_replications=7, seed=seed).map_s for seed in (0, 0, 1)
    )

    assert first.shape == (1, 7)
    assert (first == same).all()
    assert (first != other).all()


# --------------------------------------------------------------------------------------------------- the judgement


def test_a_rival_knows_the_mean_of_the_other_cells_means() -> None:
    runs = make_runs(
        4, data_gb=[1.0, 1.0, 2.0, 3.0], map_s=[10.0, 20.0, 40.0, 80.0], end_to_end_s=[20.0, 40.0, 60.0, 100.0]
    )

    map_s, end_to_end_s = mean_of_others(runs)

    assert map_s.tolist() == [60, 60, 47.5, 27.5]
    assert end_to_end_s.tolist() == [80, 80, 65, 45]


def test_a_rival_fits_a_plane_of_ranks_and_shard_size_to_the_other_cells() -> None:
    shard_mb, num_ranks = np.array([25.0, 50.0, 100.0, 25.0, 50.0, 30.0]), np.array([40.0, 20.0, 10.0, 80.0, 60.0, 5.0])
    map_s = 2 + 0.1 * num_ranks + 0.3 * shard_mb
    runs = make_runs(6, shard_mb=shard_mb, num_ranks=num_ranks, map_s=map_s, end_to_end_s=2 * map_s + 1)
    odd = runs.map_s.copy()
    odd[2] = 500.0

    found = linear_regression(Runs(**{**vars(runs), "map_s": odd}))

    # The odd run has no say in its own forecast, and the plane of the others is exact.
    assert found[0][2] == pytest.approx(map_s[2])
    np.testing.assert_allclose(found[1], 2 * map_s + 1)


def test_a_score_is_the_median_error_and_the_shares_within_the_intervals() -> None:
    measured = np.array([10.0, 10.0, 10.0, 10.0])

    single = score(np.array([11.0, 8.0, 10.0, 14.0]), measured)
    # Quantiles of 0 to 100 are their own percentages.
    drawn = np.arange(101.0)[None, :] + np.array([[5.0], [-15.0], [-70.0], [-90.0]])
    spread = score(drawn, measured)
    edges = score(np.arange(101.0)[None, :] + np.zeros((4, 1)), np.array([5.0, 25.0, 75.0, 95.0]))

    assert single.error == pytest.approx(0.15)
    assert math.isnan(single.inside_90)
    assert math.isnan(single.inside_50)
    assert (spread.inside_90, spread.inside_50) == (0.75, 0.25)
    assert spread.error == pytest.approx(np.median([4.5, 2.5, 3.0, 5.0]))
    assert (edges.inside_90, edges.inside_50) == (1.0, 0.5)


@pytest.mark.parametrize(("engines", "engine"), [(("onnxruntime 1.2",), "onnxruntime"), ((), "auto")])
def test_a_run_that_was_is_the_setting_that_is_forecast_after_it(engines: tuple[str, ...], engine: str) -> None:
    run = make_run(engines=engines)
    run = msgspec.structs.replace(run, clock=msgspec.structs.replace(run.clock, num_concurrent_ranks=0))

    found = setting_of_run(run, is_local=True, num_cores=3)
    cold = setting_of_run(msgspec.structs.replace(run, num_cold_starts=1), is_local=False, num_cores=1)
    warm = setting_of_run(msgspec.structs.replace(run, num_cold_starts=0), is_local=False, num_cores=1)

    assert (found.num_rows, found.world_size, found.memory_mb) == (
        run.num_samples,
        run.world_size,
        run.function_memory_mb,
    )
    assert (found.engine, found.precision) == (engine, run.request.precision)
    assert (found.max_concurrency, found.is_local, found.num_cores) == (1, True, 3)
    assert (cold.is_warm, cold.is_local, warm.is_warm) == (False, False, True)
