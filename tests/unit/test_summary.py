"""A run is complete when every rank has exactly one valid record, and only then."""

import json

import msgspec
import numpy as np
import pytest

from inference import contract, metrics, summary
from inference.contract import RankFailure, RankTask
from inference.errors import IncompleteRunError, ManifestError
from tests.factories import (
    RUN,
    make_arrays,
    make_plan,
    make_predictions,
    make_pz,
    make_record_for,
    make_request,
    make_task,
    prove_run,
    stored_by,
)

TIMES = summary.RunTimes(started_at_s=0.0, planned_at_s=1.0, mapped_at_s=5.0, summarized_at_s=6.0)


ZERO_CLOCK = dict.fromkeys(contract.RankClock.__struct_fields__, 0.0)


def make_tasks(world_size: int) -> list[RankTask]:
    return [make_task(rank=rank, world_size=world_size) for rank in range(world_size)]


def records_of(tasks: list[RankTask]) -> dict[str, bytes]:
    return {task.record_key: contract.encode(make_record_for(task)) for task in tasks}


def test_every_record_present_is_a_complete_run() -> None:
    tasks = make_tasks(3)

    proof = prove_run(tasks, records_of(tasks))

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

    proof = prove_run(tasks, found)

    assert (1, error) in [(lost.rank, lost.error) for lost in proof.lost]


def test_a_missing_and_an_unreadable_record_lose_their_ranks() -> None:
    tasks = make_tasks(3)
    found = records_of(tasks)
    del found[tasks[0].record_key]
    found[tasks[2].record_key] = b"{"

    proof = prove_run(tasks, found)

    assert [(lost.rank, lost.error) for lost in proof.lost] == [(0, "MissingRecord"), (2, "UnreadableRecord")]


def test_a_noted_failure_names_error_message_and_shard() -> None:
    tasks = make_tasks(2)
    found = records_of(tasks)
    del found[tasks[1].record_key]
    cause = json.dumps({"errorMessage": "images of shape (3, 4)", "errorType": "ShardFormatError"})

    (lost,) = prove_run(tasks, found, [RankFailure(run_id=RUN, rank=1, error="ShardFormatError", cause=cause)]).lost

    assert (lost.rank, lost.error, lost.message) == (1, "ShardFormatError", "images of shape (3, 4)")
    assert lost.shards == ("d/0.safetensors",)


def test_a_rank_that_failed_once_and_then_succeeded_is_not_lost() -> None:
    tasks = make_tasks(2)

    proof = prove_run(tasks, records_of(tasks), [RankFailure(run_id=RUN, rank=1, error="E", cause="")])

    assert proof.is_complete


def test_objects_that_no_rank_writes_are_noted_the_first_by_name() -> None:
    tasks = make_tasks(1)
    records = summary.decode_records(records_of(tasks))

    proof = summary.prove(tasks, records, (), stored_by(records), strangers=[f"ranks/x{number}" for number in range(8)])

    assert proof.is_complete
    assert proof.notes[0] == "ranks/x0 belongs to no rank of this run and was left out."
    assert proof.notes[-1] == "3 more objects belong to no rank of this run and were left out."


@pytest.mark.parametrize(
    "change",
    [
        {"world_size": 4},
        {"inputs": (contract.RowRange(key="d/0.safetensors", start_row=1, stop_row=4, etag='"e"'),)},
        {"residuals": b"1234567"},
        {"residuals": b""},
        {"sample_persec": -1.0},
        {"started_at_s": -5.0},
        {"clock": contract.RankClock(**{**ZERO_CLOCK, "inference": -1.0})},
        {"clock": contract.RankClock(**{**ZERO_CLOCK, "total": 1e9})},
        {"clock": contract.RankClock(**{**ZERO_CLOCK, "queue": np.inf})},
        {"clock": contract.RankClock(**{**ZERO_CLOCK, "upload": 86_401.0})},
        {"total_cpu_time_s": np.inf},
        {"num_flagged": {"REFUSED": 4}},
        {"num_flagged": {"SHINY": 1}},
        {"accuracy": contract.AccuracySums(num_labelled=4), "residuals": bytes(16)},
        {"accuracy": contract.AccuracySums(num_labelled=3, sum_dz=np.nan)},
        {"predictions": None},
        {"predictions_key": "runs/run-a/predictions/00001.npz"},
    ],
)
def test_a_record_that_states_what_cannot_be_loses_its_rank(change: dict[str, object]) -> None:
    tasks = make_tasks(3)
    records = {task.record_key: make_record_for(task) for task in tasks}
    stored = stored_by(records)
    records[tasks[2].record_key] = make_record_for(tasks[2], **change)

    proof = summary.prove(tasks, records, (), stored)

    assert [(one.rank, one.error) for one in proof.lost] == [(2, "WrongRecord")]


@pytest.mark.parametrize(
    "change",
    [
        {"clock": contract.RankClock(**{**ZERO_CLOCK, "total": 86_400.0})},
        {"num_flagged": {"REFUSED": 3}},
        {"sample_persec": 0.0, "total_cpu_time_s": 0.0, "started_at_s": 0.0},
        {"accuracy": contract.AccuracySums(), "residuals": b""},
    ],
)
def test_a_record_may_state_what_is_odd_but_can_be(change: dict[str, object]) -> None:
    task = make_task()
    records = {task.record_key: make_record_for(task, **change)}

    assert summary.prove([task], records, (), stored_by(records)).is_complete


def test_predictions_of_another_number_of_rows_are_not_those_of_the_rank() -> None:
    task = make_task()
    record = make_record_for(task)
    other = msgspec.structs.replace(record.predictions, num_rows=4)
    records = {task.record_key: msgspec.structs.replace(record, predictions=other)}

    (lost,) = summary.prove([task], records, (), stored_by(records)).lost

    assert (lost.error, "is about 4 predictions" in lost.message) == ("WrongRecord", True)


def test_a_record_of_another_run_claims_no_rank_of_this_one() -> None:
    tasks = make_tasks(3)
    found = records_of(tasks)
    found[tasks[1].record_key] = contract.encode(make_record_for(tasks[1], run_id="run-b", rank=0))

    assert [(lost.rank, lost.error) for lost in prove_run(tasks, found).lost] == [(1, "StaleRecord")]


def test_an_object_without_content_is_no_record() -> None:
    task = make_task()

    (lost,) = prove_run([task], {task.record_key: b""}).lost

    assert lost.message == f"{task.record_key} is not a record (empty, or larger than a record can be)."


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        ('{"errorMessage": "dirt"}', "dirt"),
        ('{"other": "dirt"}', '{"other": "dirt"}'),
        ("[1]", "[1]"),
        ("no JSON", "no JSON"),
        ('{"errorMessage": "exit: signal: killed"}', f"exit: signal: killed{summary.KILLED}"),
    ],
)
def test_the_message_of_a_failure_is_what_lambda_s_json_says_or_all_of_it(cause: str, message: str) -> None:
    assert summary.message_of(cause) == message


@pytest.mark.parametrize(("num", "num_notes", "last"), [(5, 5, "x4 belongs"), (6, 6, "1 more objects belong")])
def test_five_objects_of_no_rank_are_named(num: int, num_notes: int, last: str) -> None:
    notes = list(summary.name_strangers([f"x{number}" for number in range(num)]))

    assert len(notes) == num_notes
    assert notes[-1].startswith(last)


@pytest.mark.parametrize("num_rows", [1, 100_000])
def test_what_a_rank_writes_is_within_its_limits(num_rows: int) -> None:
    task = make_task(num_samples=num_rows)
    numbers = np.linspace(0.1, 0.3, num_rows)
    predictions = make_predictions(
        object_id=np.arange(num_rows), z_phot=numbers.astype(np.float32), z_spec=numbers, pz=make_pz(numbers)
    )

    assert len(contract.encode(make_record_for(task, predictions))) <= summary.record_limit_bytes(task)
    assert len(predictions.to_npz()) <= summary.predictions_limit_bytes(task)


def test_a_rank_may_have_waited_for_days() -> None:
    task = make_task()
    waited = contract.RankClock(**{**ZERO_CLOCK, "queue": 3 * summary.LONGEST_PHASE_S})
    records = {task.record_key: make_record_for(task, clock=waited)}

    assert summary.prove([task], records, (), stored_by(records)).is_complete


def bound(size_bytes: int = 0, **other: str) -> tuple[RankTask, dict[str, contract.RankRecord], summary.StoredObject]:
    """A rank with its record, and what is stored instead of its predictions."""
    task = make_task()
    record = make_record_for(task)
    assert record.predictions
    there = summary.StoredObject(record.predictions.size_bytes + size_bytes, **other)
    return task, {task.record_key: record}, there


def test_predictions_that_are_missing_lose_their_rank() -> None:
    task, records, _ = bound()

    (lost,) = summary.prove([task], records, (), {}).lost

    assert (lost.error, task.predictions_key in lost.message) == ("MissingPredictions", True)


@pytest.mark.parametrize(
    ("size_bytes", "other"), [(1, {"etag": '"etag-0"'}), (0, {"etag": '"other"'}), (0, {}), (0, {"sha256": "0" * 64})]
)
def test_other_predictions_than_the_rank_wrote_lose_it(size_bytes: int, other: dict[str, str]) -> None:
    task, records, there = bound(size_bytes, **other)

    (lost,) = summary.prove([task], records, (), {task.predictions_key: there}).lost

    assert (lost.error, task.predictions_key in lost.message) == ("WrongPredictions", True)


def test_the_same_bytes_under_another_entity_tag_are_the_ranks_own() -> None:
    task, records, there = bound(etag='"of-the-second-attempt"')
    (record,) = records.values()
    assert record.predictions
    read = there._replace(sha256=record.predictions.sha256)

    doubtful = summary.doubtful_predictions([task], records, {task.predictions_key: there})

    assert doubtful == {task.predictions_key: there.size_bytes}
    assert summary.prove([task], records, (), {task.predictions_key: read}).is_complete


def test_what_a_listing_proves_or_refutes_is_not_read() -> None:
    task, records, there = bound(etag='"etag-0"')

    assert summary.doubtful_predictions([task], records, {task.predictions_key: there}) == {}
    refuted = {task.predictions_key: there._replace(size_bytes=1)}
    assert summary.doubtful_predictions([task], records, refuted) == {}


def test_a_record_cannot_have_more_read_than_its_rows_can_take() -> None:
    task, records, _ = bound()
    (record,) = records.values()
    assert record.predictions
    huge = msgspec.structs.replace(record.predictions, size_bytes=2**40)
    records = {task.record_key: msgspec.structs.replace(record, predictions=huge)}

    assert summary.doubtful_predictions([task], records, {}) == {}
    most = summary.predictions_limit_bytes(task)
    (record,) = records.values()
    largest = msgspec.structs.replace(record, predictions=msgspec.structs.replace(huge, size_bytes=most))
    assert summary.doubtful_predictions([task], {task.record_key: largest}, {}) == {task.predictions_key: most}


def test_an_error_that_no_file_can_hold_is_named_as_far_as_it_can() -> None:
    task = make_task()
    cause = json.dumps({"errorMessage": f"array \ud800 of {'x' * 10_000}"})
    failure = RankFailure(run_id=RUN, rank=0, error="ShardFormatError", cause=cause)

    (lost,) = summary.prove([task], {}, [failure], {}).lost

    assert lost.message.startswith("array ? of xxx")
    assert len(contract.encode(lost)) < 3_000


def test_a_manifest_that_is_not_the_planned_one_is_refused() -> None:
    plan = make_plan(9, request=make_request(world_size=3))
    tasks = make_tasks(3)
    assert list(summary.as_planned(plan, tasks)) == tasks

    fewer_rows = [*tasks[:2], make_task(rank=2, world_size=3, num_samples=2)]
    for other in ([], tasks[:2], [*tasks, tasks[2]], [tasks[0], tasks[2], tasks[1]], fewer_rows):
        with pytest.raises(ManifestError, match=r"manifest\.json holds \d ranks with \d+ galaxies; planned were 3"):
            list(summary.as_planned(plan, other))
    with pytest.raises(ManifestError, match="belongs to run run-b, not to run-a"):
        list(summary.as_planned(plan, [msgspec.structs.replace(task, run_id="run-b") for task in tasks]))


def test_of_a_manifest_that_was_changed_no_more_is_used_than_was_planned() -> None:
    plan = make_plan(9, request=make_request(world_size=3))
    tasks = make_tasks(3)
    strange = msgspec.structs.replace(tasks[1], run_id="run-b")

    for other, num_used in (([*tasks, tasks[2]], 3), ([tasks[0], tasks[2], tasks[1]], 1), ([tasks[0], strange], 1)):
        used: list[RankTask] = []
        with pytest.raises(ManifestError):
            used.extend(summary.as_planned(plan, other))
        assert used == tasks[:num_used]


def test_merged_accuracy_equals_that_of_all_galaxies_at_once() -> None:
    tasks = make_tasks(4)
    proof = prove_run(tasks, records_of(tasks))

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

    merged = summary.summarize(make_plan(6), tasks, prove_run(tasks, found), TIMES)

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

    merged = summary.summarize(make_plan(9), tasks, prove_run(tasks, found), TIMES)

    assert (merged.num_records, merged.num_samples, merged.num_samples_planned) == (3, 9, 9)
    assert (merged.num_cold_starts, merged.num_retried_ranks, merged.retries) == (2, 2, {1: 2, 2: 1})
    assert (merged.num_s3_requests, merged.peak_memory_bytes, merged.function_memory_mb) == (15, 9, 1769)
    assert merged.engines == ("onnxruntime 1", "torch 2")
    assert merged.rank_seconds == pytest.approx(sum(one.clock.total + one.clock.init for one in reported))
    clock = merged.clock
    assert clock.initialize == TIMES.planned_at_s - TIMES.started_at_s
    assert clock.map == TIMES.mapped_at_s - TIMES.planned_at_s
    assert clock.summarize == TIMES.summarized_at_s - TIMES.mapped_at_s


def test_ranks_that_were_computed_by_different_code_are_noted() -> None:
    tasks = make_tasks(2)
    reported = [
        make_record_for(
            task,
            code_version=str(task.rank),
            image_digest="local",
            model="m",
            weights_sha256="a" * 64,
            ratio_95=ratio,
            bits_per_row=8 + task.rank,
        )
        for task, ratio in zip(tasks, (2.0, 2.1), strict=True)
    ]
    found = {task.record_key: contract.encode(record) for task, record in zip(tasks, reported, strict=True)}

    merged = summary.summarize(make_plan(6), tasks, prove_run(tasks, found), TIMES)

    assert merged.notes == ("The ranks were computed with 2 values of code_version: 0, 1.",)
    assert (merged.code_versions, merged.image_digests) == (("0", "1"), ("local",))
    assert (merged.models, merged.weights_sha256, merged.ratio_95) == (("m",), ("a" * 64,), None)
    assert merged.throughput.bits_per_row == 9


def test_a_resumed_run_is_compared_with_the_ranks_of_its_last_execution() -> None:
    tasks = make_tasks(3)
    found = {
        task.record_key: contract.encode(make_record_for(task, started_at_s=start_s))
        for task, start_s in zip(tasks, (10.0, 50.0, 51.0), strict=True)
    }
    resumed = (contract.Resumption(execution_name="again", num_ranks=2),)
    times = summary.RunTimes(started_at_s=50.0, planned_at_s=51.0, mapped_at_s=55.0, summarized_at_s=56.0)
    plan = make_plan(9, started_at_s=50.0, request=make_request(world_size=3))

    first = summary.summarize(plan, tasks, prove_run(tasks, found), times)
    again = summary.summarize(msgspec.structs.replace(plan, resumptions=resumed), tasks, prove_run(tasks, found), times)

    assert (first.throughput.map_wall, first.throughput.end_to_end) == (9 / 4, 9 / 6)
    assert (again.throughput.map_wall, again.throughput.end_to_end) == (6 / 4, 6 / 6)
    assert first.clock.parallel_efficiency is not None
    assert again.clock.parallel_efficiency is None
    assert (first.notes, again.resumptions) == ((), resumed)
    assert again.notes[0].startswith("Resumed by again: 2 of 3 ranks were left.")


def test_the_three_throughputs_are_what_their_names_say() -> None:
    tasks = make_tasks(2)
    found = {task.record_key: contract.encode(make_record_for(task, sample_persec=100.0)) for task in tasks}

    throughput = summary.summarize(make_plan(6), tasks, prove_run(tasks, found), TIMES).throughput

    assert throughput.sum_of_rank_rates == 200.0
    assert throughput.map_wall == pytest.approx(6 / 4)
    assert throughput.end_to_end == pytest.approx(6 / 6)
    assert throughput.bits_per_row == 164_160


def lossy_summary(*, lost: int, world_size: int, tolerated: float) -> contract.RunSummary:
    tasks = make_tasks(world_size)
    kept = tasks[lost:]
    plan = make_plan(3 * world_size, request=make_request(tolerated_failure_percentage=tolerated))
    return summary.summarize(plan, tasks, prove_run(tasks, records_of(kept)), TIMES)


def test_a_lost_rank_beyond_the_tolerance_fails_the_run_by_name() -> None:
    with pytest.raises(IncompleteRunError, match=r"1 of 8 ranks are lost and 0 % are tolerated: rank 0 \(d/0"):
        summary.refuse_incomplete(lossy_summary(lost=1, world_size=8, tolerated=0))


@pytest.mark.parametrize("tolerated_percent", [12.5, 20.0])
def test_a_lost_rank_within_the_tolerance_is_incomplete_but_no_failure(tolerated_percent: float) -> None:
    tolerated = lossy_summary(lost=1, world_size=8, tolerated=tolerated_percent)

    summary.refuse_incomplete(tolerated)

    assert not tolerated.complete
    assert tolerated.num_records == 7


@pytest.mark.parametrize(("num", "end"), [(5, "rank 4 (d/0.safetensors): "), (6, "; and 1 more. ")])
def test_the_first_five_lost_ranks_are_named(num: int, end: str) -> None:
    with pytest.raises(IncompleteRunError) as refused:
        summary.refuse_incomplete(lossy_summary(lost=num, world_size=8, tolerated=0))

    assert end in str(refused.value)
    assert ("more. " in str(refused.value)) == (num > 5)


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
    assert (nothing.peak_memory_bytes, nothing.function_memory_mb, nothing.rank_seconds) == (0, 0, 0.0)
    assert (nothing.throughput.bits_per_row, nothing.ratio_95) == (164_160, None)


@pytest.mark.parametrize("behind_s", [0.0, 5.0])
def test_clocks_that_cannot_both_be_right_give_a_note_and_no_rates(behind_s: float) -> None:
    tasks = make_tasks(2)
    times = summary.RunTimes(
        started_at_s=9.0, planned_at_s=10.0, mapped_at_s=10.0 - behind_s, summarized_at_s=10.5 - behind_s
    )

    merged = summary.summarize(make_plan(6), tasks, prove_run(tasks, records_of(tasks)), times)

    assert merged.throughput.map_wall == 0.0
    assert merged.throughput.sum_of_rank_rates > 0
    assert merged.clock.parallel_efficiency is None
    assert min(merged.clock.map, merged.clock.end_to_end) >= 0
    assert f"at least {behind_s:.1f} s ahead" in merged.notes[0]
