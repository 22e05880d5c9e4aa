"""One run, and one rank, as a row of a sweep's tidy tables: its settings, then the numbers of its own files."""

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec
import numpy as np

from inference.contract import RankClock, RankRecord, RunClock, RunSummary, Throughput
from inference.run_folder import RunFolder, read_summary
from scripts.pricing.cost import Rates
from scripts.pricing.prices import bill_of
from scripts.runs.ending import Ending

UNITS: dict[type, str] = {RunClock: "_s", RankClock: "_s", Throughput: "_per_s"}
"""What the columns of these structs end in: their fields' names leave the unit out."""

RENAMED = {
    "engines": "engines_used",
    "image_digests": "image_digest",
    "code_versions": "code_version",
    "total_cpu_time_s": "loop_s",
    "total_cpu_memory_mb": "profiled_memory_mb",
    "total_process_memory_mb": "process_memory_mb",
    "sample_persec": "samples_per_s",
    "throughput_bps": "throughput_bit_per_s",
}
"""Fields of `RunSummary` and `RankRecord` whose column has a clearer name."""

LEFT_OUT = ("request", "notes", "comm")


class Column(NamedTuple):
    """A number or text of a nested struct."""

    name: str
    """``inference_s`` for ``clock.inference``: the field's own name, with its unit."""

    path: tuple[str, ...]
    """Names of the fields that lead to it."""

    kind: type
    """``bool``, ``int``, ``float`` or ``str``."""


def columns_of(struct: type[msgspec.Struct], path: tuple[str, ...] = ()) -> Iterator[Column]:
    """Yield the columns of a struct and those in it; of its lists only those of texts, of its mappings none."""
    for field in msgspec.structs.fields(struct):
        kind, here = plain(field.type), (*path, field.name)
        if field.name in LEFT_OUT:
            continue
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            yield from columns_of(kind, here)
        elif kind in (bool, int, float, str):
            # Shares and counts have no unit; they are optional or integers.
            unit = UNITS.get(struct, "") if field.type is float and not field.name.endswith("_per_s") else ""
            name = RENAMED.get(field.name) or re.sub("_time$", "_s", field.name) + unit
            yield Column(name, here, kind)
        elif kind == tuple[str, ...]:
            yield Column(RENAMED.get(field.name, field.name), here, str)


def flatten(struct: msgspec.Struct) -> dict[str, Any]:
    """Return the columns of a struct; what it leaves out is absent."""
    found = {column.name: _at(struct, column.path) for column in columns_of(type(struct))}
    return {name: value for name, value in found.items() if value is not None}


def plain(kind: Any) -> Any:
    """Return a type without its constraints and without None."""
    if get_origin(kind) is Annotated:
        return plain(get_args(kind)[0])
    if isinstance(kind, types.UnionType):
        return next(plain(member) for member in get_args(kind) if member is not types.NoneType)
    return kind


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = None if value is None else getattr(value, name)
    return ", ".join(value) if isinstance(value, tuple) else value


def _measured(struct: type[msgspec.Struct]) -> Any:
    """Return a struct with the columns of another one: a count that was not reached is 0, a text "", the rest None."""
    fields: list[tuple[str, Any, Any]] = []
    for column in columns_of(struct):
        if column.kind is str:
            fields.append((column.name, str, ""))
        elif column.name.startswith("num_"):
            fields.append((column.name, int, 0))
        else:
            fields.append((column.name, column.kind | None, None))
    options: dict[str, Any] = {"frozen": True, "kw_only": True, "forbid_unknown_fields": True, "omit_defaults": True}
    return msgspec.defstruct(f"{struct.__name__}Columns", fields, **options)


# Made from the contract, so that no field is written down twice; a type checker takes their fields for Any.
RunColumns: Any = _measured(RunSummary)
RankColumns: Any = _measured(RankRecord)


class RunRow(RunColumns, frozen=True, kw_only=True):  # type: ignore[misc, call-arg]
    """``runs.parquet``, ``runs.csv``: one run; a field is a column, None an empty cell.

    After the columns below come those of `inference.contract.RunSummary`, see `columns_of`: ``clock.map`` is ``map_s``,
    ``throughput.map_wall`` is ``map_wall_per_s``, the phases are summed over the ranks, lists of texts have commas.
    """

    sweep: str
    """Name of the sweep."""

    setting: str
    """What varies in the sweep, as typed: ``WORLD=8 BATCH=32``. Runs with the same text are repeats of each other."""

    repeat: int
    """Number among its repeats, from 0."""

    position: int
    """Place in the order in which the sweep ran, from 0."""

    run_id: str
    """The run's folder under ``runs/``; empty when it could not be started."""

    state: Literal["complete", "incomplete", "failed"] = "failed"
    """``incomplete``: ranks were lost, as many as tolerated."""

    error: str = ""
    """Class name of the error of a failed run."""

    message: str = ""
    """What it said."""

    target: str
    """``local`` or ``aws``."""

    started_at_s: float
    """When it was started [s since the epoch]."""

    world_size: int | None
    """Ranks; of a run that failed, the ranks asked for."""

    batch_size: int
    """Galaxies per batch."""

    dataset: str
    """Dataset and partition, ``sdss/10MB``."""

    shard_mb: int | None
    """Largest size of its shards [MiB]; empty when the partition's name does not say it."""

    file_limit: int | None
    """Only the first n shards; empty: all."""

    memory_mb: int
    """Configured memory of a rank [MB]."""

    engine: str
    """Library that was asked for."""

    precision: str
    """Precision that was asked for."""

    profile: bool
    """True under torch's profiler."""

    max_concurrency: int
    """Ranks that the target runs at the same time."""

    data_bytes: int = 0
    """`num_samples` · 20,520: images float32 and magnitudes float64, the published size of a galaxy [bytes]."""

    num_lost_ranks: int = 0
    """Ranks without a valid record."""

    rank_median_s: float | None = None
    """Median of a rank, init included [s]."""

    rank_p95_s: float | None = None
    """95th percentile, by linear interpolation [s]."""

    rank_max_s: float | None = None
    """The slowest rank [s]."""

    list_price_usd: float | None = None
    """What the run costs on AWS at list prices with this memory and these times [USD]. Where `target` is ``local``,
    nothing was paid, and the times are those of this machine."""

    paid_usd: float | None = None
    """What it cost: 0 here, the list price on AWS [USD]."""


class RankRow(RankColumns, frozen=True, kw_only=True):  # type: ignore[misc, call-arg]
    """``ranks.parquet``, ``ranks.csv``: one rank of one run; then the columns of `inference.contract.RankRecord`."""

    sweep: str
    setting: str
    repeat: int
    run_id: str
    dataset: str
    memory_mb: int


Row = RunRow | RankRow


def measure(
    planned: RunRow, ending: Ending, folder: Path, *, rates: Rates, region: str
) -> tuple[RunRow, tuple[RankRow, ...]]:
    """Return the rows of a run that ended, however it did.

    Parameters
    ----------
    planned : RunRow
        Its settings.
    ending : Ending
        How its execution ended.
    folder : Path
        The run's folder on this machine.
    rates, region
        What it costs on AWS.
    """
    summary = read_summary(folder)
    row = msgspec.structs.replace(planned, state=_state(ending, summary))
    if not ending.succeeded:
        row = msgspec.structs.replace(row, error=ending.error or ending.status, message=ending.message)
    if summary is None or not summary.num_records:
        return row, ()
    records = RunFolder(folder).records
    seconds = [record.clock.init + record.clock.total for record in records]
    median_s, p95_s, max_s = (float(value) for value in np.quantile(seconds, [0.5, 0.95, 1.0]))
    usd = bill_of(summary, rates, region).usd
    run = msgspec.structs.replace(
        row,
        **flatten(summary),
        data_bytes=summary.num_samples * summary.throughput.bits_per_row // 8,
        num_lost_ranks=len(summary.lost_ranks),
        rank_median_s=median_s,
        rank_p95_s=p95_s,
        rank_max_s=max_s,
        list_price_usd=usd,
        paid_usd=usd if row.target == "aws" else 0.0,
    )
    same = {name: getattr(run, name) for name in RankRow.__annotations__}
    return run, tuple(RankRow(**same | flatten(record)) for record in records)


def _state(ending: Ending, summary: RunSummary | None) -> Literal["complete", "incomplete", "failed"]:
    if not ending.succeeded or summary is None:
        return "failed"
    return "complete" if summary.complete else "incomplete"
