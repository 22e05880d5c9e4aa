"""`make status RUN=…`: how a run is going or how it ended, from any terminal."""

import sys
from datetime import UTC
from pathlib import Path

import msgspec
from rich.console import Console

from inference import contract
from inference.run_folder import read_summary
from scripts.command.program import start
from scripts.pricing.prices import bill_if_known
from scripts.runs import execution
from scripts.runs.execution import Ending
from scripts.runs.follow import live_line
from scripts.runs.listing import as_table, listed
from scripts.runs.present import print_result
from scripts.runs.recall import NUM_LISTED, FoundRun, entry_of, find_run, name_runs, runs_here, runs_there, stack_target
from scripts.runs.run_folder import bring_home
from scripts.runs.target import AwsTarget, Target
from scripts.runs.variables import RunName, StackVariables

INTERRUPTED = Ending("ABORTED", "Interrupted", "The run ended before there was a summary.")


class StatusVariables(StackVariables, frozen=True, kw_only=True):
    """The variables of `make status`."""

    run: RunName = ""


def main(variables: StatusVariables) -> None:
    """Say how a run is. Exit status: 0 answered, 1 AWS cannot be asked, 2 there is no such run."""
    console = Console(highlight=False)
    if not variables.run:
        _list(variables)
        return
    found = find_run(variables.run, variables, root=Path())
    if found.target is None or found.description is None:
        bring_home(found)
        _print_folder(found, console)
    elif found.is_running:
        _print_progress(found, found.target, console)
    else:
        _print_end(found, found.target, console)


def _list(where: StackVariables) -> None:
    newest = runs_here(Path())[-NUM_LISTED:]
    if newest:
        Console(highlight=False).print(as_table(list(listed(Path(), newest))))
    else:
        print("here  none")
    target = stack_target(where, root=Path())
    if target:
        print(f"{target.name}   {name_runs(runs_there(target))}")
    print("RUN=name, or a part of it that no other has, says more.")


def _print_progress(found: FoundRun, target: Target, console: Console) -> None:
    assert found.description is not None, "it was asked whether it runs"
    started_at = found.description["startDate"]
    watcher = target.watch(found.entry or entry_of(found, target))
    console.print(f"{found.run_id}: running since {started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({target.name})")
    console.print(live_line(watcher.look(), console.width))
    console.print(f"`make stop RUN={found.run_id}` ends it.", markup=False, soft_wrap=True)
    if isinstance(target, AwsTarget) and target.stack.dashboard_url:
        console.print(target.stack.dashboard_url, markup=False, soft_wrap=True)


def _print_end(found: FoundRun, target: Target, console: Console) -> None:
    """Print the result, and bring home what the terminal that started the run did not."""
    assert found.description is not None, "it was asked whether it runs"
    ending = execution.ending(found.description)
    bring_home(found)
    summary = read_summary(found.folder)
    bill = target.bill(summary) if summary else None
    print_result(console, found.run_id, summary, ending, found.folder, bill=bill)


def _print_folder(found: FoundRun, console: Console) -> None:
    summary, entry = read_summary(found.folder), found.entry
    gone = "" if entry and (entry.is_over or entry.stack) else " ran on this machine and its local AWS is gone:"
    print(f"{found.run_id}{gone} read from {found.folder}/", file=sys.stderr)
    if entry and entry.is_over:
        ending = entry.ending
    elif summary:
        ending = Ending("SUCCEEDED" if summary.complete else "FAILED")
    else:
        ending = INTERRUPTED
        console.print(f"ranks {_count(found.folder, 'ranks')} done · {_count(found.folder, 'failures')} failed")
    stack = entry.stack if entry else None
    bill = bill_if_known(summary, stack.rates, stack.region) if summary and stack else None
    print_result(console, found.run_id, summary, ending, found.folder, bill=bill)


def _count(folder: Path, name: str) -> str:
    manifest = folder / contract.MANIFEST_KEY
    num = sum(1 for _ in (folder / name).glob("*.json"))
    if name != "ranks" or not manifest.exists():
        return f"{num}"
    return f"{num}/{len(msgspec.json.decode(manifest.read_bytes()))}"


if __name__ == "__main__":
    start(main)
