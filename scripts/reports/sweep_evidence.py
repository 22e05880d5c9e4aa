"""Everything a sweep left behind, as far as its report needs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from scripts.command.errors import CommandError
from scripts.reports.evidence import RunEvidence, read_run
from scripts.reports.sweep_axes import Setting
from scripts.sweeps.rows import RunRow
from scripts.sweeps.statistics import STATISTICS_KEY, Statistic, SweepStatistics
from scripts.sweeps.table import TableError, read_runs

MB = 1e6


@dataclass(frozen=True)
class SweepEvidence:
    """What a sweep left behind."""

    name: str
    runs: Sequence[RunRow]
    statistics: SweepStatistics
    example: RunEvidence | None
    """One of its runs, where its folder is at hand: what no table of the sweep says."""

    @property
    def settings(self) -> list[Setting]:
        """The settings of which a run predicted, with their place on every axis."""
        data = {row.setting: row.data_bytes / MB for row in self.runs if row.data_bytes}
        return [
            Setting(one, {**one.values, "data_mb": round(data[one.setting], 1)})
            for one in self.statistics.settings
            if one.num_runs and one.setting in data
        ]

    @property
    def goals(self) -> dict[str, list[str]]:
        """Setting to the goals it is recommended for."""
        goals: dict[str, list[str]] = {}
        for one in self.statistics.recommendations:
            goals.setdefault(one.setting, []).append(one.goal)
        return goals

    @property
    def fastest(self) -> Setting:
        """The setting that ended first."""
        return min(self.settings, key=lambda setting: median(setting.statistics.end_to_end_s))


def read_sweep(folder: Path) -> SweepEvidence:
    """Read a sweep's folder.

    Raises
    ------
    CommandError
        If a table or the statistics are missing, cut, or of another version.
    """
    again = f"`make sweep NAME={folder.name}` continues where it stopped and writes them again."
    path = folder / STATISTICS_KEY
    try:
        runs = read_runs(folder)
        statistics = msgspec.json.decode(path.read_bytes(), type=SweepStatistics)
    except TableError as error:
        raise CommandError(str(error)) from error
    except FileNotFoundError as error:
        raise CommandError(f"{path} is missing. {again}") from error
    except msgspec.DecodeError as error:
        raise CommandError(f"{path} cannot be read ({error}). {again}") from error
    found = SweepEvidence(folder.name, runs, statistics, _example(folder.resolve().parents[1] / "runs", runs))
    if not found.settings:
        raise CommandError(
            f"No run of the sweep {folder.name} predicted anything yet: there is nothing to report. {again}"
        )
    return found


def median(found: Statistic | None) -> float:
    """Return the median, NaN where no run reached the number."""
    return found.median if found else float("nan")


def _example(folder: Path, runs: Sequence[RunRow]) -> RunEvidence | None:
    for row in runs:
        if row.state == "complete" and (folder / row.run_id / "summary.json").exists():
            return read_run(folder / row.run_id)
    return None
