"""``import.json``: what was imported, from where, and what can be said of it without our own keys."""

import hashlib
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec

from inference.contract import BITS_PER_ROW
from scripts.runs.imported.checks import check, expected_ranks
from scripts.runs.imported.file import TIME_KEY, Record


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """A run of which only its records are known; what they do not say is null."""

    run_id: str
    """Its folder under ``runs/``."""

    source: str
    """The file it came from."""

    source_sha256: str
    """Checksum of that file."""

    num_records: int
    """Records in it."""

    num_ranks_expected: int | None
    """Ranks of the run, as the user or the records state them."""

    num_samples: int | None
    """Galaxies: every rank's rate times its time, summed."""

    sum_of_rank_rates_per_s: float | None
    """The published definition [galaxies/s]."""

    sum_of_rank_rates_bit_per_s: float | None
    """The same at 164,160 bits per galaxy [bit/s]."""

    loop_median_s: float | None
    """Median of ``total_cpu_time (seconds)`` [s]."""

    loop_max_s: float | None
    """Longest [s]: the Map cannot have been shorter."""

    process_memory_max_mb: float | None
    """Largest ``total_process_memory (MB)`` [MiB]."""

    batch_sizes: tuple[int, ...]
    """Galaxies per batch."""

    warnings: tuple[str, ...]
    """What is wrong or doubtful, in sentences."""


def describe(records: Sequence[Record], source: Path, *, run_id: str, expected: int | None) -> Imported:
    """Return what a file of records says.

    Parameters
    ----------
    records : sequence of dict
        As `read_published` returns them.
    source : Path
        Where they were read from.
    run_id : str
        What the run is called here.
    expected : int or None
        Ranks of the run, where the user knows.
    """
    times_s = _numbers(records, TIME_KEY)
    rates = [rate for record in records if (rate := _rate(record)) is not None]
    samples = [round(rate * record[TIME_KEY]) for record in records if (rate := _rate(record)) and record.get(TIME_KEY)]
    memory = _numbers(records, "total_process_memory (MB)")
    is_whole = len(rates) == len(records)
    return Imported(
        run_id=run_id,
        source=str(source),
        source_sha256=hashlib.sha256(source.read_bytes()).hexdigest(),
        num_records=len(records),
        num_ranks_expected=expected or expected_ranks(records),
        num_samples=sum(samples) if len(samples) == len(records) else None,
        sum_of_rank_rates_per_s=sum(rates) if is_whole else None,
        sum_of_rank_rates_bit_per_s=sum(rates) * BITS_PER_ROW if is_whole else None,
        loop_median_s=statistics.median(times_s) if times_s else None,
        loop_max_s=max(times_s, default=None),
        process_memory_max_mb=max(memory, default=None),
        batch_sizes=tuple(sorted({int(size) for size in _numbers(records, "batch_size")})),
        warnings=tuple(check(records, expected=expected)),
    )


def _rate(record: Record) -> float | None:
    """Return a rank's rate [galaxies/s], from whichever key states it."""
    if record.get("sample_persec") is not None:
        return float(record["sample_persec"])
    if record.get("throughput_bps") is not None:
        return float(record["throughput_bps"]) / BITS_PER_ROW
    per_batch, batch_size = record.get("execution_time (seconds/batch)"), record.get("batch_size")
    return float(batch_size) / float(per_batch) if per_batch and batch_size else None


def _numbers(records: Sequence[Record], key: str) -> list[float]:
    return [float(record[key]) for record in records if record.get(key) is not None]
