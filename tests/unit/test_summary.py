"""A run is complete when every rank has exactly one valid record, and only then."""

import json

import msgspec
import numpy as np
import pytest

from inference import contract, metrics, summary
from inference.contract import RankFailure, RankTask
from inference.errors import IncompleteRunError
from tests.factories import RUN, make_arrays, make_plan, make_record_for, make_request, make_task

TIMES = summary.RunTimes(started_at_s=0.0, planned_at_s=1.0, mapped_at_s=5.0, summarized_at_s=6.0)


def make_tasks(world_size: int) -> list[RankTask]:
    return [make_task(rank=rank, world_size=world_size) for rank in range(world_size)]


def records_of(tasks: list[RankTask]) -> dict[str, bytes]:
    return {task.record_key: contract.encode(make_record_for(task)) for task in tasks}


def test_every_record_present_is_a_complete_run() -> None:
    tasks = make_tasks(3)

    proof = summary.prove(tasks, records_of(tasks), [])

    assert proof.is_complete
    assert [record.rank for record in proof.records] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"run_id": "run-b"}, "StaleRecord"),
        ({"num_samples": 4}, "WrongRowCount"),
        ({"rank": 2}, "DuplicateRecord"),
    ],
)
def test_a_record_that_is_not_this_ranks_own_loses_the_rank(change: dict[str, object], error: str) -> None:
    tasks = make_tasks(3)
    found = records_of(tasks)
    found[tasks[1].record_key] = contract.encode(make_record_for(tasks[1], **change))

    proof = summary.prove(tasks, found, [])

    assert (1, error) in [(lost.rank, lost.error) for lost in proof.lost]


def test_a_missing_and_an_unreadable_record_lose_their_ranks() -> None:
    tasks = make_tasks(3)
    found = records_of(tasks)
    del found[tasks[0].record_key]
    found[tasks[2].record_key] = b"{"

    proof = summary.prove(tasks, found, [])

    assert [(lost.rank, lost.error) for lost in proof.lost] == [(0, "MissingRecord"), (2, "UnreadableRecord")]


def test_a_noted_failure_names_error_message_and_shard() -> None:
    tasks = make_tasks(2)
    found = records_of(tasks)
    del found[tasks[1].record_key]
    cause = json.dumps({"errorMessage": "images of shape (3, 4)", "errorType": "ShardFormatError"})

    (lost,) = summary.prove(tasks, found, [RankFailure(run_id=RUN, rank=1, error="ShardFormatError", cause=cause)]).lost

    assert (lost.rank, lost.error, lost.message) == (1, "ShardFormatError", "images of shape (3, 4)")
    assert lost.shards == ("d/0.safetensors",)


def test_a_rank_that_failed_once_and_then_succeeded_is_not_lost() -> None:
    tasks = make_tasks(2)

    proof = summary.prove(tasks, records_of(tasks), [RankFailure(run_id=RUN, rank=1, error="E", cause="")])

    assert proof.is_complete


def test_a_stray_object_is_noted_and_left_out() -> None:
    tasks = make_tasks(2)
    stray = make_record_for(make_task(rank=7), run_id="run-b")

    proof = summary.prove(tasks, {**records_of(tasks), "runs/run-a/ranks/00007.json": contract.encode(stray)}, [])

    assert proof.is_complete
    assert "ranks/00007.json" in proof.notes[0]


def test_merged_accuracy_equals_that_of_all_galaxies_at_once() -> None:
    tasks = make_tasks(4)
    proof = summary.prove(tasks, records_of(tasks), [])

    merged = summary.summarize(make_plan(12), tasks, proof, TIMES)

    z_spec = np.concatenate([make_arrays(3, seed=rank)["redshifts"] for rank in range(4)])
    sigma = np.full(12, 0.02)
    whole = metrics.redshift_accuracy(z_spec.astype(np.float32) + 0.01, z_spec, sigma, ratio_95=2.0)
    assert merged.accuracy is not None
    assert whole is not None
    assert msgspec.structs.asdict(merged.accuracy) == pytest.approx(msgspec.structs.asdict(whole), rel=1e-6)


def test_flags_of_all_ranks_add_up_and_a_missing_sigma_is_noted_once() -> None:
    tasks = make_tasks(2)
    reported = [
        make_record_for(tasks[0], num_flagged={"REFUSED": 1, "OUT_OF_DOMAIN": 2}, sigma_note="No sigma."),
        make_record_for(tasks[1], num_flagged={"OUT_OF_DOMAIN": 3}, sigma_note="No sigma."),
    ]
    found = {task.record_key: contract.encode(record) for task, record in zip(tasks, reported, strict=True)}

    merged = summary.summarize(make_plan(6), tasks, summary.prove(tasks, found, []), TIMES)

    assert merged.num_flagged == {"REFUSED": 1, "OUT_OF_DOMAIN": 5}
    assert merged.notes == ("No sigma.",)
    assert merged.ratio_95 == 2.0


def test_what_the_ranks_report_is_counted_added_or_listed() -> None:
    tasks = make_tasks(3)
    reported = [
        make_record_for(
            task, attempt=attempt, cold_start=cold, peak_memory_bytes=peak, engine=engine, s3_num_requests=5
        )
        for task, attempt, cold, peak, engine in zip(
            tasks, (0, 2, 1), (True, False, True), (7, 9, 8), ("torch 2", "onnxruntime 1", "torch 2"), strict=True
        )
    ]
    found = {task.record_key: contract.encode(record) for task, record in zip(tasks, reported, strict=True)}

    merged = summary.summarize(make_plan(9), tasks, summary.prove(tasks, found, []), TIMES)

    assert (merged.num_records, merged.num_samples, merged.num_samples_planned) == (3, 9, 9)
    assert (merged.num_cold_starts, merged.num_retried_ranks, merged.retries) == (2, 2, {1: 2, 2: 1})
    assert (merged.num_s3_requests, merged.peak_memory_bytes, merged.function_memory_mb) == (15, 9, 1769)
    assert merged.engines == ("onnxruntime 1", "torch 2")
    assert merged.rank_seconds == pytest.approx(sum(one.clock.total + one.clock.init for one in reported))
    clock = merged.clock
    assert clock.initialize == TIMES.planned_at_s - TIMES.started_at_s
    assert clock.map == TIMES.mapped_at_s - TIMES.planned_at_s
    assert clock.summarize == TIMES.summarized_at_s - TIMES.mapped_at_s


def test_the_three_throughputs_are_what_their_names_say() -> None:
    tasks = make_tasks(2)
    found = {task.record_key: contract.encode(make_record_for(task, sample_persec=100.0)) for task in tasks}

    throughput = summary.summarize(make_plan(6), tasks, summary.prove(tasks, found, []), TIMES).throughput

    assert throughput.sum_of_rank_rates == 200.0
    assert throughput.map_wall == pytest.approx(6 / 4)
    assert throughput.end_to_end == pytest.approx(6 / 6)


def lossy_summary(*, lost: int, world_size: int, tolerated: float) -> contract.RunSummary:
    tasks = make_tasks(world_size)
    kept = tasks[lost:]
    plan = make_plan(3 * world_size, request=make_request(tolerated_failure_percentage=tolerated))
    return summary.summarize(plan, tasks, summary.prove(tasks, records_of(kept), []), TIMES)


def test_a_lost_rank_beyond_the_tolerance_fails_the_run_by_name() -> None:
    with pytest.raises(IncompleteRunError, match=r"1 of 8 ranks are lost and 0 % are tolerated: rank 0 \(d/0"):
        summary.refuse_incomplete(lossy_summary(lost=1, world_size=8, tolerated=0))


def test_a_lost_rank_within_the_tolerance_is_incomplete_but_no_failure() -> None:
    tolerated = lossy_summary(lost=1, world_size=8, tolerated=20)

    summary.refuse_incomplete(tolerated)

    assert not tolerated.complete
    assert tolerated.num_records == 7


def test_a_message_about_many_lost_ranks_stays_short() -> None:
    with pytest.raises(IncompleteRunError, match="and 995 more") as caught:
        summary.refuse_incomplete(lossy_summary(lost=1000, world_size=1001, tolerated=0))
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("shards", "said"), [(("d/0",), r"\(d/0\)"), (("d/0", "d/1"), r"\(d/0 and 1 more\)"), (("d/0",) * 9, "and 8 more")]
)
def test_a_lost_rank_names_its_first_shard_and_counts_the_others(shards: tuple[str, ...], said: str) -> None:
    lossy = lossy_summary(lost=1, world_size=8, tolerated=0)
    lost = (msgspec.structs.replace(lossy.lost_ranks[0], shards=shards),)

    with pytest.raises(IncompleteRunError, match=said):
        summary.refuse_incomplete(msgspec.structs.replace(lossy, lost_ranks=lost))


def test_the_combined_records_leave_out_what_only_merging_needs() -> None:
    record = make_record_for(make_task())

    assert record.residuals
    assert "residuals" not in json.loads(summary.combine([record]))[0]


def test_a_run_without_any_record_still_has_a_summary() -> None:
    nothing = lossy_summary(lost=3, world_size=3, tolerated=100)

    assert (nothing.num_records, nothing.accuracy, nothing.throughput.end_to_end) == (0, None, 0.0)
