"""What a sweep will cost, before it starts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from inference import contract
from inference.contract import DatasetCard, RunSummary
from inference.errors import InvalidRequestError
from inference.estimate import DEFAULTS, Job, estimate, learn
from inference.what_if import Range
from scripts.accounting.prices import read_prices
from scripts.running import journal
from scripts.running.shards import LocalDataset
from scripts.sweeping.data import Dataset, Key, key_of
from scripts.sweeping.place import Place
from scripts.sweeping.plan import PlannedRun, Setting

NUM_EARLIER = 20
"""Newest runs on AWS that an estimate learns from."""


def cost_in_words(
    left: Sequence[PlannedRun], place: Place, datasets: Mapping[Key, Dataset], earlier: Sequence[RunSummary]
) -> str:
    """Say what the runs that are left will cost.

    Parameters
    ----------
    left : sequence of PlannedRun
        Runs to come.
    place, datasets
        Where they go and what they read.
    earlier : sequence of RunSummary
        Runs on the same place.
    """
    if place.name == "local":
        return "nothing is paid: the sweep runs on this machine"
    jobs = [_job(run.setting, datasets[key_of(run.setting)], place) for run in left]
    known = [one for one in jobs if one is not None]
    if len(known) < len(jobs):
        return "not known: a dataset has no dataset.json that says how many galaxies it has"
    experience = learn(earlier) or DEFAULTS
    prices = read_prices()
    rates = [place.rates(run.setting.memory) for run in left]
    label = prices.label(place.region)
    each = [
        estimate(job, rate, prices.of(place.region), experience, prices_of=label).usd
        for job, rate in zip(known, rates, strict=True)
    ]
    total = Range(*(sum(column) for column in zip(*each, strict=True))) if each else Range(0.0, 0.0, 0.0)
    spread = f"{total.low:.4f} to {total.high:.4f}"
    return f"about {total.expected:.4f} USD ({spread}), from {experience.source}; prices of {label}"


def runs_on_aws(root: Path) -> Iterator[RunSummary]:
    """Yield the newest runs on AWS that left a summary."""
    folders = sorted((root / "runs").glob("*/execution.json"), reverse=True)
    on_aws = [path.parent for path in folders if (entry := journal.read(path.parent)) and entry.target == "aws"]
    for folder in on_aws[:NUM_EARLIER]:
        summary = journal.read_summary(folder)
        if summary is not None:
            yield summary


def _job(setting: Setting, dataset: Dataset, place: Place) -> Job | None:
    card = _card(dataset) if isinstance(dataset, LocalDataset) else None
    if card is None:
        return None
    shards = card.shards[: setting.files]
    return Job(
        num_rows=sum(shard.num_rows for shard in shards),
        num_shards=len(shards),
        world_size=setting.world or len(shards),
        max_concurrency=place.max_concurrency,
    )


def _card(dataset: LocalDataset) -> DatasetCard | None:
    """Return the card of a dataset; of a partition not cut yet the card of another one, whose galaxies are the same."""
    own = dataset.folder / contract.DATASET_KEY
    for path in (own, *sorted(dataset.folder.parent.glob(f"*/{contract.DATASET_KEY}"))):
        try:
            return contract.decode(path.read_bytes(), DatasetCard)
        except (OSError, InvalidRequestError):
            continue
    return None
