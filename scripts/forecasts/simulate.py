"""The whole run as events: ranks are dispatched, find an environment or wait for one, start, work, now and then linger.

Every replication of a run has constants of its own, so that intervals hold what is not known as well as what is random.
"""

import heapq
from dataclasses import dataclass

import numpy as np

from scripts.forecasts.constants import Array

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Ends of the central 90 % and 50 %, and the median."""

STEPS = ("dispatch", "room", "start", "work", "tail")
"""What the rank that ends last spent its time on, since the Map began."""

RETRY_WAIT_S = 2.0
"""Longest wait before an invocation is tried again; the state machine draws it between 0 and this."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long each step takes [s], once per replication: arrays of shape (R,)."""

    before_s: Array
    """Start of the execution, and Initialize."""

    dispatch_per_s: Array
    """Children that the Map starts per second."""

    cold_s: Array
    """Start of a fresh environment."""

    rank_s: Array
    """A rank in a warm one."""

    tail_s: Array
    """Mean of what a rank takes longer, exponentially distributed: most nothing much, a few long."""

    retry_share: Array
    """Share of the ranks that fail once and are tried again."""

    backup_after_s: Array
    """A rank that takes longer gets a second invocation next to the first; infinite where there is none."""

    weather: Array
    """Factor of the whole Map: the same setting on another day."""

    after_s: Array
    """Summarize, its start included."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """How many environments there may be."""

    max_concurrency: int
    """At most."""

    burst: float = 1000.0
    """At once."""

    ramp_per_s: float = 100.0
    """More of them per second since the Map began."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Replications of a run: arrays of shape (R,)."""

    before_s: Array
    map_s: Array
    after_s: Array
    ranks_s: Array
    """Billed time of all ranks together [s]."""

    num_cold: Array
    """Ranks that a fresh environment served."""

    last: dict[str, Array]
    """Step to how long it took the rank that ended last [s]; together they are `map_s`."""

    @property
    def end_to_end_s(self) -> Array:
        """The whole run [s]."""
        return self.before_s + self.map_s + self.after_s


def simulate(pace: Pace, room: Room, num_ranks: int, generator: np.random.Generator) -> Outcome:
    """Run `num_ranks` ranks once per replication.

    Parameters
    ----------
    pace : Pace
        R replications.
    room : Room
        Limits of the account and the deployment.
    num_ranks : int
        At least 1.
    generator : numpy.random.Generator
        Decides tails and retries: the same state, the same outcome.
    """
    num = len(pace.rank_s)
    found = np.empty((num, 3 + len(STEPS)))
    for r in range(num):
        found[r] = _one(pace, room, num_ranks, generator, r)
    found[:, [0, 1, *range(3, 8)]] *= pace.weather[:, None]
    map_s, ranks_s, num_cold, *steps = found.T
    return Outcome(
        before_s=pace.before_s,
        map_s=map_s,
        after_s=pace.after_s,
        ranks_s=ranks_s,
        num_cold=num_cold,
        last=dict(zip(STEPS, steps, strict=True)),
    )


def _one(pace: Pace, room: Room, num_ranks: int, generator: np.random.Generator, r: int) -> tuple[float, ...]:
    """Return the Map's time, the ranks' time, the cold ranks, and the steps of the rank that ended last."""
    dispatch_s = np.arange(num_ranks) / pace.dispatch_per_s[r]
    extra_s = generator.exponential(size=num_ranks) * pace.tail_s[r]
    tried_again = generator.random(num_ranks) < pace.retry_share[r]
    if tried_again.any():
        extra_s[tried_again] += pace.rank_s[r] + RETRY_WAIT_S * generator.random(int(tried_again.sum()))
    length_s = pace.rank_s[r] + extra_s
    cold_s = float(pace.cold_s[r])
    paid_s = float(length_s.sum())
    late_s = float(pace.backup_after_s[r])
    if (is_late := length_s > late_s).any():
        # The second invocation begins in a fresh environment, lingers as any, and both are paid to their ends.
        second_s = cold_s + pace.rank_s[r] + generator.exponential(size=int(is_late.sum())) * pace.tail_s[r]
        length_s[is_late] = np.minimum(length_s[is_late], late_s + second_s)
        paid_s += float(second_s.sum())
    first_end_s = float((dispatch_s + cold_s + length_s).min())
    has_room = num_ranks <= min(room.max_concurrency, room.burst)
    if has_room and (first_end_s >= dispatch_s[-1] or not cold_s):
        start_s, is_cold = dispatch_s, np.ones(num_ranks)
    else:
        start_s, is_cold = _find_room(dispatch_s, length_s, cold_s, room)
    end_s = start_s + is_cold * cold_s + length_s
    last = int(end_s.argmax())
    return (
        float(end_s[last]),
        paid_s + cold_s * float(is_cold.sum()),
        float(is_cold.sum()),
        float(dispatch_s[last]),
        float(start_s[last] - dispatch_s[last]),
        float(is_cold[last] * cold_s),
        float(pace.rank_s[r]),
        float(length_s[last] - pace.rank_s[r]),
    )


def _find_room(dispatch_s: Array, length_s: Array, cold_s: float, room: Room) -> tuple[Array, Array]:
    """Return when each rank starts [s], and 1 where its environment is fresh: first come, first served."""
    start_s, is_cold = dispatch_s.copy(), np.zeros(len(dispatch_s))
    ends: list[float] = []
    num = 0
    for i, (asked_s, needed_s) in enumerate(zip(dispatch_s.tolist(), length_s.tolist(), strict=True)):
        at_s, free_s = asked_s, ends[0] if ends else np.inf
        if free_s > asked_s:
            # A new one may exist from this moment on.
            grown_s = max(asked_s, (num + 1 - room.burst) / room.ramp_per_s) if num < room.max_concurrency else np.inf
            at_s = min(grown_s, free_s)
        if free_s <= at_s:
            heapq.heapreplace(ends, at_s + needed_s)
        else:
            num += 1
            is_cold[i] = 1.0
            heapq.heappush(ends, at_s + cold_s + needed_s)
        start_s[i] = at_s
    return start_s, is_cold


def quantiles(values: Array) -> tuple[float, ...]:
    """Return the ends of the intervals and the median."""
    return tuple(float(value) for value in np.quantile(values, QUANTILES))
