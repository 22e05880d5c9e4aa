"""Checks of the run that is asked for: whether its dataset and its ranks fit what they are sent to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from inference import contract, shard
from inference.contract import DatasetCard, RankTask
from inference.errors import RunError
from inference.manifest_text import ManifestText
from inference.models import in_words, mismatches, refuse_dataset
from inference.models.card import ModelCard
from inference.plan import (
    MAX_CHILDREN,
    MAX_TASK_BYTES,
    START_S,
    Demand,
    Limits,
    Shard,
    first_rows,
    plan_tasks,
)
from scripts.command.console import counted
from scripts.command.errors import CommandError, UsageError
from scripts.data.location import LocalDataset, find_dataset, is_sample
from scripts.data.reader import FolderReader
from scripts.deployment.finding import Finding
from scripts.runs.request import PLACEHOLDER_BUCKET, draft_request, without_images
from scripts.runs.variables import RequestVariables

STARTS_PER_S = {"STANDARD": 100, "EXPRESS": 1000}
"""Child executions that Step Functions starts in a second."""

NEAR = 0.8
"""Share of a limit from which on it is near."""

MORE_RANKS = "More ranks have fewer rows each: raise WORLD."


class UnknownFitError(CommandError):
    """The dataset is not here, so that nothing can be said about the run; the message says why."""


@dataclass(frozen=True)
class Ceiling:
    """What a run is sent to."""

    limits: Limits
    """Of the Infer function."""

    child_type: str | None = "STANDARD"
    """Kind of child execution per rank; None on this machine, where the workers' number decides."""

    max_concurrency: int = MAX_CHILDREN
    """Ranks the state machine runs at the same time."""


def fit_findings(variables: RequestVariables, ceiling: Ceiling, *, root: Path) -> Iterator[Finding]:
    """Plan the run as Initialize would, and compare what comes out with every limit."""
    try:
        tasks, dataset, model, demand = _plan(variables, ceiling.limits, root)
    except UsageError as error:
        yield Finding("request", "fail", str(error))
    except UnknownFitError as error:
        yield Finding("dataset", "skip", str(error))
    except RunError as error:
        yield Finding("plan", "fail", str(error))
    except OSError as error:
        yield Finding("dataset", "fail", str(error), "`make dataset` makes it again.")
    else:
        rows = sum(task.num_samples for task in tasks)
        yield Finding("dataset", "ok", f"{dataset.folder}: {counted(rows, 'galaxy')} for {counted(len(tasks), 'rank')}")
        yield _model(model, dataset)
        yield Finding("rank memory", "ok", f"a rank fits the {ceiling.limits.memory_mb:,} MB of the function")
        yield _time(tasks, ceiling.limits, demand)
        yield _payload(tasks)
        if ceiling.child_type:
            yield _dispatch(tasks, STARTS_PER_S[ceiling.child_type], ceiling.max_concurrency, demand)


def _plan(
    variables: RequestVariables, limits: Limits, root: Path
) -> tuple[Sequence[RankTask], LocalDataset, ModelCard, Demand]:
    draft = draft_request(variables, root=root)
    if draft.dataset.startswith("s3://"):
        raise UnknownFitError(f"{draft.dataset} is not on this machine: Initialize checks it, before any rank starts.")
    try:
        dataset = find_dataset(draft.dataset, asked=draft.dataset_asked, root=root)
    except UsageError:
        if is_sample(draft.dataset):
            raise UnknownFitError("The sample is not made yet: `make dataset` or the first run makes it.") from None
        raise
    draft = without_images(draft, dataset)
    model = draft.model.card
    if dataset.card:
        refuse_dataset(dataset.card, model, dataset.prefix)
    demand = Demand.of(model)
    shards = first_rows(list(_shards(dataset, draft.request.file_limit)), draft.request.row_limit)
    request = contract.with_defaults(draft.request, run_id="doctor", num_shards=len(shards))
    return plan_tasks(request, shards, limits, run_id=PLACEHOLDER_BUCKET, demand=demand), dataset, model, demand


def _model(model: ModelCard, dataset: LocalDataset) -> Finding:
    doubts = mismatches(dataset.card, model, dataset.prefix) if dataset.card else ()
    name = in_words(model.name, model.weights_sha256)
    return Finding("model", "warn", f"{name}: {' '.join(doubts)}") if doubts else Finding("model", "ok", name)


def _shards(dataset: LocalDataset, file_limit: int | None) -> Iterator[Shard]:
    card_path = dataset.folder / contract.DATASET_KEY
    card = contract.decode(card_path.read_bytes(), DatasetCard) if card_path.exists() else None
    entries = {entry.name: entry for entry in card.shards} if card else {}
    for path in dataset.shards(file_limit):
        key, size_bytes, entry = dataset.prefix + path.name, path.stat().st_size, entries.get(path.name)
        if entry and entry.size_bytes == size_bytes:
            num_rows = entry.num_rows
        else:
            num_rows = shard.count_rows(FolderReader(dataset.folder), path.name, size_bytes, etag="")
        yield Shard(key=key, num_rows=num_rows, size_bytes=size_bytes, etag='"etag"')


def _time(tasks: Sequence[RankTask], limits: Limits, demand: Demand) -> Finding:
    rows = max(task.num_samples for task in tasks)
    seconds = START_S + rows / (demand.rows_per_s * limits.num_vcpus)
    text = f"the largest rank has {rows:,} rows, at most {seconds:,.0f} s of {limits.timeout_s} s"
    if seconds > NEAR * limits.timeout_s:
        return Finding("timeout", "warn", text, MORE_RANKS)
    return Finding("timeout", "ok", text)


def _payload(tasks: Sequence[RankTask]) -> Finding:
    # Tasks differ in the shards they name; the longest one counts, and the whole goes to S3.
    longest = len(contract.encode_compact(max(tasks, key=lambda task: len(task.rows))))
    manifest_bytes = sum(map(len, ManifestText(tasks)))
    text = (
        f"manifest {manifest_bytes / 1e3:,.0f} kB, largest task {longest / 1e3:,.1f} of {MAX_TASK_BYTES / 1e3:,.0f} kB"
    )
    if longest > NEAR * MAX_TASK_BYTES:
        return Finding("payload", "warn", text, "Larger shards or more ranks make shorter tasks.")
    return Finding("payload", "ok", text)


def _dispatch(tasks: Sequence[RankTask], starts_per_s: int, max_concurrency: int, demand: Demand) -> Finding:
    world_size = len(tasks)
    start_s = world_size / starts_per_s
    text = f"{world_size:,} ranks start within {start_s:,.1f} s, {starts_per_s:,} per second"
    if world_size > max_concurrency:
        fix = f"Terraform's max_concurrency raises it, up to {MAX_CHILDREN:,}."
        return Finding("dispatch", "warn", f"{text}, and {max_concurrency:,} run at the same time", fix)
    rank_s = max(task.num_samples for task in tasks) / demand.rows_per_s
    if start_s > rank_s:
        fix = "Fewer ranks finish as early: lower WORLD."
        return Finding("dispatch", "warn", f"{text}: the first ones finish before the last ones start", fix)
    return Finding("dispatch", "ok", text)
