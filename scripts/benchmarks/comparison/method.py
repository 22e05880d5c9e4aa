"""One way to predict the same rows, in numbers that compare with another way's."""

from typing import Literal

import msgspec

Place = Literal["one process", "local", "aws"]


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """One way to predict the rows. The rates have the same definitions for all of them."""

    name: str
    """``plain loop``, ``plain loop, profiled``, ``local AWS``, ``AWS``."""

    place: Place = "one process"
    """Where it ran."""

    run_id: str = ""
    """Its folder under ``runs/``; empty for one process."""

    engine: str
    """Libraries that computed."""

    num_workers: int = 1
    """Processes that computed at the same time."""

    num_threads: int
    """Threads of each."""

    num_samples: int
    """Galaxies."""

    loop_s: float
    """The inference loop; of a run, the loops of its ranks summed [s]."""

    map_s: float
    """All the work on the rows: the Map of a run; of one process loading the network, reading and the loop [s]."""

    end_to_end_s: float
    """From Initialize to the summary; of one process from its start to its redshifts on disk [s]."""

    rank_rate_per_s: float
    """Median of the rates of the loops [galaxies/s]."""

    sum_of_rank_rates_per_s: float
    """Sum of the rates of the loops: the published definition [galaxies/s]."""

    map_wall_per_s: float
    """Galaxies over `map_s` [galaxies/s]."""

    end_to_end_per_s: float
    """Galaxies over `end_to_end_s` [galaxies/s]."""

    peak_memory_bytes: int
    """Highest resident memory of any of its processes [bytes]."""

    list_price_usd: float | None = None
    """What it costs on AWS at list prices [USD]; None for one process, whose machine has no such price."""

    speedup: float = 1.0
    """End-to-end time of the plain loop over this one's."""

    efficiency: float = 1.0
    """`speedup` over `num_workers`."""

    max_abs_difference: float | None = None
    """Largest difference of a redshift to the plain loop's; None where no galaxy was predicted by both."""

    num_compared: int = 0
    """Galaxies that were compared."""
