"""Merges the clocks of the ranks into the run's: spread by phase, cold and warm apart, stragglers, efficiency."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from inference.contract import Payload, PhaseSpread, RankClock, RankRecord, RunClock, SlowRank

NUM_SLOWEST = 5
PHASES = RankClock.__struct_fields__


class RankTimes(Payload, frozen=True, kw_only=True):
    """What of a record the clock is made from: all that is left of it where ranks are many."""

    rank: int
    num_samples: int
    attempt: int
    cold_start: bool
    started_at_s: float
    clock: RankClock

    @classmethod
    def of(cls, record: RankRecord) -> "RankTimes":
        """Take it from a record."""
        return cls(**{name: getattr(record, name) for name in cls.__struct_fields__})


Timed = RankRecord | RankTimes


def run_clock(
    records: Sequence[Timed], *, initialize_s: float, map_s: float, summarize_s: float, end_to_end_s: float
) -> RunClock:
    """Describe where the time of a run went.

    Parameters
    ----------
    records : sequence of RankRecord or RankTimes
        The valid ones.
    initialize_s, map_s, summarize_s, end_to_end_s : float
        Wall time of the stages and of the run [s].
    """
    cold = [record for record in records if record.cold_start]
    warm = [record for record in records if not record.cold_start]
    phases = spread(records)
    num_concurrent = num_concurrent_ranks(records)
    return RunClock(
        initialize=initialize_s,
        map=map_s,
        summarize=summarize_s,
        end_to_end=end_to_end_s,
        ranks=RankClock(**{name: phases[name].sum if records else 0.0 for name in PHASES}),
        phases=phases,
        cold=spread(cold),
        warm=spread(warm),
        slowest=slowest(records),
        num_concurrent_ranks=num_concurrent,
        parallel_efficiency=phases["inference"].sum / (num_concurrent * map_s) if records and map_s else None,
    )


def spread(records: Sequence[Timed]) -> dict[str, PhaseSpread]:
    """Return sum, median, 95th percentile and maximum of every phase; nothing where there is no rank."""
    if not records:
        return {}
    seconds = np.array([_seconds(record) for record in records])  # (ranks, phases)
    quantiles = np.quantile(seconds, [0.5, 0.95, 1.0], axis=0)  # (3, phases)
    return {
        name: PhaseSpread(sum=float(total), p50=float(p50), p95=float(p95), max=float(longest))
        for name, total, (p50, p95, longest) in zip(PHASES, seconds.sum(axis=0), quantiles.T, strict=True)
    }


def slowest(records: Sequence[Timed]) -> tuple[SlowRank, ...]:
    """Return the ranks that took longest, init included, the longest first; of equal ones the lower rank first."""
    ordered = sorted(records, key=lambda record: (-record.clock.init - record.clock.total, record.rank))
    return tuple(
        SlowRank(
            rank=record.rank,
            num_samples=record.num_samples,
            attempt=record.attempt,
            cold_start=record.cold_start,
            clock=record.clock,
        )
        for record in ordered[:NUM_SLOWEST]
    )


def num_concurrent_ranks(records: Sequence[Timed]) -> int:
    """Return the largest number of ranks at work at once; one that starts as another ends does not overlap it."""
    starts = np.array([record.started_at_s for record in records])
    ends = np.sort(starts + [record.clock.total for record in records])
    starts.sort()
    at_work = np.arange(1, len(starts) + 1) - np.searchsorted(ends, starts, side="right")
    return int(at_work.max(initial=0))


def _seconds(record: Timed) -> list[Any]:
    return [getattr(record.clock, name) for name in PHASES]
