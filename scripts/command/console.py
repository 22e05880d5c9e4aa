"""What a command says while it works, on stderr."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


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
