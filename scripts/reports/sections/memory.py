"""How much memory the ranks took, and how much they were given."""

import numpy as np

from scripts.reports.document import Block, Figure, Section, Table
from scripts.reports.evidence import RunEvidence
from scripts.reports.figures.ranks import draw_distribution
from scripts.reports.quantities import megabytes, number, percent

MIB = 2**20
PARTS = (
    ("total_process_memory_mb", "process", "resident after inference"),
    ("total_model_memory_mb", "model", "parameters as float32"),
    ("total_image_memory_mb", "batch", "one batch of images and magnitudes"),
    ("library_overhead_memory_mb", "libraries", "process minus model minus batch"),
    ("total_cpu_memory_mb", "profiler", "the profiler's sum of allocations: not a size"),
)


def memory_section(run: RunEvidence) -> Section:
    """Return the memory of a run's ranks."""
    peaks = run.ranks["memory_bytes"]
    if not np.isfinite(peaks).any():
        peak = run.get("peak_memory_bytes")
        lead = f"Peak of any rank {megabytes(peak)}; the records are not there." if peak else "Unknown: no record says."
        return Section("Memory", lead)
    highest, given = float(np.nanmax(peaks)), _given(run)
    share = f", {percent(highest / MIB / given, 0)} of the {given:,.0f} MB configured" if given else ""
    blocks: list[Block] = [_parts(run)]
    if np.isfinite(peaks).sum() > 1:
        blocks.append(_distribution(peaks))
    return Section("Memory", f"Peak of any rank {megabytes(highest)}{share}. MB are 2²⁰ bytes.", blocks)


def _given(run: RunEvidence) -> float:
    values = run.ranks["function_memory_mb"]
    return float(np.nanmax(values)) if np.isfinite(values).any() else 0.0


def _parts(run: RunEvidence) -> Table:
    rows = []
    peaks = run.ranks["peak_memory_bytes"] / MIB
    if np.isfinite(peaks).any():
        rows.append(("peak", *_quantiles(peaks), "highest resident memory so far, of our worker"))
    for key, name, meaning in PARTS:
        values = run.ranks.columns.get(key)
        if values is not None and np.isfinite(values).any():
            rows.append((name, *_quantiles(values), meaning))
    columns = ("memory [MB]", "min", "median", "max", "what it is")
    return Table("Memory of a rank, the published parts", columns, rows, frozenset({0, 4}))


def _quantiles(values: np.ndarray) -> tuple[str, str, str]:
    low, middle, high = (number(float(np.nanquantile(values, q)), 4) for q in (0.0, 0.5, 1.0))
    return low, middle, high


def _distribution(peaks: np.ndarray) -> Figure:
    middle = float(np.nanmedian(peaks)) / MIB
    caption = f"Median {number(middle)} MB. Processes serve several ranks, and a peak stays: warm ranks repeat it."
    marks = {f"median {number(middle)} MB": middle}
    drawing = draw_distribution(peaks / MIB, label="peak memory [MB]", what="rank", marks=marks)
    return Figure("Distribution of the memory of a rank", drawing, caption)
