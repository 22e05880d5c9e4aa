"""One run after the other: which request each is, what a backend that fails costs, and what is noted."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from inference.contract import as_prefix
from scripts.command.errors import CommandError, UsageError
from scripts.data.location import LocalDataset
from scripts.runs.ending import Ending
from scripts.sweeps import runner
from scripts.sweeps.backend import rates_of
from scripts.sweeps.journal import NOTE_KEY, held, read_journal
from scripts.sweeps.plan import Setting, SweepPlan
from scripts.sweeps.runner import Runner
from scripts.sweeps.show import SweepShow

PLAN = SweepPlan(world=(1, 2), data=("sdss/25MB",), memory=(1769, 3538), profile=(True,), tolerate=5.0, target="local")
Does = Callable[[Path], Ending]


class FakeBackend:
    """A backend whose runs do what a test says; it keeps what it was asked."""

    name, region, max_concurrency, buckets = "local", "us-east-1", 4, ()

    def __init__(self, *, cold: bool = False) -> None:
        self.cold = cold
        self.asked: list[Any] = []
        self.renewed = 0
        self.printed = io.StringIO()

    def variant(self, memory_mb: int | None) -> int | None:
        return None if memory_mb == 1769 else memory_mb

    def target(self, memory_mb: int | None) -> Any:
        return SimpleNamespace(name=self.name)

    def rates(self, memory_mb: int | None) -> Any:
        return rates_of(None, memory_mb or 1769)

    def is_cold(self, setting: Setting) -> bool:
        return self.cold

    def after(self, folder: Path) -> None:
        self.asked[-1]["after"] = folder

    def renew(self) -> None:
        self.renewed += 1


@pytest.fixture
def carry_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Carry out the first runs of a sweep; `does` stands for each execution."""

    def carry(backend: FakeBackend, does: Does, *, num_runs: int = 4, plan: SweepPlan = PLAN) -> Any:
        def run_in(
            _target: Any, run_id: str, draft: Any, dataset: Any, folder: Path, console: Console, *, line: Any
        ) -> Ending:
            note = tmp_path / "sweeps" / "mine" / NOTE_KEY
            noted = note.read_text() if note.exists() else ""
            backend.asked.append({"payload": draft.payload, "folder": folder, "noted": noted, "run_id": run_id})
            console.print("uploaded")
            with line(console) as shown:
                assert shown is show
            return does(folder)

        monkeypatch.setattr(runner, "run_in", run_in)
        folder = tmp_path / "sweeps" / "mine"
        dataset = LocalDataset(tmp_path, as_prefix("datasets/sdss/25MB"))
        show = SweepShow(Console(file=backend.printed), plan, [])
        sweep = Runner(backend=backend, datasets={("sdss/25MB", None): dataset}, root=tmp_path, show=show)
        with held(folder, plan):
            sweep.carry_out(read_journal(folder, plan), list(plan.runs())[:num_runs])
        return read_journal(folder, None)

    return carry


def succeed(folder: Path) -> Ending:
    (folder / "request.json").write_text("{}")
    return Ending("SUCCEEDED")


def fail(folder: Path) -> Ending:
    raise CommandError("it does not answer")


def test_a_run_asks_for_its_setting_and_for_memory_that_is_not_deployed(carry_out: Any) -> None:
    backend = FakeBackend()

    journal = carry_out(backend, succeed)

    asked = {(one["payload"]["world_size"], one["payload"].get("memory_mb")) for one in backend.asked}
    assert asked == {(1, None), (1, 3538), (2, None), (2, 3538)}
    assert all(
        one["payload"]["profile"] and one["payload"]["tolerated_failure_percentage"] == 5 for one in backend.asked
    )
    rows, _ = journal.rows()
    assert {(row.world_size, row.memory_mb) for row in rows} == {(1, 1769), (1, 3538), (2, 1769), (2, 3538)}
    assert {(row.dataset, row.shard_mb, row.max_concurrency, row.profile) for row in rows} == {
        ("sdss/25MB", 25, 4, True)
    }
    assert [row.position for row in rows] == [0, 1, 2, 3]


def test_a_row_says_what_its_run_was_asked_for_before_anything_is_known_of_it(carry_out: Any) -> None:
    plan = SweepPlan(
        world=(2,),
        batch=(64,),
        data=("sdss/25MB",),
        files=(3,),
        engine=("torch",),
        precision=("int8",),
        profile=(False, True),
        model="astromae",
        target="local",
    )
    backend = FakeBackend()

    journal = carry_out(backend, lambda _: Ending("FAILED", "PlanError", "why"), num_runs=1, plan=plan)

    (row,), _ = journal.rows()
    assert (row.sweep, row.setting, row.repeat, row.target) == (
        "mine",
        plan.label(journal.entries[0].planned),
        0,
        "local",
    )
    assert (row.world_size, row.batch_size, row.file_limit, row.engine, row.precision) == (2, 64, 3, "torch", "int8")
    assert (row.state, row.error, row.message, row.num_records) == ("failed", "PlanError", "why", 0)
    assert backend.asked[0]["payload"]["model"] == "astromae"
    assert not journal.entries[0].is_of_backend


def test_a_model_is_sought_where_the_runs_are(carry_out: Any, tmp_path: Path) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)

    with pytest.raises(UsageError, match="Did you mean mine"):
        carry_out(FakeBackend(), succeed, plan=SweepPlan(data=("sdss/25MB",), model="min", target="local"))


def test_the_steps_of_a_run_are_not_printed(carry_out: Any, capsys: pytest.CaptureFixture[str]) -> None:
    backend = FakeBackend()

    carry_out(backend, succeed)

    assert "uploaded" not in backend.printed.getvalue() + "".join(capsys.readouterr())


def test_a_run_takes_as_long_as_itself_without_its_warm_up(carry_out: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 100.0, 105.0])
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: next(seconds), time=lambda: 1.8e9))

    journal = carry_out(FakeBackend(cold=True), succeed, num_runs=1)

    assert [(one.elapsed_s, one.run.started_at_s) for one in journal.entries] == [(5.0, 1.8e9)]


def test_a_warm_up_that_left_or_removed_its_folder_stops_nothing(carry_out: Any, tmp_path: Path) -> None:
    def does(folder: Path) -> Ending:
        if folder.name == "warm-up":
            folder.rmdir()
        return Ending("SUCCEEDED")

    (tmp_path / "sweeps" / "mine" / "warm-up").mkdir(parents=True)

    journal = carry_out(FakeBackend(cold=True), does, num_runs=2)

    assert [one.is_of_backend for one in journal.entries] == [False, False]


def test_a_line_counts_every_run_that_ended(carry_out: Any) -> None:
    backend, total = FakeBackend(), len(PLAN.settings) * PLAN.repeat

    carry_out(backend, succeed)

    counts = [line.split()[0] for line in backend.printed.getvalue().splitlines()]
    assert counts == [f"{done}/{total}" for done in range(total - 3, total + 1)]


def test_every_run_is_in_the_journal_and_in_the_tables_and_noted_while_it_goes_on(
    carry_out: Any, tmp_path: Path
) -> None:
    backend = FakeBackend()

    journal = carry_out(backend, succeed)

    rows, _ = journal.rows()
    assert (
        [row.run_id for row in rows]
        == [one["noted"] for one in backend.asked]
        == [one["run_id"] for one in backend.asked]
    )
    assert [one["after"] for one in backend.asked] == [tmp_path / "runs" / row.run_id for row in rows]
    assert len((tmp_path / "sweeps" / "mine" / "runs.csv").read_text().splitlines()) == 5
    assert not (tmp_path / "sweeps" / "mine" / NOTE_KEY).exists()
    assert journal.remaining(retry=False) == []


def test_a_cold_setting_runs_once_on_all_workers_without_a_row(carry_out: Any, tmp_path: Path) -> None:
    backend = FakeBackend(cold=True)

    journal = carry_out(backend, succeed, num_runs=1)

    warm_up, counted = backend.asked
    assert warm_up["payload"]["world_size"] == 4
    assert (warm_up["noted"], counted["noted"]) == ("", counted["run_id"])
    assert not warm_up["folder"].exists()
    assert [row.run_id for row in journal.rows()[0]] == [counted["run_id"]]


def test_a_backend_that_fails_three_runs_in_a_row_stops_the_sweep_which_may_go_on(
    carry_out: Any, tmp_path: Path
) -> None:
    backend = FakeBackend()

    with pytest.raises(CommandError, match="3 runs in a row could not be carried out: it does not answer"):
        carry_out(backend, fail)

    assert (backend.renewed, len(backend.asked)) == (3, 3)
    assert all(one["after"] == one["folder"] for one in backend.asked)
    lines = [json.loads(line) for line in (tmp_path / "sweeps" / "mine" / "journal.jsonl").read_text().splitlines()]
    assert [(line["run"]["error"], line["is_of_place"]) for line in lines] == [("CommandError", True)] * 3
    assert len(read_journal(tmp_path / "sweeps" / "mine", None).remaining(retry=False)) == 4


def test_a_run_that_succeeds_between_failures_lets_the_sweep_go_on(carry_out: Any) -> None:
    backend = FakeBackend()

    def does(folder: Path) -> Ending:
        return succeed(folder) if len(backend.asked) == 3 else fail(folder)

    journal = carry_out(backend, does)

    assert [row.error for row in journal.rows()[0]] == ["CommandError", "CommandError", "", "CommandError"]


def test_a_run_without_a_folder_has_no_name(carry_out: Any) -> None:
    def does(folder: Path) -> Ending:
        folder.rmdir()
        return Ending("FAILED", "PlanError", "too many ranks")

    journal = carry_out(FakeBackend(), does, num_runs=1)

    assert [(row.run_id, row.state, row.error) for row in journal.rows()[0]] == [("", "failed", "PlanError")]
