"""What a run may cost before it starts, and BUDGET, which refuses one that may cost more."""

from dataclasses import dataclass, replace
from pathlib import Path

from botocore.exceptions import ClientError

from inference import contract
from inference.contract import DatasetCard, RunRequest, RunSummary
from inference.errors import InvalidRequestError, RunFolderError
from inference.models import shipped
from inference.plan import ROW_BYTES
from inference.run_folder import read_summary
from scripts.command.errors import UsageError
from scripts.data.location import LocalDataset, RemoteDataset
from scripts.pricing.cost import Rates
from scripts.pricing.estimate import DEFAULTS, Estimate, Experience, Job, estimate, learn
from scripts.pricing.prices import LOCAL_REGION, PriceError, PriceList, read_prices
from scripts.runs import journal
from scripts.runs.run_folder import local_rates
from scripts.runs.target import AwsTarget

NUM_EARLIER = 20
"""Newest runs that an estimate learns from."""


@dataclass(frozen=True)
class Forecast:
    """What a run may cost, and whether anybody pays it."""

    job: Job
    """What it is to do."""

    estimate: Estimate
    """The range."""

    is_paid: bool
    """False on this machine."""

    @property
    def words(self) -> str:
        """The range, whose prices, and where the times come from, in one line."""
        low, expected, high = self.estimate.usd
        where = "" if self.is_paid else " on AWS"
        return f"{high:.4f} USD{where} (low {low:.4f}, expected {expected:.4f}), by {self.estimate.source}"


def before_start(
    budget: float | None,
    request: RunRequest,
    dataset: LocalDataset | RemoteDataset,
    aws: AwsTarget | None,
    *,
    root: Path,
) -> list[str]:
    """Return a line about what a run may cost, where it is paid or a budget is given.

    Raises
    ------
    UsageError
        If it may cost more than the budget, or that is not known; nothing has been started.
    """
    if aws is None and budget is None:
        return []
    try:
        found = forecast(request, dataset, aws, root=root)
    except PriceError:
        if budget is None:
            return []
        raise
    refuse_above(budget, found)
    return [found.words if found else "unknown: the dataset has no dataset.json"]


def forecast(
    request: RunRequest,
    dataset: LocalDataset | RemoteDataset,
    aws: AwsTarget | None,
    *,
    root: Path,
    prices: PriceList | None = None,
) -> Forecast | None:
    """Return what a run may cost, or None when the number of galaxies is not known before Initialize.

    Raises
    ------
    PriceError
        If the price file does not know the region.
    """
    size = _size(dataset, request.file_limit, aws)
    if size is None:
        return None
    num_rows, num_shards = size
    job = Job(
        num_rows=num_rows,
        num_shards=num_shards,
        world_size=request.world_size or num_shards,
        max_concurrency=aws.stack.max_concurrency if aws else None,
    )
    region, rates = (aws.stack.region, aws.stack.rates) if aws else (LOCAL_REGION, local_rates())
    prices = prices or read_prices()
    experience = _experience(root, rates, request.model, is_aws=aws is not None)
    found = estimate(job, rates, prices.of(region), experience, prices_of=prices.label(region))
    return Forecast(job, found, aws is not None)


def _experience(root: Path, rates: Rates, model: str | None, *, is_aws: bool) -> Experience:
    learnt = learn(earlier_runs(root, "aws" if is_aws else "local", rates, model))
    if learnt is None:
        return DEFAULTS
    return learnt if is_aws else replace(learnt, source=f"{learnt.source} on this machine")


def refuse_above(budget: float | None, found: Forecast | None) -> None:
    """Raise when a run may cost more than the budget: the upper end of the estimate counts.

    Raises
    ------
    UsageError
        With the estimate; nothing has been started.
    """
    if budget is None:
        return
    if found is None:
        raise UsageError(
            f"BUDGET={budget:g}: what the run costs cannot be estimated, its dataset has no readable dataset.json. "
            "Nothing was started."
        )
    if found.estimate.usd.high > budget:
        free = "" if found.is_paid else " Here nothing is paid: without BUDGET it runs."
        raise UsageError(
            f"BUDGET={budget:g}: the run may cost {found.words}. Nothing was started; a higher BUDGET or fewer FILES "
            f"let it.{free}"
        )


def earlier_runs(root: Path, target: str, rates: Rates, model: str | None = None) -> list[RunSummary]:
    """Return the newest complete runs of the same target, processor and model that left a summary here.

    Without a model, runs here are those of the shipped one, and runs on AWS those of whichever was deployed.
    """
    if model is None and target == "local":
        model = shipped().card.name
    found: list[RunSummary] = []
    for path in sorted((root / "runs").glob("*/execution.json"), reverse=True):
        entry = journal.read(path.parent)
        if entry is None or entry.target != target:
            continue
        if entry.stack and entry.stack.architecture != rates.architecture:
            continue
        try:
            summary = read_summary(path.parent)
        except RunFolderError:
            continue
        if summary and summary.complete and model in (None, summary.request.model or shipped().card.name):
            found.append(summary)
        if len(found) == NUM_EARLIER:
            break
    return found


def _size(
    dataset: LocalDataset | RemoteDataset, file_limit: int | None, aws: AwsTarget | None
) -> tuple[int, int] | None:
    """Return galaxies and shards of what a run reads; None when only Initialize will know."""
    card = dataset.card if isinstance(dataset, LocalDataset) else _remote_card(dataset, aws)
    if card:
        shards = card.shards[:file_limit]
        return sum(shard.num_rows for shard in shards), len(shards)
    if isinstance(dataset, RemoteDataset):
        return None
    files = [path for path in dataset.files(file_limit) if path.name != contract.DATASET_KEY]
    return max(sum(path.stat().st_size for path in files) // ROW_BYTES, 1), len(files)


def _remote_card(dataset: RemoteDataset, aws: AwsTarget | None) -> DatasetCard | None:
    try:
        content = aws.bucket_named(dataset.bucket).read(dataset.prefix + contract.DATASET_KEY) if aws else None
        return contract.decode(content, DatasetCard) if content else None
    except (ClientError, InvalidRequestError):
        # Whether the run may read it is for Initialize to say.
        return None
