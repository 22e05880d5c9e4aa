"""What a run will cost, and what it would have cost with other settings."""

import re
from typing import Any

import msgspec
import pytest

from inference.contract import RankClock
from scripts.command.repository import REPOSITORY
from scripts.pricing import standing, what_if
from scripts.pricing.cost import Rates, bill, usage_before, usage_of
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


def before(**changes: Any) -> dict[str, str]:
    """Eight ranks of six shards, 48 s together, as a bill's quantities."""
    rates = make_rates(**changes)
    usage = usage_before(
        rates, num_rows=3033, num_shards=6, world_size=8, ranks_s=48.0, initialize_s=1.0, summarize_s=2.0
    )
    assert usage.billed_ms == {"infer": 48_000, "initialize": 1_000, "summarize": 2_000}
    # Records of 9 kB, 35 bytes a galaxy; 2.5 kB of log lines an invocation.
    assert (usage.stored_bytes, usage.log_bytes) == (8 * 9_000 + 3033 * 35, 10 * 2_500)
    return {item.name: item.quantity for item in bill(usage, rates, PRICES, prices_of="here").items}


def test_before_a_run_is_counted_what_it_asks_of_aws() -> None:
    quantities = before()

    # Three states and eight ranks; ranks: two PUTs, run: three PUTs and three listings.
    assert quantities["Lambda time"] == f"{51 * 1769 / 1024:.1f} GB-s, x86_64"
    assert quantities["Lambda requests"] == "10 invocations"
    assert quantities["Step Functions"] == "11 transitions"
    assert "Express ranks" not in quantities
    assert quantities["S3 requests"] == "22 PUT and LIST, 39 GET"
    assert (quantities["S3 storage"], quantities["Logs"]) == ("0.2 MB for a month", "25 kB")


def test_express_ranks_are_counted_as_such() -> None:
    quantities = before(child_type="EXPRESS")

    assert quantities["Step Functions"] == "3 transitions"
    assert quantities["Express ranks"] == "8 executions, 3.0 GB-s"


@pytest.mark.parametrize(
    ("memory_mb", "serial", "expected"), [(1769, 0.3, 1.0), (884.5, 0.3, 2.0), (3538, 0.0, 0.5), (10240, 0.33, 0.464)]
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


def test_a_memory_that_the_ranks_filled_to_the_last_byte_is_large_enough() -> None:
    summary, rates = make_run(peak_memory_bytes=1024 * 2**20), make_rates()

    rows = what_if.what_if(summary, usage_of(summary, rates), rates, PRICES)

    assert [row.memory_mb for row in rows if not row.is_large_enough] == [512]


def test_a_memory_of_its_own_is_among_those_it_is_compared_with() -> None:
    summary, rates = make_run(), make_rates(2000)

    rows = what_if.what_if(summary, usage_of(summary, rates), rates, PRICES)

    assert [row.memory_mb for row in rows] == [512, 1024, 1769, 2000, 3008, 5307, 10_240]


def test_half_a_vcpu_takes_twice_as_long_and_costs_about_the_same() -> None:
    summary, rates = make_run(), make_rates(1770)
    usage = usage_of(summary, rates)

    factor = what_if.rescaled(summary, 1769, 884)

    assert factor.expected == pytest.approx(2, rel=0.01)
    assert usage.billed_ms["infer"] > 0


def test_only_inference_gains_from_further_threads() -> None:
    summary = make_run(rows_per_s=3071 / 16.0)

    factor = what_if.rescaled(summary, 1769, 10_240)

    # 16 s of inference on five threads of which none, 25 % or 33 % is serial, and 4 s of anything else as before.
    expected = [(16 * (serial + (1 - serial) / 5) + 4) / 20 for serial in (0.0, 0.25, 0.33)]
    assert factor == pytest.approx(expected)
    assert what_if.rescaled(summary, 10_240, 10_240) == pytest.approx((1, 1, 1))
    # The clocks of some ranks leave nothing beside inference.
    only = what_if.rescaled(make_run(rows_per_s=3071 / 16.0, rank_seconds=16.0), 1769, 10_240)
    assert only == pytest.approx([serial + (1 - serial) / 5 for serial in (0.0, 0.25, 0.33)])


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
