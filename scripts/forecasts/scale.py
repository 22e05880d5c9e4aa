"""Beyond one night's data: the same model for terabytes, on Lambda and, next to it, on Fargate spot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from inference.contract import BITS_PER_ROW
from scripts.forecasts.constants import Array, draw_all, read_constants
from scripts.forecasts.simulate import quantiles
from scripts.forecasts.system import Setting, default_habits, forecast
from scripts.pricing.cost import Prices

SIZES_TB = (0.1, 1.0, 10.0, 100.0)
CONCURRENCIES = (1_000, 5_000, 10_000)
ROWS_PER_RANK = 50_000
"""A gigabyte: five minutes of one vCPU, of the fifteen that Lambda allows."""

MIN_ROWS = 2_000
"""Less data is dealt thinner, so that every environment has something to do; ten seconds of it at least."""

TASK_VCPUS, TASK_GB = 4, 8
"""Of a Fargate task."""

HOUR_S = 3600


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A way to compute a large data set, and what it takes."""

    engine: str
    """``Lambda`` or ``Fargate spot``."""

    size_tb: float
    num_rows: int
    num_vcpus: int
    """At work at the same time."""

    num_ranks: int
    seconds: tuple[float, ...]
    """Quantiles, see `simulate.QUANTILES`."""

    usd: tuple[float, ...]
    """The same of the list price."""

    limit: str
    """What most of the time goes into; a step of a forecast, empty where it was not simulated."""


def rows_of(size_tb: float) -> int:
    """Return the galaxies of so many terabytes of 10^12 bytes."""
    return round(size_tb * 1e12 / (BITS_PER_ROW / 8))


def on_lambda(prices: Prices, *, sizes_tb: Sequence[float] = SIZES_TB) -> Iterator[Plan]:
    """Yield every size at every concurrency, ranks of one vCPU."""
    for size_tb in sizes_tb:
        for concurrency in CONCURRENCIES:
            num_rows = rows_of(size_tb)
            num_ranks = max(-(-num_rows // ROWS_PER_RANK), min(concurrency, num_rows // MIN_ROWS), 1)
            setting = Setting(num_rows=num_rows, world_size=num_ranks, max_concurrency=concurrency)
            found = forecast(setting, prices, prices_of="")
            yield Plan(
                engine="Lambda",
                size_tb=size_tb,
                num_rows=num_rows,
                num_vcpus=concurrency,
                num_ranks=num_ranks,
                seconds=found.seconds["end_to_end"],
                usd=found.usd,
                limit=found.limit,
            )


def on_fargate(
    prices: Prices, *, sizes_tb: Sequence[float] = SIZES_TB, num: int = 1000, seed: int = 0
) -> Iterator[Plan]:
    """Yield every size with as many vCPUs of Fargate spot as Lambda had, one job for all of it.

    Raises
    ------
    ValueError
        If the region has no prices of Fargate.
    """
    if prices.standing is None:
        raise ValueError("no prices of Fargate in this region")
    constants, habits = read_constants(), default_habits()
    generator = np.random.default_rng(seed)
    cloud = draw_all(constants.cloud, generator, num)
    ours = draw_all(habits.constants, generator, num)
    on_demand_h = (
        prices.standing.fargate_vcpu_h["x86_64"] + TASK_GB / TASK_VCPUS * prices.standing.fargate_gb_h["x86_64"]
    )
    for size_tb in sizes_tb:
        for num_vcpus in CONCURRENCIES:
            num_rows = rows_of(size_tb)
            launch_s = num_vcpus / TASK_VCPUS / cloud["fargate_tasks_per_s"]
            computing_s = num_rows * ours["row_s"] * (1 + cloud["spot_lost_share"]) / num_vcpus
            whole_s = cloud["fargate_start_s"] + launch_s + computing_s
            # A task is paid from its start on: on average half of the launching is not.
            vcpu_h = num_vcpus * (whole_s - launch_s / 2) / HOUR_S
            usd = vcpu_h * on_demand_h * np.minimum(cloud["spot_price_share"], 1)
            yield Plan(
                engine="Fargate spot",
                size_tb=size_tb,
                num_rows=num_rows,
                num_vcpus=num_vcpus,
                num_ranks=num_vcpus // TASK_VCPUS,
                seconds=quantiles(whole_s),
                usd=quantiles(usd),
                limit="",
            )


def vcpu_hour_usd(prices: Prices, memory_mb: int = 1769) -> dict[str, float]:
    """Return the list price of an hour of one vCPU with what belongs to it: Lambda, Fargate, Fargate spot [USD]."""
    standing = prices.standing
    assert standing is not None, "checked by on_fargate"
    share = read_constants().cloud["spot_price_share"].value
    on_demand = standing.fargate_vcpu_h["x86_64"] + TASK_GB / TASK_VCPUS * standing.fargate_gb_h["x86_64"]
    return {
        "Lambda": memory_mb / 1024 * HOUR_S * prices.lambda_gb_s["x86_64"],
        "Fargate": on_demand,
        "Fargate spot": on_demand * share,
    }


def cheaper_from_tb(lambda_plans: Sequence[Plan], spot_plans: Sequence[Plan], *, longer: float = 1.5) -> float | None:
    """Return the smallest size at which spot takes at most so many times as long as Lambda with as many vCPUs [TB]."""
    pairs = [
        (one, other)
        for one in lambda_plans
        for other in spot_plans
        if (one.size_tb, one.num_vcpus) == (other.size_tb, other.num_vcpus)
    ]
    close = [
        one.size_tb for one, other in pairs if other.seconds[2] <= longer * one.seconds[2] and other.usd[2] < one.usd[2]
    ]
    return min(close, default=None)


def as_arrays(plans: Sequence[Plan], which: str) -> tuple[Array, Array, Array, Array]:
    """Return size [TB], and lower end, median and upper end of `seconds` or `usd`, for a figure."""
    ends = np.array([getattr(plan, which) for plan in plans])
    return np.array([plan.size_tb for plan in plans]), ends[:, 0], ends[:, 2], ends[:, 4]
