"""`make status RUN=…`: how a run is going or how it ended, from any terminal."""

from pathlib import Path

from rich.console import Console

from scripts.command.console import say_here
from scripts.command.program import start
from scripts.deployment.stack import has_applied
from scripts.runs.listing import as_table, listed, name_runs, newest_here
from scripts.runs.variables import RunName, StackVariables


class StatusVariables(StackVariables, frozen=True, kw_only=True):
    """The variables of `make status`."""

    run: RunName = ""


def main(variables: StatusVariables) -> None:
    """Say how a run is. Exit status: 0 answered, 1 AWS cannot be asked, 2 there is no such run."""
    console = Console(highlight=False)
    if variables.run:
        from scripts.runs.standing import show  # numpy and boto3 take longer than the list of all runs

        show(variables.run, variables, console)
    else:
        _list(variables, console)


def _list(where: StackVariables, console: Console) -> None:
    newest = newest_here(Path())
    if newest:
        console.print(as_table(list(listed(Path(), newest)), console.width))
    else:
        say_here("here  none")
    if where.outputs or has_applied(Path("terraform")):
        from scripts.runs.recall import runs_there, stack_target

        if target := stack_target(where, root=Path()):
            say_here(f"{target.name}   {name_runs(runs_there(target))}")
    say_here("RUN=name, or a part of it that no other has, says more.")


if __name__ == "__main__":
    start(main)
