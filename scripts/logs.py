"""`make logs RUN=…`: what a run's workers printed, joined to its ranks; `RANK=17` shows the lines of one."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta
from rich.console import Console

from scripts.command.errors import UsageError
from scripts.command.program import start
from scripts.command.variables import Whole
from scripts.runs.logs.invocations import Log, read_log, write_csv
from scripts.runs.logs.of_run import log_of_run
from scripts.runs.logs.show import print_lines, print_table
from scripts.runs.logs.sources import events_of_export
from scripts.runs.run_folder import Run, open_run
from scripts.runs.variables import RunName, StackVariables

LOGS_FILE = "logs.csv"


class LogsVariables(StackVariables, frozen=True, kw_only=True):
    """The variables of `make logs`."""

    run: RunName = ""
    rank: Whole | None = None
    file: Annotated[str, Meta(description="a log exported from CloudWatch as CSV")] = ""


def main(variables: LogsVariables, *, root: Path = Path()) -> None:
    """Show what workers printed. Exit status: 0 shown, 1 AWS cannot be asked, 2 there is no such run, rank or file."""
    run, file = variables.run, variables.file
    folder = open_run(run, variables, root=root, may_run=True) if run or not file else None
    log = _of_file(Path(file), folder) if file else log_of_run(_existing(folder))
    console = Console(highlight=False)
    if variables.rank is not None:
        _show_rank(console, log, variables.rank, folder)
        return
    table = folder.path / LOGS_FILE if folder else Path(file).with_suffix(".invocations.csv")
    if not log.invocations:
        where = file or _existing(folder).run_id
        raise UsageError(f"{where}: no invocation of this run is in the log; nothing was written.")
    write_csv(table, log.invocations)
    print_table(console, folder.run_id if folder else file, log, table)


def _of_file(path: Path, folder: Run | None) -> Log:
    rank_of = folder.rank_of if folder else {}
    return read_log(events_of_export(path), rank_of=rank_of, run_id=folder.run_id if folder else "")


def _existing(folder: Run | None) -> Run:
    assert folder is not None, "without a file there is a run"
    return folder


def _show_rank(console: Console, log: Log, rank: int, folder: Run | None) -> None:
    lines = log.of_rank(rank)
    if not lines:
        known = [one.rank for one in log.invocations if one.rank is not None]
        there = f"the log has ranks {min(known)} to {max(known)}" if known else "the log names no rank"
        world = f" of {folder.tasks[-1].world_size}" if folder and folder.is_planned else ""
        raise UsageError(f"RANK={rank}: no line is this rank's{world}; {there}.")
    print_lines(console, lines)


if __name__ == "__main__":
    start(main)
