"""What is left of a run, judged in its folder, how it goes on, and when it may not."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from msgspec import structs
from rich.console import Console

from inference import contract
from inference.checksum import file_sha256
from inference.contract import CommTask, RankRecord, Resumption
from inference.errors import RunFolderError
from inference.models import shipped
from inference.pipeline import Predictions
from scripts import resume
from scripts.command import program
from scripts.command.errors import CommandError
from scripts.data.location import LocalDataset
from scripts.runs import execution, journal
from scripts.runs.ending import Ending
from scripts.runs.journal import Entry
from scripts.runs.recall import FoundRun, run_of
from scripts.runs.rest import Rest, refuse_other_data, rest_of
from tests.factories import RUN, make_plan, make_predictions, make_record_for, make_request, make_task
from tests.unit.test_doctor import make_stack
from tests.unit.test_run_present import make_summary

DEAD_PID = 2**22 + 1
"""No process has this number."""


def write_run(folder: Path, *, done: tuple[int, ...] = (0, 2), **plan: Any) -> list[RankRecord]:
    """The folder of a run of three ranks, of which some are done and one noted that it failed."""
    comm = CommTask(endpoint="h:1", token="t", meet_by_s=1.0)
    tasks = [make_task(rank=rank, world_size=3, comm=comm) for rank in range(3)]
    for name in ("ranks", "predictions", "failures"):
        (folder / name).mkdir(parents=True)
    (folder / "manifest.json").write_bytes(contract.encode(tasks))
    (folder / "plan.json").write_bytes(contract.encode(make_plan(9, request=make_request(world_size=3), **plan)))
    records = []
    for rank in done:
        predicted: Predictions = make_predictions()
        record = make_record_for(tasks[rank], predicted)
        (folder / f"predictions/{rank:05d}.npz").write_bytes(predicted.to_npz())
        (folder / f"ranks/{rank:05d}.json").write_bytes(contract.encode(record))
        records.append(record)
    (folder / "failures/00001.json").write_text(f'{{"run_id": "{RUN}", "rank": 1, "error": "E", "cause": "c"}}')
    return records


def ranks(tasks: tuple[contract.RankTask, ...]) -> list[int]:
    return [task.rank for task in tasks]


def test_the_ranks_without_a_valid_record_and_its_predictions_are_left(tmp_path: Path) -> None:
    write_run(tmp_path, done=(0, 1, 2))
    (tmp_path / "predictions/00001.npz").write_bytes(b"cut off")
    (tmp_path / "ranks/00002.json").unlink()

    rest = rest_of(RUN, tmp_path)

    assert (ranks(rest.done), ranks(rest.pending)) == ([0], [1, 2])
    # Those that they would talk to have gone.
    assert {task.comm for task in rest.pending} == {None}


def test_a_manifest_that_is_not_what_was_planned_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path)
    manifest = tmp_path / "manifest.json"
    plan = make_plan(9, request=make_request(world_size=3), manifest_sha256=file_sha256(manifest))
    (tmp_path / "plan.json").write_bytes(contract.encode(plan))
    assert ranks(rest_of(RUN, tmp_path).pending) == [1]

    manifest.write_bytes(manifest.read_bytes().replace(b'"batch_size": ', b'"batch_size": 1'))

    with pytest.raises(RunFolderError, match=r"manifest\.json is not what was planned"):
        rest_of(RUN, tmp_path)


def test_a_manifest_whose_keys_lead_elsewhere_is_refused_and_nothing_is_removed(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "r")
    thesis, manifest = tmp_path / "thesis.tex", tmp_path / "runs" / "r" / "manifest.json"
    thesis.touch()
    manifest.write_text(manifest.read_text().replace("failures/00001.json", "../../thesis.tex"))

    with pytest.raises(RunFolderError, match="rank 1 has other keys than follow from its number"):
        rest_of(RUN, tmp_path / "runs" / "r").forget_end()

    assert thesis.exists()


def test_a_new_bucket_is_given_the_plan_and_what_is_done_and_nothing_else(tmp_path: Path) -> None:
    write_run(tmp_path)

    objects = rest_of(RUN, tmp_path).objects()

    names = ["manifest.json", "plan.json"]
    names += [
        f"{folder}/{rank:05d}.{end}" for rank in (0, 2) for folder, end in (("ranks", "json"), ("predictions", "npz"))
    ]
    assert sorted(objects) == sorted(f"runs/{RUN}/{name}" for name in names)
    assert all(path.exists() for path in objects.values())


def test_every_resumption_has_a_number_of_its_own(tmp_path: Path) -> None:
    write_run(tmp_path, resumptions=(Resumption(execution_name="x", num_ranks=1),))
    (tmp_path / "pending").mkdir()

    assert rest_of(RUN, tmp_path).execution_name == f"{RUN}-resume-2"
    # One that was never started left its ranks.
    (tmp_path / "pending/7.json").touch()
    (tmp_path / "pending/note.txt").touch()
    assert rest_of(RUN, tmp_path).pending_key == f"runs/{RUN}/pending/8.json"


def test_a_long_name_stays_within_the_limit_and_leads_back_to_the_run(tmp_path: Path) -> None:
    write_run(tmp_path)
    rest = rest_of(RUN, tmp_path)
    longest = Rest(tmp_path, structs.replace(rest.plan, run_id="r" * 80), rest.done, rest.pending)

    assert (len(longest.execution_name), longest.execution_name[-9:]) == (80, "-resume-1")
    assert run_of(rest.execution_name) == RUN
    assert run_of(RUN) == RUN


def test_how_a_run_ended_is_forgotten_before_it_goes_on(tmp_path: Path) -> None:
    write_run(tmp_path)
    for name in ("summary.json", "combined_data.json"):
        (tmp_path / name).touch()
    rest = Rest(tmp_path, make_plan(), (), tuple(make_task(rank=rank, world_size=3) for rank in (1,)))

    rest.forget_end()

    assert not [path for path in tmp_path.rglob("*") if path.parent.name == "failures" or path.name.endswith("y.json")]
    assert not (tmp_path / "combined_data.json").exists()
    rest.forget_end()  # of what is not there, there is nothing to forget


class FakeBucket:
    """Entity tags of some objects."""

    def __init__(self, tag: str | ClientError | None) -> None:
        self._tag = tag

    def tags(self, keys: Any) -> dict[str, str | None]:
        if isinstance(self._tag, ClientError):
            raise self._tag
        return dict.fromkeys(keys, self._tag)


@pytest.mark.parametrize(("tag", "said"), [("e2", "d/0.safetensors has changed"), (None, "d/0.safetensors is gone")])
def test_another_dataset_is_refused_by_the_name_of_what_differs(tag: str | None, said: str, tmp_path: Path) -> None:
    write_run(tmp_path)

    with pytest.raises(CommandError, match=f"{RUN} cannot go on, .*: {said}"):
        refuse_other_data(rest_of(RUN, tmp_path), FakeBucket(tag))  # type: ignore[arg-type]


@pytest.mark.parametrize(("num", "end"), [(5, r"4 is gone\. Put"), (6, r"4 is gone; and 1 more\. Put")])
def test_five_shards_that_differ_are_named_and_more_are_counted(num: int, end: str, tmp_path: Path) -> None:
    rows = tuple(structs.replace(make_task().rows[0], key=f"d/{number}") for number in range(num))
    rest = Rest(tmp_path, make_plan(), (), (make_task(rows=rows),))

    with pytest.raises(CommandError, match=f"d/0 is gone; .*d/{end}"):
        refuse_other_data(rest, FakeBucket(None))  # type: ignore[arg-type]


def test_a_refusal_that_is_no_lack_of_permission_is_told(tmp_path: Path) -> None:
    write_run(tmp_path)
    gone = ClientError({"Error": {"Code": "NoSuchBucket"}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "HeadObject")

    with pytest.raises(ClientError):
        refuse_other_data(rest_of(RUN, tmp_path), FakeBucket(gone))  # type: ignore[arg-type]


def test_the_same_dataset_may_be_gone_on_with_and_one_that_cannot_be_seen_is_left_to_the_ranks(tmp_path: Path) -> None:
    write_run(tmp_path)
    denied = ClientError({"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "HeadObject")

    for tag in ('"e"', "e", denied):
        refuse_other_data(rest_of(RUN, tmp_path), FakeBucket(tag))  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------- the command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a local run whose terminal is gone."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / RUN
    folder.mkdir(parents=True)
    entry = Entry(
        run_id=RUN,
        target="local",
        execution_arn="arn",
        bucket="b",
        run_prefix=f"runs/{RUN}/",
        started_at_s=1.0,
        pid=DEAD_PID,
    )
    journal.write(folder, entry)
    return folder


def said_by(capsys: pytest.CaptureFixture[str]) -> str:
    assert program.exit_status(resume.main, {"RUN": RUN}) == 1
    return capsys.readouterr().err


def test_a_run_that_was_never_planned_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{RUN} left no plan.json: " in said_by(capsys)
    (folder / "plan.json").write_text("[]")
    assert "plan.json is not a RunPlan" in said_by(capsys)


def test_a_folder_without_a_note_of_where_it_ran_is_not_gone_on_with(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "execution.json").unlink()
    (folder / "request.json").touch()

    assert program.exit_status(resume.main, {"RUN": RUN}) == 2
    assert f"RUN={RUN}: nothing here says where it ran" in capsys.readouterr().err


class FakeTarget:
    """A local AWS, or an account: what is asked of it is written down."""

    states, state_machine_arn = "states", "machine"
    name = "b"
    """Of its bucket."""

    def __init__(self, *, max_concurrency: int | None = None) -> None:
        self.max_concurrency = max_concurrency
        self.bucket = self
        self.asked: list[tuple[Any, ...]] = []
        self.entry = {"endpoint_url": "http://127.0.0.1:9"}

    def within_account(self) -> "FakeTarget":
        return self

    def download(self, prefix: str, folder: Path) -> int:
        self.asked.append(("download", prefix, folder))
        return 7

    def upload(self, objects: dict[str, Path]) -> None:
        self.asked.append(("upload", sorted(objects)))

    def write(self, key: str, content: bytes) -> None:
        self.asked.append(("write", key, [task["rank"] for task in json.loads(content)]))

    def keep(self, prefix: str, folder: Path) -> None:
        self.asked.append(("keep", prefix, folder))

    def bill(self, summary: Any) -> str:
        return f"bill of {summary.num_samples}"

    def bucket_named(self, name: str) -> str:
        return f"the bucket {name}"

    def why(self, error: Exception) -> str:
        return f"the account says {error}"


@pytest.fixture
def going_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what becomes of a resumption whose execution ends as `outcome` says."""
    seen: dict[str, Any] = {"outcome": Ending("SUCCEEDED"), "target": FakeTarget()}

    def see_through(target: Any, entry: Entry, into: Path, _: Console) -> Ending:
        seen.update(entry=entry, into=into)
        if isinstance(seen["outcome"], BaseException):
            raise seen["outcome"]
        return seen["outcome"]

    @contextmanager
    def start_local(logs: Path, model: Path) -> Iterator[FakeTarget]:
        assert logs.is_dir()
        seen["local"] = (logs, model)
        yield seen["target"]

    def find(prefix: str, *, asked: str, root: Path) -> LocalDataset:
        seen["dataset"] = (prefix, asked)
        return LocalDataset(Path("found"), prefix)

    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(resume, "find_dataset", find)
    monkeypatch.setattr(LocalDataset, "refuse_unfinished", lambda self, limit: seen.update(checked=self.folder))
    monkeypatch.setattr(resume, "start_local", start_local)
    monkeypatch.setattr(resume, "connect_aws", lambda stack: seen["target"])
    monkeypatch.setattr(resume, "upload", lambda target, dataset, limit, console: seen.update(uploaded=dataset.folder))
    monkeypatch.setattr(resume, "refuse_other_data", lambda rest, data: seen.update(data=data))
    monkeypatch.setattr(execution, "start", lambda *given: seen.update(started=given) or "the second")
    monkeypatch.setattr(resume, "see_through", see_through)
    monkeypatch.setattr(resume, "print_result", lambda _, *shown, bill: seen.update(shown=shown, bill=bill))
    return seen


@pytest.mark.parametrize("is_known", [True, False])
def test_what_is_left_is_done_by_a_local_aws_that_is_given_what_is_done(
    is_known: bool, folder: Path, going_on: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    records = write_run(folder)
    if is_known:
        (folder.parent.parent / "galaxies").mkdir()
        noted = journal.read(folder)
        assert noted
        journal.write(folder, structs.replace(noted, dataset="galaxies"))
    prefix, here = f"runs/{RUN}/", Path("runs") / RUN
    (folder / "summary.json").write_bytes(contract.encode(make_summary(complete=False, num_samples_planned=9)))

    assert program.exit_status(resume.main, {"RUN": RUN}) == 0

    assert capsys.readouterr().err == "resume     1 of 3 ranks are left\n"
    dataset = Path("galaxies" if is_known else "found")
    assert (going_on["checked"], going_on["uploaded"]) == (dataset, dataset)
    assert ("dataset" in going_on) is not is_known
    assert going_on["local"] == (here / "logs", shipped().folder)
    target = going_on["target"]
    assert going_on["data"] is target
    done = [f"{record.rank:05d}" for record in records]
    kept = [*(f"predictions/{rank}.npz" for rank in done), *(f"ranks/{rank}.json" for rank in done)]
    assert target.asked == [
        ("upload", sorted(prefix + name for name in ("manifest.json", "plan.json", *kept))),
        ("keep", prefix, here),
        ("write", f"{prefix}pending/1.json", [1]),
    ]
    states, machine, name, asked = going_on["started"]
    assert (states, machine, name) == ("states", "machine", f"{RUN}-resume-1")
    assert (asked["pending_key"], asked.get("max_concurrency")) == (f"{prefix}pending/1.json", None)
    entry = going_on["entry"]
    assert (entry.execution_arn, entry.pending_key, entry.pid) == ("the second", f"{prefix}pending/1.json", os.getpid())
    assert (entry.status, entry.error, entry.message) == ("RUNNING", "", "")
    assert entry.endpoint_url == "http://127.0.0.1:9"
    assert entry.resumed_at_s > entry.started_at_s
    assert going_on["into"] == here
    assert not (folder / "summary.json").exists()
    assert (going_on["shown"], going_on["bill"]) == ((RUN, None, Ending("SUCCEEDED"), here), None)


def test_a_run_of_a_stack_is_fetched_and_goes_on_there(
    folder: Path, going_on: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(folder)
    noted = journal.read(folder)
    assert noted
    journal.write(folder, structs.replace(noted, target="aws", stack=make_stack(), pid=0, status="FAILED", error="E"))
    going_on["target"] = target = FakeTarget(max_concurrency=5)
    found = FoundRun(run_id=RUN, folder=Path("runs") / RUN, entry=journal.read(folder))
    going_on["outcome"] = Ending("FAILED", "PlanError", "too many")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "find_run", lambda *_, **__: found)
        patch.setattr(resume, "read_summary", lambda _: SimpleNamespace(complete=False, num_samples=9))

        assert program.exit_status(resume.main, {"RUN": RUN}) == 1

    fetched, left = capsys.readouterr().err.splitlines()
    assert fetched.startswith(f"download   7 files to runs/{RUN} (")
    assert left == "resume     1 of 3 ranks are left"
    assert target.asked[0] == ("download", f"runs/{RUN}/", Path("runs") / RUN)
    assert going_on["started"][3]["max_concurrency"] == 5
    assert (going_on["entry"].status, going_on["entry"].error) == ("RUNNING", "")
    assert going_on["bill"] == "bill of 9"
    assert "local" not in going_on


@pytest.mark.parametrize(
    ("data_bucket", "is_stack", "data"),
    [("others", True, "the bucket others"), ("b", True, "own"), (None, True, "own"), ("others", False, "own")],
)
def test_data_are_looked_for_in_the_bucket_that_a_stack_reads_them_from(
    data_bucket: str | None, is_stack: bool, data: str, folder: Path, going_on: dict[str, Any]
) -> None:
    write_run(folder)
    plan = json.loads((folder / "plan.json").read_bytes())
    plan["request"]["data_bucket"] = data_bucket
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "AwsTarget", FakeTarget if is_stack else type(None))

        assert program.exit_status(resume.main, {"RUN": RUN}) == 0

    target = going_on["target"]
    assert going_on["data"] == (target if data == "own" else data)


def test_a_run_that_is_complete_is_left_as_it_is(
    folder: Path, going_on: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(folder, done=(0, 1, 2))
    (folder / "summary.json").write_bytes(contract.encode(make_summary(num_samples_planned=9)))

    assert program.exit_status(resume.main, {"RUN": RUN}) == 0

    assert capsys.readouterr().out == f"{RUN} is complete: nothing is left to do.\n"
    assert "started" not in going_on


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        (ConnectionError("it is gone."), 1, f"The run stopped: it is gone. Its files are in runs/{RUN}/."),
        (RunFolderError("it is torn."), 1, f"The run stopped: it is torn. Its files are in runs/{RUN}/."),
        (ClientError({"Error": {"Code": "500"}}, "Start"), 1, "The run stopped: An error occurred (500) when"),
        (KeyboardInterrupt(), 130, f"Interrupted. Its files are in runs/{RUN}/:"),
    ],
    ids=["connection", "folder", "AWS", "Ctrl-C"],
)
def test_a_resumption_that_stops_says_where_its_files_are(
    outcome: BaseException,
    status: int,
    said: str,
    folder: Path,
    going_on: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_run(folder)
    going_on["outcome"] = outcome

    assert program.exit_status(resume.main, {"RUN": RUN}) == status

    lines = capsys.readouterr().err.splitlines()
    assert lines[1].startswith(said)
    assert (lines[-1] == "The same command goes on with it.") is (status == 130)
    assert ("manifest.json" in "".join(lines)) is (status == 130)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("RUNNING", f"{RUN} still runs; `make stop RUN={RUN}` ends it."),
        ("FAILED", f"{RUN} has ended and its terminal is about to: try again when it has."),
    ],
)
def test_a_run_goes_on_when_it_has_ended_and_its_terminal_too(
    state: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    target: Any = FakeTarget()
    found = FoundRun(RUN, folder, journal.read(folder), target, {"status": state})
    monkeypatch.setattr(resume, "find_run", lambda *_, **__: found)

    assert program.exit_status(resume.main, {"RUN": RUN}) == 1
    assert capsys.readouterr().err == f"{said}\n"


def test_a_run_of_another_machine_is_known_by_its_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    target: Any = FakeTarget()
    found = FoundRun(RUN, Path("runs") / RUN, None, target, {"status": "FAILED"})
    monkeypatch.setattr(resume, "entry_of", lambda *asked: asked)

    assert resume._entry(found) == (found, target)
