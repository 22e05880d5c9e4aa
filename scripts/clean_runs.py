"""`make clean-runs`: delete the folders of runs that have ended, after saying which."""

import shutil
import sys
from pathlib import Path

from rich.console import Console

from scripts.command.console import megabytes, say_here
from scripts.command.errors import CommandError, UsageError
from scripts.command.program import start
from scripts.command.variables import Flag, Variables
from scripts.runs import journal
from scripts.runs.listing import as_table, listed, runs_here
from scripts.runs.recall import whole_name
from scripts.runs.variables import RunName


class CleanRunsVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make clean-runs`."""

    run: RunName = ""
    yes: Flag = False


def main(variables: CleanRunsVariables) -> None:
    """Delete runs/ on this machine, or RUN=name of it. Exit status: 0 deleted, 1 not, 2 there is no such run."""
    root = Path()
    names = runs_here(root)
    if variables.run:
        asked = whole_name(variables.run, root)
        names = [name for name in names if name == asked]
        if not names:
            raise UsageError(f"RUN={variables.run}: there is no such run.")
    ended = [name for name in names if _has_ended(root / "runs" / name)]
    if len(ended) < len(names):
        say_here(f"{len(names) - len(ended)} of {len(names)} have not ended, as far as is known here, and stay.")
    if not ended:
        say_here("There is no run to delete.")
        return
    console = Console(highlight=False)
    console.print(as_table(list(listed(root, ended)), console.width))
    size = megabytes(sum(path.stat().st_size for name in ended for path in (root / "runs" / name).rglob("*")))
    which = "This run is" if len(ended) == 1 else f"These {len(ended)} runs are"
    print(f"{which} to be deleted here, {size}; what is in a bucket stays.", flush=True)
    if not variables.yes:
        _ask()
    for name in ended:
        _delete(root / "runs" / name)
    say_here(f"{len(ended)} deleted")


def _delete(folder: Path) -> None:
    entry = journal.read(folder)
    # A link leads to where RESULT said, and the run noted there that it is its folder; or it is not of our making.
    if not folder.is_symlink() or (entry and entry.run_id == folder.name):
        shutil.rmtree(folder.resolve())
    if folder.is_symlink():
        folder.unlink()


def _has_ended(folder: Path) -> bool:
    entry = journal.read(folder)
    return entry is None or entry.is_over or (entry.stack is None and not entry.is_served)


def _ask() -> None:
    if not sys.stdin.isatty():
        raise CommandError("Nothing is deleted: there is no terminal to ask at, and YES=1 answers yes.")
    print("Type yes to continue:", flush=True)
    if sys.stdin.readline().strip() != "yes":
        raise CommandError("Nothing is deleted.")


if __name__ == "__main__":
    start(main)
