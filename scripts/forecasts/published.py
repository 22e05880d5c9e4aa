"""Published runs of another system, as a table."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.contract import BITS_PER_ROW
from scripts.command.errors import UsageError
from scripts.command.variables import read_text
from scripts.forecasts.constants import Array

COLUMNS = ("partition_mb", "data_gb", "batch_size", "ranks", "end_to_end_s", "map_s")


@dataclass(frozen=True)
class Runs:
    """Published runs: arrays of shape (N,)."""

    shard_mb: Array
    data_gb: Array
    batch_size: Array
    num_ranks: Array
    end_to_end_s: Array
    map_s: Array

    def __len__(self) -> int:
        return len(self.map_s)

    def __getitem__(self, which: NDArray[Any]) -> "Runs":
        return Runs(*(getattr(self, name)[which] for name in self.__dataclass_fields__))

    @cached_property
    def num_rows(self) -> Array:
        """Galaxies of a rank, which reads one shard."""
        return np.round(self.shard_mb * 2**20 / (BITS_PER_ROW / 8))

    @cached_property
    def num_batches(self) -> Array:
        """Batches of a rank."""
        return np.ceil(self.num_rows / self.batch_size)

    @property
    def cells(self) -> list[tuple[float, float]]:
        """Shard size [MB] and data size [GB] of every cell, sorted: a cell is predicted by the others, as a whole."""
        return sorted({(float(mb), float(gb)) for mb, gb in zip(self.shard_mb, self.data_gb, strict=True)})

    def in_cell(self, cell: tuple[float, float]) -> NDArray[np.bool_]:
        """Return which runs are of a cell, as bool."""
        return np.asarray((self.shard_mb == cell[0]) & (self.data_gb == cell[1]))


def read_runs(path: Path) -> Runs:
    """Read a table of published runs.

    Raises
    ------
    UsageError
        If it is missing, has no run, lacks a column, or a value is no positive number; the message names the line.
    """
    rows = list(csv.DictReader(io.StringIO(read_text("FILE", path))))
    if not rows:
        raise UsageError(f"FILE={path} holds no run: it is a CSV with the columns {', '.join(COLUMNS)}.")
    if missing := [name for name in COLUMNS if name not in rows[0]]:
        raise UsageError(f"FILE={path} has no column {missing[0]}; it needs {', '.join(COLUMNS)}.")
    numbers = [[_number(path, line, name, row[name]) for row, line in _numbered(rows)] for name in COLUMNS]
    found = Runs(*map(np.array, numbers))
    if (backwards := found.map_s >= found.end_to_end_s).any():
        line = int(np.flatnonzero(backwards)[0]) + 2
        raise UsageError(f"FILE={path}, line {line}: the Map takes as long as the whole run or longer.")
    return found


def _numbered(rows: Sequence[dict[str, str]]) -> Iterator[tuple[dict[str, str], int]]:
    # The first line names the columns.
    return ((row, line) for line, row in enumerate(rows, start=2))


def _number(path: Path, line: int, name: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise UsageError(f"FILE={path}, line {line}: `{name}` is {text!r}, not a number above 0.")
    return value
