"""Which setting to take: every one tried, the fast and the cheap ones simulated in full, and which limit binds."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from inference.contract import BITS_PER_ROW
from inference.plan import MAX_CHILDREN
from scripts.command.errors import UsageError
from scripts.forecasts.constants import certain, read_constants
from scripts.forecasts.system import MAX_EXPRESS_S, MAX_LAMBDA_S, Forecast, Habits, Setting, forecast
from scripts.pricing.cost import Prices
from scripts.pricing.what_if import ARCHITECTURES, MEMORY_SIZES_MB

MIN_MEMORY_MB = 1024
"""A rank with onnxruntime holds 214 MB and its blocks; below this a vCPU is shared too thinly to be worth it."""

MIN_ROWS = 64
"""Galaxies of a rank at least: fewer would mostly start."""

CHILD_TYPES: tuple[Literal["STANDARD", "EXPRESS"], ...] = ("STANDARD", "EXPRESS")
NUM_WORLDS = 12
NUM_ROUGH = 3
"""Replications of a setting that is only looked at."""

NUM_FULL = 120
"""Replications of one on the front."""

MAX_FRONT = 16


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user asks for; None: whatever is best."""

    num_rows: int
    max_concurrency: int
    world_size: int | None = None
    memory_mb: int | None = None
    architecture: str | None = None
    child_type: Literal["STANDARD", "EXPRESS"] | None = None
    engine: str = "auto"
    precision: str = "fp32"
    deadline_s: float | None = None
    budget_usd: float | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the planner found."""

    front: Sequence[Forecast]
    """Settings that no other one beats in both time and price, the fastest first."""

    others: Sequence[Forecast]
    """Settings next to the front."""

    cheapest: Forecast
    """In time by the upper end of the central 90 %, where there is a deadline."""

    fastest: Forecast
    """Within the budget, by the same, where there is one."""


def plan(wish: Wish, prices: Prices, *, prices_of: str, habits: Habits) -> Choice:
    """Find the settings worth taking.

    Raises
    ------
    UsageError
        If no setting can work, or none keeps to the deadline and the budget; the message says what could be had.
    """
    constants = read_constants()
    # Two rough forecasts differ by their settings alone, not by what is drawn.
    constants = msgspec.structs.replace(constants, cloud=certain(constants.cloud))
    sure = replace(habits, constants=certain(habits.constants))
    rough = [
        forecast(setting, prices, prices_of=prices_of, habits=sure, constants=constants, num=NUM_ROUGH)
        for setting in _settings(wish, habits)
    ]
    rough = [one for one in rough if fits(one)]
    if not rough:
        raise UsageError(
            f"{wish.num_rows:,} galaxies fit no setting that was asked for: a rank ends after {MAX_LAMBDA_S} s at "
            f"most, an EXPRESS one after {MAX_EXPRESS_S} s. Leave WORLD, MEMORY and CHILD free."
        )
    chosen = _thinned(_front(rough), MAX_FRONT)
    full = [
        forecast(
            one.setting,
            prices,
            prices_of=prices_of,
            habits=habits,
            num=min(NUM_FULL, 600_000 // one.setting.world_size + 20),
        )
        for one in chosen
    ]
    front = _front(full)
    met = [one for one in full if _keeps(one, wish)]
    if not met:
        raise UsageError(_why_not(wish, full))
    return Choice(
        front=front,
        others=[one for one in full if all(one is not best for best in front)],
        cheapest=min(met, key=lambda one: one.usd[2]),
        fastest=min(met, key=lambda one: one.seconds["end_to_end"][2]),
    )


def _settings(wish: Wish, habits: Habits) -> Iterator[Setting]:
    """Yield every setting to try."""
    sizes = [wish.memory_mb] if wish.memory_mb else [size for size in MEMORY_SIZES_MB if size >= MIN_MEMORY_MB]
    kinds = itertools.product(
        _worlds(wish, habits),
        sizes,
        [wish.architecture] if wish.architecture else ARCHITECTURES,
        [wish.child_type] if wish.child_type else CHILD_TYPES,
    )
    for world_size, memory_mb, architecture, child_type in kinds:
        yield Setting(
            num_rows=wish.num_rows,
            world_size=world_size,
            memory_mb=memory_mb,
            architecture=architecture,
            child_type=child_type,
            max_concurrency=min(wish.max_concurrency, MAX_CHILDREN),
            engine=wish.engine,
            precision=wish.precision,
        )


def _worlds(wish: Wish, habits: Habits) -> list[int]:
    """Return world sizes evenly spread in their logarithm, the concurrency among them."""
    if wish.world_size:
        return [wish.world_size]
    most = max(min(MAX_CHILDREN, wish.num_rows // MIN_ROWS), 1)
    least = max(math.ceil(wish.num_rows * habits.constants["row_s"].value / 5 / MAX_LAMBDA_S), 1)
    steps = [least * (most / least) ** (i / (NUM_WORLDS - 1)) for i in range(NUM_WORLDS)] if most > least else [most]
    return sorted({*map(round, steps), *([wish.max_concurrency] if least <= wish.max_concurrency <= most else [])})


def fits(found: Forecast) -> bool:
    """Return whether a rank ends before AWS ends it."""
    longest_s = float((found.outcome.ranks_s / found.setting.world_size).max())
    return longest_s < 0.8 * (MAX_EXPRESS_S if found.setting.child_type == "EXPRESS" else MAX_LAMBDA_S)


def _front(found: Sequence[Forecast]) -> list[Forecast]:
    """Return those that no other one beats, by their medians, the fastest first."""
    kept: list[Forecast] = []
    for one in sorted(found, key=lambda one: (one.seconds["end_to_end"][2], one.usd[2])):
        if not kept or one.usd[2] < kept[-1].usd[2]:
            kept.append(one)
    return kept


def _thinned(front: list[Forecast], most: int) -> list[Forecast]:
    if len(front) <= most:
        return front
    return [front[round(i * (len(front) - 1) / (most - 1))] for i in range(most)]


def _keeps(one: Forecast, wish: Wish) -> bool:
    """Return whether the upper ends of the intervals keep to what was asked."""
    is_in_time = wish.deadline_s is None or one.seconds["end_to_end"][4] <= wish.deadline_s
    return is_in_time and (wish.budget_usd is None or one.usd[4] <= wish.budget_usd)


def _why_not(wish: Wish, found: Sequence[Forecast]) -> str:
    asked = [f"DEADLINE={wish.deadline_s:g}"] if wish.deadline_s is not None else []
    asked += [f"BUDGET={wish.budget_usd:g}"] if wish.budget_usd is not None else []
    fastest = min(found, key=lambda one: one.seconds["end_to_end"][4])
    cheapest = min(found, key=lambda one: one.usd[4])
    more = ""
    if wish.deadline_s is not None and 2 * fastest.setting.world_size >= wish.max_concurrency < MAX_CHILDREN:
        more = f" CONCURRENCY={wish.max_concurrency} binds: a higher quota is faster."
    return (
        f"{' '.join(asked)} cannot be kept to in 95 of 100 runs. The fastest setting takes up to {_upper(fastest)}, "
        f"the cheapest {_upper(cheapest)}.{more}"
    )


def _upper(one: Forecast) -> str:
    return f"{one.seconds['end_to_end'][4]:.0f} s and {one.usd[4]:.2f} USD ({describe(one.setting)})"


def describe(setting: Setting) -> str:
    """Return a setting in words, as the variables that make it."""
    shard_mb = setting.rows_per_rank * BITS_PER_ROW / 8 / 2**20
    where = f"{setting.architecture}, {setting.child_type}"
    return f"WORLD={setting.world_size} MEMORY={setting.memory_mb} {where}, {shard_mb:,.0f} MB per rank"
