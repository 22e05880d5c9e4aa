"""Everything a run left behind, as far as it is there and can be read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.contract import SUMMARY_KEY
from inference.run_folder import IMPORT_KEY, RunFolder, RunPredictions
from scripts.command.errors import CommandError
from scripts.reports.ranks import Ranks, as_columns
from scripts.runs import journal

PUBLISHED_PAGE = 1000
"""Objects in one page of a listing: published tools read the first page only."""


@dataclass(frozen=True, kw_only=True)
class RunEvidence:
    """What is known of one run."""

    run_id: str
    folder: Path
    summary: Mapping[str, Any]
    """``summary.json``; empty where the run ended before there was one."""

    ranks: Ranks
    predictions: RunPredictions | None
    imported: Mapping[str, Any]
    """``import.json``, what is known of results that were published; empty for a run of ours."""

    entry: journal.Entry | None
    """What the terminal that started the run noted."""

    def get(self, *path: str) -> Any:
        """Return a value of the summary, or None where it has none."""
        value: Any = self.summary
        for name in path:
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        return value


def read_run(folder: Path) -> RunEvidence:
    """Read a run's folder.

    Raises
    ------
    RunFolderError
        If a file cannot be read.
    CommandError
        If there is neither a summary nor a record.
    """
    files = RunFolder(folder)
    summary, ranks = files.document(SUMMARY_KEY), as_columns(files.partial_records)
    if not summary and not len(ranks):
        raise CommandError(
            f"{folder}/ holds neither {SUMMARY_KEY} nor records of ranks: there is nothing to report. "
            f"`make status RUN={folder.name}` says how the run ended."
        )
    return RunEvidence(
        run_id=str(summary.get("run_id") or folder.name),
        folder=folder,
        summary=summary,
        ranks=ranks,
        predictions=files.all_predictions(),
        imported=files.document(IMPORT_KEY),
        entry=journal.read(folder),
    )
