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
            "cpu_ratio": paired_ratio(cpu_s[reference], cpu_s[name]),
            "wall_ratio": paired_ratio(wall_s[reference], wall_s[name]),
        }
        for name in programs
    ]


def paired_ratio(before: list[float], after: list[float]) -> dict[str, float]:
    """Return the median and the extremes of `before` over `after`, measured in the same rounds."""
    ratios = [slow / fast for slow, fast in zip(before, after, strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def merge_rounds(rounds: list[list[dict[str, Any]]], *, reference: str) -> list[dict[str, Any]]:
    """Put rounds of fresh processes together, one line per program.

    Parameters
    ----------
    rounds : list of list of dict
        Per round what every program printed, in the same order; with ``cpu_s``, ``wall_s``, ``peak_memory_mb`` and
        perhaps ``phases_s``.
    reference : str
        Program that ratios refer to.

    Returns
    -------
    list of dict
        Medians, the highest peak memory, and paired ratios to `reference`.
    """
    columns = [list(lines) for lines in zip(*rounds, strict=True)]
    base = next((lines for lines in columns if lines[0]["program"] == reference), None)
    return [_merge(lines, base) for lines in columns]


def _merge(lines: list[dict[str, Any]], base: list[dict[str, Any]] | None) -> dict[str, Any]:
    merged = {**lines[0], "rounds": len(lines), "peak_memory_mb": max(line["peak_memory_mb"] for line in lines)}
    for unit in ("cpu", "wall"):
        seconds = [line[f"{unit}_s"] for line in lines]
        merged[f"{unit}_s"] = statistics.median(seconds)
        if base:
            merged[f"{unit}_ratio"] = paired_ratio([line[f"{unit}_s"] for line in base], seconds)
    if "phases_s" in lines[0]:
        names = lines[0]["phases_s"]
        merged["phases_s"] = {name: statistics.median(line["phases_s"][name] for line in lines) for name in names}
    return merged
