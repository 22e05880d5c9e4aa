"""What a run will cost, and what it would have cost with other settings."""

from typing import Any

import msgspec
import pytest

from inference.contract import RankClock
from scripts.pricing import estimate, what_if
from scripts.pricing.cost import Rates, usage_of
from scripts.pricing.estimate import DEFAULTS, Job
from scripts.pricing.prices import read_prices
from tests.unit.test_run_present import make_summary

PRICES = read_prices().of("us-east-1")


def make_rates(infer_mb: int = 1769, **changes: Any) -> Rates:
    memory_mb = {"initialize": 1769, "infer": infer_mb, "summarize": 1769}
    return Rates(**{"memory_mb": memory_mb, "architecture": "x86_64", **changes})


def make_run(*, rows_per_s: float = 190.0, memory_mb: int = 1769, **changes: Any) -> Any:
    inference = 3071 / rows_per_s
    clock = make_summary().clock
    ranks = RankClock(
        queue=0, init=2.0, model_load=1.0, download=0.5, inference=inference, upload=0.5, total=inference + 2
    )
    fields = {"function_memory_mb": memory_mb, "rank_seconds": ranks.total + ranks.init, **changes}
    return make_summary(clock=msgspec.structs.replace(clock, ranks=ranks), **fields)


def usd(job: Job, experience: estimate.Experience = DEFAULTS, **rates: Any) -> what_if.Range:
    return estimate.estimate(job, make_rates(**rates), PRICES, experience, prices_of="here").usd


JOB = Job(num_rows=3033, num_shards=6, world_size=8)


def test_an_estimate_is_a_range_around_what_is_expected() -> None:
    low, expected, high = usd(JOB)

    assert low < expected < high


def test_the_default_estimate_of_the_sample_is_below_a_cent_and_contains_what_it_cost() -> None:
    low, _, high = usd(JOB)

    # Eight ranks of the sample: 70 s of 1,769 MB on a busy machine.
    assert low < 70.3 * 1769 / 1024 * 0.0000166667 < high < 0.01


def test_twice_the_galaxies_never_cost_less_and_nearly_twice_when_they_are_many() -> None:
    many, twice = (usd(Job(num_rows=rows, num_shards=100, world_size=100)) for rows in (10**7, 2 * 10**7))

    assert twice.expected / many.expected == pytest.approx(2, rel=0.02)


def test_earlier_runs_take_the_place_of_the_defaults() -> None:
    learnt = estimate.learn([make_run(rows_per_s=100.0), make_run(rows_per_s=400.0), make_run(rows_per_s=200.0)])

    assert learnt is not None
    assert learnt.row_s == pytest.approx((1 / 400 / 1.25, 1 / 200, 1 / 100 * 1.25))
    assert learnt.start_s.expected == pytest.approx(3.0 / 2)
    assert "3 earlier runs" in learnt.source


def test_without_a_record_nothing_is_learnt() -> None:
    assert estimate.learn([make_run(num_records=0)]) is None


def test_only_as_many_ranks_start_fresh_as_run_at_the_same_time() -> None:
    waves = Job(num_rows=3033, num_shards=6, world_size=1000, max_concurrency=10)

    assert usd(waves).expected < usd(Job(num_rows=3033, num_shards=6, world_size=1000)).expected


@pytest.mark.parametrize(
    ("memory_mb", "serial", "expected"), [(1769, 0.3, 1.0), (884.5, 0.3, 2.0), (3538, 0.0, 0.5), (10240, 0.32, 0.456)]
)
def test_inference_gains_from_memory_as_the_model_says(memory_mb: float, serial: float, expected: float) -> None:
    assert what_if.inference_time(memory_mb, serial) == pytest.approx(expected)


def test_the_worst_serial_share_reproduces_the_published_rate_with_10240_mb() -> None:
    on_one_thread = 103.0

    rate = on_one_thread / what_if.inference_time(10_240, what_if.SERIAL_SHARE.high)

    assert 200 <= rate <= 248


def test_the_own_setting_costs_what_the_run_cost() -> None:
    summary, rates = make_run(), make_rates()
    usage = usage_of(summary, rates)

    (own,) = [row for row in what_if.what_if(summary, usage, rates, PRICES) if row.memory_mb == 1769]

    assert own.rank_s == pytest.approx([usage.billed_ms["infer"] / 1000 / 8] * 3)
    assert len(set(own.usd["x86_64"])) == 1


def test_half_a_vcpu_takes_twice_as_long_and_costs_about_the_same() -> None:
    summary, rates = make_run(), make_rates(1770)
    usage = usage_of(summary, rates)

    factor = what_if.rescaled(summary, 1769, 884)

    assert factor.expected == pytest.approx(2, rel=0.01)
    assert usage.billed_ms["infer"] > 0


def test_arm64_costs_less_and_a_function_that_is_too_small_is_marked() -> None:
    summary, rates = make_run(peak_memory_bytes=600 * 2**20), make_rates()

    rows = what_if.what_if(summary, usage_of(summary, rates), rates, PRICES)

    assert all(row.usd["arm64"].expected < row.usd["x86_64"].expected for row in rows)
    assert [row.memory_mb for row in rows if not row.is_large_enough] == [512]
