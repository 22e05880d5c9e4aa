"""The live line: one line on stderr that says how far a run is."""

import time
from collections.abc import Callable
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from scripts.command.console import MovingLine, clock
from scripts.runs.observe import Progress

PLAIN_LINE_S = 3.0
"""Shortest time between two lines where no line can be rewritten [s]."""

UNCHANGED_LINE_S = 15.0
"""The same while nothing but the time has changed [s]."""


def live_line(progress: Progress, width: int) -> str:
    """Return the line, without what does not fit into `width` columns, the least important first."""
    if progress.world_size is None:
        return f"planning · {clock(int(progress.elapsed_s))}"
    settled = progress.done + progress.failed
    settled_stage = "meeting" if progress.is_talking else "summarizing"
    stage = settled_stage if settled == progress.world_size else f"{progress.running} running"
    # (importance, text); the order is the order on the line.
    parts = [
        (0, f"ranks {progress.done}/{progress.world_size} done"),
        (3, stage),
        (1 if progress.failed else 5, f"{progress.failed} failed"),
        (2 if progress.retried else 6, f"{progress.retried} retried"),
        (4, f"rows {progress.rows_done:,}/{progress.num_rows:,}"),
        (2, f"{progress.rows_per_s:,.0f} rows/s"),
        (1, clock(int(progress.elapsed_s))),
    ]
    while len(line := " · ".join(text for _, text in parts)) > width and len(parts) > 1:
        parts.remove(max(parts))
    return line


class LiveLine(MovingLine):
    """Shows the newest line: rewritten in place on a terminal, printed every few seconds elsewhere."""

    def __init__(self, console: Console, *, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console)
        self._now = now
        self._shown: Progress | None = None
        self._shown_s = -UNCHANGED_LINE_S
        self._newest: Progress | None = None

    def __exit__(self, *_: object) -> None:
        """Remove the line from the terminal; elsewhere print the last one if it was held back."""
        super().__exit__()
        if not self._live and self._newest is not None and self._newest != self._shown:
            self._print(self._newest)

    def show(self, progress: Progress) -> None:
        """Show how far the run is."""
        self._newest = progress
        if self._live:
            line = live_line(progress, self._console.width - 1)
            self._live.update(Text(line, no_wrap=True), refresh=True)
            return
        pause_s = UNCHANGED_LINE_S if _is_same(progress, self._shown) else PLAIN_LINE_S
        if self._now() - self._shown_s >= pause_s:
            self._print(progress)

    def _print(self, progress: Progress) -> None:
        print(live_line(progress, self._console.width), file=self._console.file, flush=True)
        self._shown, self._shown_s = progress, self._now()


def _is_same(progress: Progress, shown: Progress | None) -> bool:
    """Return whether only the time has changed."""
    return shown is not None and replace(progress, elapsed_s=shown.elapsed_s, rows_per_s=shown.rows_per_s) == shown
