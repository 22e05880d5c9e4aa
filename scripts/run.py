"""`make run`: predict the redshifts of a dataset with the state machine, print the result, leave the run's folder."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace
from rich.console import Console

from inference import contract
from inference.models import Model
from inference.run_folder import read_summary
from scripts.command.console import say, step
from scripts.command.errors import COMPLETE, FAILED, INTERRUPTED, CommandError, UsageError
from scripts.command.program import start
from scripts.data.location import LocalDataset, RemoteDataset
from scripts.deployment.account import other_region
from scripts.deployment.quota import waves_note
from scripts.deployment.stack import read_stack
from scripts.deployment.waking import wake, waking_note
from scripts.forecasts.kept import keep, verdict
from scripts.pricing.prices import price_note
from scripts.runs.budget import before_start
from scripts.runs.outlook import in_words, look_ahead
from scripts.runs.perform import find_data, run_in
from scripts.runs.present import files_in, print_result
from scripts.runs.request import Draft, draft_request, make_run_id, meet_here, result_here, without_images
from scripts.runs.run_folder import make_folder
from scripts.runs.target import AwsTarget, Target, connect_aws, count_talking, start_local
from scripts.runs.variables import RunVariables, choose_target


def main(variables: RunVariables) -> int:
    """Run the main job. Exit status: 0 complete, 1 failed or incomplete, 2 wrong usage, 130 interrupted."""
    console = Console(stderr=True, highlight=False)
    try:
        if variables.source:
            return _from_source(variables, console)
        if variables.fields:
            raise UsageError(f"FIELDS={variables.fields} names columns of a SOURCE, as in SOURCE=my.csv.")
        return run(variables, root=Path(), console=console)
    except UsageError:
        raise
    except (CommandError, OSError) as error:
        raise CommandError(f"The run stopped: {error}") from error


def _from_source(variables: RunVariables, console: Console) -> int:
    """Make a dataset, run it and write the catalog, as three commands would."""
    from scripts import catalog, dataset
    from scripts.data.plan import DatasetVariables

    if variables.dataset or variables.payload:
        given = f"DATASET={variables.dataset}" if variables.dataset else f"PAYLOAD={variables.payload}"
        raise UsageError(f"SOURCE={variables.source} is what the run reads: leave out {given}.")
    say(console, "1 of 3     make dataset")
    asked = DatasetVariables(source=variables.source, fields=variables.fields, model=variables.model, yes=variables.yes)
    folder = dataset.make_dataset(asked)
    name = f"{folder.parent.name}/{folder.name}"
    say(console, f"2 of 3     make run DATASET={name}")
    status, run_id = run_named(replace(variables, source="", fields="", dataset=name), root=Path(), console=console)
    if status == COMPLETE:
        say(console, f"3 of 3     make catalog RUN={run_id}")
        catalog.main(catalog.CatalogVariables(run=run_id))
    return status


def run(variables: RunVariables, *, root: Path, console: Console) -> int:
    """Run the main job; see `run_named`."""
    return run_named(variables, root=root, console=console)[0]


def run_named(variables: RunVariables, *, root: Path, console: Console) -> tuple[int, str]:
    """Run the main job as the variables ask, with ``datasets/`` and ``runs/`` in `root`.

    Returns
    -------
    status : int
        Exit status.
    run_id : str
        Name of the run.

    Raises
    ------
    UsageError
        If the variables cannot be followed; nothing has been started then.
    """
    target, why = choose_target(variables, terraform=root / "terraform")
    say(console, f"target     {target}: {why}")
    is_aws = target == "aws"
    draft = draft_request(variables, root=root, bucket_words="the stack's bucket" if is_aws else "the local bucket")
    if draft.request.fmi_enabled and not is_aws:
        draft = meet_here(draft)
    aws = _connect(variables.outputs, root, console) if is_aws else None
    if not is_aws:
        draft = result_here(draft, variables.result)
        _refuse_precision(draft)
    dataset = _dataset(draft, root, console, aws)
    draft = without_images(draft, dataset)
    notes = [*draft.notes, *_prefix_note(draft, dataset)]
    if aws:
        notes += [
            *filter(None, [other_region(aws.stack)]),
            *waves_note(aws.stack.max_concurrency, _world_size(draft, dataset)),
        ]
        notes += waking_note(wake(aws.account, aws.stack.function_names.values()))
        notes += price_note(aws.stack.region)
    for note in notes:
        say(console, f"note       {note}")
    for line in before_start(variables.budget, draft.request, dataset, aws, root=root):
        say(console, f"estimate   at most {line}")
    ahead = look_ahead(draft.request, dataset, aws, root=root) if variables.forecast else None
    if ahead:
        say(console, f"forecast   {in_words(ahead)}")
    num_talking = count_talking(_world_size(draft, dataset)) if draft.request.fmi_enabled and not aws else 0
    run_id = make_run_id(datetime.now(UTC))
    folder = make_folder(run_id, "" if is_aws else variables.result, root)
    kept = keep(ahead, folder) if ahead else None
    opening: AbstractContextManager[Target] = (
        nullcontext(aws) if aws else _serve(folder, draft.model, console, num_talking)
    )
    try:
        with opening as there:
            ending = run_in(there, run_id, draft, dataset, folder, console)
    except OSError as error:
        raise CommandError(f"{error}. Its files are in {folder}/.") from error
    except KeyboardInterrupt:
        say(console, f"Interrupted. Its files are in {folder}/:")
        say(console, files_in(folder))
        if (folder / "plan.json").exists():
            say(console, f"`make resume RUN={run_id}` goes on with it.")
        return INTERRUPTED, run_id
    summary = read_summary(folder)
    bill = aws.bill(summary) if aws and summary else None
    print_result(Console(highlight=False), run_id, summary, ending, folder, notes=notes, bill=bill)
    if kept and summary:
        say(console, f"forecast   {verdict(kept, summary.clock.end_to_end)}")
    return COMPLETE if ending.succeeded else FAILED, run_id


# -------------------------------------------------------------------------------------- before the run


def _refuse_precision(draft: Draft) -> None:
    """Raise before anything starts where every rank would refuse the precision."""
    from inference.engines import why_rejected

    if why := why_rejected(draft.model, draft.request.precision):
        raise UsageError(f"PRECISION={draft.request.precision} cannot be used: {why}. Use fp32.")


def _connect(outputs: str, root: Path, console: Console) -> AwsTarget:
    with step(console, "AWS") as facts:
        target = connect_aws(read_stack(root / "terraform", outputs=outputs)).within_account()
        facts.append(target.facts())
    return target


@contextmanager
def _serve(folder: Path, model: Model, console: Console, num_talking: int) -> Iterator[Target]:
    with ExitStack() as served:
        with step(console, "local AWS") as facts:
            (folder / "logs").mkdir()
            target = served.enter_context(start_local(folder / "logs", model.folder, num_talking=num_talking))
            facts.append(f"{target.facts()}, model {model.in_words}")
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
    start(main)
