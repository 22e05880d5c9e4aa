import io
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from inference.models import shipped
from scripts import run
from scripts.command.program import exit_status
from scripts.data.location import RemoteDataset
from scripts.local_aws.server import LocalAwsError
from scripts.runs.ending import Ending
from scripts.runs.target import LocalTarget
from tests.factories import make_shard_bytes


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with one dataset, ``tiny``."""
    folder = tmp_path / "datasets" / "tiny" / "1MB"
    folder.mkdir(parents=True)
    (folder / "0.safetensors").write_bytes(make_shard_bytes(3))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status_of(monkeypatch: pytest.MonkeyPatch, outcome: Ending | BaseException, **options: str) -> int:
    """Return the exit status when the run itself ends with `outcome`."""

    def run_in(*_: Any) -> Ending:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(
        run, "start_local", lambda *_, **__: nullcontext(LocalTarget("http://127.0.0.1:1", "key", None, None))
    )
    monkeypatch.setattr(run, "run_in", run_in)
    return exit_status(run.main, {"DATASET": "tiny", **{name.upper(): value for name, value in options.items()}})


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Ending("SUCCEEDED"), 0),
        (Ending("FAILED", "PlanError", "too many ranks"), 1),
        (Ending("TIMED_OUT"), 1),
        (LocalAwsError("no port"), 1),
        (ConnectionError("the server is gone"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=["succeeded", "failed", "timed out", "no local AWS", "lost local AWS", "interrupted"],
)
@pytest.mark.usefixtures("here")
def test_the_exit_status_says_how_the_run_ended(
    outcome: Ending | BaseException, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status_of(monkeypatch, outcome) == status


@pytest.mark.parametrize(
    "options",
    [
        {"world": "0"},
        {"world": "abc"},
        {"batch": "-1"},
        {"payload": "missing.json"},
        {"dataset": "missing"},
        {"target": "aws"},
    ],
    ids=str,
)
def test_wrong_usage_is_told_in_one_line_and_starts_nothing(
    options: dict[str, str], here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ((name, value),) = options.items()

    status = status_of(monkeypatch, AssertionError("nothing may start"), **options)

    lines = capsys.readouterr().err.splitlines()
    assert status == 2
    assert f"{name.upper()}={value}" in lines[-1]
    assert not (here / "runs").exists()


@pytest.mark.usefixtures("here")
def test_the_first_line_says_where_the_run_goes_and_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status_of(monkeypatch, Ending("SUCCEEDED"))

    first = capsys.readouterr().err.splitlines()[0]
    assert first.split(maxsplit=1) == ["target", "local: nothing is deployed from this working copy"]


@pytest.mark.usefixtures("here")
def test_an_interrupted_run_says_where_its_files_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status_of(monkeypatch, KeyboardInterrupt())

    assert "Its files are in runs/run-" in capsys.readouterr().err


def test_a_step_says_how_long_it_took() -> None:
    console = Console(file=io.StringIO())

    with run.step(console, "upload") as facts:
        facts.append("3 files")

    assert console.file.getvalue() == "upload     3 files (0.0 s)\n"


def run_of(folder: Path) -> str:
    (run_folder,) = (folder / "runs").iterdir()
    return run_folder.name


@pytest.mark.parametrize(("is_ahead", "planned"), [(True, True), (False, False)])
def test_a_run_here_is_told_step_by_step(
    is_ahead: bool, planned: bool, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_in(there: Any, run_id: str, draft: Any, dataset: Any, folder: Path, console: Console) -> Ending:
        assert (folder / "logs").is_dir()
        assert run_id == folder.name == run_of(here)
        if planned:
            (folder / "plan.json").touch()
            raise KeyboardInterrupt
        return Ending("SUCCEEDED")

    ahead = {"forecast": "1"} if is_ahead else {}
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(run, "run_in", run_in)
    monkeypatch.setattr(run, "keep", lambda found, folder: found)
    monkeypatch.setattr(run, "look_ahead", lambda *_, **__: "ahead")
    monkeypatch.setattr(run, "in_words", lambda found: f"{found}: 9 s")

    def start_local(logs: Path, model: Path, *, num_talking: int) -> Any:
        assert (logs.name, model, num_talking) == ("logs", shipped().folder, 0)
        return nullcontext(LocalTarget("http://127.0.0.1:1", "key", None, None))

    monkeypatch.setattr(run, "start_local", start_local)

    status = exit_status(run.main, {"DATASET": "tiny", **{name.upper(): value for name, value in ahead.items()}})

    lines = capsys.readouterr().err.splitlines()
    told = ["target", "dataset", "forecast", "local"] if is_ahead else ["target", "dataset", "local"]
    assert [line.split()[0] for line in lines[: len(told)]] == told
    assert f", model {shipped().in_words} (" in lines[len(told) - 1]
    files = [
        f"Interrupted. Its files are in runs/{run_of(here)}/:",
        *run.files_in(Path("runs", run_of(here))).split("\n"),
    ]
    assert [line for line in lines if line in files] == (files if planned else [])
    assert ("forecast   ahead: 9 s" in lines) is is_ahead
    assert (f"`make resume RUN={run_of(here)}` goes on with it." in lines) is planned
    assert status == (130 if planned else 0)


class FakeAws:
    """A deployment in a region without prices, whose functions were asleep."""

    name = "aws"
    account = "the account"

    def __init__(self) -> None:
        self.stack = SimpleNamespace(
            bucket="theirs", data_bucket="data", region="mars-1", max_concurrency=2, function_names={"infer": "f"}
        )

    def within_account(self) -> "FakeAws":
        return self

    def facts(self) -> str:
        return "theirs in mars-1,"

    def bill(self, summary: str) -> str:
        return f"bill of {summary}"


@pytest.mark.parametrize("has_summary", [True, False])
def test_a_run_on_aws_says_what_it_knows_before_it_starts_and_shows_its_bill(
    has_summary: bool, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: dict[str, Any] = {}
    aws = FakeAws()

    def find_data(name: str, *, asked: str, root: Path, buckets: tuple[str, ...]) -> RemoteDataset:
        shown["found"] = (name, asked, buckets)
        return RemoteDataset(bucket="data", prefix="d/")

    def run_in(there: Any, *_: Any) -> Ending:
        assert there is aws
        return Ending("FAILED", "PlanError", "too many ranks")

    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(run, "choose_target", lambda *_, **__: ("aws", "TARGET says so"))
    monkeypatch.setattr(run, "read_stack", lambda folder, *, outputs: shown.update(stack=(folder, outputs)) or "stack")
    monkeypatch.setattr(run, "connect_aws", lambda stack: aws)
    monkeypatch.setattr(run, "find_data", find_data)
    monkeypatch.setattr(run, "wake", lambda account, functions: [f"{name} of {account}" for name in functions])
    monkeypatch.setattr(run, "before_start", lambda budget, *_, **__: [f"{budget} USD"])
    monkeypatch.setattr(run, "run_in", run_in)
    monkeypatch.setattr(run, "read_summary", lambda folder: "summary" if has_summary else None)
    monkeypatch.setattr(run, "print_result", lambda *given, **named: shown.update(named, result=given[1:]))

    status = exit_status(run.main, {"DATASET": "d", "WORLD": "3", "BUDGET": "2", "OUTPUTS": "out.json"})

    target, connected, dataset, *others = capsys.readouterr().err.splitlines()
    assert target == "target     aws: TARGET says so"
    assert connected.startswith("AWS        theirs in mars-1, (")
    assert dataset.startswith("dataset    ")
    notes = [line.removeprefix("note       ") for line in others if line.startswith("note")]
    assert notes == shown["notes"]
    assert [note.split(maxsplit=3)[:3] for note in notes] == [
        ["AWS_REGION=us-east-1", "is", "not"],
        ["2", "of", "3"],
        ["f", "of", "the"],
        ["No", "receipt:", "The"],
    ]
    assert others[len(notes) :] == ["estimate   at most 2.0 USD"]
    assert shown["stack"] == (Path("terraform"), "out.json")
    assert shown["found"] == ("d", "DATASET=d", ("theirs", "data"))
    assert shown["bill"] == ("bill of summary" if has_summary else None)
    ran, summary, ending, folder = shown["result"]
    assert (ran, summary, folder) == (run_of(here), "summary" if has_summary else None, Path("runs") / run_of(here))
    assert (status, ending.succeeded) == (1, False)


@pytest.mark.parametrize(
    ("is_from_payload", "prefix", "notes"),
    [(True, "d/", []), (True, "data/d/", ["data_prefix=d was read as data/d/."]), (False, "data/d/", [])],
)
def test_a_prefix_of_a_payload_that_was_read_otherwise_is_told(
    is_from_payload: bool, prefix: str, notes: list[str]
) -> None:
    draft: Any = SimpleNamespace(dataset_is_from_payload=is_from_payload, dataset="d", dataset_asked="data_prefix=d")

    assert run._prefix_note(draft, RemoteDataset(bucket="b", prefix=prefix)) == notes


def test_galaxies_of_a_source_become_a_dataset_a_run_and_a_catalog(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}
    statuses = iter([0, 1])

    def run_named(variables: Any, **_: Any) -> tuple[int, str]:
        asked["run"] = variables.given
        return next(statuses), "run-1"

    monkeypatch.setattr(
        "scripts.dataset.make_dataset", lambda given: asked.update(dataset=given.given) or Path("datasets/my/10MB")
    )
    monkeypatch.setattr("scripts.catalog.main", lambda given: asked.update(catalog=given.given))
    monkeypatch.setattr(run, "run_named", run_named)
    given = {"SOURCE": "my.csv", "FIELDS": "u=umag", "WORLD": "2"}

    assert exit_status(run.main, given) == 0
    assert asked == {
        "dataset": {"SOURCE": "my.csv", "FIELDS": "u=umag"},
        "run": {"WORLD": 2, "DATASET": "my/10MB"},
        "catalog": {"RUN": "run-1"},
    }
    steps = ["1 of 3     make dataset", "2 of 3     make run DATASET=my/10MB", "3 of 3     make catalog RUN=run-1"]
    assert capsys.readouterr().err.splitlines() == steps
    del asked["catalog"]
    assert exit_status(run.main, given) == 1
    assert "catalog" not in asked


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"FIELDS": "u=umag"}, "FIELDS=u=umag names columns of a SOURCE, as in SOURCE=my.csv."),
        ({"SOURCE": "my.csv", "DATASET": "tiny"}, "SOURCE=my.csv is what the run reads: leave out DATASET=tiny."),
        ({"SOURCE": "my.csv", "PAYLOAD": "a.json"}, "SOURCE=my.csv is what the run reads: leave out PAYLOAD=a.json."),
    ],
)
def test_a_source_is_all_that_a_run_reads(
    given: dict[str, str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(run.main, given) == 2
    assert " ".join(capsys.readouterr().err.split()) == said


def test_an_error_under_way_says_that_the_run_stopped(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(monkeypatch, ConnectionError("the server is gone")) == 1

    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"The run stopped: the server is gone. Its files are in runs/{run_of(here)}/."
