"""A run's folder as the commands that look back at it read it: what is missing is said in one line."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from inference import contract
from inference.contract import LostRank
from inference.run_folder import COMBINED_KEY, SUMMARY_KEY, RunFolder
from scripts.command.errors import UsageError
from scripts.deployment.stack import Stack
from scripts.deployment.stages import read_stages
from scripts.pricing.cost import Rates, as_run
from scripts.pricing.prices import LOCAL_REGION
from scripts.runs import execution, journal
from scripts.runs.recall import FoundRun, entry_of, find_run, name_runs, runs_here
from scripts.runs.variables import StackVariables

LOCAL_ARCHITECTURE = "x86_64"
"""Processor a local run is priced for."""


@dataclass(frozen=True)
class Run(RunFolder):
    """The files of one run on this machine, and where it ran."""

    found: FoundRun
    """The run, as `find_run` found it."""

    @property
    def run_id(self) -> str:
        """Name of the execution."""
        return self.found.run_id

    @property
    def stack(self) -> Stack | None:
        """The deployment it ran in; None when it ran here."""
        return self.found.entry.stack if self.found.entry else None

    @property
    def lost(self) -> Mapping[int, LostRank]:
        """Rank to why it has no valid record, where the run has a summary."""
        return {one.rank: one for one in self.summary.lost_ranks} if self.has_summary else {}

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


def open_run(name: str, where: StackVariables, *, root: Path) -> Run:
    """Find a run, and bring home what the terminal that started it did not.

    Parameters
    ----------
    name : str
        The run's name, its folder, or the ARN of its execution.
    where : StackVariables
        See `find_run`.
    root : Path
        Folder in which ``runs/`` and ``terraform/`` lie.

    Raises
    ------
    UsageError
        If no name is given, or there is no such run; the message names the newest or similar ones.
    """
    if not name.strip():
        raise UsageError(f"RUN=name names a run. The newest: {name_runs(runs_here(root))}.")
    found = find_run(name, where, root=root)
    if found.target and not found.is_running and not (found.folder / SUMMARY_KEY).exists():
        assert found.description is not None, "where there is a target, its execution was asked for"
        found.folder.mkdir(parents=True, exist_ok=True)
        found.target.bucket.download(found.run_prefix, found.folder)
        entry = journal.ended(found.entry or entry_of(found, found.target), execution.ending(found.description))
        journal.write(found.folder, entry)
        found = replace(found, entry=entry)
    return Run(found.folder, found)


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
