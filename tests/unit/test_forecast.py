"""How long a run will take and what it will cost: the simulation, the fit to published runs, the planner."""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

from inference.contract import DatasetCard, ShardEntry, encode
from scripts import forecast as command
from scripts.command.errors import UsageError
from scripts.command.machine import num_cores
from scripts.command.repository import REPOSITORY
from scripts.forecast import LIMITS, ForecastVariables, main, place_of, print_forecast, print_plan, setting_of
from scripts.forecasts import scale
from scripts.forecasts.constants import CONSTANTS_FILE, Constant, Fitted, read_constants
from scripts.forecasts.fit import NAMES, Prediction, edge_median, fit, map_median, predict
from scripts.forecasts.judge import cross_validated, judge_own, linear_regression, mean_of_others, score
from scripts.forecasts.kept import FORECAST_FILE, keep, read_kept, verdict
from scripts.forecasts.planner import Wish, plan
from scripts.forecasts.published import Runs, read_runs
from scripts.forecasts.simulate import STEPS, Outcome, Pace, Room, simulate
from scripts.forecasts.system import (
    DEFAULT_CONCURRENCY,
    Habits,
    Setting,
    default_habits,
    forecast,
    learn,
    share_of_speed,
)
from scripts.pricing.prices import read_prices
from scripts.pricing.what_if import SERIAL_SHARE
from scripts.reports.evidence import read_run
from scripts.reports.forecast_page import HEADLINE, Judgement, single_run, write_page
from scripts.reports.run_report import run_report
from tests.run_folders import write_run
from tests.unit.test_cost_estimate import make_run
from tests.unit.test_run_stack import write_outputs

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "published_runs.csv"
PRICES = read_prices().of("us-east-1")
CONSTANTS = read_constants()


def make_pace(num: int = 1, **changes: float) -> Pace:
    values = {
        "before_s": 1.0,
        "dispatch_per_s": 100.0,
        "cold_s": 3.0,
        "rank_s": 10.0,
        "tail_s": 0.0,
        "retry_share": 0.0,
        "backup_after_s": np.inf,
        "weather": 1.0,
        "after_s": 2.0,
    }
    return Pace(**{name: np.full(num, value) for name, value in (values | changes).items()})


def run(pace: Pace, num_ranks: int, *, max_concurrency: int = 10_000, seed: int = 0, **room: float) -> Outcome:
    limits = Room(max_concurrency=max_concurrency, **({"burst": 10_000.0} | room))
    return simulate(pace, limits, num_ranks, np.random.default_rng(seed))


def make_setting(**changes: Any) -> Setting:
    return Setting(**({"num_rows": 100_000, "world_size": 50} | changes))


def run_of(rows_per_s: float, *, engine: str = "native avx2", **clock: Any) -> Any:
    """A run of ours at this rate on one vCPU."""
    run = make_run(rows_per_s=rows_per_s, engines=(engine,))
    return msgspec.structs.replace(run, clock=msgspec.structs.replace(run.clock, **clock))


def forecast_of(setting: Setting, **changes: Any) -> Any:
    return forecast(setting, **({"prices": PRICES, "prices_of": "here", "num": 40} | changes))


# ---------------------------------------------------------------------------------------- the simulation


def test_without_a_tail_the_map_is_dispatch_start_and_work() -> None:
    found = run(make_pace(), 201)

    assert found.map_s[0] == pytest.approx(200 / 100 + 3 + 10)
    assert found.end_to_end_s[0] == pytest.approx(1 + 15 + 2)
    assert found.ranks_s[0] == pytest.approx(201 * 13)


def test_what_the_last_rank_spent_its_time_on_adds_up_to_the_map() -> None:
    found = run(make_pace(30, tail_s=2.0, retry_share=0.1, weather=1.1), 60, max_concurrency=7)

    assert tuple(found.last) == STEPS
    assert np.allclose(sum(found.last.values()), found.map_s)


def test_a_map_of_many_short_ranks_takes_as_long_as_their_dispatch() -> None:
    found = run(make_pace(rank_s=0.5), 5_000)

    assert found.map_s[0] == pytest.approx(5_000 / 100, rel=0.02)


def test_a_map_with_little_room_takes_as_long_as_its_waves() -> None:
    found = run(make_pace(dispatch_per_s=1e6), 400, max_concurrency=20)

    assert found.map_s[0] == pytest.approx(3 + 400 / 20 * 10, rel=1e-3)
    assert found.num_cold[0] == 20


def test_an_environment_that_is_free_is_used_again() -> None:
    found = run(make_pace(rank_s=0.001, cold_s=0.001, dispatch_per_s=1.0), 50)

    assert found.num_cold[0] == 1


def test_environments_beyond_the_burst_come_at_the_ramp() -> None:
    found = run(make_pace(dispatch_per_s=1e6, rank_s=100.0), 300, burst=100.0, ramp_per_s=10.0)

    assert found.map_s[0] == pytest.approx(200 / 10 + 3 + 100, rel=1e-3)


def test_a_second_invocation_ends_a_rank_that_lingers_and_both_are_paid() -> None:
    alone, helped = (run(make_pace(20, tail_s=60.0, backup_after_s=after_s), 50) for after_s in (np.inf, 20.0))

    assert np.median(helped.map_s) < 0.8 * np.median(alone.map_s)
    assert np.median(helped.ranks_s) > np.median(alone.ranks_s)
    assert (run(make_pace(backup_after_s=10.5), 50).map_s == run(make_pace(), 50).map_s).all()


def test_more_concurrency_is_never_slower() -> None:
    pace = make_pace(20, tail_s=4.0)
    times = [run(pace, 300, max_concurrency=most).map_s for most in (5, 10, 50, 300)]

    assert all((more <= less + 1e-9).all() for less, more in itertools.pairwise(times))


def test_the_closed_form_is_the_median_of_the_simulation() -> None:
    runs = single_run(25, 12.6, 517)
    fitted = msgspec.structs.replace(CONSTANTS.fitted, log_covariance=tuple(map(tuple, 1e-12 * np.eye(len(NAMES)))))

    closed = map_median(np.array(fitted.log_values), runs)

    assert np.median(predict(fitted, runs, num_replications=1000).map_s) == pytest.approx(float(closed[0]), rel=0.02)


def test_the_same_seed_is_the_same_forecast() -> None:
    one, same, other = (forecast_of(make_setting(), seed=seed) for seed in (0, 0, 1))

    assert one.seconds == same.seconds != other.seconds


# ------------------------------------------------------------------------------------------ our system


def test_twice_the_prices_are_twice_the_cost() -> None:
    def doubled(value: Any) -> Any:
        return {name: 2 * one for name, one in value.items()} if isinstance(value, dict) else 2 * value

    fields = {field: doubled(getattr(PRICES, field)) for field in PRICES.__struct_fields__ if field != "standing"}

    dear = forecast_of(make_setting(), prices=msgspec.structs.replace(PRICES, **fields))

    assert dear.usd == pytest.approx([2 * usd for usd in forecast_of(make_setting()).usd])


@pytest.mark.parametrize(
    ("change", "is_faster"),
    [
        ({"memory_mb": 10_240}, True),
        ({"memory_mb": 885}, False),
        ({"precision": "int8"}, True),
        ({"engine": "torch"}, False),
        ({"num_rows": 50_000}, True),
        ({"max_concurrency": 10}, False),
    ],
    ids=str,
)
def test_a_change_of_the_setting_moves_the_time_the_right_way(change: dict[str, Any], is_faster: bool) -> None:
    before, after = (
        forecast_of(setting).seconds["end_to_end"][2] for setting in (make_setting(), make_setting(**change))
    )

    assert (after < before) is is_faster


def test_an_interval_holds_the_median_and_the_wide_one_the_narrow_one() -> None:
    for found in (*forecast_of(make_setting()).seconds.values(), forecast_of(make_setting()).usd):
        assert list(found) == sorted(found)


def test_what_limits_a_run_is_named() -> None:
    assert forecast_of(make_setting(world_size=5_000, num_rows=320_000)).limit == "dispatch"
    assert forecast_of(make_setting(max_concurrency=2)).limit == "room"
    assert forecast_of(make_setting(world_size=2)).limit == "work"


def test_runs_replace_the_defaults_and_are_counted() -> None:
    known = learn([run_of(380.0), run_of(380.0)], is_local=False)

    assert known.constants["row_s"].value == pytest.approx(1 / 380)
    assert known.source == "calibrated on 2 earlier runs"
    torch = learn([run_of(380.0, engine="torch 2.13.0")], is_local=False)
    assert torch.constants["row_s"].value == pytest.approx(CONSTANTS.ours["torch_speed"].value / 380)
    assert learn([], is_local=False).source.startswith("defaults")


def test_runs_that_agree_narrow_the_interval() -> None:
    def width(habits: Habits) -> float:
        p5, *_, p95 = forecast_of(make_setting(world_size=4), habits=habits, num=200).seconds["map"]
        return p95 / p5

    assert width(learn([make_run()] * 10, is_local=False)) < width(default_habits()) / 1.3


def test_every_constant_has_a_source_and_a_spread() -> None:
    tables: list[dict[str, Constant]] = [CONSTANTS.cloud, CONSTANTS.ours, CONSTANTS.here, CONSTANTS.published]

    assert all(one.source and one.spread >= 0 for table in tables for one in table.values())
    # The receipt's table of memory sizes and the forecast mean the same law.
    assert CONSTANTS.ours["serial_share"].value == SERIAL_SHARE.expected


def test_a_rank_alone_is_faster_than_one_of_two_and_runs_say_by_how_much() -> None:
    runs = [run_of(200.0, num_concurrent_ranks=1), run_of(100.0, num_concurrent_ranks=2)]

    known = learn(runs, is_local=True, num_cores=2)

    assert known.constants["alone_speed"].value == pytest.approx(2)
    assert known.constants["row_s"].value == pytest.approx(0.01)
    assert share_of_speed(1, 4, 1.6) == pytest.approx(1.6)
    assert share_of_speed(4, 4, 1.6) == share_of_speed(1, 1, 1.6) == 1


def test_own_runs_are_each_forecast_by_the_others() -> None:
    def two_ranks(rows_per_s: float) -> Any:
        wall_s = (run_of(rows_per_s).clock.ranks.total + 1.5) / 2
        run = run_of(rows_per_s, end_to_end=wall_s + 0.1, map=wall_s, num_concurrent_ranks=2)
        return msgspec.structs.replace(run, world_size=2)

    alike, one_is_slow = [two_ranks(200.0)] * 4, [*[two_ranks(200.0)] * 3, two_ranks(20.0)]

    assert judge_own(alike, is_local=True, num_cores=2).error < 0.15
    assert judge_own(one_is_slow, is_local=True, num_cores=2).inside_90 < 1


# --------------------------------------------------------------------------------- kept, and held to it


def test_a_forecast_is_kept_and_judged(tmp_path: Path) -> None:
    kept = keep(forecast_of(make_setting()), tmp_path)

    again = read_kept(tmp_path)
    assert again == kept
    p5, _, p50, _, p95 = kept.seconds["end_to_end"]
    ends = f"({p5:.1f} to {p95:.1f} s)"
    assert verdict(kept, 1.02 * p50).endswith(f"2% longer, within the central 90 % {ends}")
    assert verdict(kept, 0.98 * p50).endswith(f"2% shorter, within the central 90 % {ends}")
    assert "outside" in verdict(kept, 0.5 * p5)


def test_a_report_shows_the_forecast_next_to_the_fact(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert all(section.title != "Forecast" for section in run_report(read_run(tmp_path), root=tmp_path).sections)

    keep(forecast_of(make_setting()), tmp_path)

    (section,) = [one for one in run_report(read_run(tmp_path), root=tmp_path).sections if one.title == "Forecast"]
    (table,) = section.blocks
    assert [row[0] for row in table.rows] == ["Initialize [s]", "Map [s]", "Summarize [s]", "end to end [s]"]
    assert {row[6] for row in table.rows} <= {"yes", "no"}


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda text: text.replace('"version": 1', '"version": 9'), "of version 9"),
        (lambda text: text[:20], "is no forecast"),
    ],
    ids=["another version", "cut off"],
)
def test_a_kept_forecast_that_cannot_be_read_is_said_in_a_line(change: Any, answer: str, tmp_path: Path) -> None:
    keep(forecast_of(make_setting()), tmp_path)
    path = tmp_path / FORECAST_FILE
    path.write_text(change(path.read_text()))

    with pytest.raises(UsageError, match=answer):
        read_kept(tmp_path)


# ----------------------------------------------------------------------------------------- the planner


def plan_of(**changes: Any) -> Any:
    wish = Wish(**({"num_rows": 600_000, "max_concurrency": 500, "architecture": "x86_64"} | changes))
    return plan(wish, PRICES, prices_of="here", habits=default_habits())


def test_a_plan_keeps_to_the_deadline_and_the_budget_and_no_setting_on_the_front_is_beaten() -> None:
    found = plan_of(deadline_s=120.0, budget_usd=1.0)

    front = [(one.seconds["end_to_end"][2], one.usd[2]) for one in found.front]
    assert found.cheapest.seconds["end_to_end"][4] <= 120
    assert found.fastest.usd[4] <= 1
    assert found.cheapest.usd[2] <= found.fastest.usd[2]
    assert [usd for _, usd in sorted(front)] == sorted((usd for _, usd in front), reverse=True)


def test_what_cannot_be_had_is_refused_with_what_could() -> None:
    with pytest.raises(UsageError, match=r"^DEADLINE=1 BUDGET=0.01 cannot be kept to .* fastest .* USD .* cheapest"):
        plan_of(deadline_s=1.0, budget_usd=0.01, memory_mb=1769, child_type="STANDARD")

    with pytest.raises(UsageError, match=r"CONCURRENCY=50 binds: a higher quota is faster\.$"):
        plan_of(deadline_s=1.0, max_concurrency=50, memory_mb=1769, child_type="STANDARD")


def test_a_rank_that_lambda_would_end_is_no_plan() -> None:
    with pytest.raises(UsageError, match="900 s"):
        plan_of(num_rows=10_000_000, world_size=10)


# ------------------------------------------------------------------------------------------------ scale


def test_ten_times_the_data_cost_ten_times_as_much_and_take_no_less_time() -> None:
    small, large = (
        {plan.num_vcpus: plan for plan in scale.on_fargate(PRICES, sizes_tb=[size_tb], num=50)}
        for size_tb in (10.0, 100.0)
    )

    assert large[1_000].usd[2] == pytest.approx(10 * small[1_000].usd[2], rel=0.05)
    assert large[1_000].seconds[2] > large[10_000].seconds[2] > small[10_000].seconds[2]


def test_spot_is_the_better_engine_from_the_size_at_which_it_is_cheaper_and_hardly_slower() -> None:
    def plan_of(engine: str, size_tb: float, time_s: float, usd: float) -> scale.Plan:
        return scale.Plan(
            engine=engine,
            size_tb=size_tb,
            num_rows=1,
            num_vcpus=1_000,
            num_ranks=1,
            seconds=(time_s,) * 5,
            usd=(usd,) * 5,
            limit="",
        )

    on_lambda = [plan_of("Lambda", size_tb, 10.0 * size_tb, 5.0) for size_tb in (1.0, 10.0, 100.0)]

    spot = [plan_of("spot", 1.0, 60.0, 1.0), plan_of("spot", 10.0, 149.0, 1.0), plan_of("spot", 100.0, 1000.0, 9.0)]

    assert scale.cheaper_from_tb(on_lambda, spot) == 10
    assert scale.cheaper_from_tb(on_lambda, spot[:1]) is None


def test_a_terabyte_is_rows_of_a_galaxy_each() -> None:
    assert scale.rows_of(1.0) == round(1e12 / 20_520)


# ----------------------------------------------------------------------------------- the published runs


TRUE = np.log([4.0, 0.006, 0.4, 1.5, 90.0, 2.0, 0.05, 4.0, 1e-3, 0.05, 0.05, 5.0])


def made_up_runs() -> Runs:
    """Return runs of a system that is the model, with 5 % of noise."""
    cells = [(mb, gb) for mb in (25.0, 50.0, 100.0) for gb in (1.0, 12.0)]
    shard_mb, data_gb = np.repeat(np.array(cells), 2, axis=0).T
    batch_size = np.where(np.arange(len(shard_mb)) % 2, 512.0, 128.0)
    runs = Runs(shard_mb, data_gb, batch_size, np.ceil(1000 * data_gb / shard_mb), *np.empty((2, len(shard_mb))))
    noise = np.exp(0.05 * np.random.default_rng(1).standard_normal((2, len(runs))))
    map_s = map_median(TRUE, runs) * noise[0]
    return replace(runs, map_s=map_s, end_to_end_s=map_s + edge_median(TRUE, runs) * noise[1])


@pytest.fixture(scope="module")
def as_made() -> Fitted:
    return fit(made_up_runs())


def test_a_fit_finds_the_system_that_the_runs_are_of(as_made: Fitted) -> None:
    off = np.array(as_made.log_values[:7]) - TRUE[:7]
    assert (np.abs(off) < 3 * np.sqrt(np.diag(as_made.log_covariance))[:7]).all()
    assert np.exp(as_made.log_values[1]) == pytest.approx(0.006, rel=0.15)


def test_a_cell_that_the_others_do_not_foresee_makes_tails_heavier_and_not_all_of_it_wider(as_made: Fitted) -> None:
    runs = made_up_runs()
    odd = np.where(runs.in_cell(runs.cells[2]), 3.0, 1.0)
    edge_s = runs.end_to_end_s - runs.map_s

    surprised = fit(replace(runs, map_s=odd * runs.map_s, end_to_end_s=odd * runs.map_s + edge_s))

    map_noise, freedom = NAMES.index("map_noise"), NAMES.index("freedom")
    assert surprised.log_values[freedom] < as_made.log_values[freedom] - 0.2
    # By least squares it would be eight times as much.
    assert surprised.log_values[map_noise] < as_made.log_values[map_noise] + np.log(2)
    first = runs[np.array([0])]
    widths = [
        np.ptp(np.quantile(np.log(predict(one, first, num_replications=1000).map_s[0]), (0.05, 0.95)))
        for one in (as_made, surprised)
    ]
    assert widths[1] > 1.3 * widths[0]


@pytest.fixture(scope="module")
def unseen() -> Prediction:
    return cross_validated(made_up_runs(), num_replications=60)


def test_cells_are_forecast_by_the_others_and_better_than_by_the_rivals(unseen: Prediction) -> None:
    runs = made_up_runs()

    error = score(unseen.end_to_end_s, runs.end_to_end_s).error
    assert error < 0.08
    assert all(error < score(rival(runs)[1], runs.end_to_end_s).error for rival in (mean_of_others, linear_regression))


def test_a_cell_has_no_say_in_its_own_forecast(unseen: Prediction) -> None:
    runs = made_up_runs()
    cell = runs.in_cell(runs.cells[2])
    changed = replace(
        runs,
        map_s=np.where(cell, 10 * runs.map_s, runs.map_s),
        end_to_end_s=np.where(cell, 10 * runs.end_to_end_s, runs.end_to_end_s),
    )

    after = cross_validated(changed, num_replications=60)

    assert (unseen.map_s[cell] == after.map_s[cell]).all()
    assert (mean_of_others(runs)[0][cell] == mean_of_others(changed)[0][cell]).all()
    assert linear_regression(runs)[1][cell] == pytest.approx(linear_regression(changed)[1][cell])


def test_the_page_is_the_same_bytes_each_time_and_states_what_was_found(
    as_made: Fitted, unseen: Prediction, tmp_path: Path
) -> None:
    found = Judgement(runs=made_up_runs(), constants=CONSTANTS, fitted=as_made, unseen=unseen)
    best = forecast_of(make_setting())
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    first, second = (write_page(found, best, tmp_path / name) for name in ("a", "b"))

    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert "12 runs of another system on AWS, 10 to 480 ranks" in first[0].read_text()


@pytest.fixture(scope="module")
def published() -> Iterator[Runs]:
    if not PUBLISHED.exists():
        pytest.skip(f"{PUBLISHED} is missing")
    return read_runs(PUBLISHED)


def test_the_constants_are_those_that_the_published_runs_say(published: Runs) -> None:
    found = fit(published)

    assert found.names == CONSTANTS.fitted.names
    assert found.log_values == pytest.approx(CONSTANTS.fitted.log_values, abs=2e-3)


def test_published_cells_that_the_fit_has_not_seen_are_forecast_well_enough(published: Runs) -> None:
    unseen = cross_validated(published, num_replications=500)

    whole, only_map = score(unseen.end_to_end_s, published.end_to_end_s), score(unseen.map_s, published.map_s)
    assert whole.error < 0.12
    assert only_map.error < 0.15
    assert 0.85 <= whole.inside_90 <= 0.95
    assert 0.85 <= only_map.inside_90 <= 0.95


def test_the_ranking_of_shard_sizes_is_forecast_as_it_was_published() -> None:
    def end_to_end_s(shard_mb: float, num_ranks: int) -> float:
        found = predict(CONSTANTS.fitted, single_run(shard_mb, 12.6, num_ranks), num_replications=1000)
        return float(np.median(found.end_to_end_s))

    forecast_s = [end_to_end_s(shard_mb, num_ranks) for shard_mb, num_ranks, *_ in HEADLINE]

    assert np.argsort(forecast_s).tolist() == np.argsort([published_s for *_, published_s in HEADLINE]).tolist()


def test_the_readme_states_the_forecast_of_the_page() -> None:
    page, readme = ((REPOSITORY / name).read_text(encoding="utf-8") for name in ("docs/forecast.md", "README.md"))
    time_s, ends = re.findall(r"\*\*(\d+) s\*\* end to end \(50 %: [^,]+, 90 %: (\d+ to \d+ s)\)", page)[0]
    usd = float(re.findall(r"\*\*([\d.]+) USD\*\*", page)[0])

    assert f"in {time_s} s ({ends}) for {usd:.2f} USD with `MEMORY=10240 CHILD=EXPRESS`" in readme


# ------------------------------------------------------------------------------------------- bad input


HEADER = "partition_mb,data_gb,batch_size,ranks,end_to_end_s,map_s\n"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", "holds no run"),
        ("a,b\n1,2\n", "has no column partition_mb"),
        (f"{HEADER}25,1,512,41,20,fast\n", "line 2: `map_s` is 'fast', not a number above 0"),
        (f"{HEADER}25,1,512,41,20,15\n25,1,512,41,15,20\n", "line 3: the Map takes as long as the whole run"),
    ],
    ids=["empty", "other columns", "no number", "Map longer than the run"],
)
def test_a_table_of_runs_that_is_none_is_refused(text: str, answer: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)

    with pytest.raises(UsageError, match=answer):
        read_runs(path)


@pytest.mark.parametrize(
    ("variables", "answer"),
    [
        ({"n": 10, "dataset": "sdss"}, "N=10 and DATASET=sdss contradict each other"),
        ({"n": 10, "files": 2}, "FILES is about a dataset"),
        ({"n": 10, "world": 11}, "WORLD=11 is more than the 10 galaxies"),
        ({"n": 10, "target": "local", "arch": "arm64"}, "TARGET=local has this machine's processors"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused(
    variables: dict[str, Any], answer: str, tmp_path: Path
) -> None:
    asked = ForecastVariables(**variables)

    with pytest.raises(UsageError, match=answer):
        setting_of(asked, place_of(asked, tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("variables", "answer"),
    [
        ({"n": 10, "region": "mars-1"}, "no prices of mars-1"),
        ({"dataset": "missing", "region": "mars-1"}, "no prices of mars-1"),
        ({"n": 10, "prices": "~/missing.toml"}, "missing.toml"),
        ({"dataset": "missing"}, "DATASET=missing: no such dataset here"),
        ({"n": 10, "target": "local", "deadline": 5.0}, "TARGET=local has nothing to choose"),
        ({"n": 10_000_000, "world": 2}, "may not end within Lambda's 900"),
        ({"file": "missing.csv"}, "there is no such file"),
    ],
    ids=str,
)
def test_what_cannot_be_forecast_is_said_in_a_line(
    variables: dict[str, Any], answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match=answer):
        main(ForecastVariables(**variables))


def test_constants_of_another_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "constants.toml"
    path.write_text(CONSTANTS_FILE.read_text().replace("version = 1", "version = 2"))

    with pytest.raises(UsageError, match="of version 2, and this program reads 1"):
        read_constants(path)


def test_a_stack_that_is_deployed_is_what_is_forecast_and_variables_win(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path, region="us-west-2", architecture="arm64", max_concurrency=77)

    as_deployed = place_of(ForecastVariables(outputs=outputs), tmp_path)
    changed = place_of(ForecastVariables(outputs=outputs, memory=3008, arch="x86_64", concurrency=5), tmp_path)

    assert (as_deployed.region, as_deployed.rates.architecture, as_deployed.max_concurrency) == (
        "us-west-2",
        "arm64",
        77,
    )
    assert (changed.rates.memory_mb["infer"], changed.rates.architecture, changed.max_concurrency) == (
        3008,
        "x86_64",
        5,
    )
    with pytest.raises(UsageError, match=r"OUTPUTS=.* is about a stack"):
        place_of(ForecastVariables(outputs=outputs, target="local"), tmp_path)


FIVE = (0.25, 0.5, 1.0, 99.96, 1234.5)


def made_up(limit: str = "room", **setting: Any) -> Any:
    """Return a forecast of round numbers."""
    return SimpleNamespace(
        setting=make_setting(num_rows=20_000, world_size=1000, max_concurrency=2000, **setting),
        seconds=dict.fromkeys(("initialize", "map", "summarize", "end_to_end"), FIVE),
        usd=(0.01, 0.02, 0.03, 0.04, 1.0),
        outcome=SimpleNamespace(map_s=[0.0] * 1000),
        source="defaults",
        last={"before": 9.0, "dispatch": 0.04, "start": 0.05, "work": 100.0, "after": 9.0},
        limit=limit,
        bills=[SimpleNamespace(prices_of="us-east-1, today")],
    )


def printed(capsys: pytest.CaptureFixture[str], found: Any) -> list[str]:
    print_forecast(Console(highlight=False, width=120), found)
    return capsys.readouterr().out.splitlines()


def test_a_forecast_is_printed_with_its_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, made_up("tail")) == [
        "1.0 s on AWS, 0.0300 USD; 90 %: 0.2 to 1,234 s",
        "  20,000 galaxies by 1,000 ranks, 2,000 at a time; 1,769 MB, x86_64, STANDARD; not started",
        "  Times defaults; intervals from 1,000 replications",
        "",
        "                  median                50 %                90 %",
        *(
            f"  {f'{name} [s]':<14}     1.0        0.5 to 100.0        0.2 to 1,234"
            for name in ("Initialize", "Map", "Summarize", "end to end")
        ),
        "  price [USD]     0.0300    0.0200 to 0.0400    0.0100 to 1.0000",
        "",
        "  The rank that ends last: start 0.1 s, work 100 s",
        f"  What limits it: {LIMITS['tail']}",
        "  List prices of us-east-1, today; a forecast, nothing measured on AWS",
    ]


@pytest.mark.parametrize(("limit", "named"), [("room", "this machine's cores"), ("tail", LIMITS["tail"])])
def test_a_local_forecast_names_the_cores_and_no_price(
    limit: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(capsys, made_up(limit, is_local=True))

    assert lines[:2] == [
        "1.0 s on this machine; 90 %: 0.2 to 1,234 s",
        "  20,000 galaxies by 1,000 ranks, 2,000 at a time; not started",
    ]
    assert lines[-1] == f"  What limits it: {named}"
    assert "USD" not in "\n".join(lines)
    assert printed(capsys, made_up("room"))[-2] == f"  What limits it: {LIMITS['room']}"


def test_a_plan_is_printed_with_its_cheapest_its_fastest_and_the_front(capsys: pytest.CaptureFixture[str]) -> None:
    cheap, fast = made_up("tail"), made_up("room", memory_mb=3008)

    print_plan(Console(highlight=False, width=140), SimpleNamespace(cheapest=cheap, fastest=fast, front=[cheap, fast]))

    words = [f"WORLD=1000 MEMORY={memory_mb} x86_64, STANDARD, 0 MB per rank" for memory_mb in (1769, 3008)]
    what = "           1.0 s (90 %: 0.2 to 1,234), 0.030 USD (90 %: 0.010 to 1.000)"
    assert capsys.readouterr().out.splitlines() == [
        f"cheapest   {words[0]}",
        what,
        f"fastest    {words[1]}",
        what,
        f"           binds: {LIMITS['room']}",
        "",
        "      end to end [s]             price [USD]   settings on the front",
        f"     1.0 (0.2-1,234)     0.030 (0.010-1.000)   {words[0]}",
        f"     1.0 (0.2-1,234)     0.030 (0.010-1.000)   {words[1]}",
        "  Times defaults. In brackets the central 90 %.",
    ]


def test_a_forecast_of_any_run_can_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    main(ForecastVariables(n=20_000, world=20, concurrency=2, target="local"))
    main(ForecastVariables(n=20_000, world=20))

    here, there = re.findall(r"  20,000 galaxies by 20 ranks, ([\d,]+) at a time", capsys.readouterr().out)
    assert (here, there) == ("2", f"{DEFAULT_CONCURRENCY:,}")


GALAXIES_PER_MIB = 2**20 / 20_520


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({"n": 5109}, (5109, 1)),
        ({"n": 5110}, (5110, 1)),
        ({"n": 5111}, (5111, 2)),
        ({"n": 103, "shard_mb": 1}, (103, 3)),
        ({"dataset": "tiny"}, (300, 3)),
        ({"dataset": "tiny", "files": 2}, (200, 2)),
        ({"dataset": "tiny", "shard_mb": 1}, (300, math.ceil(300 / GALAXIES_PER_MIB))),
        ({"dataset": "tiny", "shard_mb": 1, "files": 1}, (100, 2)),
    ],
    ids=str,
)
def test_the_size_of_a_run_is_that_of_its_galaxies_and_shards(
    asked: dict[str, Any], size: tuple[int, int], tmp_path: Path
) -> None:
    folder = tmp_path / "datasets" / "tiny" / "1MB"
    folder.mkdir(parents=True)
    shards = tuple(ShardEntry(name=f"{i}.safetensors", num_rows=100, size_bytes=1, sha256="0" * 64) for i in range(3))
    card = {"name": "tiny", "partition": "1MB", "num_rows": 300, "arrays": {}, "seed": 0, "provenance": "a test"}
    (folder / "dataset.json").write_bytes(encode(DatasetCard(shards=shards, **card)))
    for shard in shards:
        (folder / shard.name).write_bytes(b"0")
    variables = ForecastVariables(**asked)

    found = setting_of(variables, place_of(variables, tmp_path), tmp_path)

    assert (found.num_rows, found.num_shards, found.world_size) == (*size, size[1])


def test_what_a_run_is_asked_to_be_is_what_is_forecast(tmp_path: Path) -> None:
    on_aws = ForecastVariables(
        n=100, world=100, memory=512, arch="arm64", child="EXPRESS", engine="torch", precision="int8"
    )
    here = ForecastVariables(n=100, world=2, target="local", concurrency=5)
    on_all_cores = ForecastVariables(n=1000, world=1000, target="local")

    there = setting_of(on_aws, place_of(on_aws, tmp_path), tmp_path)
    local = setting_of(here, place_of(here, tmp_path), tmp_path)

    assert (there.memory_mb, there.architecture, there.child_type) == (512, "arm64", "EXPRESS")
    assert (there.engine, there.precision, there.world_size, there.num_cores) == ("torch", "int8", 100, 1)
    assert (there.is_local, there.max_concurrency) == (False, DEFAULT_CONCURRENCY)
    assert (local.is_local, local.max_concurrency, local.num_cores) == (True, 2, num_cores())
    assert place_of(on_all_cores, tmp_path).max_concurrency == num_cores()


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, ...]]:
    """Return what is planned and drawn, where nothing is deployed."""
    planned: list[tuple[Any, ...]] = []
    choice = SimpleNamespace(cheapest=made_up("tail"), fastest=made_up("room"), front=[])

    def plan(wish: Wish, prices: Any, *, prices_of: str, habits: Habits) -> Any:
        planned.append((wish, prices, prices_of))
        return choice

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "plan", plan)
    monkeypatch.setattr("scripts.reports.forecast_page.pareto", lambda found: f"front of {len(found.front)}")
    monkeypatch.setattr(
        "scripts.reports.figures.output.as_png",
        lambda figure, path, *, title: planned.append((figure, path, title)) or path.touch(),
    )
    return planned


@pytest.mark.parametrize(
    ("asked", "expected", "folder"),
    [
        ({"n": 20_000, "deadline": 60.0}, {"deadline_s": 60.0}, "forecasts"),
        (
            {"n": 20_000, "budget": 0.5, "shard_mb": 50, "concurrency": 7, "memory": 885, "to": "my/plans"},
            {"budget_usd": 0.5, "world_size": 8, "max_concurrency": 7, "memory_mb": 885},
            "my/plans",
        ),
        (
            {"n": 20_000, "budget": 0.5, "world": 3, "arch": "arm64", "child": "EXPRESS", "engine": "torch"},
            {"budget_usd": 0.5, "world_size": 3, "architecture": "arm64", "child_type": "EXPRESS", "engine": "torch"},
            "forecasts",
        ),
        (
            {"n": 20_000, "deadline": 9.0, "budget": 0.5, "precision": "int8"},
            {"deadline_s": 9.0, "budget_usd": 0.5, "precision": "int8"},
            "forecasts",
        ),
    ],
    ids=str,
)
def test_a_plan_is_for_what_was_asked_and_is_drawn(
    asked: dict[str, Any],
    expected: dict[str, Any],
    folder: str,
    planned: list[tuple[Any, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(ForecastVariables(**asked))

    wish = Wish(**({"num_rows": 20_000, "max_concurrency": DEFAULT_CONCURRENCY} | expected))
    (asked_for, _, prices_of), (figure, path, title) = planned
    assert (asked_for, prices_of) == (wish, read_prices().label("us-east-1"))
    assert (figure, path) == ("front of 0", Path(folder) / "pareto.png")
    assert title == "20,000 galaxies, settings by time and price"
    assert path.exists()
    assert capsys.readouterr().out.endswith(f"  {path}\n")


@pytest.mark.parametrize(("num_runs", "is_judged"), [(3, False), (4, True)])
def test_forecasts_of_earlier_runs_by_each_other_are_told_where_there_are_enough(
    num_runs: int,
    is_judged: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: dict[str, Any] = {}

    def judged(runs: list[Any], **where: Any) -> Any:
        asked.update(where, num=len(runs))
        return SimpleNamespace(error=0.0642, inside_90=0.75)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "earlier_runs", lambda *_: [run_of(380.0)] * num_runs)
    monkeypatch.setattr(command, "judge_own", judged)

    main(ForecastVariables(n=20_000, world=20, target="local"))

    said = " ".join(capsys.readouterr().out.split())
    told = f"The {num_runs} earlier runs, each forecast by the others: median error 6%, 75% within the central 90 %"
    assert (told in said) is is_judged
    assert f"calibrated on {num_runs} earlier runs" in said
    assert asked == ({"is_local": True, "num_cores": num_cores(), "num": 4} if is_judged else {})


def write_published(path: Path, num_cells: int) -> Path:
    """Write two published runs of each cell, which is a size of shards."""
    rows = [f"{10 * cell},1,{batch},41,20,15" for cell in range(1, num_cells + 1) for batch in (128, 512)]
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("num_cells", [4, 5])
def test_forecasts_are_judged_on_published_runs(
    num_cells: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_published(tmp_path / "runs.csv", num_cells)
    known = SimpleNamespace(map_s="known", end_to_end_s="known as a whole")
    unseen = SimpleNamespace(map_s="unseen", end_to_end_s="unseen as a whole")
    errors = {"known": 0.1, "known as a whole": 0.2, "unseen": 0.3, "unseen as a whole": 0.4}
    monkeypatch.setattr(command, "predict", lambda fitted, runs: known)
    monkeypatch.setattr(command, "cross_validated", lambda runs: unseen)
    monkeypatch.setattr(
        command,
        "score",
        lambda predicted, measured: SimpleNamespace(
            error=errors[predicted], inside_90=measured[0] / 100, inside_50=0.5
        ),
    )

    main(ForecastVariables(file=str(path)))

    def lines(name: str, map_error: str, error: str) -> list[str]:
        inside = "within the central 90 %, 50% within 50 %"
        return [
            f"{name}: {2 * num_cells} runs in {num_cells} cells",
            f"  Map          median error {map_error}; 15% {inside}",
            f"  end to end   median error {error}; 20% {inside}",
        ]

    assert capsys.readouterr().out.splitlines() == [
        *lines("as shipped", "10.0%", "20.0%"),
        *(
            lines("every cell by the others", "30.0%", "40.0%")
            if num_cells == 5
            else ["  Fewer than 5 cells: none is forecast by the others."]
        ),
    ]


def test_the_pages_about_forecasts_are_written_where_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_published(tmp_path / "runs.csv", 5)
    asked: dict[str, Any] = {}

    def plan(wish: Wish, *_: Any, prices_of: str, habits: Habits) -> Any:
        asked.update(wish=wish, prices_of=prices_of, source=habits.source)
        return SimpleNamespace(fastest="best")

    def write(judgement: Judgement, best: str, folder: Path) -> list[Path]:
        assert folder.is_dir()
        asked.update(num_runs=len(judgement.runs), fitted=judgement.fitted, best=best)
        return [folder / "forecast.md"]

    monkeypatch.setattr(command, "cross_validated", lambda runs: predict(CONSTANTS.fitted, runs, num_replications=10))
    monkeypatch.setattr(command, "plan", plan)
    monkeypatch.setattr(command, "fit", lambda runs: "fitted")
    monkeypatch.setattr("scripts.reports.forecast_page.write_page", write)
    monkeypatch.setattr("scripts.reports.scale_page.write_scale_page", lambda _, folder: [folder / "scale.md"])

    main(ForecastVariables(file=str(path), to=str(tmp_path / "a" / "pages")))

    assert asked == {
        # The published 12.6 GB, where the default account has them run.
        "wish": Wish(num_rows=659_857, max_concurrency=DEFAULT_CONCURRENCY, world_size=517, architecture="x86_64"),
        "prices_of": read_prices().label("us-east-1"),
        "source": learn([], is_local=False).source,
        "num_runs": 10,
        "fitted": "fitted",
        "best": "best",
    }
    names = [line.strip().rpartition("/")[2] for line in capsys.readouterr().out.splitlines()[-2:]]
    assert names == ["forecast.md", "scale.md"]
