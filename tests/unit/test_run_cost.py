"""What a run costs, by the rules AWS bills by and by the published method."""

from pathlib import Path
from typing import Any

import pytest

from inference.contract import Resumption
from scripts.pricing import cost
from scripts.pricing.cost import Rates, Usage, billed_ms, usage_of
from scripts.pricing.prices import PRICES_FILE, PriceError, bill_if_known, bill_of, price_note, read_prices
from tests.unit.test_run_present import LOST, make_summary

MEMORY = {"initialize": 1024, "infer": 2048, "summarize": 1024}
PRICES = read_prices().of("us-east-1")

# Partition, requests, inference [s], used memory [GB], published cost [USD]: README of the reference's repository.
PUBLISHED = [("25MB", 517, 6.55, 2.8, 0.16), ("50MB", 259, 11.8, 4.0, 0.20), ("75MB", 173, 17.6, 5.9, 0.30)]
PUBLISHED += [("100MB", 130, 25.0, 7.0, 0.38)]


def make_rates(**changes: Any) -> Rates:
    return Rates(**{"memory_mb": MEMORY, "architecture": "x86_64", **changes})


def items(usage: Usage, rates: Rates | None = None) -> dict[str, cost.CostItem]:
    return {item.name: item for item in cost.bill(usage, rates or make_rates(), PRICES, prices_of="here").items}


def make_usage(**changes: Any) -> Usage:
    return Usage(**{"billed_ms": {"infer": 10_000}, "num_invocations": 3, "num_transitions": 7, **changes})


def test_lambda_time_is_the_configured_memory_times_the_billed_time() -> None:
    usage = make_usage(billed_ms={"infer": 10_000, "initialize": 3_000, "summarize": 1_000})

    assert items(usage)["Lambda time"].usd == pytest.approx((2 * 10 + 3 + 1) * 0.0000166667)
    assert items(usage, make_rates(architecture="arm64"))["Lambda time"].usd == pytest.approx(24 * 0.0000133334)


@pytest.mark.parametrize(
    ("duration_s", "init_s", "expected"), [(1.04963, 1.29383, 2344), (0.0101, 0.0, 11), (0.005, 0.0, 5)]
)
def test_init_is_billed_and_rounded_up_together_with_the_duration(
    duration_s: float, init_s: float, expected: int
) -> None:
    assert billed_ms(duration_s, init_s) == expected


def test_the_published_cost_table_is_reproduced() -> None:
    computed = [cost.usd_as_published(requests, seconds, used_gb) for _, requests, seconds, used_gb, _ in PUBLISHED]

    assert computed == pytest.approx([usd for *_, usd in PUBLISHED], abs=0.005)


def test_what_lambda_bills_for_the_published_75_mb_run_is_three_times_its_table() -> None:
    (requests, inference_s, used_gb) = PUBLISHED[2][1:4]
    warm_invocation_s = 33.5  # published: 32 to 35 s billed
    usage = make_usage(billed_ms={"infer": requests * billed_ms(warm_invocation_s)})

    billed = items(usage, make_rates(memory_mb={"infer": 10_240}))["Lambda time"].usd

    assert billed == pytest.approx(0.966, abs=0.001)
    assert billed / cost.usd_as_published(requests, inference_s, used_gb) == pytest.approx(3.2, abs=0.1)


def test_the_memory_that_the_ranks_had_counts_not_what_is_deployed_since() -> None:
    assert cost.as_run(make_rates(), make_summary(function_memory_mb=3008)).memory_mb == {**MEMORY, "infer": 3008}
    assert cost.as_run(make_rates(), make_summary(function_memory_mb=0)).memory_mb == MEMORY


def test_every_attempt_is_a_request_and_a_transition() -> None:
    found = usage_of(make_summary(num_records=8, num_retried_ranks=2, retries={1: 3, 4: 1}), make_rates())

    assert (found.num_invocations, found.num_transitions) == (8 + 4 + 2, 8 + 4 + 3)
    assert items(found)["Step Functions"].usd == pytest.approx(15 * 0.025 / 1000)


def test_a_lost_rank_enters_three_states() -> None:
    whole = usage_of(make_summary(num_records=8, num_retried_ranks=0), make_rates())
    broken = usage_of(make_summary(num_records=7, num_retried_ranks=0, lost_ranks=(LOST,)), make_rates())

    assert broken.num_transitions - whole.num_transitions == 2


def test_express_ranks_are_paid_by_request_and_time_instead_of_transitions() -> None:
    rates = make_rates(child_type="EXPRESS")
    usage = usage_of(make_summary(), rates)

    assert usage.num_transitions == 3
    assert usage_of(make_summary(), make_rates()).num_express == 0
    gb_s = (3.2 + 61.9 + 8 * 0.05) / 16
    assert items(usage, rates)["Express ranks"].usd == pytest.approx(8 * 1e-6 + gb_s * 0.00001667)


def test_storage_of_a_function_is_paid_above_512_mb() -> None:
    larger = make_rates(ephemeral_mb={"infer": 512 + 2048})

    assert "Lambda storage" not in items(make_usage())
    assert items(make_usage(), larger)["Lambda storage"].usd == pytest.approx(10 * 2 * 3.09e-8)


def test_requests_to_s3_are_counted_by_class() -> None:
    summary = make_summary(num_records=8, num_s3_requests=8 * 4)

    puts, gets = cost.s3_requests(summary)

    # A rank: predictions and record; the run: manifest, plan, two results, three listings.
    assert puts == 8 * 2 + 4 + 3
    # A rank: its three reads; the run: dataset.json, the manifest twice, eight records.
    assert gets == 8 * 3 + 3 + 8
    assert items(make_usage(num_s3_puts=1000, num_s3_gets=1000))["S3 requests"].usd == pytest.approx(0.0054)


@pytest.mark.parametrize(("num_objects", "pages"), [(0, 1), (1, 1), (1000, 1), (1001, 2), (2000, 2), (2001, 3)])
def test_a_listing_is_paid_by_the_page(num_objects: int, pages: int) -> None:
    few = make_summary(num_records=8, lost_ranks=())
    many = make_summary(num_records=8, lost_ranks=(LOST,) * num_objects)

    # A lost rank PUTs its failure, which Summarize GETs.
    assert cost.s3_requests(many)[0] - cost.s3_requests(few)[0] == num_objects + pages - 1
    assert cost.s3_requests(many)[1] - cost.s3_requests(few)[1] == num_objects
    assert cost.list_pages(num_objects) == pages


def test_results_and_log_lines_are_paid_by_the_gb() -> None:
    found = items(make_usage(stored_bytes=2**30, log_bytes=2**29))

    assert (found["S3 storage"].usd, found["Logs"].usd) == pytest.approx((0.023, 0.25))


def test_what_a_run_did_not_take_costs_nothing() -> None:
    nothing = Usage(billed_ms={}, num_invocations=0, num_transitions=0)

    found = items(nothing, make_rates(ephemeral_mb={"infer": 1024}))

    assert {item.usd for item in found.values()} == {0}
    assert found.keys() == {"Lambda time", "Lambda requests", "Step Functions", "S3 requests", "S3 storage", "Logs"}


def test_reported_durations_take_the_place_of_the_clocks() -> None:
    billed = {"infer": [1000, 2000, 500], "initialize": [700], "summarize": [300]}

    usage = usage_of(make_summary(), make_rates(), billed=billed)

    assert usage.billed_ms == {"infer": 3500, "initialize": 700, "summarize": 300}
    assert usage.num_invocations == 5


@pytest.mark.parametrize(("num_reports", "num_lost", "num_entered"), [(11, 0, 11), (5, 0, 8), (0, 0, 8), (5, 1, 9 + 2)])
def test_reports_that_came_late_or_of_attempts_without_a_record_leave_no_transition_out(
    num_reports: int, num_lost: int, num_entered: int
) -> None:
    summary = make_summary(num_records=8, num_retried_ranks=0, lost_ranks=(LOST,) * num_lost)

    usage = usage_of(summary, make_rates(), billed={"infer": [1000] * num_reports} if num_reports else {})

    assert usage.num_transitions == 3 + num_entered


def test_a_resumed_run_pays_its_three_states_and_both_ends_again_and_the_ranks_that_were_left() -> None:
    resumptions = (Resumption(execution_name="again", num_ranks=3),) * 2
    resumed = make_summary(num_records=8, num_retried_ranks=0, resumptions=resumptions)

    usage = usage_of(resumed, make_rates())

    assert (usage.num_invocations, usage.num_transitions) == (8 + 2 * 3 + 3 * 2, 8 + 2 * 3 + 3 * 3)


def test_sizes_that_were_not_measured_follow_from_the_ranks_and_the_rows() -> None:
    summary = make_summary(world_size=8, num_records=8, num_samples=3071, num_retried_ranks=0)

    modelled = usage_of(summary, make_rates())
    measured = usage_of(summary, make_rates(), stored_bytes=0, log_bytes=0)

    assert (modelled.stored_bytes, modelled.log_bytes) == (8 * 9_000 + 3071 * 35, (8 + 2) * 2_500)
    assert (measured.stored_bytes, measured.log_bytes) == (0, 0)


def test_without_reports_the_clocks_count_and_half_a_step_of_rounding_per_rank() -> None:
    summary = make_summary(num_records=8, rank_seconds=65.25)

    usage = usage_of(summary, make_rates())

    assert usage.billed_ms["infer"] == 65_250 + 4
    assert usage.billed_ms["initialize"] == billed_ms(summary.clock.initialize)
    assert usage.billed_ms["summarize"] == billed_ms(summary.clock.summarize)


def test_a_region_without_prices_is_named_and_those_that_have_some() -> None:
    with pytest.raises(PriceError, match=r"no prices of mars-1, only of us-east-1, .*add a table \[regions.mars-1\]"):
        read_prices().of("mars-1")


def test_a_run_has_a_bill_where_there_are_prices_and_else_a_note_why_not() -> None:
    summary, rates = make_summary(function_memory_mb=3008), make_rates()
    used = make_rates(memory_mb={**MEMORY, "infer": 3008})

    made = bill_of(summary, rates, "us-east-1")

    assert made == bill_if_known(summary, rates, "us-east-1")
    assert made == cost.bill(
        usage_of(summary, used), used, PRICES, prices_of="us-east-1, January 2026, without free tier"
    )
    assert price_note("us-east-1") == []
    assert bill_if_known(summary, rates, "mars-1") is None
    (note,) = price_note("mars-1")
    assert note.startswith("No receipt: The price file has no prices of mars-1, ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lambda_request = 0.0000002", 'lambda_request = "cheap"', r"Expected `float`, got `str`.*lambda_request"),
        ("log_gb = 0.50", "", "missing required field `log_gb`"),
        ("[sources]", "[sources", "is not valid"),
    ],
    ids=["no number", "missing", "no TOML"],
)
def test_a_price_file_that_is_not_valid_is_refused_in_one_line(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    broken = tmp_path / "prices.toml"
    broken.write_text(PRICES_FILE.read_text().replace(old, new))

    with pytest.raises(PriceError, match=message) as caught:
        read_prices(broken)
    assert "\n" not in str(caught.value)


def test_a_price_file_that_is_not_there_is_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "prices.toml"

    with pytest.raises(PriceError, match=f"The price file {missing} cannot be read"):
        read_prices(missing)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PriceError, match=r"The price file prices\.toml cannot be read"):
        read_prices(missing)


def test_the_documented_table_is_what_the_code_computes() -> None:
    document = (Path(__file__).parents[2] / "docs" / "cost_and_logs.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in document.splitlines() if " MB | " in line]

    assert len(rows) == len(PUBLISHED)
    for (_, *given, published, by_method, configured, _), expected in zip(rows, PUBLISHED, strict=True):
        assert (*map(float, given), float(published)) == expected[1:]
        assert float(by_method) == pytest.approx(cost.usd_as_published(*expected[1:4]), abs=0.0005)
        usage = make_usage(billed_ms={"infer": expected[1] * billed_ms(expected[2])})
        billed = items(usage, make_rates(memory_mb={"infer": 10_240}))["Lambda time"].usd
        assert float(configured) == pytest.approx(billed, abs=0.005)
