"""A dataset on disk: shard files of bounded size, their table, and the `dataset.json` that commits them."""

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from msgspec import Meta
from safetensors import SafetensorError
from safetensors.numpy import save_file

from inference import contract
from inference.block import SDSS, Layout
from inference.checksum import file_crc32, file_sha256
from inference.cleaning import is_label
from inference.contract import DatasetCard, ShardEntry
from scripts.command.alone import alone
from scripts.command.console import counted, megabytes
from scripts.command.errors import CommandError
from scripts.command.whole_file import write_whole, written_whole
from scripts.data.cleaning_report import CleaningReport, inspect
from scripts.data.galaxies import UNKNOWN, Galaxies, Origin, read_block
from scripts.data.location import UNFINISHED, read_card, whole_card
from scripts.data.taken import SOURCE_NAME

ShardMb = Annotated[int, Meta(ge=1, le=1024, description="a whole number from 1 to 1024 [MiB]")]
"""Largest size of a shard file."""
DEFAULT_SHARD_MB = 10

BYTES_PER_ROW = 20_536
"""5·32·32 float32 pixels, 5 float64 magnitudes, one float64 redshift, one int64 identifier."""
HEADER_BYTES = 512
"""At least what a safetensors header with the four arrays takes."""
COLUMN_HEADER_BYTES = 160
"""At least what one more array takes there."""

TABLE_ROW_BYTES = 200
"""About what a galaxy takes in both tables."""

MIN_ROWS_PER_PROCESS = 4_000
"""Fewer rows are made sooner than a process starts."""


@dataclass(frozen=True)
class DatasetPlan:
    """What to make and where."""

    galaxies: Galaxies
    root: Path
    """Folder that holds `datasets/`."""
    name: str
    shard_mb: int
    """Largest size of a shard file [MiB]."""
    seed: int
    provenance: str
    origin: Origin = UNKNOWN
    """What holds for all of them."""
    report: CleaningReport = field(default_factory=CleaningReport)
    """What cleaning found while the source was read."""
    description: str = ""
    """What of a source was read as what."""
    source: str = ""
    """Path that they come from, or what makes them; empty where nothing is to be said of it."""
    is_sequential: bool = False
    """Whether the galaxies can only be had from the first to the last, by one process."""

    @property
    def partition(self) -> str:
        """Folder name of shards of this size."""
        return f"{self.shard_mb}MB"

    @property
    def folder(self) -> Path:
        """Where the shards go."""
        return self.root / "datasets" / self.name / self.partition

    @cached_property
    def ranges(self) -> list[tuple[int, int]]:
        """First and last-plus-one galaxy of each shard."""
        size = rows_per_shard(self.shard_mb, self.origin.layout)
        return [(start, min(start + size, len(self.galaxies))) for start in range(0, len(self.galaxies), size)]

    def card(self, shards: Iterable[ShardEntry]) -> DatasetCard:
        """Describe the dataset."""
        return DatasetCard(
            name=self.name,
            partition=self.partition,
            num_rows=len(self.galaxies),
            shards=tuple(shards),
            seed=self.seed,
            provenance=self.provenance,
            **self.origin.card_fields,
        )


def rows_per_shard(shard_mb: int, layout: Layout = SDSS) -> int:
    """Galaxies that fit into a shard file of this many MiB."""
    return (shard_mb * 2**20 - HEADER_BYTES - len(layout.columns) * COLUMN_HEADER_BYTES) // row_bytes(layout)


def row_bytes(layout: Layout) -> int:
    """Return what a galaxy takes in a shard [bytes]."""
    # A redshift, an identifier and the further numbers have 8 bytes each.
    return layout.row_bytes + 8 * (2 + len(layout.columns))


def is_complete(plan: DatasetPlan) -> bool:
    """Return whether this very dataset is on disk: same inputs, and every shard with its size and checksum."""
    return _card_on_disk(plan) is not None


def _card_on_disk(plan: DatasetPlan) -> DatasetCard | None:
    card = read_card(plan.folder)
    names = [_name(index) for index in range(len(plan.ranges))]
    if card is None or card != plan.card(card.shards) or [shard.name for shard in card.shards] != names:
        return None
    return whole_card(plan.folder)


def in_words(card: DatasetCard) -> str:
    """Say how large a dataset is."""
    size = megabytes(sum(shard.size_bytes for shard in card.shards))
    return f"{counted(card.num_rows, 'galaxy')} in {counted(len(card.shards), 'shard')}, {size}"


def make(plan: DatasetPlan, *, processes: int, tick: Callable[[int], None] = lambda _: None) -> DatasetCard:
    """Make a dataset, one shard in flight per process.

    A shard appears under its name only when it is whole, and `dataset.json` only when all shards are: a dataset
    without it is unfinished.

    Parameters
    ----------
    plan : DatasetPlan
        What to make. Everything in its folder that belongs to another dataset is replaced; a complete one, which
        another program may have made while this one waited for it, is kept.
    processes : int
        How many to use at most; the result is the same for any number.
    tick : callable
        Called with the number of new galaxies as shards get ready.

    Returns
    -------
    DatasetCard
        The content of `dataset.json`.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    with alone(plan.folder):
        return _card_on_disk(plan) or _make(plan, processes, tick)


def _make(plan: DatasetPlan, processes: int, tick: Callable[[int], None]) -> DatasetCard:
    # pyarrow takes half a second to import, which a dataset that is there already need not cost.
    from scripts.data.dataset_table import table_files

    _refuse_small_disk(plan)
    (plan.folder / UNFINISHED).touch()
    if plan.source:
        write_whole(plan.folder.parent / SOURCE_NAME, f"{plan.source}\n".encode())
    stale = [contract.DATASET_KEY, *contract.TABLE_KEYS, "*.safetensors*", "*.partial"]
    for path in [path for pattern in stale for path in plan.folder.glob(pattern)]:
        path.unlink()
    entries, report = [], plan.report
    tables = table_files(plan.folder, plan.origin.bands, plan.origin.text_columns)
    with _mapper(plan, processes) as shards, tables as add:
        for shard in shards:
            entries.append(shard.entry)
            add(shard.table)
            report += shard.report
            tick(shard.entry.num_rows)
    card = plan.card(entries)
    write_whole(plan.folder / contract.CLEANING_KEY, report.to_json())
    write_whole(plan.folder / contract.DATASET_KEY, contract.encode(card))
    (plan.folder / UNFINISHED).unlink()
    return card


def _refuse_small_disk(plan: DatasetPlan) -> None:
    needed = len(plan.galaxies) * (row_bytes(plan.origin.layout) + TABLE_ROW_BYTES)
    free = shutil.disk_usage(plan.folder).free
    if needed > free:
        raise CommandError(
            f"{plan.folder} would take {megabytes(needed)}, and {megabytes(free)} are free there. Make fewer "
            "galaxies, or clone the repository on a larger disk."
        )


class _Written(NamedTuple):
    """A shard on disk, and its part of the dataset's other files."""

    entry: ShardEntry
    table: Any
    report: CleaningReport


@contextmanager
def _mapper(plan: DatasetPlan, processes: int) -> Iterator[Iterator[_Written]]:
    """Yield all shards in order, made here or by a pool of processes."""
    jobs = range(len(plan.ranges))
    processes = 1 if plan.is_sequential else processes
    processes = min(processes, len(jobs), len(plan.galaxies) // MIN_ROWS_PER_PROCESS)
    if processes <= 1:
        yield (_write_shard(plan, index) for index in jobs)
        return
    # New processes, not forked ones: numpy reads how many threads it may use only when it is first imported.
    context = multiprocessing.get_context("spawn")
    with _one_thread_each(), context.Pool(processes, initializer=_adopt, initargs=(plan,)) as pool:
        yield pool.imap(_write_adopted_shard, jobs)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes started meanwhile compute with one thread; more of them would only compete."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(before, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_adopted: list[DatasetPlan] = []


def _adopt(plan: DatasetPlan) -> None:
    _adopted[:] = [plan]


def _write_adopted_shard(index: int) -> _Written:
    return _write_shard(_adopted[0], index)


def _write_shard(plan: DatasetPlan, index: int) -> _Written:
    from scripts.data.dataset_table import make_table

    start, stop = plan.ranges[index]
    rows, facts = read_block(plan.galaxies, start, stop), plan.galaxies.facts(start, stop)
    bands, columns = plan.origin.bands, plan.origin.columns
    magnitudes, quality, report = inspect(rows.images, rows.magnitudes, rows.redshifts, facts.quality, bands)
    labels = np.where(is_label(rows.redshifts), rows.redshifts, np.nan)
    path = plan.folder / _name(index)
    with written_whole(path) as partial:
        arrays = replace(rows, redshifts=labels).arrays(columns)
        # safetensors writes memory as it is, in whatever order the axes are there.
        try:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, partial)
        except SafetensorError as error:  # of a disk that is full, or a folder that is gone
            raise OSError(f"{path} cannot be written: {error}") from error
        partial.chmod(0o644)  # safetensors makes files that only their owner may read
    assert path.stat().st_size <= plan.shard_mb * 2**20, f"{path} is larger than {plan.shard_mb} MiB"
    entry = ShardEntry(
        name=path.name,
        num_rows=stop - start,
        size_bytes=path.stat().st_size,
        sha256=file_sha256(path),
        crc32=file_crc32(path),
    )
    return _Written(entry, make_table(rows.object_id, facts, magnitudes, quality, labels, bands), report)


def _name(index: int) -> str:
    return f"{index}.safetensors"
