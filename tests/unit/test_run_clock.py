"""Where the time of a run went, from the clocks of its ranks."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from inference import contract, run_clock, summary
from inference.clock import PhaseClock
from inference.contract import RankClock, RankRecord, RunSummary, Throughput
from tests.factories import make_plan, make_record_for, make_request, make_task, prove_run
from tests.unit.test_run_present import make_summary
from tests.unit.test_summary import make_tasks, records_of

STAGES = {"initialize_s": 1.0, "map_s": 10.0, "summarize_s": 0.5, "end_to_end_s": 11.5}


def make_clock(inference: float, **seconds: float) -> RankClock:
    phases = {"queue": 0.0, "init": 0.0, "model_load": 0.0, "download": 0.0, "upload": 0.0, "total": inference}
    return RankClock(inference=inference, **{**phases, **seconds})


def make_records(*inference_s: float, **changes: Any) -> list[RankRecord]:
    world_size = len(inference_s)
    return [
        make_record_for(make_task(rank=rank, world_size=world_size), clock=make_clock(seconds), **changes)
        for rank, seconds in enumerate(inference_s)
    ]


def test_a_clock_adds_up_what_a_phase_takes_however_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    moments_s = iter([0.0, 1.0, 3.0, 10.0, 14.0, 20.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(moments_s))

    clock = PhaseClock()
    with clock.phase("download"):
        pass
    with suppress(OSError), clock.phase("download"):
        raise OSError

    assert (clock.seconds("download"), clock.seconds("upload"), clock.total) == (6.0, 0.0, 20.0)


def test_a_phase_has_its_sum_median_95th_percentile_and_maximum() -> None:
    found = run_clock.spread(make_records(*range(1, 101)))["inference"]

    assert (found.sum, found.p50, found.max) == (5050.0, 50.5, 100.0)
    assert found.p95 == pytest.approx(95.05)


def test_cold_and_warm_ranks_are_told_apart() -> None:
    records = make_records(9.0, cold_start=True) + make_records(1.0, 3.0)

    clock = run_clock.run_clock(records, **STAGES)

    assert (clock.cold["inference"].sum, clock.warm["inference"].sum) == (9.0, 4.0)
    assert (clock.phases, clock.slowest) == (run_clock.spread(records), run_clock.slowest(records))
    assert (clock.num_concurrent_ranks, clock.ranks.inference, clock.end_to_end) == (3, 13.0, 11.5)
    assert run_clock.run_clock(make_records(1.0), **STAGES).cold == {}


def test_the_slowest_ranks_are_named_the_slowest_first() -> None:
    slowest = run_clock.slowest(make_records(1, 7, 3, 9, 5, 8, 2))

    assert [rank.rank for rank in slowest] == [3, 5, 1, 4, 2]
    assert slowest[0].clock.inference == 9


def test_init_counts_for_the_slowest() -> None:
    fast, slow = make_records(2.0, 3.0)
    fast = msgspec.structs.replace(fast, clock=make_clock(2.0, init=5.0))

    assert run_clock.slowest([fast, slow])[0].rank == fast.rank


@pytest.mark.parametrize(
    ("spans", "expected"),
    [([], 0), ([(0, 5)], 1), ([(0, 5), (5, 5)], 1), ([(0, 5), (4, 5), (9, 1)], 2), ([(0, 9), (1, 1), (2, 5)], 2)],
    ids=["none", "one", "one after the other", "overlap", "three in two"],
)
def test_ranks_at_work_at_the_same_time_are_counted(spans: list[tuple[float, float]], expected: int) -> None:
    records = [
        make_record_for(make_task(rank=rank, world_size=9), started_at_s=start, clock=make_clock(length))
        for rank, (start, length) in enumerate(spans)
    ]

    assert run_clock.num_concurrent_ranks(records) == expected


def test_efficiency_is_the_share_of_the_workers_time_that_computed() -> None:
    two_at_once = make_records(8.0, 4.0, started_at_s=100.0)

    assert run_clock.run_clock(two_at_once, **STAGES).parallel_efficiency == pytest.approx(12 / (2 * 10))


def test_without_a_rank_nothing_is_made_up() -> None:
    clock = run_clock.run_clock([], **STAGES)

    assert (clock.phases, clock.slowest, clock.parallel_efficiency) == ({}, (), None)


def test_throughputs_are_also_given_in_bits() -> None:
    rates = Throughput(sum_of_rank_rates=2.0, map_wall=1.0, end_to_end=0.5)

    assert rates.sum_of_rank_rates_bit_per_s == 2 * 164_160
    assert rates.end_to_end_bit_per_s == 0.5 * 164_160


def test_the_published_bits_of_the_ranks_add_up_to_those_of_the_run() -> None:
    records = make_records(1.0, 2.0)

    rates = Throughput(sum_of_rank_rates=sum(one.sample_persec for one in records), map_wall=1, end_to_end=1)

    assert rates.sum_of_rank_rates_bit_per_s == pytest.approx(sum(one.throughput_bps for one in records))


def test_a_summary_of_an_older_version_is_still_read() -> None:
    document = json.loads(contract.encode(make_summary()))
    for name in ("phases", "cold", "warm", "slowest", "num_concurrent_ranks", "parallel_efficiency"):
        del document["clock"][name]
    del document["retries"], document["clock"]["ranks"]["record"]
    document["throughput"] = dict.fromkeys(("sum_of_rank_rates", "map_wall", "end_to_end"), 1.0)

    old = contract.decode(json.dumps(document), RunSummary)

    assert (old.clock.phases, old.retries, old.clock.parallel_efficiency) == ({}, {}, None)
    assert (old.clock.cold, old.clock.slowest, old.clock.num_concurrent_ranks) == ({}, (), 0)
    assert old.clock.ranks.record == 0.0
    assert old.throughput.map_wall_bit_per_s == 164_160


def test_retries_are_named_by_rank() -> None:
    tasks = make_tasks(3)
    found = records_of(tasks)
    found[tasks[2].record_key] = contract.encode(make_record_for(tasks[2], attempt=4))
    times = summary.RunTimes(started_at_s=0.0, planned_at_s=1.0, mapped_at_s=5.0, summarized_at_s=6.0)
    plan = make_plan(9, request=make_request())

    merged = summary.summarize(plan, tasks, prove_run(tasks, found), times)

    assert merged.retries == {2: 4}
    assert contract.decode(contract.encode(merged), RunSummary) == merged


def test_the_clock_of_ten_thousand_ranks_is_as_short_as_that_of_ten() -> None:
    (record,) = make_records(1.0)

    sizes = [
        len(
            contract.encode(
                run_clock.run_clock([msgspec.structs.replace(record, rank=rank) for rank in range(n)], **STAGES)
            )
        )
        for n in (10, 10_240)
    ]

    assert sizes[1] < 1.1 * sizes[0]
