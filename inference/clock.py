"""Measures where the time of a rank goes: wall seconds by phase."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class PhaseClock:
    """Adds up wall time by named phase; phases do not nest."""

    def __init__(self) -> None:
        self.started_at_s = time.time()
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of the block towards `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - start

    def seconds(self, name: str) -> float:
        """Time spent in `name` so far [s]; 0 when it never ran."""
        return self._seconds.get(name, 0.0)

    @property
    def total(self) -> float:
        """Time since the clock was made [s]."""
        return time.perf_counter() - self._start
