"""The runs that left a folder here, one line each: how they ended, of what, when, and how good."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
from rich.table import Table

from inference.contract import COMBINED_KEY, MANIFEST_KEY, SUMMARY_KEY
from scripts.command.console import Column, fitting_table
from scripts.runs import journal
from scripts.runs.ending import Ending

T = TypeVar("T")
FILES_OF_A_RUN = (journal.FILE_NAME, "request.json", MANIFEST_KEY, SUMMARY_KEY, COMBINED_KEY, "ranks")
NUM_LISTED = 10
"""Runs that are named when none is."""


class Listed(NamedTuple):
    """One run; empty where something is not known."""

    name: str
    state: str
    dataset: str
    began: str
    num_galaxies: int | None
    nmad: float | None


class _Accuracy(msgspec.Struct):
    nmad: float


class _Request(msgspec.Struct):
    data_prefix: str = ""


class _Summary(msgspec.Struct):
    """As much of a summary as a line needs."""

    complete: bool
    num_samples: int
    request: _Request
    accuracy: _Accuracy | None = None


def runs_here(root: Path) -> list[str]:
    """Return the names of the runs that left a folder, the newest last."""
    return list(_newest_first(root))[::-1]


def newest_here(root: Path) -> list[str]:
    """Return the newest of them, the newest last; what is older is not looked at."""
    return list(islice(_newest_first(root), NUM_LISTED))[::-1]


def is_run(folder: Path) -> bool:
    """Return whether a folder is one that a run left."""
    return any((folder / name).exists() for name in FILES_OF_A_RUN)


def name_runs(names: list[str]) -> str:
    """Return the newest names in words."""
    newest = sorted(set(names), reverse=True)[:NUM_LISTED]
    return ", ".join(newest) or "none"


def listed(root: Path, names: list[str]) -> Iterator[Listed]:
    """Yield what the folders of some runs say."""
    for name in names:
        folder = root / "runs" / name
        entry = journal.read(folder)
        summary = _read(folder / SUMMARY_KEY, _Summary)
        request = summary.request if summary else _read(folder / "request.json", _Request) or _Request()
        began = datetime.fromtimestamp(entry.started_at_s, UTC).strftime("%Y-%m-%d") if entry else ""
        yield Listed(
            name,
            _state(entry, summary),
            request.data_prefix.strip("/").removeprefix("datasets/"),
            began,
            summary.num_samples if summary else None,
            summary.accuracy.nmad if summary and summary.accuracy else None,
        )


COLUMNS: tuple[Column[Listed], ...] = (
    (0, "run", lambda run: run.name),
    (1, "state", lambda run: run.state),
    (4, "dataset", lambda run: run.dataset),
    (3, "began", lambda run: run.began),
    (2, "galaxies", lambda run: f"{run.num_galaxies:,}" if run.num_galaxies is not None else ""),
    (2, "NMAD", lambda run: f"{run.nmad:.4f}" if run.nmad is not None else ""),
)


def as_table(runs: list[Listed], width: int) -> Table:
    """Show runs, one line each."""
    return fitting_table(COLUMNS, runs, width)


def _newest_first(root: Path) -> Iterator[str]:
    """Yield the names of the runs here; they begin with their time."""
    runs = root / "runs"
    names = os.listdir(runs) if runs.is_dir() else []
    return (name for name in sorted(names, reverse=True) if is_run(runs / name))


def _read(path: Path, kind: type[T]) -> T | None:
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=kind)
    return None


def _state(entry: journal.Entry | None, summary: _Summary | None) -> str:
    if entry and not entry.is_over and summary is None:
        return "on AWS" if entry.stack else "running" if entry.is_served else "cut off"
    if summary is not None:
        return "complete" if summary.complete else "incomplete"
    return Ending(entry.status).in_a_word if entry else "unknown"
