"""`make run`: predict the redshifts of a dataset with the state machine, print the result, leave the run's folder."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from inference import contract
from scripts.aws.account import other_region
from scripts.aws.quota import waves_note
from scripts.aws.stack import StackError, read_stack
from scripts.local_aws.rie import EmulatorUnavailableError
from scripts.local_aws.server import LocalAwsError
from scripts.running import execution, journal, variables
from scripts.running.execution import Ending
from scripts.running.exit_status import COMPLETE, FAILED, INTERRUPTED, WRONG_USAGE, settle_terminal
from scripts.running.follow import LiveLine
from scripts.running.journal import Entry
from scripts.running.present import files_in, print_result
from scripts.running.request import Draft, draft_request, make_run_id
from scripts.running.shards import LocalDataset, RemoteDataset, find_dataset, find_remote, is_sample
from scripts.running.target import AwsTarget, Target, connect_aws, start_local
from scripts.running.variables import UsageError


class RunStoppedError(Exception):
    """Something the run needs could not be had; the message says what. Exit status 1."""


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
    target, why = variables.choose_target(given, terraform=root / "terraform")
    console.print(f"target     {target}: {why}", markup=False, soft_wrap=True)
    is_aws = target == "aws"
    draft = draft_request(given, bucket_words="the stack's bucket" if is_aws else "the local bucket")
    aws = _connect(given, root, console) if is_aws else None
    dataset = _dataset(draft, root, console, aws)
    notes = [*draft.notes, *_prefix_note(draft, dataset)]
    if aws:
        notes += [*filter(None, [other_region(aws.stack)]), *waves_note(aws.account, _world_size(draft, dataset))]
    for note in notes:
        console.print(f"note       {note}", markup=False, soft_wrap=True)
    run_id = make_run_id(datetime.now(UTC))
    folder = root / "runs" / run_id
    folder.mkdir(parents=True)
    opening: AbstractContextManager[Target] = nullcontext(aws) if aws else _serve(folder, console)
    try:
        with opening as there:
            ending = _run_in(there, run_id, draft, dataset, folder, console)
    except OSError as error:
        raise RunStoppedError(f"{error}. What is there lies in {folder}/.") from error
    except KeyboardInterrupt:
        console.print(f"Interrupted. What is there lies in {folder}/:", markup=False, soft_wrap=True)
        console.print(files_in(folder), markup=False)
        return INTERRUPTED
    summary = journal.read_summary(folder)
    bill = aws.bill(summary) if aws and summary else ()
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
        if aws:
            buckets = (aws.stack.bucket, aws.stack.data_bucket)
            if remote := find_remote(draft.dataset, asked=draft.dataset_asked, buckets=buckets):
                facts.append(remote.describe())
                return remote
        if is_sample(draft.dataset):
            # Imported here because only making the dataset needs it.
            from scripts.dataset import ensure_sample
            from scripts.galaxies.sdss import SourceCatalogError

            try:
                ensure_sample(root)
            except SourceCatalogError as error:
                raise RunStoppedError(f"the sample dataset cannot be made: {error}") from error
        dataset = find_dataset(draft.dataset, asked=draft.dataset_asked, root=root)
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
    return sum(path.name != contract.DATASET_KEY for path in dataset.files(draft.request.file_limit))


# -------------------------------------------------------------------------------------------- the run


def _run_in(
    target: Target,
    run_id: str,
    draft: Draft,
    dataset: LocalDataset | RemoteDataset,
    folder: Path,
    console: Console,
) -> Ending:
    """Run in a target that is there, whichever it is; what was computed comes home however the run ends."""
    entry: Entry | None = None
    try:
        data_bucket = _upload(target, draft, dataset, console)
        payload = draft.payload_for(target.bucket.name, dataset.prefix, data_bucket=data_bucket)
        (folder / "request.json").write_text(json.dumps(payload, indent=2) + "\n", encoding="utf-8")
        run_prefix = contract.run_prefix(draft.request, run_id=run_id)
        entry = _start(target, run_id, payload, run_prefix)
        journal.write(folder, entry)
        with _download_at_exit(target, run_prefix, folder, console), step(console, "run", spinner=False) as facts:
            facts.append(run_id)
            ending = _follow(target, entry, console)
        journal.write(folder, journal.ended(entry, ending))
        return ending
    except (BotoCoreError, ClientError) as error:
        goes_on = f" The run may go on: `make status RUN={run_id}` tells, `make stop RUN={run_id}` ends it."
        what_next = goes_on if entry and target.name == "aws" else ""
        raise RunStoppedError(target.why(error) + what_next + _what_is_left(folder)) from error


def _upload(target: Target, draft: Draft, dataset: LocalDataset | RemoteDataset, console: Console) -> str | None:
    """Make sure that the dataset is in the bucket; return the bucket it lies in when it is another one."""
    if isinstance(dataset, RemoteDataset):
        return dataset.bucket
    with step(console, "upload", spinner=False) as facts, _bar(console) as (begin, tick):
        paths = dataset.files(draft.request.file_limit)
        done = target.bucket.upload_missing(dataset.checksums(paths), dataset.prefix, begin=begin, tick=tick)
        present = f", {done.num_present} already there" if done.num_present else ""
        facts.append(f"{done.num_files} files of {dataset.folder}, {done.num_bytes / 1e6:,.0f} MB{present}")
    return None


def _start(target: Target, run_id: str, payload: dict[str, object], run_prefix: str) -> Entry:
    arn = execution.start(target.states, target.state_machine_arn, run_id, payload)
    return Entry(
        run_id=run_id,
        target=target.name,
        execution_arn=arn,
        bucket=target.bucket.name,
        run_prefix=run_prefix,
        started_at_s=time.time(),
        pid=os.getpid(),
        **target.entry,
    )


def _follow(target: Target, entry: Entry, console: Console) -> Ending:
    watcher = target.watch(entry.execution_arn, entry.run_prefix, started_at_s=entry.started_at_s)
    try:
        with LiveLine(console) as line:
            return execution.follow(target.states, entry.execution_arn, watcher, line)
    except KeyboardInterrupt:
        execution.stop(target.states, entry.execution_arn)
        if target.name == "aws":
            console.print("The run is stopped. Invocations under way end by themselves.")
        raise


@contextmanager
def _download_at_exit(target: Target, run_prefix: str, folder: Path, console: Console) -> Iterator[None]:
    """Bring the results home however the run ends: what was computed is never lost."""
    try:
        yield
    finally:
        with step(console, "download") as facts:
            facts.append(f"{target.bucket.download(run_prefix, folder)} files to {folder}")


def _what_is_left(folder: Path) -> str:
    """Say where the files of a run are that stopped; without any, its folder goes."""
    if any(path.is_file() for path in folder.rglob("*")):
        return f" What is there lies in {folder}/."
    shutil.rmtree(folder)
    return ""


# ------------------------------------------------------------------------------------------ what it says


@contextmanager
def step(console: Console, name: str, *, spinner: bool = True) -> Iterator[list[str]]:
    """Say what took how long, in one line; the block may append facts."""
    facts: list[str] = []
    began_s = time.monotonic()
    with console.status(name) if spinner else nullcontext():
        yield facts
    text = f"{name:<10} {' '.join(facts) or 'ready'} ({time.monotonic() - began_s:.1f} s)"
    console.print(text, markup=False, soft_wrap=True)


@contextmanager
def _bar(console: Console) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """Show a bar of bytes; give what sets its length and what moves it on."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("upload", total=None)
        yield (
            lambda num_bytes: progress.update(task, total=num_bytes),
            lambda num_bytes: progress.advance(task, num_bytes),
        )


if __name__ == "__main__":
    typer.run(main)
