"""`make report RUN=…|SWEEP=…`: what a run or a sweep found, on one page and as Markdown."""

import difflib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from scripts.command.console import say_here
from scripts.command.errors import UsageError
from scripts.command.model import ModelName
from scripts.command.program import start
from scripts.command.whole_file import write_whole
from scripts.reports.document import Report
from scripts.reports.evidence import read_run
from scripts.reports.markdown import as_markdown
from scripts.reports.page import as_page
from scripts.reports.run_report import run_report
from scripts.runs.run_folder import open_run
from scripts.runs.variables import RunName, StackVariables

NAME = "report"


class ReportVariables(StackVariables, frozen=True, kw_only=True):
    """The variables of `make report`."""

    run: RunName = ""
    sweep: Annotated[str, Meta(description="the name of a sweep, or its folder")] = ""
    model: ModelName = ""


def main(variables: ReportVariables, *, root: Path = Path()) -> None:
    """Write the report of a run or a sweep into its folder. Exit status: 0 written, 1 not, 2 there is no such run."""
    run, sweep = variables.run, variables.sweep
    if run and sweep:
        raise UsageError(f"RUN={run} and SWEEP={sweep}: a report is about one of them.")
    if sweep and variables.model:
        raise UsageError(f"SWEEP={sweep} has the model it was run with: leave out MODEL={variables.model}.")
    folder = sweep_folder(sweep, root) if sweep else open_run(run, variables, root=root, model=variables.model).path
    report = _sweep_report(folder) if sweep else run_report(read_run(folder), root=root)
    footer = f"Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by make report from {folder.name}/."
    say_here(f"{report.name}: {report.sentence}")
    for suffix, text in (
        ("html", as_page(report, footer=footer)),
        ("md", as_markdown(report, footer=footer)),
    ):
        path = folder / f"{NAME}.{suffix}"
        write_whole(path, text.encode())
        say_here(f"{path}  {path.stat().st_size / 1e6:.2f} MB")


def sweep_folder(name: str, root: Path) -> Path:
    """Return the folder of a sweep.

    Raises
    ------
    UsageError
        If there is no such sweep; the message names similar ones.
    """
    for folder in (root / "sweeps" / Path(name).name, Path(name)):
        if folder.is_dir():
            return folder
    known = sorted(path.name for path in (root / "sweeps").glob("*") if path.is_dir())
    similar = difflib.get_close_matches(name, known, n=3) or known[-10:]
    raise UsageError(f"SWEEP={name}: there is no such sweep. Known: {', '.join(similar) or 'none'}.")


def _sweep_report(folder: Path) -> Report:
    # The tables of a sweep need pyarrow, which takes a moment to import.
    from scripts.reports.sweep_evidence import read_sweep
    from scripts.reports.sweep_report import sweep_report

    return sweep_report(read_sweep(folder))


if __name__ == "__main__":
    start(main)
