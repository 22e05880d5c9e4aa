"""What `make smoke` asks of an account, by fakes that answer one way or the other."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from botocore.exceptions import ClientError
from rich.console import Console
from safetensors import SafetensorError
from safetensors.numpy import load

from inference import contract
from inference.contract import LostRank, RankTask
from inference.contract.run import NO_DEADLINE_S
from inference.errors import ShardFormatError
from scripts.command.errors import CommandError
from scripts.deployment.terraform import DeployError, Terraform
from scripts.runs import first_account, journal
from scripts.runs.ending import Ending
from scripts.runs.first_account import Trial
from scripts.runs.journal import Entry
from tests.factories import make_task
from tests.unit.test_run_present import make_summary

QUESTIONS = ("_second_plan", "_ranks_start", "_map_output", "_out_of_memory", "_snap_start")


class Planned(Terraform):
    """Terraform that would change something, or nothing."""

    def __init__(self, changes: str = "") -> None:
        self.changes = changes

    def read(self, *arguments: str, expression: str | None = None) -> str:
        assert arguments[0] == "plan"
        if self.changes and "-detailed-exitcode" in arguments:
            raise DeployError("exit status 2")
        return self.changes


def make_trial(root: Path, *, terraform: Terraform | None = None, **aws: Any) -> Trial:
    known = {
        "state_machine_arn": "arn:aws:states:us-east-1:1:stateMachine:x",
        "stack": SimpleNamespace(function_names={"infer": "x-infer"}),
    }
    where: Any = SimpleNamespace(**known | aws)
    return Trial(terraform or Planned(), where, root, Console(file=io.StringIO(), width=100))


def note_run(trial: Trial) -> Entry:
    """Leave what a run leaves in its folder: where it is, and what it was planned to do."""
    (trial.folder / "failures").mkdir(parents=True)
    run_prefix = make_task().run_prefix
    entry = Entry(
        run_id="smoke", target="aws", execution_arn="arn", bucket="b", run_prefix=run_prefix, started_at_s=5.0
    )
    journal.write(trial.folder, msgspec.structs.replace(entry, status="SUCCEEDED"))
    tasks = [make_task(rank=rank, world_size=3) for rank in range(3)]
    (trial.folder / "manifest.json").write_bytes(contract.encode(tasks))
    return entry


@pytest.mark.parametrize("snap_start", [True, False])
def test_everything_is_asked_in_order_and_snap_start_where_it_is_wanted(
    snap_start: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in QUESTIONS:
        monkeypatch.setattr(first_account, name, lambda _, seen=name: (seen, True, ("arn",)))
    trial = make_trial(tmp_path)

    answers = list(first_account.settle(trial, snap_start=snap_start))

    assert [one.seen for one in answers] == list(QUESTIONS if snap_start else QUESTIONS[:-1])
    assert all(one.is_expected and one.evidence == ("arn",) for one in answers)
    assert [one.expected for one in answers[:3]] == [
        "no changes",
        "2 child executions succeed, 1 fails",
        "2 records, rank 0 lost, manifest.json under map/",
    ]
    asked = trial.console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert asked == [f"ask        {one.question}" for one in answers]


@pytest.mark.parametrize(
    ("error", "seen", "evidence"),
    [
        (OSError("no disk"), "no disk", ()),
        (CommandError("no run"), "no run", ()),
        (ShardFormatError("cut"), "cut", ()),
        (
            ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject"),
            "lack a permission: GetObject",
            ("AccessDenied",),
        ),
    ],
    ids=["disk", "command", "run", "AWS"],
)
def test_what_goes_wrong_is_an_answer_that_was_not_expected(
    error: Exception, seen: str, evidence: tuple[str, ...], tmp_path: Path
) -> None:
    def look(_: Trial) -> Any:
        raise error

    found = first_account._ask(make_trial(tmp_path), "Q?", "yes", look)

    assert (found.question, found.expected, found.is_expected) == ("Q?", "yes", False)
    assert seen in found.seen
    assert [part in said for part, said in zip(evidence, found.evidence, strict=True)] == [True] * len(evidence)


def test_a_second_plan_that_changes_something_names_it(tmp_path: Path) -> None:
    changes = "Terraform will\n  # aws_s3_bucket.this will be updated\n  + tags\n\n# aws_iam_role.x is new\n"

    assert first_account._second_plan(make_trial(tmp_path)) == ("no changes", True, ())
    assert first_account._second_plan(make_trial(tmp_path, terraform=Planned(changes))) == (
        "2 changes",
        False,
        ("# aws_s3_bucket.this will be updated", "# aws_iam_role.x is new"),
    )


@pytest.mark.parametrize(("succeeded", "failed", "is_expected"), [(2, 1, True), (0, 3, False), (3, 0, False)])
def test_ranks_that_all_fail_were_perhaps_not_let_in(
    succeeded: int, failed: int, is_expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counts = {"succeeded": succeeded, "failed": failed}
    execution_arn = "arn:aws:states:us-east-1:1:execution:x:smoke"
    map_runs = {execution_arn: {"mapRuns": [{"mapRunArn": "arn"}]}}
    states = SimpleNamespace(
        list_map_runs=lambda executionArn: map_runs[executionArn],  # noqa: N803 -- boto3's name
        describe_map_run=lambda mapRunArn: {"arn": {"itemCounts": counts}}[mapRunArn],  # noqa: N803
    )

    def run_in(aws: Any, run_id: str, draft: Any, dataset: Any, folder: Path, console: Console) -> Ending:
        assert run_id == "smoke"
        assert (draft.request.world_size, draft.request.tolerated_failure_percentage) == (3, 100)
        assert draft.dataset == "smoke"
        assert dataset.prefix == "datasets/smoke/"
        assert len(list(dataset.shards(None))) == 3
        assert folder == tmp_path / "runs" / "smoke"
        assert folder.is_dir()
        return Ending("FAILED", "", "1 of 3")

    monkeypatch.setattr(first_account, "run_in", run_in)

    seen, found, evidence = first_account._ranks_start(make_trial(tmp_path, states=states))

    assert (found, evidence) == (is_expected, ("arn", json.dumps(counts), "FAILED 1 of 3"))
    assert seen == f"{succeeded} child executions succeed, {failed} fails"


def test_an_execution_that_ended_before_its_ranks_has_no_map_run(tmp_path: Path) -> None:
    states = SimpleNamespace(list_map_runs=lambda **_: {"mapRuns": []})

    with pytest.raises(CommandError, match="no Map Run"):
        first_account._map_run(make_trial(tmp_path, states=states), "arn")


@pytest.mark.parametrize(
    ("num_records", "lost", "keys", "seen"),
    [
        (2, [0], ["7f/manifest.json", "7f/FAILED_0.json"], ""),
        (2, [1], ["7f/manifest.json"], "2 records, rank 1 lost, manifest.json under map/"),
        (1, [0], ["7f/manifest.json"], "1 records, rank 0 lost, manifest.json under map/"),
        (1, [0, 2], ["7f/manifest.json"], "1 records, rank 0, 2 lost, manifest.json under map/"),
        (2, [0], [], "2 records, rank 0 lost, nothing under map/"),
        (3, [], ["7f/manifest.json"], "3 records, rank none lost, manifest.json under map/"),
    ],
)
def test_a_run_with_a_lost_rank_is_as_expected_in_every_point_or_not_at_all(
    num_records: int, lost: list[int], keys: list[str], seen: str, tmp_path: Path
) -> None:
    trial = make_trial(tmp_path)
    prefix = f"{note_run(trial).run_prefix}map/"
    trial.aws.bucket = SimpleNamespace(  # type: ignore[misc]
        list_keys=lambda asked: [prefix + key for key in keys] if asked == prefix else []
    )
    lost_ranks = tuple(LostRank(rank=rank, error="ShardFormatError", message="cut", shards=()) for rank in lost)
    summary = make_summary(num_records=num_records, lost_ranks=lost_ranks)
    (trial.folder / "summary.json").write_bytes(contract.encode(summary))

    assert first_account._map_output(trial) == (
        seen or "2 records, rank 0 lost, FAILED_0.json manifest.json under map/",
        not seen,
        ("ShardFormatError: cut",) * len(lost),
    )


@pytest.mark.parametrize(
    ("look", "said"),
    [(first_account._map_output, "no summary.json"), (first_account._out_of_memory, "execution did not start")],
)
def test_what_a_run_did_not_leave_is_said(look: Callable[[Trial], Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=said):
        look(make_trial(tmp_path))


@pytest.mark.parametrize(
    ("error", "is_expected"),
    [("Runtime.OutOfMemory", True), ("Lambda.Unknown", True), ("PlanError", False), ("", False)],
)
def test_the_lost_rank_is_resumed_with_too_little_memory_and_says_what_it_ended_of(
    error: str, is_expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[str, bytes] = {}
    started: list[dict[str, str]] = []
    made: list[tuple[str, str, list[int]]] = []
    trial = make_trial(
        tmp_path,
        bucket=SimpleNamespace(name="b", write=written.__setitem__),
        states=SimpleNamespace(start_execution=lambda **asked: started.append(asked) or {"executionArn": "arn-2"}),
        account=SimpleNamespace(client=lambda name: name),
    )
    entry = note_run(trial)
    failure = trial.folder / "failures" / "00000.json"
    failure.write_text("that of the first time")
    pending_key = f"{entry.run_prefix}pending/1.json"

    def see_through(aws: Any, noted: Entry, folder: Path, console: Console) -> None:
        assert noted == msgspec.structs.replace(entry, execution_arn="arn-2", pending_key=pending_key)
        assert not failure.exists()
        if error:
            (folder / "failures" / "00000.json").write_text(json.dumps({"error": error, "cause": "killed"}))

    monkeypatch.setattr(first_account, "see_through", see_through)
    monkeypatch.setattr(
        first_account,
        "MemoryVariants",
        lambda functions, name: SimpleNamespace(make=lambda sizes: made.append((functions, name, sizes))),
    )

    seen, found, evidence = first_account._out_of_memory(trial)

    assert (seen, found) == (error or "the rank did not fail", is_expected)
    assert evidence == (("arn-2", "killed") if error else ("arn-2",))
    assert made == [("lambda", "x-infer", [128])]
    (task,) = msgspec.json.decode(written[pending_key], type=list[RankTask])
    assert (task.rank, task.qualifier, task.engine, task.deadline_s) == (0, "memory-128", "torch", NO_DEADLINE_S)
    assert [(one["stateMachineArn"], one["name"]) for one in started] == [(trial.aws.state_machine_arn, "smoke-memory")]
    assert json.loads(started[0]["input"])["pending_key"] == pending_key


@pytest.mark.parametrize(
    ("found", "seen"),
    [
        ({"State": "Active", "SnapStart": {"OptimizationStatus": "On"}}, "Active, SnapStart On"),
        (
            {"State": "Failed", "StateReason": "no room", "SnapStart": {"OptimizationStatus": "On"}},
            "Failed, SnapStart On",
        ),
        ({"State": "Active"}, "Active, SnapStart Off"),
    ],
)
def test_a_version_with_a_snapshot_is_published_and_waited_for(
    found: dict[str, Any], seen: str, tmp_path: Path
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Functions:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            return lambda **asked: calls.append((name, asked)) or {"Version": "7", "FunctionArn": "arn:7"} | found

        def get_waiter(self, name: str) -> Any:
            return SimpleNamespace(wait=lambda **asked: calls.append((name, asked)))

    trial = make_trial(tmp_path, account=SimpleNamespace(client=lambda name: {"lambda": Functions()}[name]))

    assert first_account._snap_start(trial) == (
        seen,
        seen == "Active, SnapStart On",
        ("arn:7", found.get("StateReason", "")),
    )
    of_all, of_version = {"FunctionName": "x-infer"}, {"FunctionName": "x-infer", "Qualifier": "7"}
    patience = calls[3][1].pop("WaiterConfig")
    assert patience["Delay"] * patience["MaxAttempts"] == first_account.SNAPSHOT_WAIT_S
    assert calls == [
        ("update_function_configuration", of_all | {"SnapStart": {"ApplyOn": "PublishedVersions"}}),
        ("function_updated_v2", of_all),
        ("publish_version", of_all),
        ("published_version_active", of_version),
        ("get_function_configuration", of_version),
    ]


def test_the_shards_are_whole_but_for_the_first(tmp_path: Path) -> None:
    folder = first_account.write_shards(tmp_path / "datasets" / "smoke")
    first_account.write_shards(folder)

    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    assert list(sizes) == ["0.safetensors", "1.safetensors", "2.safetensors"]
    second, third = (load((folder / name).read_bytes()) for name in list(sizes)[1:])
    num_rows = len(second["redshifts"])
    assert second["images"].shape == (num_rows, 5, 32, 32)
    assert second["images"].dtype == np.float32
    assert second["magnitudes"].shape == (num_rows, 5)
    assert (second["redshifts"] > 0).all()
    assert second["object_id"].tolist() == list(range(num_rows, 2 * num_rows))
    assert third["object_id"].tolist() == list(range(2 * num_rows, 3 * num_rows))
    with pytest.raises(SafetensorError):
        load((folder / "0.safetensors").read_bytes())
