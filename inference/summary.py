"""Proves that a run is complete, and merges what its ranks reported."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from inference import contract, metrics
from inference.branch import Branch, branch_of
from inference.checksum import without_crc32
from inference.contract import (
    LostRank,
    Payload,
    RankClock,
    RankFailure,
    RankRecord,
    RankTask,
    RunPlan,
    RunSummary,
    StoredPredictions,
    Throughput,
)
from inference.errors import IncompleteRunError, ManifestError
from inference.quality import Quality
from inference.run_clock import run_clock
from inference.text import printable

LONGEST_PHASE_S = 86_400.0
"""A rank that says it took longer than a day is not believed: its function ends after minutes."""

LONGEST_MESSAGE = 2_000
"""Characters of an error that are kept for every lost rank."""

KILLED = " (a function that is killed was killed most often because its memory was used up: give it more)"
"""What Lambda does not say: it ends a process that takes more than its memory as the system does."""

MAX_NAMED = 5
"""Objects that belong to no rank, by name; more are counted."""


class StoredObject(NamedTuple):
    """What is known of an object without its content; empty where it is not."""

    size_bytes: int
    etag: str = ""
    sha256: str = ""


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


def as_planned(plan: RunPlan, tasks: Iterable[RankTask]) -> Iterator[RankTask]:
    """Yield the manifest's tasks while they are the planned ones; the plan came another way.

    Raises
    ------
    ManifestError
        At the end, if there were other ranks or rows than were planned, or ones of another run.
    """
    num_ranks = num_samples = 0
    is_in_order, strange = True, ""
    for task in tasks:
        is_in_order &= task.rank == num_ranks
        strange = strange or (task.run_id if task.run_id != plan.run_id else "")
        num_ranks += 1
        num_samples += task.num_samples
        if is_in_order and not strange and num_ranks <= (plan.request.world_size or 0):
            yield task
    if not is_in_order or (num_ranks, num_samples) != (plan.request.world_size, plan.num_samples):
        raise ManifestError(
            f"{plan.manifest_key} holds {num_ranks} ranks with {num_samples} galaxies; planned were "
            f"{plan.request.world_size} with {plan.num_samples}. It was changed after the run was planned: run again."
        )
    if strange:
        raise ManifestError(f"{plan.manifest_key} belongs to run {strange}, not to {plan.run_id}: run again.")


def record_limit_bytes(task: RankTask) -> int:
    """Return how large a rank's record can be: its rows, its residuals in base64, and what every record has [bytes]."""
    return 2**16 + 2 * len(contract.encode(task)) + 6 * task.num_samples


def decode_records(found: Mapping[str, bytes]) -> dict[str, RankRecord | str]:
    """Decode what is under ``ranks/``, each object by itself; of what is no record, say why."""
    return {key: _decode(content) for key, content in found.items()}


def doubtful_predictions(
    tasks: Iterable[RankTask], records: Mapping[str, RankRecord | str], listed: Mapping[str, StoredObject]
) -> dict[str, int]:
    """Return the predictions that a listing neither proves nor refutes, to be read: key to size [bytes].

    A rank that ran twice wrote the same bytes twice, to which S3 may give two entity tags; a listing may lack a key.
    """
    doubtful = {}
    for task in tasks:
        record, there = records.get(task.record_key), listed.get(task.predictions_key)
        if isinstance(record, RankRecord) and (bound := record.predictions) is not None:
            is_doubtful = there is None or (there.size_bytes == bound.size_bytes and there.etag != bound.etag)
            # What a record says is not believed: no more is read than the rank's rows can take.
            if is_doubtful and bound.size_bytes <= predictions_limit_bytes(task):
                doubtful[task.predictions_key] = bound.size_bytes
    return doubtful


def predictions_limit_bytes(task: RankTask) -> int:
    """Return how large a rank's predictions can be [bytes]."""
    return 2**16 + 512 * task.num_samples


def prove(
    tasks: Sequence[RankTask],
    records: Mapping[str, RankRecord | str],
    failures: Iterable[RankFailure],
    stored: Mapping[str, StoredObject],
    *,
    strangers: Sequence[str] = (),
    needs_binding: bool = True,
    claims: Mapping[int, int] | None = None,
) -> Proof:
    """Compare the records of a run, and the predictions they are bound to, with its manifest.

    Parameters
    ----------
    tasks : sequence of RankTask
        The manifest, in rank order.
    records : mapping
        Object key to record, or to why it is none, of what is there.
    failures : iterable of RankFailure
        What the state machine noted about ranks that failed.
    stored : mapping
        Object key to what is known of the predictions that are there.
    strangers : sequence of str
        Keys of objects that no rank of the manifest writes; they are named in the notes.
    needs_binding : bool
        False for runs of older versions, whose records do not say which predictions are theirs.
    claims : mapping of int to int, optional
        Rank to the records of other parts of the run that claim it, where these tasks are a part.

    Returns
    -------
    Proof
        A rank is lost when its record is missing, unreadable, of another run (stale), not its own, states other rows
        than the manifest or what cannot be; when two records claim it (duplicate); or when its predictions are missing
        or not the ones it wrote.
    """
    run_id = tasks[0].run_id
    claims = Counter(claims) + _claims(records, run_id)
    causes = {failure.rank: failure for failure in failures if failure.run_id == run_id}
    proved: list[RankRecord] = []
    lost: list[LostRank] = []
    for task in tasks:
        record = records.get(task.record_key)
        reason = _why_invalid(record, task, claims, causes.get(task.rank))
        if reason is None:
            assert isinstance(record, RankRecord), "only a record is valid"
            reason = _why_unbound(task, record, stored.get(task.predictions_key), needs_binding=needs_binding)
        if reason is None:
            assert isinstance(record, RankRecord), "only a record is valid"
            proved.append(record)
        else:
            error, message = reason
            shards = tuple(rows.key for rows in task.rows)
            lost.append(LostRank(rank=task.rank, error=error, message=message[:LONGEST_MESSAGE], shards=shards))
    return Proof(tuple(proved), tuple(lost), tuple(name_strangers(strangers)))


def claims_beyond(tasks: Sequence[RankTask], records: Mapping[str, RankRecord | str]) -> Counter[int]:
    """Return how many records of a part of the run claim each rank of another part."""
    own = {task.rank for task in tasks}
    return Counter({rank: num for rank, num in _claims(records, tasks[0].run_id).items() if rank not in own})


def _claims(records: Mapping[str, RankRecord | str], run_id: str) -> Counter[int]:
    return Counter(one.rank for one in records.values() if isinstance(one, RankRecord) and one.run_id == run_id)


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
    return conclude(plan, branch_of(tasks, proof.records, proof.lost), times, notes=proof.notes)


def conclude(plan: RunPlan, whole: Branch, times: RunTimes, *, notes: Sequence[str] = ()) -> RunSummary:
    """Turn the branch that covers a run into its summary.

    Parameters
    ----------
    plan : RunPlan
        What was planned.
    whole : Branch
        Of all ranks.
    times : RunTimes
        Moments of the run.
    notes : sequence of str
        Of the proof.
    """
    ranks = whole.ranks
    # Wall times are those of the last execution, and so must be what they are compared with.
    num_new = sum(one.num_samples for one in ranks if not plan.resumptions or one.started_at_s >= plan.started_at_s)
    map_s = max(times.mapped_at_s - times.planned_at_s, 0.0)
    end_to_end_s = max(times.summarized_at_s - times.started_at_s, 0.0)
    clock = run_clock(
        ranks,
        initialize_s=times.planned_at_s - times.started_at_s,
        map_s=map_s,
        summarize_s=times.summarized_at_s - times.mapped_at_s,
        end_to_end_s=end_to_end_s,
    )
    if plan.resumptions:
        clock = msgspec.structs.replace(clock, parallel_efficiency=None)
    return RunSummary(
        run_id=plan.run_id,
        complete=not whole.lost,
        world_size=whole.stop_rank,
        num_records=len(ranks),
        num_samples=sum(one.num_samples for one in ranks),
        num_samples_planned=plan.num_samples,
        lost_ranks=whole.lost,
        request=plan.request,
        notes=(
            *plan.notes,
            *notes,
            *_resumption_notes(plan),
            *_mixture_notes(whole),
            *_clock_notes(times),
            *_named(whole, "sigma_note"),
        ),
        accuracy=metrics.accuracy(whole.sums, whole.residuals),
        num_flagged=dict(whole.num_flagged),
        ratio_95=next(iter(whole.ratios_95)) if len(whole.ratios_95) == 1 else None,
        throughput=Throughput(
            sum_of_rank_rates=whole.sum_of_rank_rates,
            map_wall=num_new / map_s if map_s else 0.0,
            end_to_end=num_new / end_to_end_s if end_to_end_s else 0.0,
            bits_per_row=whole.bits_per_row or contract.BITS_PER_ROW,
        ),
        clock=clock,
        num_cold_starts=sum(one.cold_start for one in ranks),
        num_retried_ranks=sum(one.attempt > 0 for one in ranks),
        retries={one.rank: one.attempt for one in ranks if one.attempt > 0},
        num_s3_requests=whole.num_s3_requests,
        peak_memory_bytes=whole.peak_memory_bytes,
        function_memory_mb=whole.function_memory_mb,
        rank_seconds=clock.ranks.total + clock.ranks.init,
        engines=tuple(sorted(whole.texts["engine"])),
        models=_named(whole, "model"),
        weights_sha256=tuple(sorted(whole.texts["weights_sha256"])),
        image_digests=tuple(sorted(whole.texts["image_digest"])),
        code_versions=tuple(sorted(whole.texts["code_version"])),
        resumptions=plan.resumptions,
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
        "What the other ranks computed is in the run's folder; `make resume` computes these again."
    )


def _decode(content: bytes) -> RankRecord | str:
    if not content:
        return "empty, or larger than a record can be"
    try:
        return msgspec.json.decode(content, type=RankRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)


def _why_invalid(
    record: RankRecord | str | None, task: RankTask, claims: Counter[int], failure: RankFailure | None
) -> tuple[str, str] | None:
    if failure is not None and not (isinstance(record, RankRecord) and record.run_id == task.run_id):
        return printable(failure.error), message_of(failure.cause)
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
    if what := _what_is_wrong(record, task):
        return "WrongRecord", f"{task.record_key} {what}."
    return None


def _what_is_wrong(record: RankRecord, task: RankTask) -> str | None:
    """Say what a record states that the rank cannot have done."""
    if record.world_size != task.world_size:
        return f"counts {record.world_size} ranks, the manifest {task.world_size}"
    if record.inputs != tuple(map(without_crc32, task.rows)):
        return "is about other rows than the manifest"
    phases = {name: getattr(record.clock, name) for name in RankClock.__struct_fields__}
    for name, seconds in phases.items():
        # Only the queue has no end: ranks wait for each other.
        if not 0 <= seconds <= (math.inf if name == "queue" else LONGEST_PHASE_S) or math.isinf(seconds):
            return f"says {name} took {seconds:g} s"
    rates = (record.total_cpu_time_s, record.sample_persec, record.started_at_s)
    if not all(math.isfinite(value) and value >= 0 for value in rates):
        return f"says its loop took {rates[0]:g} s, {rates[1]:g} galaxies/s, from {rates[2]:g} s"
    if strange := sorted(record.num_flagged.keys() - Quality.__members__.keys()):
        return f"counts flags that there are not: {printable(strange[0])[:40]}"
    if record.num_flagged and (most := max(record.num_flagged.values())) > record.num_samples:
        return f"counts {most} flagged of {record.num_samples} galaxies"
    sums = record.accuracy
    if sums.num_labelled > record.num_samples or len(record.residuals) != metrics.RESIDUAL_BYTES * sums.num_labelled:
        return f"has {len(record.residuals)} bytes of residuals for {sums.num_labelled} labelled galaxies"
    values = [getattr(sums, name) for name in sums.__struct_fields__]
    if not all(math.isfinite(value) for value in values if isinstance(value, float)):
        return "has sums that are not finite"
    return None


def _why_unbound(
    task: RankTask, record: RankRecord, there: StoredObject | None, *, needs_binding: bool
) -> tuple[str, str] | None:
    """Say why the predictions are not those that the record is about; None where they are."""
    bound = record.predictions
    if there is None:
        return "MissingPredictions", f"{task.predictions_key} does not exist, although the rank wrote it."
    if bound is None:
        what = "does not say which predictions are its own: it is of another version"
        return ("WrongRecord", f"{task.record_key} {what}.") if needs_binding else None
    if bound.num_rows != task.num_samples or record.predictions_key != task.predictions_key:
        return "WrongRecord", f"{task.record_key} is about {bound.num_rows} predictions in {record.predictions_key}."
    if is_bound(bound, there):
        return None
    return "WrongPredictions", (
        f"{task.predictions_key} is not what the rank wrote: it has {there.size_bytes} bytes of {bound.size_bytes}, "
        "or other ones."
    )


def is_bound(bound: StoredPredictions, there: StoredObject) -> bool:
    """Tell whether an object is the predictions that a record is about."""
    is_same = there.sha256 == bound.sha256 if there.sha256 else bool(there.etag) and there.etag == bound.etag
    return there.size_bytes == bound.size_bytes and is_same


def name_strangers(keys: Sequence[str]) -> Iterable[str]:
    """Yield a sentence for objects that belong to no rank of a run."""
    for key in keys[:MAX_NAMED]:
        yield f"{key} belongs to no rank of this run and was left out."
    if len(keys) > MAX_NAMED:
        yield f"{len(keys) - MAX_NAMED} more objects belong to no rank of this run and were left out."


def message_of(cause: str) -> str:
    """Take the message out of Lambda's JSON, or the text as it is; see `printable`."""
    try:
        document = json.loads(cause)
    except (json.JSONDecodeError, RecursionError):
        document = None
    text = str(document.get("errorMessage", cause)) if isinstance(document, dict) else cause
    return printable(text) + (KILLED if "signal: killed" in text else "")


def _resumption_notes(plan: RunPlan) -> Iterable[str]:
    """Say what a resumed run is made of."""
    for one in plan.resumptions:
        yield (
            f"Resumed by {one.execution_name}: {one.num_ranks} of {plan.request.world_size} ranks were left. Those "
            "that were under way before are paid twice at most; wall times are those of the last execution."
        )


def _mixture_notes(whole: Branch) -> Iterable[str]:
    """Say so where not all ranks were computed by the same: another deployment came while they ran."""
    for what in ("model", "weights_sha256", "code_version", "image_digest"):
        if len(found := sorted(whole.texts[what])) > 1:
            yield f"The ranks were computed with {len(found)} values of {what}: {', '.join(found)}."


def _clock_notes(times: RunTimes) -> Iterable[str]:
    """Say so where the clocks of two functions cannot both be right."""
    ahead_s = max(times.planned_at_s - times.mapped_at_s, times.started_at_s - times.summarized_at_s)
    if ahead_s >= 0:
        yield (
            f"The clock of Initialize is at least {ahead_s:.1f} s ahead of that of Summarize: throughputs over wall "
            "times are not known, and are left out as 0."
        )


def _named(whole: Branch, name: str) -> tuple[str, ...]:
    """Return the distinct values of a field that may be empty."""
    return tuple(sorted(whole.texts[name] - {""}))


def _first(shards: Sequence[str]) -> str:
    return shards[0] + (f" and {len(shards) - 1} more" if len(shards) > 1 else "")
