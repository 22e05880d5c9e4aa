import io
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from scripts import run
from scripts.command.program import exit_status
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
