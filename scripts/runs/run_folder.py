"""A run's folder as the commands that look back at it read it: what is missing is said in one line."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inference import contract
from inference.contract import COMBINED_KEY, SUMMARY_KEY, LostRank
from inference.run_folder import RunFolder
from scripts.command.console import counted
from scripts.command.errors import CommandError, UsageError
from scripts.deployment.stack import Stack
from scripts.deployment.stages import read_stages
from scripts.pricing.cost import Rates, as_run
from scripts.pricing.prices import LOCAL_REGION
from scripts.runs import execution, journal
from scripts.runs.journal import Entry
from scripts.runs.recall import FoundRun, entry_of, find_run, model_of, newest_of_model
from scripts.runs.variables import StackVariables

RESULTS = (contract.MANIFEST_KEY, SUMMARY_KEY, COMBINED_KEY, "ranks")
"""Any of them can be read."""

LOCAL_ARCHITECTURE = "x86_64"
"""Processor a local run is priced for."""


@dataclass(frozen=True)
class Run(RunFolder):
    """The files of one run on this machine, and where it ran."""

    run_id: str
    """Name of the execution."""

    entry: Entry | None = None
    """What the terminal that started it noted, or would have."""

    is_running: bool = False
    """True while the execution is running."""

    @property
    def stack(self) -> Stack | None:
        """The deployment it ran in; None when it ran here."""
        return self.entry.stack if self.entry else None

    @property
    def lost(self) -> Mapping[int, LostRank]:
        """Rank to why it has no valid record, where the run has a summary."""
        return {one.rank: one for one in self.summary.lost_ranks} if self.has_summary else {}

    @property
    def incomplete_in_words(self) -> str:
        """What is missing of the run; empty where nothing is."""
        if not self.has_summary:
            return "it has no summary"
        summary = self.summary
        return "" if summary.complete else f"{len(summary.lost_ranks)} of {summary.world_size} ranks are lost"

    @property
    def rank_of(self) -> dict[str, int]:
        """Request id to rank, of the records and of the failures that name one."""
        ranks = {record.request_id: record.rank for record in self.records}
        return ranks | {name: one.rank for one in self.failures if (name := _request_id(one.cause))}

    @property
    def region(self) -> str:
        """Whose prices count."""
        return self.stack.region if self.stack else LOCAL_REGION

    def rates(self) -> Rates:
        """Return what of the deployment decides the price, with the memory that the ranks had."""
        return as_run(self.stack.rates if self.stack else local_rates(), self.summary)

    def result_bytes(self) -> int:
        """Return the size of the results in the bucket [bytes]."""
        kept_in_bucket = [self.path / name for name in (contract.MANIFEST_KEY, COMBINED_KEY, SUMMARY_KEY)]
        for name in ("ranks", "predictions", "failures"):
            kept_in_bucket.extend((self.path / name).glob("*"))
        return sum(path.stat().st_size for path in kept_in_bucket if path.exists())


def make_folder(run_id: str, result: str, root: Path) -> Path:
    """Make the folder of a run on this machine: in ``runs/``, or where RESULT says, with a link there.

    Raises
    ------
    UsageError
        If there is something already.
    """
    folder = root / "runs" / run_id
    if not result:
        folder.mkdir(parents=True)
        return folder
    chosen = root / Path(result).expanduser()
    if chosen.is_file() or (chosen.is_dir() and any(chosen.iterdir())):
        raise UsageError(f"RESULT={result} is there already: name a folder that is not, or an empty one.")
    chosen.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(exist_ok=True)
    # By the run's name every command finds it.
    folder.symlink_to(chosen.resolve())
    return chosen


def open_run(name: str, where: StackVariables, *, root: Path, may_run: bool = False, model: str = "") -> Run:
    """Find a run, and bring home what the terminal that started it did not.

    Parameters
    ----------
    name, where, root
        See `find_run`.
    may_run : bool
        True where something can be read of a run that is still running.
    model : str
        Name of a model: the newest run with it where no run is named, and no other one where one is.

    Raises
    ------
    UsageError
        If there is no such run; the message names similar ones.
    CommandError
        If it still runs, or left nothing; the message says why.
    """
    if model and not name.strip():
        name = newest_of_model(model, root)
    found = find_run(name, where, root=root, results_suffice=True)
    if found.is_running and not may_run:
        raise CommandError(f"{found.run_id} still runs; `make status RUN={found.run_id}` says how far it is.")
    entry = bring_home(found)
    run = Run(found.folder, found.run_id, entry, found.is_running)
    if model and (used := model_of(run.path)) != model:
        raise UsageError(f"RUN={run.run_id} was made with {used}: leave out MODEL={model}.")
    if not may_run and not any((run.path / name).exists() for name in RESULTS):
        raise CommandError(f"{run.run_id} left nothing to read: {_why_nothing(entry)}")
    return run


def bring_home(found: FoundRun) -> Entry | None:
    """Copy the results of a run that has ended from its bucket, where they are not here; note how it ended.

    Returns
    -------
    Entry
        What is known of the run now; None of one that was put here by hand.
    """
    target = found.target
    if target is None:
        return found.entry
    entry = found.entry or entry_of(found, target)
    if found.is_running:
        return entry
    if not (found.folder / SUMMARY_KEY).exists():
        found.folder.mkdir(parents=True, exist_ok=True)
        count = target.bucket.download(found.run_prefix, found.folder)
        print(f"download   {counted(count, 'file')} to {found.folder}", file=sys.stderr)
    if found.description is not None:
        entry = journal.ended(entry, execution.ending(found.description))
        journal.write(found.folder, entry)
    return entry


def _why_nothing(entry: Entry | None) -> str:
    if entry is None or (not entry.is_over and entry.stack is None):
        return "its local AWS ended before the results were copied. `make run` starts another one."
    if not entry.is_over:
        return f"s3://{entry.bucket}/{entry.run_prefix} is empty, and Step Functions has forgotten how it ended."
    why = ": ".join(filter(None, (entry.error, entry.message))) or entry.status
    return f"it ended before any rank started: {why}"


def local_rates() -> Rates:
    """Return what the local deployment would be priced by: the table of stages."""
    stages = read_stages()
    return Rates(
        memory_mb={stage: int(settings["memory_mb"]) for stage, settings in stages.items()},
        architecture=LOCAL_ARCHITECTURE,
        ephemeral_mb={stage: int(settings["ephemeral_mb"]) for stage, settings in stages.items()},
    )


def _request_id(cause: str) -> str:
    """Return the invocation that Lambda's JSON names, or nothing."""
    try:
        document = json.loads(cause)
    except json.JSONDecodeError:
        return ""
    return str(document.get("requestId", "")) if isinstance(document, dict) else ""
