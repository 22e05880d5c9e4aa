"""How one run is: under way, over, or a folder that is left of it."""

import sys
from datetime import UTC
from pathlib import Path

import msgspec
from rich.console import Console

from inference import contract
from inference.run_folder import read_summary
from scripts.command.console import say
from scripts.pricing.prices import bill_if_known
from scripts.runs import execution
from scripts.runs.ending import Ending
from scripts.runs.follow import live_line
from scripts.runs.present import print_result
from scripts.runs.recall import FoundRun, entry_of, find_run
from scripts.runs.run_folder import bring_home
from scripts.runs.target import AwsTarget, Target
from scripts.runs.variables import StackVariables

INTERRUPTED = Ending("ABORTED", "Interrupted", "The run ended before there was a summary.")


def show(name: str, where: StackVariables, console: Console) -> None:
    """Say how the run of this name is, and bring home what is still in its bucket."""
    found = find_run(name, where, root=Path())
    if found.target is None or found.description is None:
        bring_home(found)
        _print_folder(found, console)
    elif found.is_running:
        _print_progress(found, found.target, console)
    else:
        _print_end(found, found.target, console)


def _print_progress(found: FoundRun, target: Target, console: Console) -> None:
    assert found.description is not None, "it was asked whether it runs"
    started_at = found.description["startDate"]
    watcher = target.watch(found.entry or entry_of(found, target))
    say(console, f"{found.run_id}: running since {started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({target.name})")
    say(console, live_line(watcher.look(), console.width))
    say(console, f"`make stop RUN={found.run_id}` ends it.")
    if isinstance(target, AwsTarget) and target.stack.dashboard_url:
        say(console, target.stack.dashboard_url)


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
        say(console, f"ranks {_count(found.folder, 'ranks')} done · {_count(found.folder, 'failures')} failed")
    stack = entry.stack if entry else None
    bill = bill_if_known(summary, stack.rates, stack.region) if summary and stack else None
    print_result(console, found.run_id, summary, ending, found.folder, bill=bill)


def _count(folder: Path, name: str) -> str:
    manifest = folder / contract.MANIFEST_KEY
    num = sum(1 for _ in (folder / name).glob("*.json"))
    if name != "ranks" or not manifest.exists():
        return f"{num}"
    return f"{num}/{len(msgspec.json.decode(manifest.read_bytes()))}"
