"""What a sweep may cost, before it starts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.contract import DatasetCard
from scripts.command.errors import UsageError
from scripts.data.location import LocalDataset, read_card
from scripts.forecasts import system
from scripts.forecasts.system import DEFAULT_CONCURRENCY, forecast, learn
from scripts.pricing.prices import read_prices
from scripts.pricing.what_if import Range
from scripts.runs.budget import earlier_runs, stated_speed
from scripts.sweeps.backend import Backend
from scripts.sweeps.data import Dataset, Key, key_of
from scripts.sweeps.plan import PlannedRun, Setting


@dataclass(frozen=True)
class SweepForecast:
    """What the runs that are left may cost together."""

    usd: Range
    """At list prices [USD]: the sums of the medians and of the ends of the central 90 %."""

    is_paid: bool
    """False on this machine."""

    source: str
    """Where the times come from, and whose prices."""

    @property
    def words(self) -> str:
        """The range in one line."""
        amount = f"{self.usd.expected:.4f} USD (90 %: {self.usd.low:.4f} to {self.usd.high:.4f})"
        where = f"about {amount}" if self.is_paid else f"nothing here; on AWS about {amount}"
        return f"{where}, {self.source}"


def forecast_sweep(
    left: Sequence[PlannedRun],
    backend: Backend,
    datasets: Mapping[Key, Dataset],
    *,
    root: Path,
    model: str | None = None,
) -> SweepForecast | None:
    """Return what the runs that are left may cost, or None when a dataset does not say how many galaxies it has.

    Parameters
    ----------
    left : sequence of PlannedRun
        Runs to come.
    backend, datasets
        Where they go and what they read.
    root : Path
        Folder of ``runs/``: earlier runs on AWS say how long things take there.
    model : str, optional
        Name of the model of all runs.

    Raises
    ------
    PriceError
        If the price file does not know the region.
    """
    settings = [_on_aws(run.setting, datasets[key_of(run.setting)], backend) for run in left]
    known = [setting for setting in settings if setting is not None]
    if len(known) < len(settings):
        return None
    earlier = earlier_runs(root, "aws", backend.rates(None), model)
    habits = learn(earlier, is_local=False, rows_per_s=stated_speed(model, root))
    prices = read_prices()
    region, label = prices.of(backend.region), prices.label(backend.region)
    each = {
        setting: forecast(setting, region, prices_of=label, habits=habits, rates=backend.rates(setting.memory_mb)).usd
        for setting in set(known)
    }
    low, median, high = (math.fsum(each[setting][i] for setting in known) for i in (0, 2, 4))
    return SweepForecast(Range(low, median, high), backend.name == "aws", f"{habits.source}; {label}")


def refuse_above(budget: float | None, found: SweepForecast | None) -> None:
    """Raise when the sweep may cost more than the budget: the upper end of the estimate counts.

    Raises
    ------
    UsageError
        With the estimate; nothing has been started.
    """
    if budget is None or (found is not None and found.usd.high <= budget):
        return
    if found is None:
        raise UsageError(f"BUDGET={budget:g}: what the sweep costs cannot be estimated, a dataset has no dataset.json.")
    raise UsageError(f"BUDGET={budget:g}: the sweep may cost {found.usd.high:.4f} USD at list prices: nothing started.")


def _on_aws(setting: Setting, dataset: Dataset, backend: Backend) -> system.Setting | None:
    """Return a run as it would be on AWS; None when its dataset does not say how many galaxies it has."""
    card = _card(dataset) if isinstance(dataset, LocalDataset) else None
    if card is None:
        return None
    shards, rates = card.shards[: setting.files], backend.rates(setting.memory)
    return system.Setting(
        num_rows=sum(shard.num_rows for shard in shards),
        num_shards=len(shards),
        world_size=setting.world or len(shards),
        memory_mb=rates.memory_mb["infer"],
        architecture=rates.architecture,
        child_type=rates.child_type,
        max_concurrency=backend.max_concurrency if backend.name == "aws" else DEFAULT_CONCURRENCY,
        engine="torch" if setting.profile else setting.engine or "auto",
        precision=setting.precision or "fp32",
    )


def _card(dataset: LocalDataset) -> DatasetCard | None:
    """Return the card of a dataset; of a partition not cut yet the card of another one, whose galaxies are the same."""
    if dataset.folder.exists():
        return dataset.card
    return next(filter(None, map(read_card, sorted(dataset.folder.parent.glob("*")))), None)
