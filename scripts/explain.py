"""`make explain RUN=… RANK=…`: the whole story of one rank: inputs, attempts, errors, phases, output."""

from pathlib import Path

from rich.console import Console

from scripts.command.errors import UsageError
from scripts.command.program import start
from scripts.command.variables import Whole
from scripts.runs.logs.of_run import log_of_run
from scripts.runs.run_folder import open_run
from scripts.runs.story import Story, print_story
from scripts.runs.variables import RunName, StackVariables


class ExplainVariables(StackVariables, frozen=True, kw_only=True):
    """The variables of `make explain`."""

    run: RunName = ""
    rank: Whole | None = None


def main(variables: ExplainVariables) -> None:
    """Print the story of a rank. Exit status: 0 printed, 1 AWS cannot be asked, 2 there is no such run or rank."""
    folder, rank = open_run(variables.run, variables, root=Path()), variables.rank
    world = len(folder.tasks)
    if rank is None or rank >= world:
        asked = "…" if rank is None else rank
        raise UsageError(f"RANK={asked} names none of the ranks of {folder.run_id}: they are 0 to {world - 1}.")
    print_story(Console(highlight=False), Story(folder, log_of_run(folder), rank))


if __name__ == "__main__":
    start(main)
