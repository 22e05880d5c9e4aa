"""What a run will cost, before it starts: a range, from earlier runs or from stated defaults."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from inference.contract import RunSummary
from scripts.command.console import counted
from scripts.pricing.cost import (
    LOG_BYTES_PER_INVOCATION,
    RECORD_BYTES,
    RESULT_BYTES_PER_ROW,
    STATES_OF_A_RUN,
    Bill,
    Prices,
    Rates,
    Usage,
    bill,
    list_pages,
)
from scripts.pricing.what_if import SERIAL_SHARE, Range, inference_time, other_time

SPREAD = 1.25
"""Earlier runs say what is likely, not what is possible: the range reaches this much beyond them."""


SUMMARIZE_PER_RANK_S = 0.005
"""Summarize's time for one record, rather more than measured."""


@dataclass(frozen=True, kw_only=True)
class Experience:
    """How long things take with one vCPU."""

    row_s: Range
    """Inference of one galaxy [s]."""

    start_s: Range
    """Start of a fresh process and loading the model [s]."""

    rest_s: Range
    """Download beyond what inference hides, upload and record of a rank [s]."""

    source: str
    """Where the numbers come from, in words."""


DEFAULTS = Experience(
    # docs/performance.md: 190 galaxies/s with onnxruntime on one thread, 370 if its dense layers were all there is;
    # 100 is what the plan counts on.
    row_s=Range(1 / 370, 1 / 190, 1 / 100),
    # docs/performance.md: 0.8 to 3.2 s of CPU until the first prediction; published: a cold start adds 6.7 s.
    start_s=Range(1.0, 3.0, 6.7),
    rest_s=Range(0.2, 0.5, 1.5),
    source="defaults: 190 galaxies/s (100 to 370) per vCPU, 3 s (1 to 6.7) to start",
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that has not started."""

    num_rows: int
    """Galaxies."""

    num_shards: int
    """Files that hold them."""

    world_size: int
    """Ranks."""

    max_concurrency: int | None = None
    """Ranks that run at the same time; all when None."""


@dataclass(frozen=True)
class Estimate:
    """What a run will cost."""

    low: Bill
    expected: Bill
    high: Bill
    source: str
    """Where the times come from, in words."""

    @property
    def usd(self) -> Range:
        """The totals [USD]."""
        return Range(self.low.usd, self.expected.usd, self.high.usd)


def learn(summaries: Sequence[RunSummary]) -> Experience | None:
    """Return what earlier runs say about one vCPU, or None when there is none with a record.

    Notes
    -----
    Each run's times are taken back to one vCPU by `scripts.pricing.what_if`; low and high are the extremes over
    the runs, a quarter further out.
    """
    runs = [summary for summary in summaries if summary.num_records and summary.function_memory_mb]
    if not runs:
        return None
    starts = [_start_s(run) for run in runs if run.num_cold_starts]
    return Experience(
        row_s=_range([row_s(run) for run in runs]),
        start_s=_range(starts) if starts else DEFAULTS.start_s,
        rest_s=_range([rest_s(run) for run in runs]),
        source=f"{counted(len(runs), 'earlier run')}",
    )


def estimate(job: Job, rates: Rates, prices: Prices, experience: Experience, *, prices_of: str) -> Estimate:
    """Return what a run will cost: low with warm processes, expected and high with fresh ones."""
    low, expected, high = (
        bill(_usage(job, rates, experience, case), rates, prices, prices_of=prices_of) for case in range(3)
    )
    return Estimate(low, expected, high, experience.source)


def _usage(job: Job, rates: Rates, experience: Experience, case: int) -> Usage:
    memory_mb = rates.memory_mb["infer"]
    fresh = 0.0 if case == 0 else min(1.0, (job.max_concurrency or job.world_size) / job.world_size)
    other_s = experience.rest_s[case] + fresh * experience.start_s[case]
    row_s = experience.row_s[case] * inference_time(memory_mb, SERIAL_SHARE[case])
    ranks_s = job.num_rows * row_s + job.world_size * other_s * other_time(memory_mb)
    # Measured: Initialize 0.5 s; Summarize 0.5 s and 5 ms per rank; both twice as long at most.
    edge_s = Range(0.5, 1.0, 2.0)[case]
    return usage_before(
        job, rates, ranks_s=ranks_s, initialize_s=edge_s, summarize_s=edge_s + job.world_size * SUMMARIZE_PER_RANK_S
    )


def usage_before(job: Job, rates: Rates, *, ranks_s: float, initialize_s: float, summarize_s: float) -> Usage:
    """Count what a run will take whose times are known: billed time of all ranks together, and of both ends [s]."""
    num_invocations = job.world_size + 2
    is_express = rates.child_type == "EXPRESS"
    return Usage(
        billed_ms={
            "infer": math.ceil(ranks_s * 1000),
            "initialize": math.ceil(initialize_s * 1000),
            "summarize": math.ceil(summarize_s * 1000),
        },
        num_invocations=num_invocations,
        num_transitions=STATES_OF_A_RUN + (0 if is_express else job.world_size),
        num_express=job.world_size if is_express else 0,
        express_s=ranks_s if is_express else 0.0,
        num_s3_puts=2 * job.world_size + 5 + list_pages(job.world_size),
        # Per part of a shard its head and its images; a rank takes one part, and one more where two shards meet.
        num_s3_gets=2 * (job.world_size + job.num_shards) + job.world_size + 3,
        stored_bytes=job.world_size * RECORD_BYTES + job.num_rows * RESULT_BYTES_PER_ROW,
        log_bytes=num_invocations * LOG_BYTES_PER_INVOCATION,
    )


def row_s(run: RunSummary) -> float:
    """Return the time of a galaxy in a run, taken back to one vCPU [s]."""
    relative = inference_time(run.function_memory_mb, SERIAL_SHARE.expected)
    return run.clock.ranks.inference / run.num_samples / relative


def _start_s(run: RunSummary) -> float:
    start_s = run.clock.ranks.init + run.clock.ranks.model_load
    return start_s / run.num_cold_starts / other_time(run.function_memory_mb)


def rest_s(run: RunSummary) -> float:
    """Return what a rank took besides loading and computing, taken back to one vCPU [s]."""
    clock = run.clock.ranks
    rest_s = clock.total - clock.model_load - clock.inference
    return max(rest_s, 0.0) / run.num_records / other_time(run.function_memory_mb)


def _range(values: Sequence[float]) -> Range:
    return Range(min(values) / SPREAD, statistics.median(values), max(values) * SPREAD)
