"""What a command says while it works, on stderr."""

import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Self, TypeVar

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

Row = TypeVar("Row")
Column = tuple[int, str, Callable[[Row], str]]
"""Importance (the highest goes first where a table is too wide), title, text of a cell."""


class MovingLine:
    """One line that is rewritten in place on a terminal; elsewhere there is none."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        """Begin."""
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the line."""
        if self._live:
            self._live.stop()


def counted(num: int, noun: str) -> str:
    """Return a number of things: ``1 shard``, ``3,033 galaxies``."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{num:,} {noun if num == 1 else plural}"


def fact(name: str, text: str) -> str:
    """Return a name and what is known under it, as wide as the screen, further lines indented."""
    return textwrap.fill(
        f"{name:<10} {text}",
        Console().width,
        subsequent_indent=" " * 11,
        break_long_words=False,
        break_on_hyphens=False,
    )


def megabytes(num_bytes: float) -> str:
    """Return a size in MB, or in kB where it is small."""
    return f"{num_bytes / 1e6:,.0f} MB" if num_bytes >= 1e7 else f"{max(num_bytes, 1e3) / 1e3:,.0f} kB"


def clock(seconds: float) -> str:
    """Return a duration as one reads it: ``2:05`` minutes, ``1:02:05`` hours, or ``?``."""
    if seconds != seconds:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def fitting_table(columns: Sequence[Column[Row]], rows: Sequence[Row], width: int) -> Table:
    """Return a table without columns that are empty, and without the least important ones where `width` has no room."""
    texts = {column: [column[2](row) for row in rows] for column in columns}
    shown = [column for column in columns if any(texts[column])]
    while sum(max(len(column[1]), *map(len, texts[column])) + 2 for column in shown) > width and len(shown) > 3:
        shown.remove(max(shown, key=lambda column: column[0]))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, (_, title, _cell) in enumerate(shown):
        table.add_column(Text(title, "dim"), justify="right" if number else "left", no_wrap=True)
    for cells in zip(*(texts[column] for column in shown), strict=True):
        table.add_row(*map(Text, cells))
    return table


@contextmanager
def step(console: Console, name: str, *, spinner: bool = True) -> Iterator[list[str]]:
    """Say what took how long, in one line; the block may append facts."""
    facts: list[str] = []
    began_s = time.monotonic()
    with console.status(name) if spinner else nullcontext():
        yield facts
    text = f"{name:<10} {' '.join(facts) or 'ready'} ({time.monotonic() - began_s:.1f} s)"
    console.print(text, markup=False, soft_wrap=True)


def progress_bar() -> Progress:
    """Make bars on stderr that count galaxies and vanish when done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True, highlight=False)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
