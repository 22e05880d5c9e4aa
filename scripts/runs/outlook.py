"""FORECAST=1: what a run will take, before it starts; see `scripts.forecasts`."""

from pathlib import Path

from inference.contract import RunRequest
from scripts.command.errors import UsageError
from scripts.command.machine import num_cores
from scripts.data.location import LocalDataset, RemoteDataset
from scripts.forecasts.system import Forecast, Setting, forecast, learn
from scripts.pricing.prices import LOCAL_REGION, read_prices
from scripts.runs import budget
from scripts.runs.run_folder import local_rates
from scripts.runs.target import AwsTarget


def look_ahead(
    request: RunRequest, dataset: LocalDataset | RemoteDataset, aws: AwsTarget | None, *, root: Path
) -> Forecast:
    """Forecast a run that is about to start, calibrated on the runs before it.

    Raises
    ------
    UsageError
        If the number of galaxies is not known, or the prices are not.
    """
    found = budget.forecast(request, dataset, aws, root=root)
    if found is None:
        raise UsageError("FORECAST=1 needs the number of galaxies, and the dataset has no readable dataset.json.")
    region, rates = (aws.stack.region, aws.stack.rates) if aws else (LOCAL_REGION, local_rates())
    place, cores = "aws" if aws else "local", num_cores()
    habits = learn(budget.earlier_runs(root, place, rates, request.model), is_local=aws is None, num_cores=cores)
    prices = read_prices()
    setting = Setting(
        num_rows=found.job.num_rows,
        world_size=found.job.world_size,
        num_shards=found.job.num_shards,
        memory_mb=rates.memory_mb["infer"],
        architecture=rates.architecture,
        child_type=rates.child_type,
        max_concurrency=found.job.max_concurrency or min(cores, found.job.world_size),
        engine=request.engine,
        precision=request.precision,
        is_local=aws is None,
        num_cores=cores,
    )
    return forecast(setting, prices.of(region), prices_of=prices.label(region), habits=habits, rates=rates)


def in_words(found: Forecast) -> str:
    """Return a forecast in one line."""
    p5, _, p50, _, p95 = found.seconds["end_to_end"]
    price = (
        "" if found.setting.is_local else f", {found.usd[2]:.4f} USD (90 %: {found.usd[0]:.4f} to {found.usd[4]:.4f})"
    )
    return f"{p50:.1f} s end to end (90 %: {p5:.1f} to {p95:.1f} s){price}, {found.source}"
