"""Everything a run left behind, as far as it is there and can be read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from scripts.command.errors import CommandError
from scripts.reports.predictions import Predictions, read_predictions
from scripts.reports.ranks import PartialRecord, Ranks, as_columns
from scripts.runs import journal

SUMMARY, COMBINED, IMPORT = "summary.json", "combined_data.json", "import.json"
PUBLISHED_PAGE = 1000
"""Objects in one page of a listing: published tools read the first page only."""


class ReportError(CommandError):
    """What a report needs is missing or cannot be read; the message names the file. Exit status 1."""


@dataclass(frozen=True, kw_only=True)
class RunEvidence:
    """What is known of one run."""

    run_id: str
    folder: Path
    summary: Mapping[str, Any]
    """``summary.json``; empty where the run ended before there was one."""

    ranks: Ranks
    predictions: Predictions | None
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
    ReportError
        If a file cannot be read, or there is neither a summary nor a record.
    """
    summary = _object(folder / SUMMARY)
    ranks = as_columns(_records(folder))
    if not summary and not len(ranks):
        raise ReportError(
            f"{folder}/ holds neither {SUMMARY} nor records of ranks: there is nothing to report. "
            "`make status` tells how the run ended."
        )
    try:
        predictions = read_predictions(folder)
    except ValueError as error:
        raise ReportError(str(error)) from error
    return RunEvidence(
        run_id=str(summary.get("run_id") or folder.name),
        folder=folder,
        summary=summary,
        ranks=ranks,
        predictions=predictions,
        imported=_object(folder / IMPORT),
        entry=journal.read(folder),
    )


def _records(folder: Path) -> list[PartialRecord]:
    """Return the records; those of the ranks one by one where nobody has merged them."""
    combined = folder / COMBINED
    if combined.exists():
        merged: list[PartialRecord] = _decode(combined, list[PartialRecord])
        return merged
    return [_decode(path, PartialRecord) for path in sorted(folder.glob("ranks/*.json"))]


def _object(path: Path) -> dict[str, Any]:
    return _decode(path, dict[str, Any]) if path.exists() else {}


def _decode(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise ReportError(f"{path} cannot be read ({error}). Fetch the run again, or remove the file.") from error
