"""What a command says, as wide as the screen."""

import os
import re
import sys
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


def say(console: Console, text: str | Text, style: str = "") -> None:
    """Print text; lines that are wider than the screen go on below, indented."""
    styled = text if isinstance(text, Text) else Text(text, style)
    for line in styled.split("\n", allow_blank=True):
        for part in _parts(line, width_of(console)):
            console.print(part, soft_wrap=True)


def say_here(text: str) -> None:
    """Print text on stdout as `say` does."""
    say(Console(highlight=False), text)


def fact(name: str, text: str) -> str:
    """Return a name and what is known under it, as wide as the screen, further lines indented."""
    parts = _parts(Text(f"{name:<10} {text}"), Console().width, indent=11)
    return "\n".join(part.plain for part in parts)


def width_of(console: Console) -> int:
    """Return how wide lines may be: as the screen, or as COLUMNS says, else 80.

    Errors and progress have any width where a program reads them, which looks for words in a line.
    """
    is_read = console.file is sys.stderr and not console.is_terminal
    return sys.maxsize if is_read and not os.environ.get("COLUMNS", "").isdecimal() else console.width


GAP = re.compile(r"(?<=\S) {2,}(?=\S)")
"""Between columns, or a name and what is said of it."""


def _parts(line: Text, width: int, indent: int = 0) -> list[Text]:
    """Cut a line between words, which stay whole, and indent what follows the first part.

    It goes on below where the last column begins; where that is far to the right, a little further in than the first.
    """
    if line.cell_len <= width:
        return [line]
    plain = line.plain.rstrip()
    begin = len(plain) - len(plain.lstrip())
    columns = [gap.end() for gap in GAP.finditer(plain)]
    if indent:
        columns = [indent]
    indent = columns[-1] if columns and columns[-1] <= 0.6 * width else min(begin, 2 if columns else width // 2) + 2
    cuts: list[int] = []
    start, room = 0, width
    while len(plain) - start > room:
        first = max(begin, indent if indent in columns else 0) if not cuts else start
        # Rather between columns than between words, rather a word too wide than in two.
        found = [end for end in columns if first < end <= start + room + 1 and end != indent]
        cut = found[-1] if found else plain.rfind(" ", first + 1, start + room + 1) + 1
        cut = cut or plain.find(" ", first + 1) + 1
        if not cut:
            break
        cut += len(plain[cut:]) - len(plain[cut:].lstrip())
        cuts.append(cut)
        start, room = cut, max(width - indent, 1)
    parts = line.divide(cuts)
    for part in parts:
        part.rstrip()
    return [parts[0], *(Text(" " * indent).append_text(part) for part in parts[1:])]


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
    while sum(max(len(column[1]), *map(len, texts[column])) + 2 for column in shown) > width and len(shown) > 2:
        shown.remove(max(shown, key=lambda column: column[0]))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in shown:
        is_text = any(cell[:1].isalpha() for cell in texts[column])
        table.add_column(Text(column[1], "dim"), justify="left" if is_text else "right", no_wrap=True)
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
    say(console, text)


def progress_bar() -> Progress:
    """Make bars on stderr that count galaxies and vanish when done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
