"""What a sweep may cost, before it starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.contract import DatasetCard
from scripts.command.errors import UsageError
from scripts.data.location import LocalDataset, read_card
from scripts.pricing.estimate import DEFAULTS, Job, estimate, learn
from scripts.pricing.prices import read_prices
from scripts.pricing.what_if import Range
from scripts.runs.budget import earlier_runs
from scripts.sweeps.backend import Backend
from scripts.sweeps.data import Dataset, Key, key_of
from scripts.sweeps.plan import PlannedRun, Setting


@dataclass(frozen=True)
class SweepForecast:
    """What the runs that are left may cost together."""

    usd: Range
    """At list prices [USD]."""

    is_paid: bool
    """False on this machine."""

    source: str
    """Where the times come from, and whose prices."""

    @property
    def words(self) -> str:
        """The range in one line."""
        amount = f"{self.usd.expected:.4f} USD ({self.usd.low:.4f} to {self.usd.high:.4f})"
        where = f"about {amount}" if self.is_paid else f"nothing here; on AWS about {amount}"
        return f"{where}, by {self.source}"


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
        Folder of ``runs/``: earlier runs on the same backend say how long things take.
    model : str, optional
        Name of the model of all runs.

    Raises
    ------
    PriceError
        If the price file does not know the region.
    """
    jobs = [_job(run.setting, datasets[key_of(run.setting)], backend) for run in left]
    known = [job for job in jobs if job is not None]
    if len(known) < len(jobs):
        return None
    experience = learn(earlier_runs(root, backend.name, backend.rates(None), model)) or DEFAULTS
    prices = read_prices()
    label = prices.label(backend.region)
    each = [
        estimate(job, backend.rates(run.setting.memory), prices.of(backend.region), experience, prices_of=label).usd
        for job, run in zip(known, left, strict=True)
    ]
    total = Range(*map(sum, zip(*each, strict=True))) if each else Range(0.0, 0.0, 0.0)
    return SweepForecast(total, backend.name == "aws", f"{experience.source}; {label}")


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


def _job(setting: Setting, dataset: Dataset, backend: Backend) -> Job | None:
    card = _card(dataset) if isinstance(dataset, LocalDataset) else None
    if card is None:
        return None
    shards = card.shards[: setting.files]
    return Job(
        num_rows=sum(shard.num_rows for shard in shards),
        num_shards=len(shards),
        world_size=setting.world or len(shards),
        max_concurrency=backend.max_concurrency,
    )


def _card(dataset: LocalDataset) -> DatasetCard | None:
    """Return the card of a dataset; of a partition not cut yet the card of another one, whose galaxies are the same."""
    if dataset.folder.exists():
        return dataset.card
    return next(filter(None, map(read_card, sorted(dataset.folder.parent.glob("*")))), None)
