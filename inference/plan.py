"""Deals every row of a dataset to exactly one rank, and refuses what cannot fit before anything runs."""

import bisect
import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence

import msgspec

from inference import contract
from inference.contract import Payload, RankTask, RowRange, RunRequest
from inference.errors import DatasetNotFoundError, PlanError
from inference.made import Made
from inference.models.card import ModelCard

SHARD_SUFFIXES = (".safetensors", ".pt", ".npz")
ROW_BYTES = contract.BITS_PER_ROW // 8
"""One galaxy as published: 5·32·32 float32 and 5 float64."""

# What one Infer process needs, measured on the torch engine and rounded up.
PROCESS_MEMORY_BYTES = 620 * 2**20
BLOCK_MEMORY_BYTES = 64 * 2**20
WHOLE_SHARD_COPIES = 2
MIN_BLOCK_ROWS = 32
"""Galaxies of a block at least, one micro-batch."""
ACTIVATION_BYTES_PER_SAMPLE = 600_000

NUM_BLOCKS = 6
"""Blocks of cutouts that memory holds at most: read ahead, joined and cleaned."""

# Slower than any rank measured on one vCPU, so that the timeout is never the surprise.
SAMPLES_PER_S_PER_VCPU = 100
MAX_ROWS_PER_S = 2_000
"""However fast a network is, its rows are read and cleaned, and their errors found: a rank does four times as many."""
UNSURE = 2
"""A network that was measured elsewhere may be so much slower here."""
START_S = 20
MEETING_S = 10

DEADLINE_FACTOR = 4
"""A rank is invoked again when its rows have taken so many times longer than they should."""
SHORTEST_DEADLINE_S = 60
MB_PER_VCPU = 1769

# A state payload holds at most 256 KiB; the rest of the event and the failure that Catch adds stay below the margin.
MAX_TASK_BYTES = 256 * 2**10 - 24 * 2**10

MAX_MANIFEST_BYTES = 10 * 10**9
"""What a Distributed Map reads of one object, at most.

https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
"""


class Shard(Payload, frozen=True, kw_only=True):
    """One shard as the plan sees it."""

    key: str
    """Object key in the data bucket."""

    num_rows: int
    """Galaxies in it."""

    size_bytes: int
    """Size of the object [bytes]."""

    etag: str
    """Entity tag of the object."""

    sha256: str | None = None
    """Checksum of the file as ``dataset.json`` states it."""

    crc32: bytes = b""
    """Checksums of its parts as ``dataset.json`` states them."""

    @property
    def has_ranged_rows(self) -> bool:
        """True when rows can be read without the rest of the file."""
        return self.key.endswith(".safetensors")


class Demand(Payload, frozen=True, kw_only=True):
    """What a model needs of a process; without arguments, AstroMAE."""

    process_memory_bytes: int = PROCESS_MEMORY_BYTES
    """Memory of a process with it, blocks of galaxies excepted [bytes]."""

    block_memory_bytes: int = BLOCK_MEMORY_BYTES
    """Memory of the blocks [bytes]."""

    rows_per_s: float = SAMPLES_PER_S_PER_VCPU
    """Galaxies per second of one vCPU, rather fewer [1/s]."""

    @classmethod
    def of(cls, card: ModelCard) -> "Demand":
        """Take it from a card: what was measured, where something was."""
        measured = (card.process_memory_mb or 0) * 2**20
        return cls(
            process_memory_bytes=max(measured, PROCESS_MEMORY_BYTES),
            block_memory_bytes=max(NUM_BLOCKS * MIN_BLOCK_ROWS * card.inputs.row_bytes, BLOCK_MEMORY_BYTES),
            rows_per_s=min(card.rows_per_s / UNSURE, MAX_ROWS_PER_S) if card.rows_per_s else SAMPLES_PER_S_PER_VCPU,
        )


MAX_CHILDREN = 10_000
"""Children that a Distributed Map runs at the same time.

https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
"""


class Limits(Payload, frozen=True, kw_only=True):
    """What one Infer function may use."""

    qualifier: str = "$LATEST"
    """Version or alias of it that has this memory and timeout."""

    memory_mb: int
    """Configured memory [MB]."""

    timeout_s: int
    """Configured timeout [s]."""

    max_concurrency: int | None = None
    """Ranks that can be alive at the same time; None when the deployment does not say."""

    starts_per_s: float = 100.0
    """Ranks that are started in a second."""

    @property
    def num_vcpus(self) -> int:
        """Whole vCPUs that Lambda grants for the memory, at least one."""
        return max(1, self.memory_mb // MB_PER_VCPU)


def is_shard(name: str) -> bool:
    """Tell whether a file is a shard by its name; systems make files like ``._0.safetensors`` next to ours."""
    return name.endswith(SHARD_SUFFIXES) and not name.startswith(".")


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Sort key that puts ``2.safetensors`` before ``10.safetensors``."""
    # Texts and the numbers between them, in turn; the name itself, because 1 and 01 are one number.
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def select_shards(keys: Iterable[str], prefix: str, *, file_limit: int | None) -> list[str]:
    """Choose the shards directly in the folder `prefix`, in natural order.

    Raises
    ------
    DatasetNotFoundError
        If the folder is empty, missing, or holds no shard.
    """
    keys = list(keys)
    if not keys:
        raise DatasetNotFoundError(
            f"There is nothing under {prefix}. Check data_bucket and data_prefix; `make dataset` makes one."
        )
    names = [key[len(prefix) :] for key in keys]
    shards = sorted((name for name in names if "/" not in name and is_shard(name)), key=natural_order)
    if not shards:
        raise DatasetNotFoundError(
            f"{prefix} holds {len(keys)} objects and folders (first {keys[0]}) but no shard directly in it; shards end "
            f"in {', '.join(SHARD_SUFFIXES)}. Point data_prefix at the folder that holds them."
        )
    return [prefix + name for name in shards[:file_limit]]


def first_rows(shards: Sequence[Shard], row_limit: int | None) -> list[Shard]:
    """Return the shards that hold the first rows, the last of them with those rows alone; all without a limit."""
    if row_limit is None:
        return list(shards)
    starts = itertools.accumulate((shard.num_rows for shard in shards), initial=0)
    return [
        msgspec.structs.replace(shard, num_rows=min(shard.num_rows, row_limit - start))
        for shard, start in zip(shards, starts, strict=False)
        if start < row_limit
    ]


def plan_tasks(
    request: RunRequest,
    shards: Sequence[Shard],
    limits: Limits,
    *,
    run_id: str,
    demand: Demand | None = None,
    bands: tuple[str, ...] | None = None,
) -> Sequence[RankTask]:
    """Make one task per rank so that every row of `shards` belongs to exactly one.

    Parameters
    ----------
    request : RunRequest
        With `world_size` and `result_path` filled in.
    shards : sequence of Shard
        In dataset order.
    limits : Limits
        Memory and timeout of the Infer function.
    run_id : str
        Name of the execution.
    demand : Demand, optional
        Of the model.
    bands : tuple of str, optional
        Bands of the shards, where the dataset says them.

    Returns
    -------
    sequence of RankTask
        In rank order, each made when it is asked for. Loads differ by at most one row when all shards allow ranged
        reads; otherwise, and while there are at least as many shards as ranks, every shard goes whole to one rank.

    Raises
    ------
    PlanError
        If there are more ranks than rows, a rank exceeds the memory, the timeout or the state payload, or all of them
        what the Map reads.
    """
    assert request.world_size is not None, "the caller fills in the default"
    assert request.result_path is not None, "the caller fills in the default"
    demand, world_size, run_prefix = demand or Demand(), request.world_size, request.result_path
    dealt = deal(shards, world_size)

    def task_of(rank: int) -> RankTask:
        rows = dealt[rank]
        return RankTask(
            run_id=run_id,
            bucket=request.bucket,
            data_bucket=request.data_bucket or request.bucket,
            run_prefix=run_prefix,
            rank=rank,
            world_size=world_size,
            rows=rows,
            num_samples=sum(part.num_rows for part in rows),
            batch_size=request.batch_size,
            profile=request.profile,
            engine=request.engine,
            precision=request.precision,
            bands=bands,
            qualifier=limits.qualifier,
            # A second invocation would stand in the way of ranks that meet: a rank is there once.
            deadline_s=_deadline_s(rows, limits, demand)
            if request.backup and not request.fmi_enabled
            else contract.NO_DEADLINE_S,
            **contract.rank_keys(run_prefix, rank),
        )

    _refuse_what_cannot_fit(dealt, task_of, shards, limits, demand)
    return Made(world_size, task_of)


def meet_by_s(tasks: Sequence[RankTask], limits: Limits, *, now_s: float, demand: Demand | None = None) -> float:
    """Return until when ranks wait for each other: all are started by then, and the slowest one is done.

    Parameters
    ----------
    tasks : sequence of RankTask
        The plan.
    limits : Limits
        Memory of the Infer function, and how many ranks it runs and starts.
    now_s : float
        When the first rank can be started [s since the epoch].
    demand : Demand, optional
        Of the model.

    Raises
    ------
    PlanError
        If not all ranks can be alive at once: the first would wait for some that start only when they end.
    """
    world_size = len(tasks)
    if limits.max_concurrency is not None and world_size > limits.max_concurrency:
        raise PlanError(
            f"fmi_enabled needs all {world_size} ranks alive at the same time, and at most {limits.max_concurrency} "
            f"can be. Use world_size {limits.max_concurrency} or less, allow more at once, or leave fmi_enabled out."
        )
    slowest_s = max(_seconds(task, limits, demand or Demand()) for task in tasks)
    return now_s + world_size / limits.starts_per_s + slowest_s + MEETING_S


def deal(shards: Sequence[Shard], world_size: int) -> Sequence[tuple[RowRange, ...]]:
    """Cut the rows of all shards, end to end, into `world_size` consecutive parts, each made when it is asked for.

    Raises
    ------
    PlanError
        If there are more ranks than rows, or a shard has no number of rows.
    """
    ends = [0]
    for shard in shards:
        if not isinstance(shard.num_rows, int) or shard.num_rows < 0:
            raise PlanError(f"{shard.key} cannot have {shard.num_rows} rows.")
        ends.append(ends[-1] + shard.num_rows)
    total = ends[-1]
    if world_size > total:
        raise PlanError(f"world_size {world_size} is more than the {total} rows of the dataset; use at most {total}.")
    if all(shard.has_ranged_rows for shard in shards):
        return Made(
            world_size,
            lambda rank: tuple(_cut(shards, ends, total * rank // world_size, total * (rank + 1) // world_size)),
        )
    cuts = _snap([total * rank // world_size for rank in range(world_size + 1)], ends)
    return Made(world_size, lambda rank: tuple(_cut(shards, ends, cuts[rank], cuts[rank + 1])))


def _snap(cuts: list[int], ends: list[int]) -> list[int]:
    """Move each cut to the nearest end of a shard, unless that leaves a rank without rows."""
    borders = sorted(set(ends))
    if len(borders) < len(cuts):
        return cuts
    snapped = [0]
    position = 0
    for rank in range(1, len(cuts) - 1):
        # Leave one border for this rank and one for each of those after it.
        last = len(borders) - (len(cuts) - rank)
        candidates = range(position + 1, last + 1)
        position = min(candidates, key=lambda index: abs(borders[index] - cuts[rank]))
        snapped.append(borders[position])
    return [*snapped, cuts[-1]]


def _cut(shards: Sequence[Shard], ends: list[int], start: int, stop: int) -> Iterable[RowRange]:
    # The last shard that begins at or before the first row.
    for index in range(bisect.bisect_right(ends, start) - 1, len(shards)):
        if ends[index] >= stop:
            return
        shard = shards[index]
        if shard.num_rows:
            yield RowRange(
                key=shard.key,
                start_row=max(start - ends[index], 0),
                stop_row=min(stop, ends[index + 1]) - ends[index],
                etag=shard.etag,
                sha256=shard.sha256,
                crc32=shard.crc32,
                size_bytes=shard.size_bytes if shard.crc32 else None,
            )


def _refuse_what_cannot_fit(
    dealt: Sequence[tuple[RowRange, ...]],
    task_of: Callable[[int], RankTask],
    shards: Sequence[Shard],
    limits: Limits,
    demand: Demand,
) -> None:
    world_size = len(dealt)
    loads = ((sum(part.num_rows for part in rows), len(rows)) for rows in dealt)
    most_rows = most_parts = (0, 0)
    for rank, (num_rows, num_parts) in enumerate(loads):
        most_rows, most_parts = max(most_rows, (num_rows, -rank)), max(most_parts, (num_parts, -rank))
    largest, heaviest = task_of(-most_rows[1]), task_of(-most_parts[1])
    needed_bytes = _memory_bytes(largest, shards, demand)
    if needed_bytes > limits.memory_mb * 2**20:
        raise PlanError(
            f"A rank needs about {math.ceil(needed_bytes / 2**20)} MB; the function has {limits.memory_mb} MB. Use "
            "smaller or safetensors shards, a smaller batch_size with profile, or a function with more memory."
        )
    seconds = _seconds(largest, limits, demand)
    if seconds > limits.timeout_s:
        rows = sum(shard.num_rows for shard in shards)
        per_rank = max(1, (limits.timeout_s - START_S) * demand.rows_per_s * limits.num_vcpus)
        raise PlanError(
            f"Rank {largest.rank} has {largest.num_samples} rows, about {seconds:.0f} s, and the Infer function stops "
            f"after {limits.timeout_s} s. Use world_size {math.ceil(rows / per_rank)} or more."
        )
    task_bytes = len(contract.encode_compact(heaviest))
    if task_bytes > MAX_TASK_BYTES:
        ranks = math.ceil(world_size * task_bytes / MAX_TASK_BYTES)
        raise PlanError(
            f"Rank {heaviest.rank} reads {len(heaviest.rows)} shards; naming them takes {task_bytes} bytes and a state "
            f"payload holds {MAX_TASK_BYTES}. Use world_size {ranks} or more, or larger shards."
        )
    if (manifest_bytes := world_size * len(contract.encode(heaviest))) > MAX_MANIFEST_BYTES:
        ranks = world_size * MAX_MANIFEST_BYTES // manifest_bytes
        raise PlanError(
            f"The tasks of {world_size} ranks take up to {manifest_bytes / 1e9:.0f} GB, and a Map reads "
            f"{MAX_MANIFEST_BYTES / 1e9:.0f} GB. Use world_size {ranks} or less."
        )


def _deadline_s(rows: Sequence[RowRange], limits: Limits, demand: Demand) -> int:
    work_s = sum(part.num_rows for part in rows) / (demand.rows_per_s * limits.num_vcpus)
    deadline_s = max(math.ceil(START_S + DEADLINE_FACTOR * work_s), SHORTEST_DEADLINE_S)
    # The function itself ends then.
    return deadline_s if deadline_s < limits.timeout_s else contract.NO_DEADLINE_S


def _seconds(task: RankTask, limits: Limits, demand: Demand) -> float:
    return START_S + task.num_samples / (demand.rows_per_s * limits.num_vcpus)


def _memory_bytes(task: RankTask, shards: Sequence[Shard], demand: Demand) -> int:
    whole_files = [shard.size_bytes for shard in shards if not shard.has_ranged_rows]
    profiled_batch = min(task.batch_size, task.num_samples) * ACTIVATION_BYTES_PER_SAMPLE if task.profile else 0
    return (
        demand.process_memory_bytes
        + demand.block_memory_bytes
        + WHOLE_SHARD_COPIES * max(whole_files, default=0)
        + profiled_batch
    )
