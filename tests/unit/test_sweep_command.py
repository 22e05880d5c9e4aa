"""`make sweep` from its variables to its exit status, on a backend whose runs take no time."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from inference.models import shipped
from scripts import sweep
from scripts.command.errors import COMPLETE, FAILED, INTERRUPTED, CommandError, UsageError
from scripts.command.variables import read_variables
from scripts.runs.ending import Ending
from scripts.sweeps import runner
from tests.unit.test_sweep_before import make_dataset
from tests.unit.test_sweep_runner import FakeBackend
from tests.unit.test_sweep_runs import write_run

LISTS = {"NAME": "mine", "WORLD": "1,2", "DATA": "tiny", "TARGET": "local"}


class OpenBackend(FakeBackend):
    """A backend that knows whether it is entered."""

    is_open = False

    def __enter__(self) -> "OpenBackend":
        self.is_open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False


class Sweeping:
    """`make sweep` in a folder; `does` stands for each execution."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.backend = OpenBackend()
        self.does: Callable[[Path], Ending] = succeed
        self.num_runs = 0

    @property
    def folder(self) -> Path:
        return self.root / "sweeps" / "mine"

    def run_in(self, _target: Any, _id: str, _draft: Any, _data: Any, folder: Path, *_: Any, **__: Any) -> Ending:
        assert self.backend.is_open
        self.backend.asked.append({})
        self.num_runs += 1
        return self.does(folder)

    def make(self, **changes: str) -> tuple[int, str]:
        """Return the exit status and what was said before and while it went on."""
        given = {**LISTS, "YES": "1", **changes}
        console = Console(file=io.StringIO(), width=200)
        variables = read_variables(sweep.SweepVariables, {name: text for name, text in given.items() if text})
        status = sweep.run_sweep(variables, root=self.root, console=console)
        return status, console.file.getvalue()


def succeed(folder: Path) -> Ending:
    write_run(folder)
    return Ending("SUCCEEDED")


def fail(_: Path) -> Ending:
    return Ending("FAILED", "PlanError", "too many ranks")


@pytest.fixture
def sweeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeping:
    made = Sweeping(tmp_path)
    make_dataset(tmp_path)
    monkeypatch.setattr(runner, "run_in", made.run_in)
    monkeypatch.setattr(sweep, "_backend", lambda *_: made.backend)
    return made


def test_a_sweep_runs_every_setting_and_leaves_its_tables_and_its_statistics(
    sweeping: Sweeping, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = sweeping.make()

    assert (status, sweeping.num_runs, sweeping.backend.is_open) == (COMPLETE, 2, False)
    assert said.splitlines()[0] == "runs       2: 2 WORLD, interleaved, seed 0"
    assert "cost       nothing here; on AWS about " in said
    statistics = json.loads((sweeping.folder / "statistics.json").read_text())
    assert (statistics["num_runs"], statistics["sweep"]) == (2, "mine")
    assert statistics["prices"] == "list prices of us-east-1, January 2026, without free tier"
    assert len((sweeping.folder / "runs.csv").read_text().splitlines()) == 3
    shown = capsys.readouterr().out
    assert shown.startswith("mine: complete, 2 of 2 runs\n")
    assert "files      " in shown


def test_a_sweep_that_is_over_is_shown_again_and_nothing_is_asked(
    sweeping: Sweeping, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeping.make()
    monkeypatch.setattr(sweep.sys, "stdin", io.StringIO("no\n"))

    status, said = sweeping.make(YES="")

    assert (status, sweeping.num_runs) == (COMPLETE, 2)
    assert "done       2 of 2, in " in said
    assert capsys.readouterr().out.count("mine: complete, 2 of 2 runs") == 2


def test_a_sweep_of_which_no_run_predicted_has_failed_and_runs_again_when_asked(sweeping: Sweeping) -> None:
    sweeping.does = fail
    assert sweeping.make()[0] == FAILED
    assert sweeping.make()[0] == FAILED
    assert sweeping.num_runs == 2
    sweeping.does = succeed

    assert sweeping.make(RETRY="1")[0] == COMPLETE
    assert sweeping.num_runs == 4


def test_what_may_cost_more_than_the_budget_or_is_not_wanted_leaves_nothing(
    sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"BUDGET=1e-06: the sweep may cost 0\.\d+ USD"):
        sweeping.make(BUDGET="0.000001")
    monkeypatch.setattr(sweep.sys, "stdin", io.StringIO("no\n"))
    with pytest.raises(UsageError, match="There is no terminal to ask at"):
        sweeping.make(YES="")

    assert not sweeping.folder.exists()
    assert sweeping.make(BUDGET="10")[0] == COMPLETE


def test_a_sweep_whose_cost_is_not_known_says_so(sweeping: Sweeping) -> None:
    (sweeping.root / "datasets" / "tiny" / "10MB" / "dataset.json").unlink()

    assert f"cost       {sweep.NOT_KNOWN}" in sweeping.make()[1]


def test_partitions_are_cut_before_the_first_run(sweeping: Sweeping) -> None:
    def is_cut(folder: Path) -> Ending:
        assert (sweeping.root / "datasets" / "tiny" / "1MB" / "dataset.json").exists()
        return succeed(folder)

    sweeping.does = is_cut

    assert sweeping.make(WORLD="2", SHARD_MB="1,10")[0] == COMPLETE


def test_what_ended_before_a_sweep_stops_is_in_its_statistics_and_the_rest_goes_on(sweeping: Sweeping) -> None:
    def interrupted(folder: Path) -> Ending:
        if sweeping.num_runs == 2:
            raise KeyboardInterrupt
        return succeed(folder)

    sweeping.does = interrupted
    with pytest.raises(KeyboardInterrupt):
        sweeping.make()

    assert json.loads((sweeping.folder / "statistics.json").read_text())["num_runs"] == 1
    assert not sweeping.backend.is_open
    sweeping.does = succeed
    status, said = sweeping.make()
    assert (status, sweeping.num_runs) == (COMPLETE, 3)
    assert "done       1 of 2, in " in said


def test_a_run_that_a_kill_left_going_is_said_to_be_stopped(
    sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "stop_left", lambda folder, root: "run-a" if (folder, root) == expected else None)
    expected = (sweeping.folder, sweeping.root)

    assert "stopped    run-a, which went on since the sweep was killed" in sweeping.make()[1]


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (CommandError("it does not answer."), CommandError, "The sweep stopped: it does not answer. The same command"),
        (OSError("disk full."), CommandError, "The sweep stopped: disk full. The same command continues it."),
        (UsageError("WORLD=x"), UsageError, "^WORLD=x$"),
        (KeyboardInterrupt(), INTERRUPTED, "Interrupted. The same command continues it."),
    ],
)
def test_a_sweep_that_stops_says_how_it_goes_on(
    raised: BaseException, status: Any, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_sweep(*_: Any, **__: Any) -> int:
        raise raised

    monkeypatch.setattr(sweep, "run_sweep", run_sweep)

    if isinstance(status, int):
        assert sweep.main(sweep.SweepVariables()) == status
        assert said in capsys.readouterr().err
    else:
        with pytest.raises(status, match=said):
            sweep.main(sweep.SweepVariables())


@pytest.mark.parametrize("target", ["local", "aws"])
def test_a_sweep_runs_where_its_plan_says(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = SimpleNamespace(target=target, memory=(885, 1769), model=None)
    journal: Any = SimpleNamespace(folder=tmp_path, plan=plan)
    account = SimpleNamespace(within_account=lambda: "the account")
    monkeypatch.setattr(sweep, "LocalBackend", lambda *given: ("local", *given))
    monkeypatch.setattr(sweep, "AwsBackend", lambda *given: ("aws", *given))
    monkeypatch.setattr(sweep, "read_stack", lambda folder, *, outputs: (folder, outputs))
    monkeypatch.setattr(
        sweep, "connect_aws", lambda stack: account if stack == (tmp_path / "terraform", "out.json") else None
    )

    expected = {
        "local": ("local", tmp_path / "logs", (885, 1769), shipped().folder),
        "aws": ("aws", "the account", (885, 1769)),
    }
    assert sweep._backend(journal, "out.json", tmp_path) == expected[target]
