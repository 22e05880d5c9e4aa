import io
import os
import time
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from rich.console import Console

from inference import contract
from inference.contract import RunSummary
from scripts import clean_runs, status, stop
from scripts.command import program
from scripts.command.errors import UsageError
from scripts.pricing.cost import Bill, CostItem
from scripts.runs import journal, listing, recall, run_folder, standing
from scripts.runs.journal import Entry
from scripts.runs.observe import Progress
from scripts.runs.target import AwsTarget
from scripts.runs.variables import StackVariables
from tests.factories import make_task
from tests.unit.test_doctor import StubbedAccount, make_stack
from tests.unit.test_run_present import make_summary

RUN = "run-20260131T120000Z-abcd"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which nothing is deployed."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_folder(root: Path, name: str = RUN, **noted: Any) -> Path:
    """The folder of a local run whose terminal is gone."""
    folder = root / "runs" / name
    (folder / "ranks").mkdir(parents=True)
    fields = {"pid": 2**22 + 1, "target": "local", "execution_arn": "arn", "bucket": "b", "run_prefix": f"runs/{RUN}/"}
    # No process has this number.
    journal.write(folder, Entry(**{"run_id": name, "started_at_s": time.time(), **fields, **noted}))
    return folder


def exit_status(command: Any, **variables: str) -> int:
    return program.exit_status(command.main, {"RUN": RUN, **variables})


def test_a_local_run_that_ended_is_read_from_its_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folder(here, status="SUCCEEDED")
    (folder / "summary.json").write_bytes(contract.encode(make_summary()))

    assert exit_status(status) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{RUN}: complete\n")
    assert f"read from runs/{RUN}/" in said.err


def shown(found: recall.FoundRun, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is said of a run that was found."""
    monkeypatch.setattr(standing, "find_run", lambda name, where, root: found)
    monkeypatch.setattr(standing, "bring_home", lambda found: None)
    console = Console(file=io.StringIO(), width=100, color_system=None)
    standing.show(RUN, StackVariables(), console)
    lines: list[str] = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return lines


class FakeTarget:
    name = "local"

    def watch(self, entry: Entry) -> Any:
        assert entry.run_id == RUN
        return SimpleNamespace(look=lambda: Progress(7.0))

    def bill(self, summary: RunSummary) -> Bill:
        assert summary.num_records
        return Bill((CostItem("Lambda time", 0.0018, "110.4 GB-s"),), "here")


@pytest.mark.parametrize(
    ("is_deployed", "url", "more"),
    [(False, "https://d", []), (True, "https://d", ["https://d"]), (True, None, [])],
)
def test_a_run_that_goes_on_is_told_with_how_far_it_is_and_how_to_end_it(
    is_deployed: bool, url: str | None, more: list[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = msgspec.structs.replace(make_stack(), dashboard_url=url)
    target: Any = AwsTarget(stack, StubbedAccount()) if is_deployed else FakeTarget()
    monkeypatch.setattr(AwsTarget, "watch", FakeTarget.watch)
    began = datetime(2026, 1, 31, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    asked = '{"bucket": "b", "data_prefix": "d/"}'
    description = {"status": "RUNNING", "startDate": began, "executionArn": "arn", "input": asked}
    entry = journal.read(make_folder(here)) if not is_deployed else None

    lines = shown(recall.FoundRun(RUN, Path(f"runs/{RUN}"), entry, target, description), monkeypatch)

    assert lines == [
        f"{RUN}: running since 2026-01-31 12:00:00 UTC ({target.name})",
        "planning · 0:07",
        f"`make stop RUN={RUN}` ends it.",
        *more,
    ]


@pytest.mark.parametrize("has_summary", [True, False])
def test_a_run_that_has_ended_is_told_with_its_price_where_it_has_a_summary(
    has_summary: bool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(here)
    if has_summary:
        (folder / "summary.json").write_bytes(contract.encode(make_summary()))
    target: Any = FakeTarget()
    description = {"status": "SUCCEEDED" if has_summary else "FAILED", "error": "PlanError"}

    lines = shown(recall.FoundRun(RUN, folder, None, target, description), monkeypatch)

    assert lines[0] == f"{RUN}: {'complete' if has_summary else 'failed'}"
    assert any("together" in line and "0.00180 USD" in line for line in lines) == has_summary
    assert ("  PlanError" in lines) != has_summary


@pytest.mark.parametrize(
    ("noted", "is_complete", "state", "is_priced"),
    [
        ({"status": "ABORTED"}, True, "stopped", False),
        ({"stack": make_stack(), "status": "SUCCEEDED"}, True, "complete", True),
        ({"stack": make_stack(), "status": "SUCCEEDED"}, None, "complete", False),
        (None, True, "complete", False),
        (None, False, "failed", False),
        (None, None, "stopped", False),
    ],
)
def test_of_a_run_that_only_its_folder_is_left_of_note_and_summary_say_how_it_ended(
    noted: dict[str, Any] | None,
    is_complete: bool | None,
    state: str,
    is_priced: bool,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_folder(here, **noted or {})
    entry = journal.read(folder) if noted else None
    if is_complete is not None:
        (folder / "summary.json").write_bytes(contract.encode(make_summary(complete=is_complete)))
    (folder / "failures").mkdir()
    (folder / "failures" / "00001.json").write_text("{}")

    lines = shown(recall.FoundRun(RUN, folder, entry), monkeypatch)

    is_unknown = noted is None and is_complete is None
    assert (lines[0] == "ranks 0 done · 1 failed") == is_unknown
    assert lines[is_unknown] == f"{RUN}: {state}"
    assert ("  Cost at the prices of us-east-1" in "\n".join(lines)) == is_priced
    assert ("The run ended before there was a summary." in "\n".join(lines)) == is_unknown
    assert ("local AWS is gone" in capsys.readouterr().err) == (noted is None)


def test_a_local_run_whose_terminal_died_says_how_far_it_came(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folder(here)
    (folder / "manifest.json").write_bytes(contract.encode([make_task(rank=rank, world_size=3) for rank in range(3)]))
    (folder / "ranks" / "00001.json").write_text("{}")

    assert exit_status(status) == 0
    said = capsys.readouterr()
    assert "ranks 1/3 done · 0 failed" in said.out
    assert f"{RUN}: stopped" in said.out
    assert "its local AWS is gone" in said.err


def test_a_process_that_took_over_the_number_of_the_terminal_is_not_its_local_aws(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(here, pid=os.getpid(), endpoint_url="http://127.0.0.1:1")

    assert exit_status(status) == 0
    assert "its local AWS is gone" in capsys.readouterr().err


def test_stopping_a_local_run_whose_terminal_died_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(here)

    assert exit_status(stop) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said == f"{RUN} is not running: its local AWS has ended, and its ranks with it."


@pytest.mark.parametrize("name", [f"runs/{RUN}/", f"./runs/{RUN}", f"arn:aws:states:us-east-1:1:execution:x:{RUN}"])
def test_a_folder_or_an_arn_names_a_run_too(name: str, here: Path) -> None:
    make_folder(here)

    assert exit_status(status, RUN=name) == 0


@pytest.mark.parametrize("command", [status, stop])
def test_an_unknown_run_is_told_with_similar_ones(command: Any, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(here)

    assert exit_status(command, RUN=RUN[:-1] + "e") == 2
    assert capsys.readouterr().err == f"RUN={RUN[:-1]}e: there is no such run. Similar: {RUN}.\n"


@pytest.mark.parametrize("name", ["..", "invoke", "/"])
def test_what_is_no_run_is_not_taken_for_one(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(here)
    (here / "runs" / "invoke").mkdir()

    assert exit_status(status, RUN=name) == 2
    assert "there is no such run" in capsys.readouterr().err


@pytest.mark.parametrize(("is_deployed", "there"), [(False, ""), (True, " On AWS: run-b, run-a.")])
def test_stop_without_a_name_stops_nothing_and_names_what_runs(
    is_deployed: bool, there: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stop, "stack_target", lambda where, *, root: "a stack" if is_deployed else None)
    monkeypatch.setattr(stop, "runs_there", lambda target: ["run-a", "run-b"])
    make_folder(here, name="run-c", status="SUCCEEDED")

    assert exit_status(stop, RUN="") == 2
    make_folder(here, name="run-d", pid=os.getpid())
    assert exit_status(stop, RUN="") == 2

    said = "RUN=name says which run to stop. Running here: "
    assert capsys.readouterr().err == f"{said}none.{there}\n{said}run-d.{there}\n"


@pytest.mark.parametrize(
    ("is_applied", "outputs", "is_there", "line"),
    [
        (True, "", True, "aws   run-b, run-a\n"),
        (False, "my.json", True, "aws   run-b, run-a\n"),
        (False, "", True, ""),
        (True, "", False, ""),
    ],
)
def test_runs_of_a_stack_are_listed_where_there_is_one(
    is_applied: bool,
    outputs: str,
    is_there: bool,
    line: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = SimpleNamespace(name="aws") if is_there else None
    monkeypatch.setattr(status, "has_applied", lambda folder: is_applied and folder == Path("terraform"))
    monkeypatch.setattr(recall, "stack_target", lambda where, *, root: target)
    monkeypatch.setattr(recall, "runs_there", lambda target: ["run-a", "run-b"])

    assert exit_status(status, RUN="", OUTPUTS=outputs) == 0

    last = "RUN=name, or a part of it that no other has, says more.\n"
    assert capsys.readouterr().out == f"here  none\n{line}{last}"


def test_without_a_name_every_run_is_listed_with_how_it_ended(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folder(here, status="SUCCEEDED", started_at_s=0.0)
    summary = make_summary()
    (folder / "summary.json").write_bytes(contract.encode(summary))
    dead = make_folder(here, name="run-20260131T120000Z-dead")
    (dead / "request.json").write_text('{"data_prefix": "datasets/mine/10MB/"}')

    assert exit_status(status, RUN="") == 0
    first, second = capsys.readouterr().out.splitlines()[1:3]
    assert summary.accuracy is not None
    assert first.split()[:2] == [RUN, "complete"]
    assert "1970-01-01" in first
    assert first.split()[-2:] == [f"{summary.num_samples:,}", f"{summary.accuracy.nmad:.4f}"]
    assert "cut off" in second
    assert "mine/10MB" in second


@pytest.mark.parametrize(
    ("noted", "is_complete", "state"),
    [
        ({"pid": 2**22 + 1}, None, "cut off"),
        ({"pid": os.getpid()}, None, "running"),
        ({"stack": make_stack()}, None, "on AWS"),
        ({"stack": make_stack()}, True, "complete"),
        ({"pid": 2**22 + 1}, False, "incomplete"),
        ({"status": "SUCCEEDED"}, True, "complete"),
        ({"status": "ABORTED"}, None, "stopped"),
        ({"status": "FAILED"}, None, "failed"),
        ({"status": "FAILED"}, False, "incomplete"),
        (None, True, "complete"),
        (None, None, "unknown"),
    ],
)
def test_the_state_of_a_run_is_read_from_its_note_and_its_summary(
    noted: dict[str, Any] | None, is_complete: bool | None, state: str, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path, **noted or {})
    if noted is None:
        (folder / journal.FILE_NAME).unlink()
    if is_complete is not None:
        (folder / "summary.json").write_bytes(contract.encode(make_summary(complete=is_complete)))

    (found,) = listing.listed(tmp_path, [RUN])

    assert (found.state, found.began == "") == (state, noted is None)


def test_a_narrow_list_goes_without_the_least_important_columns() -> None:
    run = listing.Listed("run-a", "complete", "sdss/10MB", "2026-01-31", 626, 0.0172)

    shown = [[str(column.header) for column in listing.as_table([run], width).columns] for width in range(80, 0, -1)]

    lost = [name for before, after in pairwise(shown) for name in before if name not in after]
    assert shown[0] == ["run", "state", "dataset", "began", "galaxies", "NMAD"]
    assert lost == ["dataset", "began", "galaxies", "NMAD"]


def test_runs_that_have_ended_are_deleted_when_the_answer_is_yes(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, running = make_folder(here, status="SUCCEEDED"), make_folder(here, "run-b", pid=os.getpid())

    assert program.exit_status(clean_runs.main, {}) == 1
    said = capsys.readouterr()
    assert RUN in said.out
    assert "This run is to be deleted here, " in said.out
    assert "1 of 2 have not ended" in said.out
    assert "Nothing is deleted: there is no terminal" in said.err
    assert ended.exists()
    assert program.exit_status(clean_runs.main, {"RUN": "run-b", "YES": "1"}) == 0
    assert program.exit_status(clean_runs.main, {"YES": "1"}) == 0
    assert (ended.exists(), running.exists()) == (False, True)


class Terminal(io.StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


def test_a_person_has_read_what_is_asked_before_the_answer_is_waited_for(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Patient(Terminal):
        def readline(self, size: int | None = -1) -> str:  # type: ignore[override]
            read.append(out.buffer.getvalue().decode())
            return "no\n"

    make_folder(here, status="SUCCEEDED")
    out: Any = io.TextIOWrapper(io.BytesIO())
    read: list[str] = []
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stdin", Patient())

    assert program.exit_status(clean_runs.main, {}) == 1

    assert read[0].endswith("what is in a bucket stays.\nType yes to continue:\n")


@pytest.mark.parametrize(("answer", "status"), [("yes\n", 0), (" yes \n", 0), ("y\n", 1), ("no\n", 1), ("", 1)])
def test_a_person_is_asked_before_runs_are_deleted(
    answer: str, status: int, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [make_folder(here, name, status="SUCCEEDED") for name in ("run-a", "run-b")]
    for folder in folders:
        (folder / "ranks" / "0").write_bytes(b"x" * 6_000_000)
    monkeypatch.setattr("sys.stdin", Terminal(answer))

    assert program.exit_status(clean_runs.main, {}) == status

    said = capsys.readouterr()
    assert "have not ended" not in said.out
    assert "These 2 runs are to be deleted here, 12 MB; what is in a bucket stays.\nType yes to continue:\n" in said.out
    assert [folder.exists() for folder in folders] == [status == 1] * 2
    assert said.out.endswith("2 deleted\n") == (status == 0)
    assert said.err == ("" if status == 0 else "Nothing is deleted.\n")


def test_where_there_is_no_run_none_is_deleted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(here, pid=os.getpid())

    assert program.exit_status(clean_runs.main, {"RUN": RUN, "YES": "1"}) == 0
    assert capsys.readouterr().out.endswith("There is no run to delete.\n")
    assert program.exit_status(clean_runs.main, {"RUN": "run-z", "YES": "1"}) == 2
    assert capsys.readouterr().err.startswith("RUN=run-z: there is no such run")


def test_results_are_where_result_says_and_are_found_and_deleted_by_the_run_s_name(here: Path) -> None:
    folder = run_folder.make_folder(RUN, "my/run", here)
    noted = {"target": "local", "execution_arn": "arn", "bucket": "b", "run_prefix": "my/run/", "pid": 2**22 + 1}
    journal.write(folder, Entry(run_id=RUN, started_at_s=time.time(), status="SUCCEEDED", **noted))

    assert folder == here / "my" / "run"
    for name in (RUN, "my/run"):
        assert recall.find_run(name, StackVariables(), root=here).run_id == RUN
    with pytest.raises(UsageError, match="RESULT=my/run is there already"):
        run_folder.make_folder("run-c", "my/run", here)
    assert program.exit_status(clean_runs.main, {"RUN": RUN, "YES": "1"}) == 0
    assert (folder.exists(), list((here / "runs").iterdir())) == (False, [])


def test_a_link_that_no_run_made_is_removed_and_where_it_leads_is_not(here: Path) -> None:
    (here / "thesis").mkdir()
    (here / "thesis" / "summary.json").touch()
    (here / "runs").mkdir()
    (here / "runs" / RUN).symlink_to(here / "thesis")

    assert program.exit_status(clean_runs.main, {"RUN": RUN, "YES": "1"}) == 0

    assert (here / "thesis" / "summary.json").exists()
    assert not (here / "runs" / RUN).is_symlink()


def test_of_many_runs_only_the_newest_are_looked_at(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (here / "runs" / f"run-{number:02d}" / "ranks").mkdir(parents=True)
    (here / "runs" / "run-99-is-none").mkdir()
    looked_at: list[str] = []
    is_run = listing.is_run
    monkeypatch.setattr(listing, "is_run", lambda folder: looked_at.append(folder.name) or is_run(folder))

    assert listing.newest_here(here) == [f"run-{number:02d}" for number in range(20, 30)]
    assert len(looked_at) == 11
    assert len(listing.runs_here(here)) == 30


@pytest.mark.parametrize(
    ("target", "description", "said"),
    [
        (None, None, "is not running: its local AWS has ended, and its ranks with it."),
        ("aws", None, "is not running: Step Functions no longer knows it."),
        ("aws", {"status": "SUCCEEDED"}, "had already ended: complete."),
        ("aws", {"status": "RUNNING"}, "is stopped, and 2 ranks. Invocations under way finish by themselves."),
        ("local", {"status": "RUNNING"}, "is stopped. Invocations under way finish by themselves."),
    ],
)
def test_stopping_says_what_became_of_the_run_and_its_ranks(
    target: str | None,
    description: dict[str, str] | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped: list[tuple[str, str]] = []
    where: Any = SimpleNamespace(name=target, states="states") if target else None
    found = recall.FoundRun(RUN, Path("runs") / RUN, None, where, description and {**description, "executionArn": "a"})
    monkeypatch.setattr(stop, "find_run", lambda *_, **__: found)
    monkeypatch.setattr(stop.execution, "stop", lambda states, arn: stopped.append((states, arn)))
    monkeypatch.setattr(stop.execution, "stop_children", lambda states, arn: stopped.append(("children", arn)) or 2)

    assert exit_status(stop) == 0

    assert " ".join(capsys.readouterr().out.split()).startswith(f"{RUN} {said}")
    is_running = description == {"status": "RUNNING"}
    assert stopped == [("states", "a"), ("children", "a")][: (1 + (target == "aws")) * is_running]
