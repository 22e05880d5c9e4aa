"""`make forecast`: how long a run takes and what it costs, which setting to take, how good such forecasts are."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta
from rich.console import Console
from rich.text import Text

from inference.contract import BITS_PER_ROW, Engine, Precision
from inference.models import MAGNITUDES
from scripts.command.console import say
from scripts.command.errors import UsageError
from scripts.command.machine import num_cores
from scripts.command.program import start
from scripts.command.variables import Variables
from scripts.data.location import find_dataset
from scripts.data.writer import ShardMb
from scripts.deployment.stack import has_applied, read_stack
from scripts.forecasts.constants import read_constants
from scripts.forecasts.fit import fit, predict
from scripts.forecasts.judge import cross_validated, judge_own, score
from scripts.forecasts.kept import PHASES
from scripts.forecasts.planner import Choice, Wish, describe, fits, plan
from scripts.forecasts.published import Runs, read_runs
from scripts.forecasts.system import DEFAULT_CONCURRENCY, Forecast, Habits, Setting, forecast, learn
from scripts.pricing.cost import Rates
from scripts.pricing.prices import LOCAL_REGION, PriceList, read_prices
from scripts.runs.budget import earlier_runs, stated_speed
from scripts.runs.run_folder import local_rates
from scripts.runs.variables import TargetName, Usd

FOLDER = "forecasts"
PARETO = "pareto.png"
PUBLISHED_ROWS, PUBLISHED_RANKS = 659_857, 517
"""The published 12.6 GB in shards of 25 MB."""

MIN_OWN = 4
"""Earlier runs that are forecast by each other."""

MIN_CELLS = 5
"""Cells that a fit to the others needs."""

LIMITS = {
    "before": "starting the execution and planning",
    "dispatch": "the Map's dispatch: CHILD=EXPRESS starts ten times as many ranks a second, fewer ranks need fewer",
    "room": "the account's concurrency: ranks wait for an environment",
    "start": "starting environments: fewer, longer ranks start less",
    "work": "computing: more ranks, more memory or int8",
    "tail": "single slow ranks, of which more ranks have more",
    "after": "Summarize",
}
"""What most of the time goes into, and what would help."""


class ForecastVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make forecast`."""

    world: Annotated[int, Meta(ge=1, le=100_000, description="a whole number of ranks from 1 to 100,000")] | None = None
    n: Annotated[int, Meta(ge=1, description="a whole number of galaxies from 1")] | None = None
    dataset: Annotated[str, Meta(description="a dataset under datasets/, or a folder with shards")] = ""
    shard_mb: ShardMb | None = None
    files: Annotated[int, Meta(ge=1, description="a whole number of shards from 1")] | None = None
    memory: Annotated[int, Meta(ge=512, le=10_240, description="a whole number of MB from 512 to 10240")] | None = None
    arch: Literal["x86_64", "arm64"] | None = None
    child: Literal["STANDARD", "EXPRESS"] | None = None
    concurrency: Annotated[int, Meta(ge=1, description="a whole number of ranks at a time from 1")] | None = None
    engine: Annotated[Engine, Meta(description="one of the engines in the image, or auto")] = "auto"
    precision: Annotated[Precision, Meta(description="fp32, bf16 or int8")] = "fp32"
    deadline: Annotated[float, Meta(gt=0, description="a number of seconds above 0")] | None = None
    budget: Usd | None = None
    target: TargetName = "aws"
    region: Annotated[str, Meta(description="a region of the price file")] = ""
    outputs: Annotated[str, Meta(description="a file with what `terraform output -json` printed")] = ""
    prices: Annotated[str, Meta(description="another price file, as TOML")] = ""
    file: Annotated[str, Meta(description="a CSV of published runs")] = ""
    to: Annotated[str, Meta(description="a folder")] = ""


@dataclass(frozen=True)
class Place:
    """Where a run would be, as deployed or as by default, changed by what was asked for."""

    region: str
    rates: Rates
    max_concurrency: int


def main(variables: ForecastVariables) -> None:
    """Forecast a run, plan one, or judge forecasts on runs. Exit status: 0 printed, 2 cannot be had or wrong usage."""
    console, root = Console(highlight=False), Path()
    if variables.file:
        judge(variables, console)
        return
    prices = read_prices(Path(variables.prices).expanduser() if variables.prices else None)
    place = place_of(variables, root)
    prices.of(place.region)
    is_local = variables.target == "local"
    model = _model_of(variables, root)
    earlier = earlier_runs(root, variables.target, place.rates, model)
    habits = learn(earlier, is_local=is_local, num_cores=num_cores(), rows_per_s=stated_speed(model, root))
    if variables.deadline is not None or variables.budget is not None:
        make_plan(variables, place, habits, prices, console, root)
    else:
        one_run(variables, place, habits, prices, console, root)
    if len(earlier) >= MIN_OWN:
        own = judge_own(earlier, is_local=is_local, num_cores=num_cores())
        say(
            console,
            f"  The {len(earlier)} earlier runs, each forecast by the others: median error {own.error:.0%}, "
            f"{own.inside_90:.0%} within the central 90 %",
        )


def place_of(variables: ForecastVariables, root: Path) -> Place:
    """Return where the run would be: in the stack of this working copy or of OUTPUTS, or in one as by default.

    Raises
    ------
    UsageError
        If OUTPUTS contradicts TARGET.
    StackError
        If there is a stack, and it cannot be read.
    """
    is_local = variables.target == "local"
    if is_local and variables.outputs:
        raise UsageError(f"OUTPUTS={variables.outputs} is about a stack, and TARGET=local about this machine.")
    terraform = root / "terraform"
    is_deployed = not is_local and (variables.outputs or has_applied(terraform))
    stack = read_stack(terraform, outputs=variables.outputs) if is_deployed else None
    rates = stack.rates if stack else local_rates()
    own = num_cores() if is_local else DEFAULT_CONCURRENCY
    return Place(
        variables.region or (stack.region if stack else LOCAL_REGION),
        replace(
            rates,
            memory_mb={**rates.memory_mb, "infer": variables.memory or rates.memory_mb["infer"]},
            architecture=variables.arch or rates.architecture,
            child_type=variables.child or rates.child_type,
        ),
        variables.concurrency or (stack.max_concurrency if stack else own),
    )


# -------------------------------------------------------------------------------------------- one run


def one_run(
    variables: ForecastVariables, place: Place, habits: Habits, prices: PriceList, console: Console, root: Path
) -> None:
    """Print what a run with these variables will take and cost."""
    setting = setting_of(variables, place, root)
    label = prices.label(place.region)
    found = forecast(setting, prices.of(place.region), prices_of=label, habits=habits, rates=place.rates)
    if not setting.is_local and not fits(found):
        raise UsageError(
            f"WORLD={setting.world_size}: a rank of {setting.rows_per_rank:,} galaxies may not end within Lambda's 900 "
            "seconds, or the 300 of CHILD=EXPRESS. More ranks, or more MEMORY."
        )
    print_forecast(console, found)


def setting_of(variables: ForecastVariables, place: Place, root: Path) -> Setting:
    """Return the run that the variables ask for.

    Raises
    ------
    UsageError
        If they contradict each other, or say not how many galaxies there are.
    """
    is_local = variables.target == "local"
    if is_local and (variables.arch or variables.child or variables.memory):
        raise UsageError("TARGET=local has this machine's processors: leave out ARCH, CHILD and MEMORY.")
    num_rows, num_shards = _size(variables, root)
    world_size = variables.world or num_shards
    if world_size > num_rows:
        raise UsageError(f"WORLD={world_size:,} is more than the {num_rows:,} galaxies: a rank needs one at least.")
    return Setting(
        num_rows=num_rows,
        world_size=world_size,
        num_shards=num_shards,
        memory_mb=place.rates.memory_mb["infer"],
        architecture=place.rates.architecture,
        child_type=place.rates.child_type,
        max_concurrency=min(place.max_concurrency, world_size) if is_local else place.max_concurrency,
        engine=variables.engine,
        precision=variables.precision,
        is_local=is_local,
        num_cores=num_cores() if is_local else 1,
    )


def _model_of(variables: ForecastVariables, root: Path) -> str | None:
    """Return the model that serves a dataset without images; None where it is the default."""
    if not variables.dataset:
        return None
    card = find_dataset(variables.dataset, asked=f"DATASET={variables.dataset}", root=root).card
    return MAGNITUDES.name if card and card.image_origin == "none" else None


def _size(variables: ForecastVariables, root: Path) -> tuple[int, int]:
    """Return galaxies and shards."""
    if variables.n and variables.dataset:
        raise UsageError(f"N={variables.n} and DATASET={variables.dataset} contradict each other: leave one out.")
    if variables.n:
        if variables.files:
            raise UsageError("FILES is about a dataset: N says how many galaxies there are.")
        rows_per_shard = int((variables.shard_mb or 100) * 2**20 * 8 / BITS_PER_ROW)
        return variables.n, math.ceil(variables.n / rows_per_shard)
    name = variables.dataset or "sdss"
    dataset = find_dataset(name, asked=f"DATASET={name}", root=root)
    card = dataset.card
    if card is None:
        raise UsageError(f"DATASET={name} has no readable dataset.json: say N, the number of galaxies.")
    num_rows = sum(shard.num_rows for shard in card.shards[: variables.files])
    if variables.shard_mb:
        return num_rows, math.ceil(num_rows * BITS_PER_ROW / 8 / 2**20 / variables.shard_mb)
    return num_rows, len(card.shards[: variables.files])


def print_forecast(console: Console, found: Forecast) -> None:
    """Print duration and cost with their intervals, where the time goes, and what limits it."""
    setting = found.setting
    where = "on this machine" if setting.is_local else "on AWS"
    p5, _, p50, _, p95 = found.seconds["end_to_end"]
    price = "" if setting.is_local else f", {found.usd[2]:.4f} USD"
    say(console, Text(f"{_s(p50)} s {where}{price}; 90 %: {_s(p5)} to {_s(p95)} s", "bold"))
    size = f"{setting.num_rows:,} galaxies by {setting.world_size:,} ranks, {setting.max_concurrency:,} at a time"
    kind = "" if setting.is_local else f"; {setting.memory_mb:,} MB, {setting.architecture}, {setting.child_type}"
    say(console, f"  {size}{kind}; not started")
    say(console, f"  Times {found.source}; intervals from {len(found.outcome.map_s):,} replications")
    console.print()
    say(console, Text(f"  {'':<12}{'median':>10}{'50 %':>20}{'90 %':>20}", "dim"))
    for name, words in PHASES.items():
        say(console, _line(f"{words} [s]", found.seconds[name], _s))
    if not setting.is_local:
        say(console, _line("price [USD]", found.usd, lambda usd: f"{usd:.4f}"))
    console.print()
    say(console, "  The rank that ends last: " + ", ".join(f"{step} {_s(s)} s" for step, s in _chain(found)))
    limit = "this machine's cores" if setting.is_local and found.limit == "room" else LIMITS[found.limit]
    say(console, f"  What limits it: {limit}")
    if not setting.is_local:
        say(console, f"  List prices of {found.bills[0].prices_of}; a forecast, nothing measured on AWS")


def _line(name: str, found: tuple[float, ...], words: Callable[[float], str]) -> str:
    p5, p25, p50, p75, p95 = map(words, found)
    return f"  {name:<14}{p50:>8}{f'{p25} to {p75}':>20}{f'{p5} to {p95}':>20}"


def _chain(found: Forecast) -> list[tuple[str, float]]:
    return [(step, s) for step, s in found.last.items() if step not in ("before", "after") and s >= 0.05]


def _s(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


# ------------------------------------------------------------------------------------------- the planner


def make_plan(
    variables: ForecastVariables, place: Place, habits: Habits, prices: PriceList, console: Console, root: Path
) -> None:
    """Print which settings are worth taking, and draw them."""
    if variables.target == "local":
        raise UsageError("TARGET=local has nothing to choose and costs nothing: leave out DEADLINE and BUDGET.")
    num_rows, _ = _size(variables, root)
    wish = Wish(
        num_rows=num_rows,
        max_concurrency=place.max_concurrency,
        world_size=variables.world or (_size(variables, root)[1] if variables.shard_mb else None),
        memory_mb=variables.memory,
        architecture=variables.arch,
        child_type=variables.child,
        engine=variables.engine,
        precision=variables.precision,
        deadline_s=variables.deadline,
        budget_usd=variables.budget,
    )
    found = plan(wish, prices.of(place.region), prices_of=prices.label(place.region), habits=habits)
    print_plan(console, found)
    folder = Path(variables.to or FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    # A picture needs matplotlib, which takes a moment to import.
    from scripts.reports.figures.output import as_png
    from scripts.reports.forecast_page import pareto

    as_png(pareto(found), folder / PARETO, title=f"{num_rows:,} galaxies, settings by time and price")
    say(console, f"  {folder / PARETO}")


def print_plan(console: Console, found: Choice) -> None:
    """Print the cheapest and the fastest setting that keep to what was asked, and the front."""
    say(console, Text(f"cheapest   {describe(found.cheapest.setting)}", "bold"))
    say(console, f"           {_what(found.cheapest)}")
    say(console, Text(f"fastest    {describe(found.fastest.setting)}", "bold"))
    say(console, f"           {_what(found.fastest)}")
    say(console, f"           binds: {LIMITS[found.fastest.limit]}")
    console.print()
    say(console, Text(f"  {'end to end [s]':>18}{'price [USD]':>24}   settings on the front", "dim"))
    for one in found.front:
        s, usd = one.seconds["end_to_end"], one.usd
        times, price = f"{_s(s[2])} ({_s(s[0])}-{_s(s[4])})", f"{usd[2]:.3f} ({usd[0]:.3f}-{usd[4]:.3f})"
        say(console, f"  {times:>18}{price:>24}   {describe(one.setting)}")
    say(console, f"  Times {found.fastest.source}. In brackets the central 90 %.")


def _what(one: Forecast) -> str:
    s, usd = one.seconds["end_to_end"], one.usd
    return f"{_s(s[2])} s (90 %: {_s(s[0])} to {_s(s[4])}), {usd[2]:.3f} USD (90 %: {usd[0]:.3f} to {usd[4]:.3f})"


# ---------------------------------------------------------------------------------------------- judged


def judge(variables: ForecastVariables, console: Console) -> None:
    """Compare forecasts with published runs: by the constants as they are, and every cell by a fit to the others."""
    runs = read_runs(Path(variables.file).expanduser())
    constants = read_constants()
    known = predict(constants.fitted, runs)
    _print_scores(console, "as shipped", known.map_s, known.end_to_end_s, runs)
    if len(runs.cells) < MIN_CELLS:
        say(console, f"  Fewer than {MIN_CELLS} cells: none is forecast by the others.")
        return
    unseen = cross_validated(runs)
    _print_scores(console, "every cell by the others", unseen.map_s, unseen.end_to_end_s, runs)
    if not variables.to:
        return
    from scripts.reports.forecast_page import Judgement, write_page
    from scripts.reports.scale_page import write_scale_page

    prices = read_prices()
    # How fast arm64 is was not measured.
    wish = Wish(
        num_rows=PUBLISHED_ROWS,
        max_concurrency=DEFAULT_CONCURRENCY,
        world_size=PUBLISHED_RANKS,
        architecture="x86_64",
    )
    # Pages are the same wherever they are written: no run of this machine has a say.
    habits = learn([], is_local=False)
    best = plan(wish, prices.of(LOCAL_REGION), prices_of=prices.label(LOCAL_REGION), habits=habits).fastest
    folder = Path(variables.to).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    judgement = Judgement(runs=runs, constants=constants, fitted=fit(runs), unseen=unseen)
    for path in (*write_page(judgement, best, folder), *write_scale_page(prices, folder)):
        say(console, f"  {path}")


def _print_scores(console: Console, name: str, map_s: np.ndarray, end_to_end_s: np.ndarray, runs: Runs) -> None:
    say(console, Text(f"{name}: {len(runs)} runs in {len(runs.cells)} cells", "bold"))
    for words, predicted, measured in (("Map", map_s, runs.map_s), ("end to end", end_to_end_s, runs.end_to_end_s)):
        found = score(predicted, measured)
        inside = f"{found.inside_90:.0%} within the central 90 %, {found.inside_50:.0%} within 50 %"
        say(console, f"  {words:<12} median error {found.error:.1%}; {inside}")


if __name__ == "__main__":
    start(main)
