"""Single ranks: the slowest, and all of them to sort and filter."""

import numpy as np

from scripts.reports.document import Table
from scripts.reports.quantities import UNKNOWN, count, seconds
from scripts.reports.ranks import PHASES, Array, Ranks

NUM_SLOWEST = 10
MAX_ROWS = 64
"""Above so many ranks the table of the page holds the first; the page's script shows the others."""

NUM_FIRST_ROWS = 20

RANK_COLUMNS = (
    ("rank", "rank"),
    ("num_samples", "galaxies"),
    ("start", "start [s]"),
    *((phase, f"{phase.replace('_', ' ')} [s]") for phase in PHASES),
    ("seconds", "billed time [s]"),
    ("sample_persec", "galaxies/s"),
    ("memory_mb", "peak memory [MB]"),
    ("cold_start", "cold"),
    ("attempt", "retries"),
)
"""Column of `Ranks` and its name in the table of all ranks."""


def slowest_ranks(ranks: Ranks) -> Table:
    """Return the ranks that took longest, with the phase that took longest in each."""
    values = ranks["seconds"]
    median = float(np.nanmedian(values))
    order = np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable")[:NUM_SLOWEST]
    rows = []
    for i in order.tolist():
        phases = {phase: float(np.nan_to_num(ranks[phase][i])) for phase in PHASES if phase != "queue"}
        longest = max(phases, key=lambda phase: phases[phase])
        rows.append(
            (
                f"{ranks['rank'][i]:.0f}",
                count(ranks["num_samples"][i]),
                seconds(float(values[i])),
                f"{float(values[i]) / median:.2f}",
                f"{longest.replace('_', ' ')} {seconds(phases[longest])}",
                "cold" if ranks["cold_start"][i] == 1 else "warm",
                count(ranks["attempt"][i]),
            )
        )
    columns = ("rank", "galaxies", "billed time", "times the median", "longest phase", "start", "retries")
    return Table("Slowest ranks", columns, rows, frozenset({0, 4, 5}))


def all_ranks(ranks: Ranks) -> Table:
    """Return every rank; of many, the page shows the first, and its script the others."""
    columns = dict(ranks.columns) | {"memory_mb": ranks["memory_bytes"] / 2**20}
    shown = [(key, name) for key, name in RANK_COLUMNS if np.isfinite(columns[key]).any()]
    values = np.stack([_rounded(key, columns[key]) for key, _ in shown], axis=1).tolist()
    are_many = len(ranks) > MAX_ROWS
    first = values[:NUM_FIRST_ROWS] if are_many else values
    caption = f"All {len(ranks):,} ranks"
    if are_many:
        caption = f"The first {len(first)} of {len(ranks):,} ranks; where scripts run, all can be sorted and filtered"
    return Table(
        caption,
        tuple(name for _, name in shown),
        [[_cell(key, value) for (key, _), value in zip(shown, row, strict=True)] for row in first],
        is_sortable=True,
        filter_hint="a rank (17), a word (cold), or a bound (inference > 2)",
        all_rows=[[None if value != value else value for value in row] for row in values] if are_many else (),
    )


def _rounded(key: str, values: Array) -> Array:
    """Return values as exact as they are shown: shorter data for the page's script."""
    if key in ("rank", "num_samples", "cold_start", "attempt", "memory_mb"):
        return np.round(values)
    return np.round(values, 1 if key == "sample_persec" else 3)


def _cell(key: str, value: float) -> str:
    if value != value:
        return UNKNOWN
    if key == "cold_start":
        return "cold" if value else "warm"
    if key in ("rank", "num_samples", "attempt", "memory_mb"):
        return f"{value:,.0f}" if key != "rank" else f"{value:.0f}"
    return f"{value:,.1f}" if key == "sample_persec" else f"{value:.3f}"
