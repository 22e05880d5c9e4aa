"""Every command finds a run in the same way, brings its results home, and says the same about one that has none."""

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from inference import contract, summary
from inference.contract import LostRank, RankFailure, Resumption
from inference.errors import InvalidRequestError
from inference.run_folder import IMPORT_KEY
from scripts.command.errors import CommandError, UsageError
from scripts.deployment.stack import Stack
from scripts.runs import journal, recall
from scripts.runs.ending import Ending
from scripts.runs.journal import Entry
from scripts.runs.run_folder import Run, make_folder, open_run
from scripts.runs.variables import StackVariables
from tests.factories import make_plan, make_record_for, make_task
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
        assert folder.is_dir()
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
def test_a_run_that_was_imported_or_copied_by_hand_is_one_too_and_no_deployment_knows_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "stack_target", lambda *_, **__: pytest.fail("a deployment was looked for"))
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
    there = elsewhere(tmp_path, monkeypatch, status="RUNNING")

    run = opened(tmp_path, may_run=True)

    assert run.is_running
    assert there.num_downloads == 0
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


@pytest.mark.parametrize("is_over", [True, False])
def test_a_run_that_was_seen_to_end_asks_no_deployment_even_about_its_execution(
    is_over: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = {"status": "SUCCEEDED"} if is_over else {}
    write_results(write_entry(tmp_path, stack=make_stack(tmp_path), **noted))
    elsewhere(tmp_path, monkeypatch, status="RUNNING")

    assert recall.find_run(RUN, StackVariables(), root=tmp_path).is_running is not is_over


def test_a_deployment_that_cannot_be_reached_is_an_error_and_a_local_aws_that_is_gone_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: str) -> None:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    write_entry(tmp_path, stack=make_stack(tmp_path))
    there = elsewhere(tmp_path, monkeypatch)
    there.describe_execution = refuse  # type: ignore[method-assign,assignment]

    with pytest.raises(EndpointConnectionError):
        recall.find_run(RUN, StackVariables(), root=tmp_path)
    there.name = "local"
    found = recall.find_run(RUN, StackVariables(), root=tmp_path)
    assert (found.run_id, found.target, found.is_running) == (RUN, None, False)


def test_an_error_that_says_nothing_of_the_execution_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: str) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "DescribeExecution")

    write_entry(tmp_path, stack=make_stack(tmp_path))
    elsewhere(tmp_path, monkeypatch).describe_execution = refuse  # type: ignore[method-assign,assignment]

    with pytest.raises(ClientError):
        recall.find_run(RUN, StackVariables(), root=tmp_path)


@pytest.mark.parametrize(
    ("asked", "run_prefix", "pending_key"),
    [
        ({"bucket": "b", "data_prefix": "d/"}, f"runs/{RUN}/", ""),
        ({"bucket": "b", "data_prefix": "d/", "result_path": "my/run"}, "my/run/", ""),
        ({"bucket": "b", "pending_key": "my/run/pending/1.json"}, "my/run/", "my/run/pending/1.json"),
    ],
)
def test_where_a_run_stores_its_results_is_read_from_what_its_execution_was_asked(
    asked: dict[str, str], run_prefix: str, pending_key: str
) -> None:
    found = recall.FoundRun(RUN, Path(), None, None, {"status": "RUNNING", "input": json.dumps(asked)})

    assert (found.run_prefix, found.pending_key) == (run_prefix, pending_key)
    assert recall.FoundRun(RUN, Path(), None).pending_key == ""


@pytest.mark.parametrize("asked", [[1], {"bucket": 3}, {"bucket": "b", "pending_key": "x"}])
def test_an_execution_that_make_run_did_not_start_is_refused(asked: object) -> None:
    found = recall.FoundRun(RUN, Path(), None, None, {"status": "RUNNING", "input": json.dumps(asked)})

    with pytest.raises(UsageError, match=f"RUN={RUN} was not started by `make run`: "):
        _ = found.run_prefix


@pytest.mark.parametrize(("num_resumptions", "status"), [(0, "FAILED"), (1, "ABORTED"), (2, "SUCCEEDED")])
def test_a_run_that_another_machine_started_ended_as_the_execution_that_went_on_with_it_last(
    num_resumptions: int, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = elsewhere(tmp_path, monkeypatch)
    asked = {"startDate": datetime(2026, 1, 31, tzinfo=UTC), "input": '{"bucket": "b", "data_prefix": "d/"}'}
    arn = f"arn:aws:states:us-east-1:1:execution:s:{RUN}"
    statuses = {arn: "FAILED", f"{arn}-resume-1": "ABORTED", f"{arn}-resume-2": "SUCCEEDED"}
    there.describe_execution = lambda executionArn: asked | {"status": statuses[executionArn]}  # type: ignore[assignment,method-assign]  # noqa: N803
    resumptions = tuple(Resumption(execution_name=f"{RUN}-resume-{number + 1}", num_ranks=1) for number in range(2))
    plan = make_plan(resumptions=resumptions[:num_resumptions])
    (there.folder / "plan.json").write_bytes(contract.encode(plan))

    found = recall.find_run(RUN, StackVariables(), root=tmp_path)

    assert found.description is not None
    assert found.description["status"] == status
    (there.folder / "plan.json").write_text("{")
    with pytest.raises(InvalidRequestError, match=r"plan\.json"):
        recall.find_run(RUN, StackVariables(), root=tmp_path)


def test_executions_that_go_on_with_a_run_are_of_that_run() -> None:
    names = [{"name": name} for name in ("run-b", "run-a-resume-2", "run-a")]
    there: Any = SimpleNamespace(
        states=SimpleNamespace(list_executions=lambda **_: {"executions": names}), state_machine_arn="machine"
    )

    assert recall.runs_there(there) == ["run-a", "run-b"]


@pytest.mark.parametrize(
    ("files", "model"),
    [
        ({}, "astromae"),
        ({"request.json": "{}"}, "astromae"),
        ({"request.json": '{"model": "mine"}'}, "mine"),
        ({"request.json": '{"model": "mine"}', "summary.json": '{"request": {"model": "theirs"}}'}, "theirs"),
        ({"request.json": '{"model": "mine"}', "summary.json": '{"request": {}}'}, "astromae"),
        ({"request.json": '{"model": "mine"}', "summary.json": "{"}, "mine"),
        ({"request.json": "{"}, "astromae"),
        ({IMPORT_KEY: "{}", "request.json": '{"model": "mine"}'}, "a network that the file does not name"),
    ],
)
def test_the_model_of_a_run_is_what_it_used_or_was_asked_to_use(
    files: dict[str, str], model: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)

    assert recall.model_of(tmp_path) == model


def test_the_prices_of_a_run_are_those_of_the_region_it_ran_in(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    there = journal.read(write_entry(tmp_path, "there", stack=msgspec.structs.replace(stack, region="eu-west-1")))
    here = journal.read(write_entry(tmp_path, "here"))

    assert [Run(tmp_path, RUN, entry).region for entry in (there, here, None)] == [
        "eu-west-1",
        "us-east-1",
        "us-east-1",
    ]


def test_the_size_of_the_results_is_of_what_is_in_the_bucket(tmp_path: Path) -> None:
    names = ("manifest.json", "summary.json", "ranks/0.json", "predictions/0.npz", "failures/1.json")
    for number, name in enumerate(("execution.json", "logs/server.log", *names)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 10**number)

    assert Run(tmp_path, RUN).result_bytes() == 1_111_100


@pytest.mark.parametrize("is_there", [True, False])
def test_results_go_where_result_says_also_into_an_empty_folder(is_there: bool, tmp_path: Path) -> None:
    if is_there:
        (tmp_path / "my").mkdir()
        (tmp_path / "runs").mkdir()

    assert make_folder(RUN, "my", tmp_path) == tmp_path / "my"
    assert (tmp_path / "runs" / RUN).resolve() == tmp_path / "my"
    assert make_folder("run-b", "my/b/c", tmp_path).is_dir()
    assert make_folder("run-c", "", tmp_path) == tmp_path / "runs" / "run-c"


def test_a_result_is_a_folder_that_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")

    for name in ("note", "."):
        with pytest.raises(UsageError, match=f"RESULT={name} is there already"):
            make_folder(RUN, name, tmp_path)


def test_a_run_is_found_by_its_model_and_refused_where_it_has_another_one(tmp_path: Path) -> None:
    for name, model, began_s in (("run-a", "mine", 7.0), ("run-b", "other", 9.0)):
        folder = write_entry(tmp_path, name, started_at_s=began_s, status="SUCCEEDED")
        write_results(folder)
        made = make_summary()
        request = msgspec.structs.replace(made.request, model=model)
        (folder / "summary.json").write_bytes(contract.encode(msgspec.structs.replace(made, request=request)))

    assert open_run(" ", StackVariables(), root=tmp_path, model="mine").run_id == "run-a"
    assert open_run("run-b", StackVariables(), root=tmp_path, model="other").run_id == "run-b"
    with pytest.raises(UsageError, match=r"^RUN=run-b was made with other: leave out MODEL=mine\.$"):
        open_run("run-b", StackVariables(), root=tmp_path, model="mine")


# ------------------------------------------------------------------------------------------ without a name


def test_without_a_name_the_run_that_began_last_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, started_at_s in (("run-z", 5.0), (RUN, 9.0), ("run-y", 7.0), ("run-without-a-note", 0.0)):
        write_results(write_entry(tmp_path, name, started_at_s=started_at_s, status="SUCCEEDED"))
    (tmp_path / "runs" / "run-without-a-note" / journal.FILE_NAME).unlink()

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
