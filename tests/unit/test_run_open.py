"""Every command finds a run in the same way, brings its results home, and says the same about one that has none."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError

from inference import contract, summary
from inference.contract import LostRank, RankFailure
from scripts.command.errors import CommandError, UsageError
from scripts.deployment.stack import Stack
from scripts.runs import journal, recall
from scripts.runs.ending import Ending
from scripts.runs.journal import Entry
from scripts.runs.run_folder import Run, open_run
from scripts.runs.variables import StackVariables
from tests.factories import make_record_for, make_task
from tests.unit.test_run_present import make_summary
from tests.unit.test_run_stack import make_stack, write_outputs

RUN = "run-20260131T120000Z-abcd"
DEAD_PID = 2**22 + 1
"""No process has this number."""


class Elsewhere:
    """A deployment whose bucket holds what is in a folder, and which knows how one execution ended."""

    def __init__(self, bucket: Path, **description: Any) -> None:
        bucket.mkdir()
        self.folder, self.description = bucket, description
        self.num_downloads = 0
        self.bucket = self.states = self
        self.name, self.state_machine_arn, self.entry = "aws", "arn:aws:states:us-east-1:1:stateMachine:s", {}

    def download(self, prefix: str, folder: Path) -> int:
        assert prefix == f"runs/{RUN}/"
        self.num_downloads += 1
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return 7

    def describe_execution(self, **_: str) -> dict[str, Any]:
        if not self.description:
            raise ClientError({"Error": {"Code": "ExecutionDoesNotExist"}}, "DescribeExecution")
        began = {"startDate": datetime(2026, 1, 31, tzinfo=UTC), "executionArn": "arn", "input": '{"bucket": "b"}'}
        return began | self.description

    def read(self, key: str) -> bytes | None:
        path = self.folder / key.removeprefix(f"runs/{RUN}/")
        return path.read_bytes() if path.exists() else None

    def list_executions(self, **_: Any) -> dict[str, Any]:
        return {"executions": [{"name": RUN}]}


def test_the_newest_run_of_a_model_is_the_one_that_began_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, model, began_s in (("a", "mine", 7.0), ("b", "mine", 9.0), ("c", "other", 11.0)):
        write_entry(tmp_path, name, started_at_s=began_s)
        (tmp_path / "runs" / name / "request.json").write_text(f'{{"model": "{model}"}}')

    assert recall.newest_of_model("mine", tmp_path) == "b"
    assert capsys.readouterr().err == "RUN=b, the newest\n"
    with pytest.raises(UsageError, match=r"^There is no run with the model theirs here: `make run MODEL=theirs`"):
        recall.newest_of_model("theirs", tmp_path)


def test_outputs_name_a_stack_wherever_it_was_applied_and_a_local_target_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "connect_aws", lambda stack: stack)
    outputs = write_outputs(tmp_path, region="eu-west-1")

    found = recall.stack_target(StackVariables(outputs=outputs), root=tmp_path)

    assert found is not None
    assert found.region == "eu-west-1"
    assert recall.stack_target(StackVariables(), root=tmp_path) is None
    assert recall.stack_target(StackVariables(outputs=outputs, target="local"), root=tmp_path) is None


def elsewhere(root: Path, monkeypatch: pytest.MonkeyPatch, **description: Any) -> Elsewhere:
    there = Elsewhere(root / "bucket", **description)
    monkeypatch.setattr(recall, "rejoin", lambda entry: there if entry.stack else None)
    monkeypatch.setattr(recall, "stack_target", lambda *_, **__: there)
    return there


def write_entry(root: Path, name: str = RUN, *, stack: Stack | None = None, **noted: Any) -> Path:
    folder = root / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"target": "aws" if stack else "local", "execution_arn": "arn", "bucket": "b", "pid": DEAD_PID}
    fields |= {"run_prefix": f"runs/{name}/", "started_at_s": 5.0}
    journal.write(folder, Entry(run_id=name, stack=stack, **{**fields, **noted}))
    return folder


def write_results(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(contract.encode([make_task()]))
    (folder / "summary.json").write_bytes(contract.encode(make_summary()))


def opened(root: Path, name: str = RUN, **options: bool) -> Run:
    return open_run(name, StackVariables(), root=root, **options)


# ------------------------------------------------------------------------------------------ results come home


def test_a_run_that_another_machine_started_comes_home_with_a_note_of_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = elsewhere(tmp_path, monkeypatch, status="FAILED", error="IncompleteRunError", cause="1 of 8")
    write_results(there.folder)

    run = opened(tmp_path)

    assert run.summary.complete
    assert (run.run_id, run.is_running) == (RUN, False)
    assert f"download   7 files to {run.path}" in capsys.readouterr().err
    noted = journal.read(run.path)
    assert noted == run.entry
    assert noted is not None
    assert (noted.status, noted.error, noted.message) == ("FAILED", "IncompleteRunError", "1 of 8")


def test_a_run_whose_terminal_was_closed_comes_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_entry(tmp_path, stack=make_stack(tmp_path))
    there = elsewhere(tmp_path, monkeypatch, status="SUCCEEDED")
    write_results(there.folder)

    assert opened(tmp_path).has_summary
    assert opened(tmp_path).has_summary
    assert there.num_downloads == 1


def test_results_that_outlive_their_execution_come_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step Functions forgets an execution after 90 days."""
    write_entry(tmp_path, stack=make_stack(tmp_path))
    there = elsewhere(tmp_path, monkeypatch)
    write_results(there.folder)

    assert opened(tmp_path).has_summary


def test_a_run_that_is_here_asks_no_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_results(write_entry(tmp_path, stack=make_stack(tmp_path)))
    monkeypatch.setattr(recall, "rejoin", lambda _: pytest.fail("the deployment was asked"))

    assert opened(tmp_path).has_summary


@pytest.mark.parametrize("name", ["combined_data.json", "ranks/00000.json"])
def test_a_run_that_was_imported_or_copied_by_hand_is_one_too(name: str, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_text("[]")

    assert opened(tmp_path, "mine").entry is None


def test_a_folder_elsewhere_names_a_run(tmp_path: Path) -> None:
    write_results(write_entry(tmp_path / "other", status="SUCCEEDED"))

    run = opened(tmp_path, f"{tmp_path}/other/runs/{RUN}/")

    assert (run.path, run.run_id) == (tmp_path / "other" / "runs" / RUN, RUN)


# ------------------------------------------------------------------------------------------ what has no results


def test_a_run_that_goes_on_is_not_read_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = elsewhere(tmp_path, monkeypatch, status="RUNNING")

    with pytest.raises(CommandError, match=rf"^{RUN} still runs; `make status RUN={RUN}` says how far it is\.$"):
        opened(tmp_path)

    assert there.num_downloads == 0
    assert not (tmp_path / "runs").exists()


def test_the_log_of_a_run_that_goes_on_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(tmp_path, monkeypatch, status="RUNNING")

    run = opened(tmp_path, may_run=True)

    assert run.is_running
    assert run.entry is not None
    assert run.entry.run_prefix == f"runs/{RUN}/"


def test_a_run_that_was_never_planned_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_entry(tmp_path, stack=make_stack(tmp_path))
    elsewhere(tmp_path, monkeypatch, status="FAILED", error="PlanError", cause='{"errorMessage": "too many ranks"}')

    with pytest.raises(CommandError, match="it ended before any rank started: PlanError: too many ranks"):
        opened(tmp_path)


def test_a_local_run_that_was_interrupted_is_started_again(tmp_path: Path) -> None:
    write_entry(tmp_path)

    with pytest.raises(CommandError, match="its local AWS ended before the results were copied"):
        opened(tmp_path)


def test_a_forgotten_run_with_an_empty_folder_says_where_was_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_entry(tmp_path, stack=make_stack(tmp_path))
    elsewhere(tmp_path, monkeypatch)

    with pytest.raises(CommandError, match=rf"s3://b/runs/{RUN}/ is empty, and Step Functions has forgotten"):
        opened(tmp_path)


def test_an_unknown_run_names_similar_ones(tmp_path: Path) -> None:
    write_entry(tmp_path)

    with pytest.raises(UsageError, match=rf"^RUN={RUN[:-1]}e: there is no such run\. Similar: {RUN}\.$"):
        opened(tmp_path, RUN[:-1] + "e")


# ------------------------------------------------------------------------------------------ without a name


def test_without_a_name_the_run_that_began_last_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, started_at_s in (("run-z", 5.0), (RUN, 9.0), ("run-y", 7.0)):
        write_results(write_entry(tmp_path, name, started_at_s=started_at_s, status="SUCCEEDED"))

    assert opened(tmp_path, "").run_id == RUN
    assert capsys.readouterr().err == f"RUN={RUN}, the newest\n"


def test_without_any_run_the_message_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`make run` makes one"):
        opened(tmp_path, "")


def test_a_local_run_of_a_terminal_that_is_there_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_entry(tmp_path, pid=os.getpid())
    running = SimpleNamespace(states=Elsewhere(tmp_path / "bucket", status="RUNNING"))
    monkeypatch.setattr(recall, "rejoin", lambda entry: running if entry.is_served else None)

    with pytest.raises(CommandError, match="still runs"):
        opened(tmp_path)


def test_the_key_of_a_local_aws_is_the_users_alone_and_goes_with_the_run(tmp_path: Path) -> None:
    folder = write_entry(tmp_path, key="secret")
    path = folder / journal.FILE_NAME
    entry = journal.read(folder)

    assert entry is not None
    assert (entry.key, path.stat().st_mode & 0o077) == ("secret", 0)
    journal.write(folder, journal.ended(entry, Ending("SUCCEEDED", "", "")))
    assert "secret" not in path.read_text()


def test_what_a_map_reads_is_the_manifest_until_the_run_is_resumed() -> None:
    entry = Entry(run_id=RUN, target="local", execution_arn="arn", bucket="b", run_prefix="r/", started_at_s=5.0)
    resumed = msgspec.structs.replace(entry, pending_key="r/pending/1.json", resumed_at_s=9.0)

    assert (entry.items_key, entry.began_at_s) == ("r/manifest.json", 5.0)
    assert (resumed.items_key, resumed.began_at_s) == ("r/pending/1.json", 9.0)


@pytest.mark.parametrize(
    ("pid", "is_served"),
    [(os.getpid(), True), (1, True), (0, False), (DEAD_PID, False), (2**70, False)],
    ids=["this", "of another user", "none", "gone", "no number of a process"],
)
def test_a_local_aws_is_there_while_its_terminal_is(pid: int, is_served: bool, tmp_path: Path) -> None:
    entry = journal.read(write_entry(tmp_path, pid=pid))

    assert entry is not None
    assert entry.is_served is is_served


def test_the_terminal_of_another_user_may_not_be_signalled_and_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    entry = journal.read(write_entry(tmp_path, pid=7))
    monkeypatch.setattr(os, "kill", refuse)

    assert entry is not None
    assert entry.is_served is True


@pytest.mark.parametrize(
    ("cause", "ranks"),
    [('{"requestId": "f"}', {"r": 0, "f": 1}), ('{"error": "E"}', {"r": 0}), ("[1]", {"r": 0}), ("cut", {"r": 0})],
)
def test_an_invocation_is_of_the_rank_whose_record_or_failure_names_it(
    cause: str, ranks: dict[str, int], tmp_path: Path
) -> None:
    folder = write_entry(tmp_path, status="SUCCEEDED")
    tasks = [make_task(rank=rank, world_size=2) for rank in range(2)]
    (folder / "manifest.json").write_bytes(contract.encode(tasks))
    (folder / "combined_data.json").write_bytes(summary.combine([make_record_for(tasks[0], request_id="r")]))
    (folder / "failures").mkdir()
    failure = RankFailure(run_id=tasks[1].run_id, rank=1, error="E", cause=cause)
    (folder / "failures" / "00001.json").write_bytes(contract.encode(failure))

    assert opened(tmp_path).rank_of == ranks


# ------------------------------------------------------------------------------------------ names


def test_a_part_of_a_name_is_enough_where_one_run_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, began_s in ((RUN, 5.0), ("run-20260131T120000Z-ffff", 9.0)):
        write_results(write_entry(tmp_path, name, status="SUCCEEDED", started_at_s=began_s))

    assert opened(tmp_path, "abcd").run_id == RUN
    assert f"RUN={RUN}\n" in capsys.readouterr().err
    assert opened(tmp_path, "last").run_id == opened(tmp_path, "").run_id == "run-20260131T120000Z-ffff"
    with pytest.raises(UsageError, match=r"RUN=20260131 is a part of 2 runs: run-20260131T120000Z-ffff, run-.*abcd"):
        opened(tmp_path, "20260131")
    with pytest.raises(UsageError, match="there is no such run"):
        opened(tmp_path, "xyz")


def test_what_an_incomplete_run_lacks_is_said(tmp_path: Path) -> None:
    folder = write_entry(tmp_path, status="SUCCEEDED")
    write_results(folder)
    assert opened(tmp_path).incomplete_in_words == ""

    lost = LostRank(rank=1, error="Timeout", message="", shards=())
    (folder / "summary.json").write_bytes(contract.encode(make_summary(complete=False, lost_ranks=(lost,))))
    assert opened(tmp_path).incomplete_in_words == f"1 of {make_summary().world_size} ranks are lost"

    (folder / "summary.json").unlink()
    assert Run(folder, RUN).incomplete_in_words == "it has no summary"
