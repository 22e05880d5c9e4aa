"""``comparison.json``: every way to predict the same rows, and the published rates beside them."""

from collections.abc import Sequence

import msgspec

from scripts.benchmarks.comparison.contender import Contender
from scripts.benchmarks.comparison.published import Beside, Definition, Published, beside

COMPARISON_KEY = "comparison.json"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The whole comparison."""

    dataset: str
    """Key prefix of the rows."""

    num_samples: int
    """Galaxies."""

    batch_size: int
    """Galaxies per batch."""

    lines: tuple[Contender, ...]
    """The plain loop first: it is what the others are compared with."""

    published: tuple[Beside, ...]
    """Published rates beside ours, under the same definition each."""

    caveat: str
    """What the published rates do not say."""

    sources: dict[str, str]
    """Name to where it was published."""

    prices: str
    """Which prices, in words."""

    notes: tuple[str, ...]
    """What limits it, in sentences."""


def ours_by_definition(lines: Sequence[Contender], *, rank_rate_per_s: float) -> dict[Definition, tuple[str, float]]:
    """Return which rate of ours stands beside the published ones of a definition.

    Parameters
    ----------
    lines : sequence of Contender
        The plain loop first; a run on AWS counts before a local one.
    rank_rate_per_s : float
        Median of the ranks' own rates of that run [galaxies/s].
    """
    plain = lines[0]
    runs = sorted((line for line in lines if line.run_id), key=lambda line: line.place)
    ours: dict[Definition, tuple[str, float]] = {"one_process": (plain.name, plain.end_to_end_per_s)}
    if runs:
        run = runs[0]
        ours |= {
            "sum_of_rank_rates": (run.name, run.sum_of_rank_rates_per_s),
            "map_wall": (run.name, run.map_wall_per_s),
            "end_to_end": (run.name, run.end_to_end_per_s),
            "one_rank": (f"{run.name}, median rank", rank_rate_per_s),
        }
    return ours


def put_beside(published: Published, lines: Sequence[Contender], *, rank_rate_per_s: float) -> tuple[Beside, ...]:
    """Put our rates beside the published ones."""
    return tuple(beside(published, ours_by_definition(lines, rank_rate_per_s=rank_rate_per_s)))
