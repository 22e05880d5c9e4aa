"""FORECAST=1: what a run will take, before it starts; see `scripts.forecasts`."""

from dataclasses import replace
from pathlib import Path

from inference.contract import RunRequest
from scripts.command.errors import UsageError
from scripts.command.machine import num_cores
from scripts.data.location import LocalDataset, RemoteDataset
from scripts.forecasts.system import Forecast, forecast, learn
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
    setting = budget.setting_of(request, dataset, aws)
    if setting is None:
        raise UsageError("FORECAST=1 needs the number of galaxies, and the dataset has no readable dataset.json.")
    if aws:
        found = budget.forecast(request, dataset, aws, root=root)
        assert found is not None, "its galaxies are known"
        return found.forecast
    rates, cores, prices = local_rates(), num_cores(), read_prices()
    earlier, speed = budget.earlier_runs(root, "local", rates, request.model), budget.stated_speed(request.model, root)
    habits = learn(earlier, is_local=True, num_cores=cores, rows_per_s=speed)
    here = replace(setting, max_concurrency=min(cores, setting.world_size), is_local=True, num_cores=cores)
    return forecast(here, prices.of(LOCAL_REGION), prices_of=prices.label(LOCAL_REGION), habits=habits, rates=rates)


def in_words(found: Forecast) -> str:
    """Return a forecast in one line."""
    p5, _, p50, _, p95 = found.seconds["end_to_end"]
    price = (
        "" if found.setting.is_local else f", {found.usd[2]:.4f} USD (90 %: {found.usd[0]:.4f} to {found.usd[4]:.4f})"
    )
    return f"{p50:.1f} s end to end (90 %: {p5:.1f} to {p95:.1f} s){price}, {found.source}"
