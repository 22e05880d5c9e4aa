"""What a run will cost, and what it would have cost with other settings."""

import re
from typing import Any

import msgspec
import pytest

from inference.contract import RankClock
from scripts.command.repository import REPOSITORY
from scripts.pricing import estimate, standing, what_if
from scripts.pricing.cost import Rates, usage_of
from scripts.pricing.estimate import DEFAULTS, Job
from scripts.pricing.prices import read_prices
from scripts.pricing.standing import rendezvous_items
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


def estimate_of(job: Job, **rates: Any) -> estimate.Estimate:
    return estimate.estimate(job, make_rates(**rates), PRICES, DEFAULTS, prices_of="here")


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


def test_an_estimate_counts_what_a_run_asks_of_aws() -> None:
    found = estimate.estimate(JOB, make_rates(), PRICES, DEFAULTS, prices_of="here")

    for case in (found.low, found.expected, found.high):
        quantities = {item.name: item.quantity for item in case.items}
        # Three states and eight ranks; ranks: two PUTs, run: three PUTs and three listings.
        assert quantities["Lambda requests"] == "10 invocations"
        assert quantities["Step Functions"] == "11 transitions"
        assert "Express ranks" not in quantities
        assert quantities["S3 requests"] == "22 PUT and LIST, 39 GET"
        # Records of 9 kB, 35 bytes a galaxy; 2.5 kB of log lines an invocation.
        assert (quantities["S3 storage"], quantities["Logs"]) == ("0.2 MB for a month", "25 kB")


def test_an_estimate_adds_up_what_its_ranks_and_the_ends_of_the_run_take() -> None:
    low, expected = (case.items[0] for case in (estimate_of(JOB).low, estimate_of(JOB).expected))

    # Rows at 1/370 and 1/190 s; of each of eight ranks 0.2 and 0.5 s, fresh ones 3 s more; Initialize and Summarize.
    edges_s = 8 * 0.005
    low_s = 3033 / 370 + 8 * 0.2 + 2 * 0.5 + edges_s
    expected_s = 3033 / 190 + 8 * (0.5 + 3.0) + 2 * 1.0 + edges_s
    usd_per_s = 1769 / 1024 * PRICES.lambda_gb_s["x86_64"]
    assert (low.usd, expected.usd) == pytest.approx((low_s * usd_per_s, expected_s * usd_per_s), rel=1e-4)
    # With half a vCPU the ranks take twice as long and cost the same.
    assert estimate_of(JOB, infer_mb=884).expected.items[0].usd == pytest.approx(expected.usd, rel=1e-4)


def test_a_share_of_the_ranks_starts_fresh_when_few_run_at_the_same_time() -> None:
    waves = Job(num_rows=3033, num_shards=6, world_size=8, max_concurrency=2)

    saved = estimate_of(JOB).expected.usd - estimate_of(waves).expected.usd

    assert saved == pytest.approx(6 * 3.0 * 1769 / 1024 * PRICES.lambda_gb_s["x86_64"], rel=1e-3)


def test_express_ranks_are_estimated_as_such() -> None:
    quantities = {item.name: item.quantity for item in estimate_of(JOB, child_type="EXPRESS").expected.items}

    assert quantities["Step Functions"] == "3 transitions"
    assert quantities["Express ranks"].startswith("8 executions, 2.")


def test_what_is_neither_inference_nor_start_is_learnt_as_rest() -> None:
    learnt = estimate.learn([make_run(memory_mb=1769, num_records=8)])
    slower = estimate.learn([make_run(memory_mb=884, num_records=8)])

    assert learnt is not None
    assert slower is not None
    # Download and upload of the run, 1 s, over eight ranks; half a vCPU would have taken twice as long.
    assert learnt.rest_s == pytest.approx((0.125 / 1.25, 0.125, 0.125 * 1.25))
    assert slower.rest_s.expected == pytest.approx(0.125 * 884 / 1769)
    assert estimate.learn([make_run(num_cold_starts=0)]).start_s == DEFAULTS.start_s  # type: ignore[union-attr]


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

    small, own = (row for row in what_if.what_if(summary, usage, rates, PRICES) if row.memory_mb in (512, 1769))

    assert own.rank_s == pytest.approx([usage.billed_ms["infer"] / 1000 / 8] * 3)
    assert len(set(own.usd["x86_64"])) == 1
    # Less than a vCPU is slower by as much as it is cheaper.
    assert small.usd["x86_64"] == pytest.approx(own.usd["x86_64"], rel=1e-4)
    assert small.rank_s.expected == pytest.approx(own.rank_s.expected * 1769 / 512)


def test_half_a_vcpu_takes_twice_as_long_and_costs_about_the_same() -> None:
    summary, rates = make_run(), make_rates(1770)
    usage = usage_of(summary, rates)

    factor = what_if.rescaled(summary, 1769, 884)

    assert factor.expected == pytest.approx(2, rel=0.01)
    assert usage.billed_ms["infer"] > 0


def test_only_inference_gains_from_further_threads() -> None:
    summary = make_run(rows_per_s=3071 / 16.0)

    factor = what_if.rescaled(summary, 1769, 10_240)

    # 16 s of inference on five threads of which none, 16 % or 32 % is serial, and 4 s of anything else as before.
    expected = [(16 * (serial + (1 - serial) / 5) + 4) / 20 for serial in (0.0, 0.16, 0.32)]
    assert factor == pytest.approx(expected)
    assert what_if.rescaled(summary, 10_240, 10_240) == pytest.approx((1, 1, 1))


def test_everything_slows_down_below_a_vcpu() -> None:
    assert what_if.rescaled(make_run(), 1769, 512) == pytest.approx([1769 / 512] * 3)
    assert what_if.rescaled(make_run(), 512, 1769) == pytest.approx([512 / 1769] * 3)


def test_arm64_costs_less_and_a_function_that_is_too_small_is_marked() -> None:
    summary, rates = make_run(peak_memory_bytes=600 * 2**20), make_rates()

    rows = what_if.what_if(summary, usage_of(summary, rates), rates, PRICES)

    assert all(row.usd["arm64"].expected < row.usd["x86_64"].expected for row in rows)
    assert [row.memory_mb for row in rows] == [512, 1024, 1769, 3008, 5307, 10_240]
    assert [row.memory_mb for row in rows if not row.is_large_enough] == [512]
    assert [round(row.num_vcpus, 2) for row in rows] == [0.29, 0.58, 1.0, 1.7, 3.0, 5.79]


# --------------------------------------------------------------------------------------------------- while it is there


def test_the_rendezvous_costs_what_its_parts_cost_by_the_hour() -> None:
    assert PRICES.standing
    task, balancer, addresses, secret = (item.usd for item in rendezvous_items(PRICES.standing, "x86_64"))

    assert task == pytest.approx(0.25 * 0.04048 + 0.5 * 0.004445)
    assert (balancer, addresses) == (0.0225, 2 * 0.005)
    assert secret == pytest.approx(0.4 / 730)
    # What terraform/variables.tf and its README say: 33 USD a month.
    assert round(730 * (task + balancer + addresses + secret)) == 33


def test_the_task_that_is_paid_for_is_the_one_that_terraform_makes() -> None:
    module = (REPOSITORY / "terraform" / "modules" / "rendezvous" / "main.tf").read_text()

    size = {name: int(value) for name, value in re.findall(r"^  (cpu|memory) += (\d+)$", module, re.MULTILINE)}

    assert size == {"cpu": 1024 * standing.NUM_VCPUS, "memory": 1024 * standing.MEMORY_GB}


def test_every_region_has_the_prices_of_the_rendezvous() -> None:
    assert all(prices.standing for prices in read_prices().regions.values())
