"""One way to predict the same rows, in numbers that can stand beside another way's."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from inference.contract import RunSummary
from scripts.benchmarks.comparison.baseline import Answered

Place = Literal["one process", "local", "aws"]


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the comparison. The three rates have the same three definitions on every line."""

    name: str
    """``plain loop``, ``plain loop, profiled``, ``local AWS``, ``AWS``."""

    place: Place
    """Where it ran."""

    run_id: str = ""
    """Its folder under ``runs/``; empty for one process."""

    engine: str
    """Libraries that computed."""

    num_workers: int
    """Processes that computed at the same time."""

    num_threads: int | None
    """Threads of each; None where not known."""

    num_samples: int
    """Galaxies."""

    loop_s: float
    """The inference loop; of a run, the loops of its ranks summed [s]."""

    map_s: float
    """All the work on the rows: the Map of a run; of one process loading the network, reading and the loop [s]."""

    end_to_end_s: float
    """From Initialize to the summary; of one process from its start to its redshifts on disk [s]."""

    sum_of_rank_rates_per_s: float
    """Every loop's own rate, added: the published definition [galaxies/s]."""

    map_wall_per_s: float
    """Galaxies over `map_s` [galaxies/s]."""

    end_to_end_per_s: float
    """Galaxies over `end_to_end_s` [galaxies/s]."""

    peak_memory_bytes: int
    """Highest resident memory of any of its processes [bytes]."""

    list_price_usd: float | None = None
    """What it costs on AWS at list prices [USD]; None for one process, whose machine has no such price."""

    paid_usd: float = 0.0
    """What was paid [USD]."""

    speedup: float = 1.0
    """End-to-end time of the plain loop over this one's."""

    efficiency: float = 1.0
    """`speedup` over `num_workers`."""

    max_abs_difference: float | None = None
    """Largest difference of a redshift to the plain loop's; None where no galaxy was predicted by both."""

    num_compared: int = 0
    """Galaxies that were compared."""


def of_process(name: str, answered: Answered, *, wall_s: float) -> Contender:
    """Return the line of one process.

    Parameters
    ----------
    name : str
        What it is called.
    answered : Answered
        What it said.
    wall_s : float
        From its start to its end, as its parent saw it [s].
    """
    map_s = answered.model_load_s + answered.read_s + answered.loop_s
    return Contender(
        name=name,
        place="one process",
        engine=answered.engine,
        num_workers=1,
        num_threads=answered.num_threads,
        num_samples=answered.num_samples,
        loop_s=answered.loop_s,
        map_s=map_s,
        end_to_end_s=wall_s,
        sum_of_rank_rates_per_s=answered.num_samples / answered.loop_s,
        map_wall_per_s=answered.num_samples / map_s,
        end_to_end_per_s=answered.num_samples / wall_s,
        peak_memory_bytes=answered.peak_memory_bytes,
    )


def of_run(summary: RunSummary, *, place: Place, num_threads: int | None, list_price_usd: float | None) -> Contender:
    """Return the line of a run."""
    return Contender(
        name="AWS" if place == "aws" else "local AWS",
        place=place,
        run_id=summary.run_id,
        engine=", ".join(summary.engines),
        num_workers=max(1, summary.clock.num_concurrent_ranks),
        num_threads=num_threads,
        num_samples=summary.num_samples,
        loop_s=summary.clock.ranks.inference,
        map_s=summary.clock.map,
        end_to_end_s=summary.clock.end_to_end,
        sum_of_rank_rates_per_s=summary.throughput.sum_of_rank_rates,
        map_wall_per_s=summary.throughput.map_wall,
        end_to_end_per_s=summary.throughput.end_to_end,
        peak_memory_bytes=summary.peak_memory_bytes,
        list_price_usd=list_price_usd,
        paid_usd=(list_price_usd or 0.0) if place == "aws" else 0.0,
    )


def against_first(lines: Sequence[Contender]) -> list[Contender]:
    """Return the lines with speedup and efficiency against the first one."""
    first_s = lines[0].end_to_end_s
    return [
        msgspec.structs.replace(
            line, speedup=first_s / line.end_to_end_s, efficiency=first_s / line.end_to_end_s / line.num_workers
        )
        for line in lines
    ]
