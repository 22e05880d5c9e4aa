"""What the server counts, and the text in which Prometheus reads it."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping

from handlers.invocation import resident_memory_bytes

WAIT_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics:
    """Counters of one server; gauges are asked for when they are written."""

    def __init__(self) -> None:
        self.started_at_s = time.time()
        self.connections = 0
        """Accepted so far."""
        self.pairs: Counter[str] = Counter({"meet": 0, "relay": 0})
        """By the way they took."""
        self.checks = 0
        self.rejected: Counter[str] = Counter()
        """By reason."""
        self.timeouts: Counter[str] = Counter()
        """By what took too long: greeting, wait, relay."""
        self.departed = 0
        """Went while they waited."""
        self.relay_bytes = 0
        self.wait_s = 0.0
        """Sum over pairs of how long the first waited."""
        self._waits = [0] * (len(WAIT_BUCKETS_S) + 1)

    def paired(self, way: str, wait_s: float) -> None:
        """Count a pair, by `way`, whose first waited for `wait_s`."""
        self.pairs[way] += 1
        self.wait_s += wait_s
        self._waits[bisect_left(WAIT_BUCKETS_S, wait_s)] += 1

    def to_text(self, gauges: Mapping[str, float]) -> str:
        """Return everything in Prometheus' text format; `gauges` are the server's, by name."""
        return "\n".join([*self._lines(gauges), ""])

    def _lines(self, gauges: Mapping[str, float]) -> Iterator[str]:
        for name, value in gauges.items():
            yield from _family(name, "gauge", {"": value})
        yield from _family("connections_total", "counter", {"": self.connections})
        yield from _family("pairs_total", "counter", _labelled("way", self.pairs))
        yield from _family("checks_total", "counter", {"": self.checks})
        yield from _family("rejected_total", "counter", _labelled("reason", self.rejected))
        yield from _family("timeouts_total", "counter", _labelled("phase", self.timeouts))
        yield from _family("departed_total", "counter", {"": self.departed})
        yield from _family("relay_bytes_total", "counter", {"": self.relay_bytes})
        yield from self._histogram()
        yield from _family("process_resident_memory_bytes", "gauge", {"": resident_memory_bytes()}, prefix="")
        yield from _family("process_start_time_seconds", "gauge", {"": self.started_at_s}, prefix="")

    def _histogram(self) -> Iterator[str]:
        samples, total = {}, 0
        for bound, count in zip([*map(str, WAIT_BUCKETS_S), "+Inf"], self._waits, strict=True):
            total += count
            samples[f'_bucket{{le="{bound}"}}'] = total
        yield from _family("pair_wait_seconds", "histogram", samples | {"_sum": self.wait_s, "_count": total})


def _labelled(label: str, counts: Mapping[str, int]) -> dict[str, float]:
    return {f'{{{label}="{value}"}}': count for value, count in sorted(counts.items())}


def _family(name: str, kind: str, samples: Mapping[str, float], *, prefix: str = "rendezvous_") -> Iterator[str]:
    yield f"# TYPE {prefix}{name} {kind}"
    for suffix, value in samples.items():
        yield f"{prefix}{name}{suffix} {value}"
