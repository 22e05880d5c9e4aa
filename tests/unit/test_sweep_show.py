"""What a sweep prints while it is running: a line per run that ended, and on a terminal one that moves."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from scripts.command.console import clock
from scripts.runs.observe import Progress
from scripts.sweeps.journal import Entry
from scripts.sweeps.plan import SweepPlan
from scripts.sweeps.show import SweepShow
from tests.factories import make_run_row

PLAN = SweepPlan(world=(1, 20), repeat=2, target="local")
RUNS = list(PLAN.runs())


def entry(number: int, elapsed_s: float, **row: Any) -> Entry:
    run = RUNS[number]
    made = make_run_row(setting=PLAN.label(run.setting), repeat=run.repeat, position=number, **row)
    return Entry(planned=run.setting, repeat=run.repeat, elapsed_s=elapsed_s, run=made, ranks=())


def shown(entries: list[Entry], *ended: Entry) -> list[str]:
    """Return the lines of the runs that ended after `entries`."""
    console = Console(file=io.StringIO(), width=120)
    with SweepShow(console, PLAN, entries) as show:
        for number, one in enumerate(ended, start=len(entries)):
            show.begin(RUNS[number:])
            show.end(one)
    return console.file.getvalue().splitlines()


def test_a_run_that_ended_has_a_line_with_its_setting_repeat_time_and_rate() -> None:
    lines = shown([], entry(0, 5.0), entry(1, 5.0))

    settings = [f"{PLAN.label(run.setting):<8}" for run in RUNS[:2]]
    assert lines[0].startswith(f"1/4  {settings[0]}  #1    10.00 s     100.0/s")
    assert lines[1].startswith(f"2/4  {settings[1]}  #1    10.00 s     100.0/s")


def test_the_time_left_is_that_of_the_same_settings_and_of_all_where_one_has_not_run() -> None:
    first, second = shown([], entry(0, 10.0), entry(1, 20.0))
    last = shown([entry(0, 10.0), entry(1, 20.0), entry(2, 10.0)], entry(3, 20.0))

    assert first.endswith("  0:30 left")
    assert second.endswith("  0:30 left")
    assert "left" not in last[0]


def test_a_failed_run_says_why_in_one_line_and_an_incomplete_one_what_is_lost() -> None:
    failed, silent, incomplete = shown(
        [],
        entry(0, 1.0, state="failed", error="PlanError", message="too many ranks\nTraceback"),
        entry(1, 1.0, state="failed", error="PlanError", message=""),
        entry(2, 1.0, state="incomplete", num_lost_ranks=2),
    )

    assert failed.endswith("#1  failed: PlanError: too many ranks")
    assert silent.endswith("failed: PlanError: no message")
    assert "100.0/s  2 ranks lost" in incomplete


def test_on_a_terminal_a_run_that_ended_has_one_line_whatever_went_wrong() -> None:
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None, _environ={})
    with SweepShow(console, PLAN, []) as show:
        show.begin(RUNS)
        show.end(entry(0, 1.0, state="failed", error="PlanError", message="too many ranks " * 9))

    (line,) = (line for line in console.file.getvalue().splitlines() if "PlanError" in line)
    said = line[line.index("1/4") :]
    assert (len(said), said[-1]) == (59, "…")


def test_a_terminal_shows_how_far_the_run_is_and_how_long_the_sweep_takes() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None, _environ={})
    seconds = iter([0.0, 0.0, 4.0, 4.0])
    with SweepShow(console, PLAN, [entry(0, 10.0)], now=lambda: next(seconds)) as show:
        show.begin(RUNS[1:])
        with show.line(console) as line:
            line.show(Progress(4.0))
            line.show(Progress(4.0, world_size=8, done=3))
    said = console.file.getvalue()

    setting = PLAN.label(RUNS[1].setting)
    assert f"1/4 runs · 0:30 left · {setting} · starting" in said
    assert f"1/4 runs · 0:26 left · {setting} · planning" in said
    assert f"1/4 runs · 0:26 left · {setting} · ranks 3/8" in said
    assert "━━━┈┈┈┈┈┈┈┈┈ 1/4" in said


def test_a_sweep_that_takes_longer_than_foreseen_has_no_time_left_and_its_line_stays_one() -> None:
    console = Console(file=io.StringIO(), width=40, force_terminal=True, color_system=None, _environ={})
    seconds = iter([0.0, 0.0, 31.0])
    with SweepShow(console, PLAN, [entry(0, 10.0)], now=lambda: next(seconds)) as show:
        show.begin(RUNS[1:])
        show.show(Progress(31.0))
    said = console.file.getvalue()

    assert "1/4 runs · 0:00 left" in said
    assert {len(line) for line in re.findall(r"[━┈]{12} 1/4 [^\n\r\x1b]*", said)} == {39}


def test_where_nothing_has_run_yet_the_time_is_unknown() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None, _environ={})
    with SweepShow(console, PLAN, []) as show:
        show.begin(RUNS)

    assert "┈┈┈┈┈┈┈┈┈┈┈┈ 0/4 runs · ? left" in console.file.getvalue()


@pytest.mark.parametrize(("seconds", "read"), [(float("nan"), "?"), (9.6, "0:10"), (125, "2:05"), (3725, "1:02:05")])
def test_a_duration_is_read_as_a_clock(seconds: float, read: str) -> None:
    assert clock(seconds) == read
