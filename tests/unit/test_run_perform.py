"""What a run does with the target it is in: the data goes up, the execution is followed, the results come home."""

import io
import json
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from rich.console import Console

from scripts.command.errors import CommandError, SourceError, UsageError
from scripts.command.variables import read_variables
from scripts.data.location import LocalDataset, RemoteDataset
from scripts.runs import journal, perform
from scripts.runs.bucket import Upload
from scripts.runs.ending import Ending
from scripts.runs.observe import Progress
from scripts.runs.request import draft_request
from scripts.runs.variables import RunVariables

REFUSED = ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject")


class FakeTarget:
    """A deployment whose one run ends at once, unless a step of it is to fail."""

    state_machine_arn = "machine"
    entry: dict[str, Any] = {"endpoint_url": "http://127.0.0.1:1"}  # noqa: RUF012 -- never changed
    max_concurrency: int | None = None

    def __init__(self, name: str = "aws", *, fails_at: str = "", error: BaseException = REFUSED) -> None:
        self.name, self.fails_at, self.error = name, fails_at, error
        self.bucket: Any = self
        self.states: Any = self
        self.done: list[tuple[Any, ...]] = []
        self.shown: list[Progress] = []

    def _note(self, step: str, *facts: Any) -> None:
        self.done.append((step, *facts))
        if step == self.fails_at:
            raise self.error

    def upload_missing(self, files: dict[Path, str], prefix: str, *, begin: Callable[[int], None], tick: Any) -> Upload:
        begin(2_000_000)
        tick(500_000)
        self._note("upload", [path.name for path in files], prefix)
        return Upload(num_files=len(files) - 1, num_bytes=2_000_000, num_present=1)

    def keep(self, run_prefix: str, folder: Path) -> None:
        self._note("keep", run_prefix, folder)

    def start_execution(self, **asked: str) -> dict[str, str]:
        self._note("start", asked["stateMachineArn"], asked["name"])
        return {"executionArn": "arn"}

    def watch(self, entry: journal.Entry) -> "FakeTarget":
        self._note("watch", entry.execution_arn)
        return self

    def describe_execution(self, **_: str) -> dict[str, str]:
        return {"status": "FAILED", "error": "PlanError", "cause": "too many"}

    def look(self) -> Progress:
        self._note("look")
        return Progress(1.0)

    def stop_execution(self, **asked: str) -> None:
        self._note("stop", asked["executionArn"])

    def download(self, prefix: str, folder: Path) -> int:
        (folder / "ranks").mkdir()
        (folder / "summary.json").write_text("{}")
        self._note("download", prefix, folder)
        return 7

    def why(self, error: Exception) -> str:
        return "AWS refused."


def make_dataset(root: Path) -> LocalDataset:
    folder = root / "datasets" / "tiny" / "1MB"
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"{number}.safetensors").write_bytes(b"rows")
    return LocalDataset(folder, "datasets/tiny/1MB/")


def run_in(target: FakeTarget, root: Path, console: Console | None = None, dataset: Any = None, **asked: str) -> Ending:
    folder = root / "runs" / "run-a"
    folder.mkdir(parents=True)
    draft = draft_request(read_variables(RunVariables, {name.upper(): value for name, value in asked.items()}))
    there: Any = target
    console, data = console or Console(quiet=True), dataset or make_dataset(root)
    line: Any = SimpleNamespace(show=lambda progress: target.shown.append(progress))
    return perform.run_in(there, "run-a", draft, data, folder, console, line=lambda _: nullcontext(line))


def test_the_data_goes_up_the_execution_is_followed_and_the_results_come_home(tmp_path: Path) -> None:
    target, console = FakeTarget(), Console(file=io.StringIO(), width=200)
    folder = tmp_path / "runs" / "run-a"
    before_s = time.time()

    ending = run_in(target, tmp_path, console, files="1")

    assert ending == Ending("FAILED", "PlanError", "too many")
    assert target.done == [
        ("upload", ["0.safetensors"], "datasets/tiny/1MB/"),
        ("keep", "runs/run-a/", folder),
        ("start", "machine", "run-a"),
        ("watch", "arn"),
        ("look",),
        ("download", "runs/run-a/", folder),
    ]
    assert target.shown == [Progress(1.0)]
    asked = (folder / "request.json").read_text()
    assert asked.count("\n") == 5
    assert json.loads(asked) == {
        "bucket": "aws",
        "data_prefix": "datasets/tiny/1MB/",
        "file_limit": 1,
    }
    entry = journal.read(folder)
    assert entry is not None
    assert (entry.run_id, entry.target, entry.execution_arn, entry.bucket) == ("run-a", "aws", "arn", "aws")
    assert (entry.run_prefix, entry.pid) == ("runs/run-a/", os.getpid())
    assert entry.dataset == str(tmp_path / "datasets" / "tiny" / "1MB")
    assert entry.endpoint_url == "http://127.0.0.1:1"
    assert (entry.status, entry.error, entry.message) == ("FAILED", "PlanError", "too many")
    assert before_s <= entry.started_at_s <= time.time()
    said = [line.rpartition(" (")[0] for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert said == [
        f"upload     0 files of {tmp_path}/datasets/tiny/1MB, 2,000 kB, 1 already there",
        "run        run-a",
        f"download   7 files to {folder}",
    ]


def test_a_dataset_in_s3_is_not_sent_and_no_folder_is_noted(tmp_path: Path) -> None:
    target = FakeTarget()

    run_in(target, tmp_path, dataset=RemoteDataset("survey", "d/"))

    assert "upload" not in [step for step, *_ in target.done]
    entry = journal.read(tmp_path / "runs" / "run-a")
    assert entry is not None
    assert entry.dataset == ""


def test_on_a_terminal_a_bar_says_how_much_was_sent(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    target: Any = FakeTarget()

    perform.upload(target, make_dataset(tmp_path), None, console)

    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0.5/2.0 MB" in shown
    assert "\x1b[2K" in shown.partition("0.5/2.0 MB")[2]


@pytest.mark.parametrize(("name", "said"), [("aws", "The run is stopped. Invocations under way end"), ("local", "")])
def test_an_interrupted_run_is_stopped_and_what_it_computed_comes_home(name: str, said: str, tmp_path: Path) -> None:
    target = FakeTarget(name, fails_at="look", error=KeyboardInterrupt())
    console = Console(file=io.StringIO(), width=200)

    with pytest.raises(KeyboardInterrupt):
        run_in(target, tmp_path, console)

    assert [step for step, *_ in target.done[-2:]] == ["stop", "download"]
    assert target.done[-2] == ("stop", "arn")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert said in shown
    assert ("stopped" in shown) == bool(said)
    entry = journal.read(tmp_path / "runs" / "run-a")
    assert entry is not None
    assert not entry.is_over


@pytest.mark.parametrize(
    ("name", "fails_at", "may_run", "is_left"),
    [
        ("aws", "upload", False, False),
        ("aws", "start", False, True),
        ("aws", "look", True, True),
        ("local", "look", False, True),
    ],
)
def test_a_target_that_refuses_is_told_with_what_is_left(
    name: str, fails_at: str, may_run: bool, is_left: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "run-a"
    where = (
        " The run may still be running: `make status RUN=run-a` shows it, `make stop RUN=run-a` ends it."
        if may_run
        else ""
    )

    with pytest.raises(CommandError) as caught:
        run_in(FakeTarget(name, fails_at=fails_at), tmp_path)

    assert str(caught.value) == f"AWS refused.{where}" + (f" Its files are in {folder}/." if is_left else "")
    assert folder.exists() == is_left


def test_the_sample_is_made_where_it_is_missing_and_says_why_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise SourceError("no network")

    monkeypatch.setattr(perform, "is_sample", lambda name: name == "sample")
    monkeypatch.setattr(perform, "find_dataset", lambda name, asked, root: make_dataset(root))
    monkeypatch.setattr(perform, "ensure_sample", fail)
    with pytest.raises(CommandError, match="the sample dataset cannot be made: no network"):
        perform.find_data("sample", asked="the default dataset", root=tmp_path)
    assert perform.find_data("tiny", asked="DATASET=tiny", root=tmp_path).prefix == "datasets/tiny/1MB/"


def test_a_dataset_of_a_bucket_is_looked_for_where_there_is_a_deployment(tmp_path: Path) -> None:
    found = perform.find_data("s3://survey/dr17", asked="DATASET", root=tmp_path, buckets=("results", "survey"))

    assert found == RemoteDataset("survey", "dr17/")
    with pytest.raises(UsageError, match="DATASET=s3://other/dr17"):
        perform.find_data("s3://other/dr17", asked="DATASET=s3://other/dr17", root=tmp_path, buckets=("results",))
