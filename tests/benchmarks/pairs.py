"""Measures several programs in turn, A B C A B C, so that a noisy machine disturbs all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def measure(programs: Mapping[str, Callable[[], object]], *, num_rows: int, reference: str, rounds: int) -> list[Any]:
    """Run every program once to warm up, then `rounds` times in turn.

    Returns
    -------
    list of dict
        Per program: galaxies per CPU second (of the process, all threads) and per wall second, as medians, and the
        median of the paired ratios to `reference` in CPU time and in wall time, with their extremes.
    """
    cpu_s: dict[str, list[float]] = {name: [] for name in programs}
    wall_s: dict[str, list[float]] = {name: [] for name in programs}
    for program in programs.values():
        program()
    for _ in range(rounds):
        for name, program in programs.items():
            cpu, wall = time.process_time(), time.perf_counter()
            program()
            cpu_s[name].append(time.process_time() - cpu)
            wall_s[name].append(time.perf_counter() - wall)
    return [
        {
            "program": name,
            "samples_per_cpu_s": num_rows / statistics.median(cpu_s[name]),
            "samples_per_wall_s": num_rows / statistics.median(wall_s[name]),
            "cpu_ratio": _ratio(cpu_s[reference], cpu_s[name]),
            "wall_ratio": _ratio(wall_s[reference], wall_s[name]),
        }
        for name in programs
    ]


def _ratio(before: list[float], after: list[float]) -> dict[str, float]:
    ratios = [slow / fast for slow, fast in zip(before, after, strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
