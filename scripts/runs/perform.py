"""One run in a target that is there: the data goes up, the execution is followed, the results come home."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from inference import contract
from inference.plan import MAX_CHILDREN
from scripts.command.console import counted, megabytes, say, step
from scripts.command.errors import CommandError, SourceError
from scripts.data.location import LocalDataset, RemoteDataset, find_dataset, find_remote, is_sample
from scripts.data.sample import ensure_sample
from scripts.runs import execution, journal
from scripts.runs.ending import Ending
from scripts.runs.execution import Line
from scripts.runs.follow import LiveLine
from scripts.runs.journal import Entry
from scripts.runs.request import Draft
from scripts.runs.target import Target

LineMaker = Callable[[Console], AbstractContextManager[Line]]


def find_data(name: str, *, asked: str, root: Path, buckets: Sequence[str | None] = ()) -> LocalDataset | RemoteDataset:
    """Find what a run reads; the sample is made when it is missing.

    Parameters
    ----------
    name, asked, root
        See `find_dataset`.
    buckets : sequence of str
        What the deployment may read, where there is one: ``s3://bucket/prefix`` names a dataset then.

    Raises
    ------
    UsageError
        If there is no such dataset.
    CommandError
        If the sample cannot be made.
    DatasetError
        If the folder is unfinished, or other shards are in it than its card describes.
    """
    remote = find_remote(name, asked=asked, buckets=buckets) if buckets else None
    if remote:
        return remote
    if is_sample(name):
        try:
            ensure_sample(root)
        except SourceError as error:
            raise CommandError(f"the sample dataset cannot be made: {error}") from error
    found = find_dataset(name, asked=asked, root=root)
    found.refuse_unfinished()
    return found


def run_in(
    target: Target,
    run_id: str,
    draft: Draft,
    dataset: LocalDataset | RemoteDataset,
    folder: Path,
    console: Console,
    *,
    line: LineMaker = LiveLine,
) -> Ending:
    """Run in a target that is there, whichever it is; what was computed comes home however the run ends.

    Parameters
    ----------
    target : Target
        Where to run.
    run_id : str
        Name of the execution.
    draft, dataset
        What to run.
    folder : Path
        Where the results come home to; it exists.
    console : Console
        Where every step is printed.
    line : callable
        Makes, from the console, what shows how far the run is.

    Raises
    ------
    CommandError
        If the target does not answer; the message says what is left.
    """
    entry: Entry | None = None
    try:
        if isinstance(dataset, LocalDataset):
            upload(target, dataset, draft.request.file_limit, console)
        data_bucket = dataset.bucket if isinstance(dataset, RemoteDataset) else None
        payload = draft.payload_for(target.bucket.name, dataset.prefix, data_bucket=data_bucket)
        if target.max_concurrency:
            payload["max_concurrency"] = min(target.max_concurrency, draft.request.max_concurrency or MAX_CHILDREN)
        (folder / "request.json").write_text(json.dumps(payload, indent=2) + "\n", encoding="utf-8")
        run_prefix = contract.run_prefix(draft.request, run_id=run_id)
        target.keep(run_prefix, folder)
        entry = _start(target, run_id, payload, run_prefix, dataset)
        return see_through(target, entry, folder, console, line=line)
    except (BotoCoreError, ClientError) as error:
        where = f" The run may still be running: `make status RUN={run_id}` shows it, `make stop RUN={run_id}` ends it."
        what_next = where if entry and target.name == "aws" else ""
        raise CommandError(target.why(error) + what_next + _what_is_left(folder)) from error
    except ConnectionError as error:
        # Of what is asked without boto3: the local AWS itself.
        raise CommandError(
            f"The local AWS ended while it was asked: {error}. logs/server.log may say why; memory and processes may "
            f"be limited (`ulimit -v`, `ulimit -u`).{_what_is_left(folder)}"
        ) from error


def see_through(target: Target, entry: Entry, folder: Path, console: Console, *, line: LineMaker = LiveLine) -> Ending:
    """Note where an execution is, follow it to its end, and bring home what was computed however it ends."""
    journal.write(folder, entry)
    with _download_at_exit(target, entry.run_prefix, folder, console), step(console, "run", spinner=False) as facts:
        facts.append(entry.run_id)
        ending = _follow(target, entry, console, line)
        # Before the download, which may be interrupted: how the run ended is known.
        journal.write(folder, journal.ended(entry, ending))
    return ending


def upload(target: Target, dataset: LocalDataset, file_limit: int | None, console: Console) -> None:
    """Make sure that a dataset is in the bucket."""
    with step(console, "upload", spinner=False) as facts, _bar(console) as (begin, tick):
        paths = dataset.files(file_limit)
        done = target.bucket.upload_missing(dataset.checksums(paths), dataset.prefix, begin=begin, tick=tick)
        present = f", {done.num_present} already there" if done.num_present else ""
        facts.append(f"{counted(done.num_files, 'file')} of {dataset.folder}, {megabytes(done.num_bytes)}{present}")


def _start(
    target: Target,
    run_id: str,
    payload: dict[str, object],
    run_prefix: str,
    dataset: LocalDataset | RemoteDataset,
) -> Entry:
    arn = execution.start(target.states, target.state_machine_arn, run_id, payload)
    return Entry(
        run_id=run_id,
        target=target.name,
        execution_arn=arn,
        bucket=target.bucket.name,
        run_prefix=run_prefix,
        started_at_s=time.time(),
        dataset=str(dataset.folder.resolve()) if isinstance(dataset, LocalDataset) else "",
        pid=os.getpid(),
        **target.entry,
    )


def _follow(target: Target, entry: Entry, console: Console, make_line: LineMaker) -> Ending:
    watcher = target.watch(entry)
    try:
        with make_line(console) as line:
            return execution.follow(target.states, entry.execution_arn, watcher, line)
    except KeyboardInterrupt:
        execution.stop(target.states, entry.execution_arn)
        if target.name == "aws":
            say(console, "The run is stopped. Invocations under way end by themselves.")
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
        return f" Its files are in {folder}/."
    shutil.rmtree(folder)
    return ""


# ------------------------------------------------------------------------------------------ what it says


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
