"""How fast it was: three definitions that differ by factors, side by side."""

import numpy as np

from inference.contract import BITS_PER_ROW
from scripts.reports.document import Block, Figure, Section, Table
from scripts.reports.evidence import RunEvidence
from scripts.reports.figures.ranks import draw_distribution
from scripts.reports.quantities import bits_per_s, number

DEFINITIONS = (
    (
        "sum_of_rank_rates",
        "sum of rank rates",
        "each rank's own rate in its inference loop, added: the published definition",
    ),
    ("map_wall", "Map wall", "galaxies over the wall time of the Map"),
    ("end_to_end", "end to end", "galaxies over the wall time of the run"),
)


def throughput_section(run: RunEvidence) -> Section:
    """Return the throughputs of a run."""
    rates = dict(run.get("throughput") or {})
    own = run.ranks["sample_persec"]
    if not rates and np.isfinite(own).any():
        rates["sum_of_rank_rates"] = float(np.nansum(own))
    if not rates:
        return Section("Throughput", "Unknown: neither a summary nor a rate of any rank is there.")
    published = rates.get("sum_of_rank_rates") or float("nan")
    rows = [
        (
            name,
            number(rates[key], 4),
            bits_per_s(rates.get(f"{key}_bit_per_s") or rates[key] * BITS_PER_ROW),
            number(rates[key] / published, 2),
            meaning,
        )
        for key, name, meaning in DEFINITIONS
        if key in rates
    ]
    columns = ("throughput", "galaxies/s", "data rate", "relative", "definition")
    blocks: list[Block] = [Table("Throughput by definition", columns, rows, frozenset({0, 4}))]
    if np.isfinite(own).sum() > 1:
        blocks.append(_rank_rates(own))
    lead = (
        "The first says what the workers can compute, the last what a user waits for. A galaxy counts 164,160 bits. "
        "Compare one definition with itself only."
    )
    return Section("Throughput", lead, blocks)


def _rank_rates(rates: np.ndarray) -> Figure:
    low, median, high = (float(np.nanquantile(rates, q)) for q in (0.0, 0.5, 1.0))
    caption = f"Median {number(median)}, from {number(low)} to {number(high)} galaxies/s."
    marks = {f"median {number(median)}": median}
    drawing = draw_distribution(rates, label="galaxies/s", what="rank", marks=marks)
    return Figure("Rate of a rank in its inference loop", drawing, caption)
