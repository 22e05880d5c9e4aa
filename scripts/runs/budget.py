"""What a run may cost before it starts, and BUDGET, which refuses one that may cost more."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

from botocore.exceptions import ClientError

from inference import contract
from inference.contract import DatasetCard, RunRequest, RunSummary
from inference.errors import InvalidRequestError, ModelError, RunFolderError
from inference.models import shipped
from inference.plan import ROW_BYTES
from inference.run_folder import read_summary
from scripts.command.errors import UsageError
from scripts.command.model import find_model
from scripts.data.location import LocalDataset, RemoteDataset
from scripts.deployment.stages import read_stages
from scripts.forecasts.system import DEFAULT_CONCURRENCY, Forecast, Setting, learn
from scripts.forecasts.system import forecast as simulate
from scripts.pricing.cost import Rates, Usage, bill, usage_before
from scripts.pricing.prices import LOCAL_REGION, PriceError, PriceList, read_prices
from scripts.runs import journal
from scripts.runs.run_folder import local_rates
from scripts.runs.target import AwsTarget

MOST_INVOCATIONS = 3
"""Of a rank that does not answer: the first, the one next to it, and the last; see terraform/state_machine.asl.json."""

NUM_EARLIER = 20
"""Newest runs that a forecast learns from."""


@dataclass(frozen=True)
class Price:
    """What a run may cost, and whether anybody pays it."""

    forecast: Forecast
    """Of the run on AWS, as `make forecast` has it."""

    is_paid: bool
    """False on this machine."""

    worst_usd: float
    """If every rank ran into its time limit, as often as it is invoked; what `make stop` leaves running is less."""

    @property
    def words(self) -> str:
        """The upper end, the median, and where the times come from, in one line."""
        _, _, median, _, high = self.forecast.usd
        where = "" if self.is_paid else " on AWS"
        usual = f"{high:.4f} USD{where} in 95 of 100 runs (median {median:.4f})"
        return f"{usual}, {self.worst_usd:,.2f} if every rank ran into its time limit; {self.forecast.source}"


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
) -> Price | None:
    """Return what a run costs on AWS, or None when the number of galaxies is not known before Initialize.

    Raises
    ------
    PriceError
        If the price file does not know the region.
    """
    setting = setting_of(request, dataset, aws)
    if setting is None:
        return None
    region, rates = (aws.stack.region, aws.stack.rates) if aws else (LOCAL_REGION, local_rates())
    rates = replace(rates, memory_mb={**rates.memory_mb, "infer": setting.memory_mb})
    # Runs here say nothing of a processor there.
    earlier = earlier_runs(root, "aws", rates, request.model)
    habits = learn(earlier, is_local=False, rows_per_s=stated_speed(request.model, root))
    prices = prices or read_prices()
    found = simulate(setting, prices.of(region), prices_of=prices.label(region), habits=habits, rates=rates)
    timeout_s = aws.stack.stages["infer"].timeout_s if aws else int(read_stages()["infer"]["timeout_s"])
    worst = worst_usage(setting, rates, timeout_s, num_invocations=MOST_INVOCATIONS if request.backup else 1)
    return Price(found, aws is not None, bill(worst, rates, prices.of(region), prices_of="").usd)


def worst_usage(setting: Setting, rates: Rates, timeout_s: int, *, num_invocations: int) -> Usage:
    """Count what a run takes whose ranks all run into their time limit, in every invocation that they have."""
    return usage_before(
        rates,
        num_rows=setting.num_rows,
        num_shards=setting.num_shards,
        world_size=setting.world_size,
        ranks_s=setting.world_size * timeout_s * num_invocations,
        initialize_s=timeout_s,
        summarize_s=timeout_s,
    )


def setting_of(request: RunRequest, dataset: LocalDataset | RemoteDataset, aws: AwsTarget | None) -> Setting | None:
    """Return a request as a setting on AWS; None when the number of galaxies is not known before Initialize."""
    size = _size(dataset, request, aws)
    if size is None:
        return None
    num_rows, num_shards = size
    rates = aws.stack.rates if aws else local_rates()
    return Setting(
        num_rows=num_rows,
        world_size=request.world_size or num_shards,
        num_shards=num_shards,
        memory_mb=request.memory_mb or rates.memory_mb["infer"],
        architecture=rates.architecture,
        child_type=rates.child_type,
        max_concurrency=aws.stack.max_concurrency if aws else DEFAULT_CONCURRENCY,
        engine="torch" if request.profile else request.engine,
        precision=request.precision,
    )


def refuse_above(budget: float | None, found: Price | None) -> None:
    """Raise when a run may cost more than the budget: the upper end of the central 90 % counts.

    Raises
    ------
    UsageError
        With the forecast; nothing has been started.
    """
    if budget is None:
        return
    if found is None:
        raise UsageError(
            f"BUDGET={budget:g}: what the run costs cannot be estimated, its dataset has no readable dataset.json. "
            "Nothing was started."
        )
    if found.forecast.usd[-1] > budget:
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


def stated_speed(model: str | None, root: Path) -> float | None:
    """Return the galaxies per second of one thread that the card of a model says; None where none says it."""
    try:
        return find_model(model or "", root=root).card.rows_per_s
    except (UsageError, ModelError):
        return None


def _size(dataset: LocalDataset | RemoteDataset, request: RunRequest, aws: AwsTarget | None) -> tuple[int, int] | None:
    """Return galaxies and shards of what a run reads; None when only Initialize will know."""
    card = dataset.card if isinstance(dataset, LocalDataset) else _remote_card(dataset, aws)
    if card:
        sizes = [shard.num_rows for shard in card.shards[: request.file_limit]]
    elif isinstance(dataset, RemoteDataset):
        return None
    else:
        files = [path for path in dataset.files(request.file_limit) if path.name != contract.DATASET_KEY]
        sizes = [path.stat().st_size // ROW_BYTES for path in files]
    most = request.row_limit or sum(sizes)
    num_shards = sum(1 for start in itertools.accumulate(sizes[:-1], initial=0) if start < most)
    return max(min(sum(sizes), most), 1), num_shards


def _remote_card(dataset: RemoteDataset, aws: AwsTarget | None) -> DatasetCard | None:
    try:
        content = aws.bucket_named(dataset.bucket).read(dataset.prefix + contract.DATASET_KEY) if aws else None
        return contract.decode(content, DatasetCard) if content else None
    except (ClientError, InvalidRequestError):
        # Whether the run may read it is for Initialize to say.
        return None
