"""`make logs RUN=…`: what a run's workers printed, joined to its ranks; `RANK=17` shows the lines of one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from scripts.command.errors import UsageError
from scripts.command.exit_status import told_in_one_line
from scripts.runs import variables
from scripts.runs.invocations import Invocation, Log, read_log, write_csv
from scripts.runs.log_show import print_lines, print_table
from scripts.runs.log_sources import events_of_export
from scripts.runs.run_folder import RunFolder, open_run
from scripts.runs.run_log import log_of_run

LOGS_FILE = "logs.csv"


def main(
    run: Annotated[str, typer.Option(envvar="RUN", help="Name of the run.")] = "",
    rank: Annotated[str, typer.Option(envvar="RANK", help="Show the lines of this rank.")] = "",
    file: Annotated[str, typer.Option(envvar="FILE", help="A log exported from CloudWatch as CSV.")] = "",
    outputs: Annotated[str, typer.Option(envvar="OUTPUTS", help="Terraform's outputs as a JSON file.")] = "",
) -> None:
    """Show what workers printed. Exit status: 0 shown, 1 AWS cannot be asked, 2 there is no such run, rank or file."""
    with told_in_one_line():
        logs(run, rank, file, variables.given({"OUTPUTS": outputs}), root=Path())


def logs(run: str, rank: str, file: str, given: Mapping[str, str], *, root: Path) -> None:
    """Print the table of invocations, or the lines of one rank, and write the table as CSV."""
    number = variables.rank_number(rank)
    folder = open_run(run, given, root=root) if run.strip() or not file.strip() else None
    log = _of_file(Path(file.strip()), folder) if file.strip() else log_of_run(_existing(folder))
    console = Console(highlight=False)
    if number is not None:
        _show_rank(console, log, number, folder)
        return
    table = folder.path / LOGS_FILE if folder else Path(file.strip()).with_suffix(".invocations.csv")
    _refuse_empty(log.invocations, file or run)
    write_csv(table, log.invocations)
    print_table(console, folder.run_id if folder else file, log, table)


def _of_file(path: Path, folder: RunFolder | None) -> Log:
    rank_of = folder.rank_of if folder else {}
    return read_log(events_of_export(path), rank_of=rank_of, run_id=folder.run_id if folder else "")


def _existing(folder: RunFolder | None) -> RunFolder:
    assert folder is not None, "without a file there is a run"
    return folder


def _refuse_empty(invocations: Sequence[Invocation], where: str) -> None:
    if not invocations:
        raise UsageError(f"{where}: no invocation of this run is in the log; nothing was written.")


def _show_rank(console: Console, log: Log, rank: int, folder: RunFolder | None) -> None:
    lines = log.of_rank(rank)
    if not lines:
        known = [one.rank for one in log.invocations if one.rank is not None]
        there = f"the log has ranks {min(known)} to {max(known)}" if known else "the log names no rank"
        world = f" of {folder.tasks[-1].world_size}" if folder and folder.tasks else ""
        raise UsageError(f"RANK={rank}: no line is this rank's{world}; {there}.")
    print_lines(console, lines)


if __name__ == "__main__":
    typer.run(main)
