"""`make run`: predict the redshifts of a dataset with the state machine, print the result, leave the run's folder."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from inference import contract
from scripts.command.console import step
from scripts.command.errors import COMPLETE, FAILED, INTERRUPTED, WRONG_USAGE, UsageError
from scripts.command.exit_status import settle_terminal
from scripts.data.location import LocalDataset, RemoteDataset
from scripts.deployment.account import other_region
from scripts.deployment.quota import waves_note
from scripts.deployment.stack import StackError, read_stack
from scripts.local_aws.rie import EmulatorUnavailableError
from scripts.local_aws.server import LocalAwsError
from scripts.pricing.prices import price_note
from scripts.runs import journal, variables
from scripts.runs.budget import before_start, read_budget
from scripts.runs.perform import RunStoppedError, find_data, run_in
from scripts.runs.present import files_in, print_result
from scripts.runs.request import Draft, draft_request, make_run_id
from scripts.runs.target import AwsTarget, Target, connect_aws, start_local


def main(
    world: Annotated[str, typer.Option(envvar="WORLD", help="Ranks; one per shard when absent.")] = "",
    batch: Annotated[str, typer.Option(envvar="BATCH", help="Galaxies per batch.")] = "",
    dataset: Annotated[str, typer.Option(envvar="DATASET", help="Dataset under datasets/, or a folder.")] = "",
    files: Annotated[str, typer.Option(envvar="FILES", help="Only the first n shards.")] = "",
    result: Annotated[str, typer.Option(envvar="RESULT", help="Folder of the results in the bucket.")] = "",
    profile: Annotated[str, typer.Option(envvar="PROFILE", help="1 to measure with torch's profiler.")] = "",
    payload: Annotated[str, typer.Option(envvar="PAYLOAD", help="A request as a JSON file.")] = "",
    target: Annotated[str, typer.Option(envvar="TARGET", help="local or aws.")] = "",
    tolerate: Annotated[str, typer.Option(envvar="TOLERATE", help="Percentage of ranks that may fail.")] = "",
    engine: Annotated[str, typer.Option(envvar="ENGINE", help="Library that computes.")] = "",
    precision: Annotated[str, typer.Option(envvar="PRECISION", help="Precision of the products.")] = "",
    outputs: Annotated[str, typer.Option(envvar="OUTPUTS", help="Terraform's outputs as a JSON file.")] = "",
    budget: Annotated[str, typer.Option(envvar="BUDGET", help="USD that the run may cost at list prices.")] = "",
) -> None:
    """Run the main job. Exit status: 0 complete, 1 failed or incomplete, 2 wrong usage, 130 interrupted."""
    # Nothing else is local yet: exactly the options, under the names they have behind `make run`.
    options = {name.upper(): value for name, value in locals().items()}
    settle_terminal()
    console = Console(stderr=True, highlight=False)
    try:
        status = run(variables.given(options), root=Path(), console=console)
    except UsageError as error:
        print(error, file=sys.stderr)
        status = WRONG_USAGE
    except (RunStoppedError, StackError, LocalAwsError, EmulatorUnavailableError, OSError) as error:
        print(f"The run stopped: {error}", file=sys.stderr)
        status = FAILED
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        status = INTERRUPTED
    raise typer.Exit(status)


def run(given: Mapping[str, str], *, root: Path, console: Console) -> int:
    """Run the main job as the variables ask, with ``datasets/`` and ``runs/`` in `root`; return the exit status.

    Raises
    ------
    UsageError
        If the variables cannot be followed; nothing has been started then.
    """
    budget = read_budget(given)
    target, why = variables.choose_target(given, terraform=root / "terraform")
    console.print(f"target     {target}: {why}", markup=False, soft_wrap=True)
    is_aws = target == "aws"
    draft = draft_request(given, bucket_words="the stack's bucket" if is_aws else "the local bucket")
    aws = _connect(given, root, console) if is_aws else None
    dataset = _dataset(draft, root, console, aws)
    notes = [*draft.notes, *_prefix_note(draft, dataset)]
    if aws:
        notes += [*filter(None, [other_region(aws.stack)]), *waves_note(aws.account, _world_size(draft, dataset))]
        notes += price_note(aws.stack.region)
    for note in notes:
        console.print(f"note       {note}", markup=False, soft_wrap=True)
    for line in before_start(budget, draft.request, dataset, aws, root=root):
        console.print(f"estimate   at most {line}", markup=False, soft_wrap=True)
    run_id = make_run_id(datetime.now(UTC))
    folder = root / "runs" / run_id
    folder.mkdir(parents=True)
    opening: AbstractContextManager[Target] = nullcontext(aws) if aws else _serve(folder, console)
    try:
        with opening as there:
            ending = run_in(there, run_id, draft, dataset, folder, console)
    except OSError as error:
        raise RunStoppedError(f"{error}. What is there lies in {folder}/.") from error
    except KeyboardInterrupt:
        console.print(f"Interrupted. What is there lies in {folder}/:", markup=False, soft_wrap=True)
        console.print(files_in(folder), markup=False)
        return INTERRUPTED
    summary = journal.read_summary(folder)
    bill = aws.bill(summary) if aws and summary else None
    print_result(Console(highlight=False), run_id, summary, ending, folder, notes=notes, bill=bill)
    return COMPLETE if ending.succeeded else FAILED


# -------------------------------------------------------------------------------------- before the run


def _connect(given: Mapping[str, str], root: Path, console: Console) -> AwsTarget:
    with step(console, "AWS") as facts:
        target = connect_aws(read_stack(root / "terraform", outputs=given.get("OUTPUTS", "").strip()))
        facts.append(target.facts())
    return target


@contextmanager
def _serve(folder: Path, console: Console) -> Iterator[Target]:
    with ExitStack() as served:
        with step(console, "local AWS") as facts:
            (folder / "logs").mkdir()
            target = served.enter_context(start_local(folder / "logs"))
            facts.append(target.facts())
        yield target


def _dataset(draft: Draft, root: Path, console: Console, aws: AwsTarget | None) -> LocalDataset | RemoteDataset:
    with step(console, "dataset") as facts:
        buckets = (aws.stack.bucket, aws.stack.data_bucket) if aws else ()
        dataset = find_data(draft.dataset, asked=draft.dataset_asked, root=root, buckets=buckets)
        facts.append(dataset.describe())
    return dataset


def _prefix_note(draft: Draft, dataset: LocalDataset | RemoteDataset) -> list[str]:
    if draft.dataset_is_from_payload and contract.as_prefix(draft.dataset) != dataset.prefix:
        return [f"{draft.dataset_asked} was read as {dataset.prefix}."]
    return []


def _world_size(draft: Draft, dataset: LocalDataset | RemoteDataset) -> int | None:
    """Return the number of ranks; None when only Initialize will know."""
    if draft.request.world_size or isinstance(dataset, RemoteDataset):
        return draft.request.world_size
    return len(dataset.shards(draft.request.file_limit))


if __name__ == "__main__":
    typer.run(main)
