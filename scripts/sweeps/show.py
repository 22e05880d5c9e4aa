"""What a sweep says while it goes: a line per run that ended, and on a terminal one that moves."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from scripts.command.console import MovingLine, clock
from scripts.runs.observe import Progress
from scripts.sweeps.journal import Entry
from scripts.sweeps.plan import PlannedRun, SweepPlan

BAR_WIDTH = 12


class SweepShow(MovingLine):
    """Shows a sweep.

    Parameters
    ----------
    console : Console
        Where; no terminal gets the lines of ended runs only.
    plan : SweepPlan
        What is carried out.
    entries : sequence of Entry
        Runs that ended before: how long a setting takes is known from them.
    """

    def __init__(
        self,
        console: Console,
        plan: SweepPlan,
        entries: Sequence[Entry],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(console)
        self._plan = plan
        self._now = now
        self._total = len(plan.settings) * plan.repeat
        self._ended = list(entries)
        self._left: list[PlannedRun] = []
        self._label_width = max(len(plan.label(setting)) for setting in plan.settings)

    def begin(self, left: Sequence[PlannedRun]) -> None:
        """Show that the first of the runs that are left begins."""
        self._left = list(left)
        self._began_s = self._now()
        self._move("starting")

    @contextmanager
    def line(self, _: Console) -> Iterator["SweepShow"]:
        """Be what shows how far a run is; see `scripts.runs.perform.run_in`."""
        yield self

    def show(self, progress: Progress) -> None:
        """Show how far the run is."""
        if progress.world_size is None:
            self._move("planning")
        else:
            self._move(f"ranks {progress.done}/{progress.world_size}")

    def end(self, entry: Entry) -> None:
        """Print the line of a run that ended."""
        self._ended.append(entry)
        self._left = self._left[1:]
        line = self._ended_line(entry)
        if self._live:
            line.truncate(self._console.width - 1, overflow="ellipsis")
        self._console.print(line, soft_wrap=True)

    # ------------------------------------------------------------------------------------- what it says

    def _ended_line(self, entry: Entry) -> Text:
        run, width = entry.run, len(str(self._total))
        done = self._total - len(self._left)
        line = Text(f"{done:>{width}}/{self._total}  {run.setting:<{self._label_width}}  #{run.repeat + 1}  ")
        if run.state == "failed":
            return line.append("failed", "bold red").append(f": {run.error}: {_first_line(run.message)}")
        line.append(f"{run.end_to_end_s:7.2f} s {run.end_to_end_per_s:9,.1f}/s")
        if run.state == "incomplete":
            line.append(f"  {run.num_lost_ranks} ranks lost", "bold")
        if not self._live and self._left:
            line.append(f"  {clock(self._seconds_left())} left", "dim")
        return line

    def _move(self, doing: str) -> None:
        if not self._live:
            return
        done = self._total - len(self._left)
        filled = round(BAR_WIDTH * done / self._total)
        running = self._plan.label(self._left[0].setting)
        line = Text.assemble(
            ("━" * filled, "green"),
            ("┈" * (BAR_WIDTH - filled), "dim"),
            f" {done}/{self._total} runs · {clock(self._seconds_left())} left · {running} · {doing}",
        )
        line.truncate(self._console.width - 1, overflow="ellipsis")
        self._live.update(line, refresh=True)

    def _seconds_left(self) -> float:
        """Estimate from the runs of the same setting, or of all where it has not run."""
        if not self._ended:
            return float("nan")
        every = statistics.mean(entry.elapsed_s for entry in self._ended)
        known: dict[object, list[float]] = {}
        for entry in self._ended:
            known.setdefault(entry.planned, []).append(entry.elapsed_s)
        expected = [statistics.median(known.get(planned.setting, [every])) for planned in self._left]
        return max(0.0, sum(expected) - (self._now() - self._began_s if self._live else 0.0))


def _first_line(message: str) -> str:
    return message.splitlines()[0] if message else "no message"
