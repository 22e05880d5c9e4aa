"""What a sweep's runs become: rows from the folders they left, and what is done about a run that a kill left going."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError

from inference import contract, summary
from inference.summary import RunTimes
from scripts.deployment.stack import Stack
from scripts.runs import journal
from scripts.runs.ending import Ending
from scripts.sweeps import journal as sweep_journal
from scripts.sweeps.backend import rates_of
from scripts.sweeps.rows import RankRow, RunRow, columns_of, measure
from tests.factories import make_plan, make_record_for, make_run_row, make_task, prove_run

RUN = "run-a"
SUCCEEDED = Ending("SUCCEEDED")


def measured(folder: Path, ending: Ending = SUCCEEDED, **changes: Any) -> tuple[RunRow, tuple[RankRow, ...]]:
    """Return the rows of a run in a folder; what it did is not in its row before."""
    unknown = dict.fromkeys(("end_to_end_s", "map_s", "rank_seconds", "end_to_end_per_s", "list_price_usd", "paid_usd"))
    fields = {"setting": "WORLD=2", "state": "failed", "num_samples": 0, "data_bytes": 0, "num_records": 0, **unknown}
    planned = make_run_row(**{**fields, **changes})
    return measure(planned, ending, folder, rates=rates_of(None, 3538), region="us-east-1")


def write_run(folder: Path, *, lost: bool = False, clocks: Sequence[tuple[float, float]] = ((0.0, 5.0),) * 2) -> None:
    """Write the files of a run; `clocks` are init and total of each rank [s]."""
    tasks = [
        make_task(rank=rank, world_size=len(clocks), num_samples=300, **contract.rank_keys(f"runs/{RUN}/", rank))
        for rank in range(len(clocks))
    ]
    records = {task.record_key: make_record_for(task) for task in tasks}
    found = {
        key: contract.encode(
            msgspec.structs.replace(
                record, clock=msgspec.structs.replace(record.clock, init=init_s, total=total_s, record=0.0)
            )
        )
        for (key, record), (init_s, total_s) in zip(records.items(), clocks, strict=True)
    }
    if lost:
        del found[tasks[1].record_key]
    proof = prove_run(tasks, found)
    times = RunTimes(started_at_s=10.0, planned_at_s=11.0, mapped_at_s=16.0, summarized_at_s=17.0)
    merged = summary.summarize(make_plan(num_samples=300 * len(clocks)), tasks, proof, times)
    (folder / "summary.json").write_bytes(contract.encode(merged))
    (folder / "combined_data.json").write_bytes(summary.combine(proof.records))


def test_a_run_becomes_a_row_and_its_ranks_rows_beside_it(tmp_path: Path) -> None:
    write_run(tmp_path)

    run, ranks = measured(tmp_path)

    assert run.state == "complete"
    assert (run.end_to_end_s, run.map_s, run.num_samples, run.data_bytes) == (7.0, 5.0, 600, 600 * 20_520)
    assert run.end_to_end_per_s == pytest.approx(600 / 7)
    assert run.end_to_end_bit_per_s == pytest.approx(600 / 7 * 164_160)
    assert [(rank.rank, rank.num_samples, rank.setting) for rank in ranks] == [(0, 300, "WORLD=2"), (1, 300, "WORLD=2")]


@pytest.mark.parametrize("struct", [contract.RankRecord, contract.RunSummary])
def test_no_column_takes_the_place_of_another(struct: type[msgspec.Struct]) -> None:
    names = [column.name for column in columns_of(struct)]

    assert len(names) == len(set(names))


def test_the_time_of_a_rank_is_that_of_its_process_and_its_handler(tmp_path: Path) -> None:
    clocks = [(0.5, 2.0), (0.0, 3.0), (1.0, 9.0)]
    write_run(tmp_path, clocks=clocks)

    run, ranks = measured(tmp_path)

    assert (run.rank_median_s, run.rank_max_s) == (3.0, 10.0)
    assert run.rank_p95_s == pytest.approx(3.0 + 0.9 * 7.0)
    assert [(rank.init_s, rank.total_s) for rank in ranks] == clocks
    assert (run.init_s, run.total_s) == (1.5, 14.0)


def test_a_column_has_the_name_and_the_unit_of_its_field(tmp_path: Path) -> None:
    write_run(tmp_path)
    summary = contract.decode((tmp_path / "summary.json").read_bytes(), contract.RunSummary)
    record = contract.decode((tmp_path / "combined_data.json").read_bytes(), list[contract.RankRecord])[1]

    run, (_, rank) = measured(tmp_path)

    assert (run.map_s, run.inference_s) == (summary.clock.map, summary.clock.ranks.inference)
    assert run.map_wall_per_s == summary.throughput.map_wall
    assert run.map_wall_bit_per_s == summary.throughput.map_wall_bit_per_s
    assert (run.nmad, run.r2) == (summary.accuracy.nmad, summary.accuracy.r2)
    assert run.parallel_efficiency == summary.clock.parallel_efficiency
    assert (run.engines_used, run.code_version) == (", ".join(summary.engines), ", ".join(summary.code_versions))
    assert (rank.loop_s, rank.samples_per_s) == (record.total_cpu_time_s, record.sample_persec)
    assert (rank.throughput_bit_per_s, rank.s3_total_s) == (record.throughput_bps, record.s3_total_time)
    assert (rank.process_memory_mb, rank.engine) == (record.total_process_memory_mb, record.engine)


def test_the_texts_of_a_list_share_a_cell_and_what_is_missing_is_empty(tmp_path: Path) -> None:
    write_run(tmp_path)
    found = contract.decode((tmp_path / "summary.json").read_bytes(), contract.RunSummary)
    other = msgspec.structs.replace(found, engines=("torch 2.11", "onnxruntime 1.31"), accuracy=None)
    (tmp_path / "summary.json").write_bytes(contract.encode(other))

    run, _ = measured(tmp_path)

    assert (run.engines_used, run.nmad, run.num_labelled) == ("torch 2.11, onnxruntime 1.31", None, 0)


def test_a_local_run_has_a_list_price_and_nothing_paid(tmp_path: Path) -> None:
    write_run(tmp_path)

    here, _ = measured(tmp_path)
    there, _ = measured(tmp_path, target="aws")

    assert here.list_price_usd == there.list_price_usd == there.paid_usd
    assert here.list_price_usd > 0
    assert here.paid_usd == 0


def test_a_run_with_lost_ranks_is_incomplete_or_failed_as_its_execution_ended(tmp_path: Path) -> None:
    write_run(tmp_path, lost=True)

    tolerated, _ = measured(tmp_path)
    failed, ranks = measured(tmp_path, Ending("FAILED", "IncompleteRunError", "1 of 2"))

    assert (tolerated.state, tolerated.num_lost_ranks) == ("incomplete", 1)
    assert (failed.state, failed.error, failed.message, len(ranks)) == ("failed", "IncompleteRunError", "1 of 2", 1)


def test_a_run_that_left_nothing_has_a_row_all_the_same(tmp_path: Path) -> None:
    run, ranks = measured(tmp_path, Ending("FAILED", "PlanError", "too many ranks"))

    assert (run.state, run.error, run.world_size, run.end_to_end_s) == ("failed", "PlanError", 2, None)
    assert measured(tmp_path, Ending("TIMED_OUT"))[0].error == "TIMED_OUT"
    assert measured(tmp_path, SUCCEEDED)[0].state == "failed"
    assert ranks == ()


# ------------------------------------------------------------------------------------------------- killed


class FakeStates:
    """Step Functions with one execution."""

    def __init__(self, status: str) -> None:
        self.status = status

    def describe_execution(self, **_: str) -> dict[str, str]:
        return {"status": self.status}

    def stop_execution(self, **_: str) -> None:
        self.status = "ABORTED"


def leave_run(root: Path) -> Path:
    stack = Stack(
        name="s",
        region="us-east-1",
        account_id="1",
        bucket="b",
        state_machine_arn="arn",
        function_names={},
        stages={},
        max_concurrency=2,
    )
    run_folder, sweep_folder = root / "runs" / RUN, root / "sweeps" / "mine"
    run_folder.mkdir(parents=True)
    sweep_folder.mkdir(parents=True)
    entry = journal.Entry(
        run_id=RUN, target="aws", execution_arn="arn", bucket="b", run_prefix="r/", started_at_s=1.0, stack=stack
    )
    journal.write(run_folder, entry)
    (sweep_folder / sweep_journal.NOTE_KEY).write_text(RUN)
    return sweep_folder


@pytest.mark.parametrize(("status", "stopped"), [("RUNNING", RUN), ("SUCCEEDED", None)])
def test_a_run_that_a_kill_left_going_is_stopped(
    status: str, stopped: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, states = leave_run(tmp_path), FakeStates(status)
    monkeypatch.setattr(sweep_journal, "connect_aws", lambda _: SimpleNamespace(states=states))

    assert sweep_journal.stop_left(folder, tmp_path) == stopped
    assert states.status == ("ABORTED" if stopped else status)
    assert not (folder / sweep_journal.NOTE_KEY).exists()
    assert sweep_journal.stop_left(folder, tmp_path) is None


def test_a_run_that_aws_does_not_know_any_more_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(**_: str) -> dict[str, str]:
        raise ClientError({"Error": {"Code": "ExecutionDoesNotExist", "Message": "gone"}}, "DescribeExecution")

    folder = leave_run(tmp_path)
    states = SimpleNamespace(describe_execution=gone)
    monkeypatch.setattr(sweep_journal, "connect_aws", lambda _: SimpleNamespace(states=states))

    assert sweep_journal.stop_left(folder, tmp_path) is None


def test_a_run_that_was_noted_and_never_started_is_no_run_to_stop(tmp_path: Path) -> None:
    folder = leave_run(tmp_path)
    (tmp_path / "runs" / RUN / "execution.json").unlink()

    assert sweep_journal.stop_left(folder, tmp_path) is None
    assert not (folder / sweep_journal.NOTE_KEY).exists()


def test_a_run_that_ended_in_order_leaves_no_note(tmp_path: Path) -> None:
    with sweep_journal.noted(tmp_path, RUN):
        assert (tmp_path / sweep_journal.NOTE_KEY).read_text() == RUN

    assert sweep_journal.stop_left(tmp_path, tmp_path) is None
