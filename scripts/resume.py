"""`make resume RUN=…`: go on with a run that was stopped, killed or lost ranks; what is done is not done again."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError
from msgspec import structs
from rich.console import Console

from inference import contract
from inference.contract import ResumeRequest, RunPlan
from inference.errors import RunError
from inference.run_folder import read_summary
from scripts.command.console import say, step
from scripts.command.errors import COMPLETE, FAILED, INTERRUPTED, CommandError, UsageError
from scripts.command.model import find_model
from scripts.command.program import start
from scripts.data.location import LocalDataset, find_dataset
from scripts.runs import execution
from scripts.runs.ending import Ending
from scripts.runs.journal import Entry
from scripts.runs.perform import see_through, upload
from scripts.runs.present import files_in, print_result
from scripts.runs.recall import FoundRun, entry_of, find_run
from scripts.runs.rest import Rest, refuse_other_data, rest_of
from scripts.runs.target import AwsTarget, Target, connect_aws, start_local
from scripts.runs.variables import RunName, StackVariables


class ResumeVariables(StackVariables, frozen=True, kw_only=True):
    """The variables of `make resume`."""

    run: RunName = ""


def main(variables: ResumeVariables) -> int:
    """Go on with a run. Exit status: 0 complete, 1 failed or incomplete, 2 wrong usage, 130 interrupted."""
    console = Console(stderr=True, highlight=False)
    found = find_run(variables.run, variables, root=Path())
    entry = _entry(found)
    aws = connect_aws(entry.stack).within_account() if entry.stack else None
    try:
        if aws:
            with step(console, "download") as facts:
                found.folder.mkdir(parents=True, exist_ok=True)
                facts.append(f"{aws.bucket.download(entry.run_prefix, found.folder)} files to {found.folder}")
        rest = rest_of(found.run_id, found.folder)
        summary = read_summary(found.folder)
        if summary and summary.complete and not rest.pending:
            print(f"{found.run_id} is complete: nothing is left to do.")
            return COMPLETE
        say(console, f"resume     {len(rest.pending)} of {rest.plan.request.world_size} ranks are left")
        with _opened(aws, entry, rest, console) as target:
            ending = _go_on(target, entry, rest, console)
    except (BotoCoreError, ClientError) as error:
        raise CommandError(f"The run stopped: {aws.why(error) if aws else error}") from error
    except (RunError, OSError) as error:
        raise CommandError(f"The run stopped: {error} Its files are in {found.folder}/.") from error
    except KeyboardInterrupt:
        say(console, f"Interrupted. Its files are in {found.folder}/:")
        say(console, files_in(found.folder))
        say(console, "The same command goes on with it.")
        return INTERRUPTED
    summary = read_summary(found.folder)
    bill = aws.bill(summary) if aws and summary else None
    print_result(Console(highlight=False), found.run_id, summary, ending, found.folder, bill=bill)
    return COMPLETE if ending.succeeded else FAILED


def _entry(found: FoundRun) -> Entry:
    """Return where a run was, which must have ended."""
    if found.is_running:
        raise CommandError(f"{found.run_id} still runs; `make stop RUN={found.run_id}` ends it.")
    if found.entry and found.entry.stack is None and found.target is not None:
        raise CommandError(f"{found.run_id} has ended and its terminal is about to: try again when it has.")
    if found.entry:
        return found.entry
    if found.target is None:
        raise UsageError(f"RUN={found.run_id}: nothing here says where it ran. `make run` starts another one.")
    return entry_of(found, found.target)


@contextmanager
def _opened(aws: AwsTarget | None, entry: Entry, rest: Rest, console: Console) -> Iterator[Target]:
    """Yield where the run goes on: its stack, or a local AWS that is given what the run had left."""
    if aws:
        yield aws
        return
    request = rest.plan.request
    dataset = _dataset(entry, rest.plan)
    dataset.refuse_unfinished(request.file_limit)
    model = find_model(request.model or "", asked=f"the model of {rest.plan.run_id}")
    logs = rest.folder / "logs"
    logs.mkdir(exist_ok=True)
    with start_local(logs, model.folder) as target:
        upload(target, dataset, request.file_limit, console)
        target.bucket.upload(rest.objects())
        yield target


def _dataset(entry: Entry, plan: RunPlan) -> LocalDataset:
    prefix = plan.request.data_prefix
    if entry.dataset and Path(entry.dataset).is_dir():
        return LocalDataset(Path(entry.dataset), prefix)
    return find_dataset(prefix, asked=f"the dataset of {plan.run_id}", root=Path())


def _go_on(target: Target, entry: Entry, rest: Rest, console: Console) -> Ending:
    """Start the execution that goes on with a run, and see it through."""
    request = rest.plan.request
    is_elsewhere = isinstance(target, AwsTarget) and request.data_bucket not in (None, target.bucket.name)
    data = target.bucket_named(request.data_bucket or "") if is_elsewhere else target.bucket  # type: ignore[attr-defined]
    refuse_other_data(rest, data)
    name, key = rest.execution_name, rest.pending_key
    rest.forget_end()
    target.keep(rest.plan.run_prefix, rest.folder)
    target.bucket.write(key, contract.encode(rest.pending))
    asked = ResumeRequest(bucket=rest.plan.bucket, pending_key=key, max_concurrency=target.max_concurrency)
    arn = execution.start(target.states, target.state_machine_arn, name, contract.to_builtins(asked))
    entry = structs.replace(
        entry,
        execution_arn=arn,
        pending_key=key,
        resumed_at_s=time.time(),
        status="RUNNING",
        error="",
        message="",
        pid=os.getpid(),
        **target.entry,
    )
    return see_through(target, entry, rest.folder, console)


if __name__ == "__main__":
    start(main)
