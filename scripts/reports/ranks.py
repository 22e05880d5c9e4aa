"""What the ranks of a run reported, as columns; what a record does not say is NaN."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference.contract import BITS_PER_ROW
from inference.run_folder import PartialRecord

Array = NDArray[np.float64]

PHASES = ("queue", "init", "model_load", "download", "inference", "upload", "record")
"""Phases of a rank in the order in which they begin. `queue` includes `init` when the process was started for it."""

NAN = float("nan")


@dataclass(frozen=True)
class Ranks:
    """The records of a run and their numbers as columns, one value per record."""

    records: Sequence[PartialRecord]
    columns: dict[str, Array]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    def has(self, *names: str) -> bool:
        """Return whether at least one record has each of these numbers."""
        return all(bool(np.isfinite(self.columns[name]).any()) for name in names)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the distinct values of a text, in order of their first appearance."""
        return tuple(dict.fromkeys(value for record in self.records if (value := getattr(record, name)) is not None))


def as_columns(records: Sequence[PartialRecord]) -> Ranks:
    """Return records in rank order with their numbers as columns.

    `start` is when a rank entered the Map, in seconds after the first; `seconds` is what Lambda bills, the handler and
    the init before it; `memory_bytes` is the peak, or the published memory of the process where no peak is known.
    """
    ordered = sorted(records, key=lambda record: -1 if record.rank is None else record.rank)
    columns = {name: _column(ordered, name) for name in _NUMBERS}
    for phase in (*PHASES, "total"):
        columns[phase] = np.array([record.clock.get(phase, NAN) for record in ordered], float)
    columns["record"] = np.where(np.isnan(columns["total"]), NAN, np.nan_to_num(columns["record"]))
    unnamed = np.isnan(columns["rank"])
    columns["rank"][unnamed] = np.flatnonzero(unnamed)
    # A published record states its rate under any of three keys.
    for rate in (
        columns["throughput_bps"] / BITS_PER_ROW,
        columns["batch_size"] / columns["execution_time_s_per_batch"],
    ):
        columns["sample_persec"] = np.where(np.isnan(columns["sample_persec"]), rate, columns["sample_persec"])
    rows = columns["sample_persec"] * columns["total_cpu_time_s"]
    columns["num_samples"] = np.where(np.isnan(columns["num_samples"]), np.round(rows), columns["num_samples"])
    columns["seconds"] = columns["total"] + np.nan_to_num(columns["init"])
    start = columns["started_at_s"] - np.nan_to_num(columns["queue"])
    columns["start"] = start - (np.nanmin(start) if np.isfinite(start).any() else 0.0)
    columns["memory_bytes"] = np.where(
        np.isnan(columns["peak_memory_bytes"]),
        columns["total_process_memory_mb"] * 2**20,
        columns["peak_memory_bytes"],
    )
    return Ranks(ordered, columns)


_NUMBERS = tuple(
    field.name
    for field in msgspec.structs.fields(PartialRecord)
    if field.type in (float | None, int | None, bool | None)
)


def _column(records: Sequence[PartialRecord], name: str) -> Array:
    return np.array([getattr(record, name) for record in records], float)  # None becomes NaN
