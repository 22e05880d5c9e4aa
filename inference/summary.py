"""Proves that a run is complete, and merges what its ranks reported."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from inference import contract, metrics
from inference.contract import (
    LostRank,
    Payload,
    RankFailure,
    RankRecord,
    RankTask,
    RunPlan,
    RunSummary,
    Throughput,
)
from inference.errors import IncompleteRunError
from inference.run_clock import run_clock


@dataclass(frozen=True)
class Proof:
    """The records that count, the ranks without one, and what else was found."""

    records: tuple[RankRecord, ...]
    """One valid record per rank that has one, in rank order."""

    lost: tuple[LostRank, ...]
    """Ranks of the manifest without a valid record, in rank order."""

    notes: tuple[str, ...]
    """Objects that belong to no rank of this run, in sentences."""

    @property
    def is_complete(self) -> bool:
        """True when every rank of the manifest has exactly one valid record."""
        return not self.lost


class RunTimes(Payload, frozen=True, kw_only=True):
    """Moments of a run [s since the epoch]."""

    started_at_s: float
    """Initialize was entered."""

    planned_at_s: float
    """The manifest was written."""

    mapped_at_s: float
    """Summarize was entered: every rank is done or lost."""

    summarized_at_s: float
    """The records are read and merged."""


def prove(tasks: Sequence[RankTask], found: Mapping[str, bytes], failures: Iterable[RankFailure]) -> Proof:
    """Compare the records under a run's prefix with its manifest.

    Parameters
    ----------
    tasks : sequence of RankTask
        The manifest, in rank order.
    found : mapping
        Object key to content of everything under ``ranks/``.
    failures : iterable of RankFailure
        What the state machine noted about ranks that failed.

    Returns
    -------
    Proof
        A rank is lost when its record is missing, unreadable, of another run (stale), not its own, or counts other
        rows than the manifest; or when a second object claims the same rank of this run (duplicate).
    """
    notes: list[str] = []
    expected = {task.record_key: task for task in tasks}
    decoded = {key: _decode(content) for key, content in found.items()}
    run_id = tasks[0].run_id
    ours = [record for record in decoded.values() if isinstance(record, RankRecord) and record.run_id == run_id]
    claims = Counter(record.rank for record in ours)
    notes.extend(f"{key} belongs to no rank of this run and was left out." for key in found if key not in expected)
    causes = {failure.rank: failure for failure in failures if failure.run_id == run_id}
    records: list[RankRecord] = []
    lost: list[LostRank] = []
    for task in tasks:
        record = decoded.get(task.record_key)
        reason = _why_invalid(record, task, claims, causes.get(task.rank))
        if reason is None:
            assert isinstance(record, RankRecord), "only a record is valid"
            records.append(record)
        else:
            error, message = reason
            lost.append(LostRank(rank=task.rank, error=error, message=message, shards=tuple(r.key for r in task.rows)))
    return Proof(tuple(records), tuple(lost), tuple(notes))


def summarize(
    plan: RunPlan,
    tasks: Sequence[RankTask],
    proof: Proof,
    times: RunTimes,
) -> RunSummary:
    """Merge the valid records of a run.

    Parameters
    ----------
    plan, tasks, proof
        What was planned and what was proved.
    times : RunTimes
        Moments of the run.
    """
    records = proof.records
    num_samples = sum(record.num_samples for record in records)
    map_s = max(times.mapped_at_s - times.planned_at_s, 1e-9)
    end_to_end_s = max(times.summarized_at_s - times.started_at_s, 1e-9)
    clock = run_clock(
        records,
        initialize_s=times.planned_at_s - times.started_at_s,
        map_s=map_s,
        summarize_s=times.summarized_at_s - times.mapped_at_s,
        end_to_end_s=end_to_end_s,
    )
    return RunSummary(
        run_id=plan.run_id,
        complete=proof.is_complete,
        world_size=len(tasks),
        num_records=len(records),
        num_samples=num_samples,
        num_samples_planned=plan.num_samples,
        lost_ranks=proof.lost,
        request=plan.request,
        notes=(*plan.notes, *proof.notes, *_distinct(record.sigma_note for record in records if record.sigma_note)),
        accuracy=metrics.accuracy(
            metrics.add_sums(record.accuracy for record in records),
            metrics.unpack_residuals(record.residuals for record in records),
        ),
        num_flagged=_add_up(record.num_flagged for record in records),
        ratio_95=_only(record.ratio_95 for record in records),
        throughput=Throughput(
            sum_of_rank_rates=sum(record.sample_persec for record in records),
            map_wall=num_samples / map_s,
            end_to_end=num_samples / end_to_end_s,
            bits_per_row=max((record.bits_per_row for record in records), default=contract.BITS_PER_ROW),
        ),
        clock=clock,
        num_cold_starts=sum(record.cold_start for record in records),
        num_retried_ranks=sum(record.attempt > 0 for record in records),
        retries={record.rank: record.attempt for record in records if record.attempt > 0},
        num_s3_requests=sum(record.s3_num_requests for record in records),
        peak_memory_bytes=max((record.peak_memory_bytes for record in records), default=0),
        function_memory_mb=max((record.function_memory_mb for record in records), default=0),
        rank_seconds=clock.ranks.total + clock.ranks.init,
        engines=_distinct(record.engine for record in records),
        models=_distinct(record.model for record in records if record.model),
        weights_sha256=_distinct(record.weights_sha256 for record in records),
        image_digests=_distinct(record.image_digest for record in records),
        code_versions=_distinct(record.code_version for record in records),
    )


def combine(records: Iterable[RankRecord]) -> bytes:
    """Return ``combined_data.json``: one record per rank, without the residuals that only merging needs."""
    return contract.encode([msgspec.structs.replace(record, residuals=b"") for record in records])


def refuse_incomplete(summary: RunSummary) -> None:
    """Raise when more ranks are lost than the request tolerates.

    Raises
    ------
    IncompleteRunError
        Naming the first lost ranks, their shards and reasons.
    """
    lost = summary.lost_ranks
    tolerated = summary.request.tolerated_failure_percentage
    if 100.0 * len(lost) / summary.world_size <= tolerated:
        return
    named = "; ".join(f"rank {one.rank} ({_first(one.shards)}): {one.error}: {one.message}" for one in lost[:5])
    more = f"; and {len(lost) - 5} more" if len(lost) > 5 else ""
    raise IncompleteRunError(
        f"{len(lost)} of {summary.world_size} ranks are lost and {tolerated:g} % are tolerated: {named}{more}. "
        "What the other ranks computed is in the run's folder."
    )


def _decode(content: bytes) -> RankRecord | str:
    try:
        return msgspec.json.decode(content, type=RankRecord)
    except msgspec.DecodeError as error:
        return str(error)


def _why_invalid(
    record: RankRecord | str | None, task: RankTask, claims: Counter[int], failure: RankFailure | None
) -> tuple[str, str] | None:
    if failure is not None and not (isinstance(record, RankRecord) and record.run_id == task.run_id):
        return failure.error, message_of(failure.cause)
    if record is None:
        return "MissingRecord", f"{task.record_key} does not exist; the worker's log says why."
    if isinstance(record, str):
        return "UnreadableRecord", f"{task.record_key} is not a record ({record})."
    if record.run_id != task.run_id:
        return "StaleRecord", f"{task.record_key} belongs to run {record.run_id}."
    if record.rank != task.rank or claims[task.rank] > 1:
        return "DuplicateRecord", f"{claims[record.rank]} objects under ranks/ claim rank {record.rank}."
    if record.num_samples != task.num_samples:
        return "WrongRowCount", f"The record counts {record.num_samples} rows, the manifest {task.num_samples}."
    return None


def message_of(cause: str) -> str:
    """Take the message out of Lambda's JSON, or the text as it is."""
    try:
        document = json.loads(cause)
    except json.JSONDecodeError:
        return cause
    return str(document.get("errorMessage", cause)) if isinstance(document, dict) else cause


def _add_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total)


def _only(values: Iterable[float | None]) -> float | None:
    """Return the value that all ranks share, None where a deployment changed under the run."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


def _first(shards: Sequence[str]) -> str:
    return shards[0] + (f" and {len(shards) - 1} more" if len(shards) > 1 else "")
