"""What a sweep's runs become: rows from the folders they left, and what is done about a run that a kill left going."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inference import contract, summary
from inference.summary import RunTimes
from scripts.deployment.stack import Stack
from scripts.runs import journal
from scripts.runs.execution import Ending
from scripts.sweeps import left_behind
from scripts.sweeps.measure import Conditions, measure
from scripts.sweeps.price import rates_of
from tests.factories import make_plan, make_record_for, make_task

RUN = "run-a"
SUCCEEDED = Ending("SUCCEEDED")


def make_conditions(**changes: Any) -> Conditions:
    fields: dict[str, Any] = {
        "sweep": "tiny",
        "setting": "WORLD=2",
        "repeat": 1,
        "position": 3,
        "run_id": RUN,
        "target": "local",
        "started_at_s": 1.0,
        "data_prefix": "datasets/sdss/25MB/",
        "world_size": 2,
        "file_limit": None,
        "batch_size": 256,
        "engine": "auto",
        "precision": "fp32",
        "profile": False,
        "rates": rates_of(None, 3538),
        "region": "us-east-1",
        "max_concurrency": 2,
    }
    return Conditions(**{**fields, **changes})


def write_run(folder: Path, *, lost: bool = False) -> None:
    tasks = [
        make_task(rank=rank, world_size=2, num_samples=300, **contract.rank_keys(f"runs/{RUN}/", rank))
        for rank in range(2)
    ]
    found = {task.record_key: contract.encode(make_record_for(task)) for task in tasks}
    if lost:
        del found[tasks[1].record_key]
    proof = summary.prove(tasks, found, [])
    times = RunTimes(started_at_s=10.0, planned_at_s=11.0, mapped_at_s=16.0, summarized_at_s=17.0)
    merged = summary.summarize(make_plan(num_samples=600), tasks, proof, times)
    (folder / "summary.json").write_bytes(contract.encode(merged))
    (folder / "combined_data.json").write_bytes(summary.combine(proof.records))


def test_a_run_becomes_a_row_and_its_ranks_rows_beside_it(tmp_path: Path) -> None:
    write_run(tmp_path)

    run, ranks = measure(make_conditions(), SUCCEEDED, tmp_path)

    assert (run.state, run.dataset, run.shard_mb, run.memory_mb) == ("complete", "sdss/25MB", 25, 3538)
    assert (run.end_to_end_s, run.map_s, run.num_samples, run.data_bytes) == (7.0, 5.0, 600, 600 * 20_520)
    assert run.end_to_end_per_s == pytest.approx(600 / 7)
    assert run.end_to_end_bit_per_s == pytest.approx(600 / 7 * 164_160)
    assert [(rank.rank, rank.num_samples, rank.setting) for rank in ranks] == [(0, 300, "WORLD=2"), (1, 300, "WORLD=2")]


def test_a_local_run_has_a_list_price_and_nothing_paid(tmp_path: Path) -> None:
    write_run(tmp_path)

    here, _ = measure(make_conditions(), SUCCEEDED, tmp_path)
    there, _ = measure(make_conditions(target="aws"), SUCCEEDED, tmp_path)

    assert here.list_price_usd == there.list_price_usd == there.paid_usd
    assert here.list_price_usd > 0
    assert here.paid_usd == 0


def test_a_run_with_lost_ranks_is_incomplete_or_failed_as_its_execution_ended(tmp_path: Path) -> None:
    write_run(tmp_path, lost=True)

    tolerated, _ = measure(make_conditions(), SUCCEEDED, tmp_path)
    failed, ranks = measure(make_conditions(), Ending("FAILED", "IncompleteRunError", "1 of 2"), tmp_path)

    assert (tolerated.state, tolerated.num_lost_ranks) == ("incomplete", 1)
    assert (failed.state, failed.error, failed.message, len(ranks)) == ("failed", "IncompleteRunError", "1 of 2", 1)


def test_a_run_that_left_nothing_has_a_row_all_the_same(tmp_path: Path) -> None:
    run, ranks = measure(make_conditions(), Ending("FAILED", "PlanError", "too many ranks"), tmp_path)

    assert (run.state, run.error, run.world_size, run.end_to_end_s) == ("failed", "PlanError", 2, None)
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
    (sweep_folder / left_behind.NOTE).write_text(RUN)
    return sweep_folder


@pytest.mark.parametrize(("status", "stopped"), [("RUNNING", RUN), ("SUCCEEDED", None)])
def test_a_run_that_a_kill_left_going_is_stopped(
    status: str, stopped: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, states = leave_run(tmp_path), FakeStates(status)
    monkeypatch.setattr(left_behind, "connect_aws", lambda _: SimpleNamespace(states=states))

    assert left_behind.stop_left(folder, tmp_path) == stopped
    assert states.status == ("ABORTED" if stopped else status)
    assert left_behind.stop_left(folder, tmp_path) is None


def test_a_run_that_ended_in_order_leaves_no_note(tmp_path: Path) -> None:
    with left_behind.noted(tmp_path, RUN):
        assert (tmp_path / left_behind.NOTE).read_text() == RUN

    assert left_behind.stop_left(tmp_path, tmp_path) is None
