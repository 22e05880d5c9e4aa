"""`make explain RUN=… RANK=…`: the whole story of one rank: inputs, attempts, errors, phases, output."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from scripts.command.errors import UsageError
from scripts.command.exit_status import told_in_one_line
from scripts.runs import variables
from scripts.runs.run_folder import open_run
from scripts.runs.run_log import log_of_run
from scripts.runs.story import Story, print_story


def main(
    run: Annotated[str, typer.Option(envvar="RUN", help="Name of the run.")] = "",
    rank: Annotated[str, typer.Option(envvar="RANK", help="The rank.")] = "",
    outputs: Annotated[str, typer.Option(envvar="OUTPUTS", help="Terraform's outputs as a JSON file.")] = "",
) -> None:
    """Tell the story of a rank. Exit status: 0 told, 1 AWS cannot be asked, 2 there is no such run or rank."""
    with told_in_one_line():
        explain(run, rank, variables.given({"OUTPUTS": outputs}), root=Path())


def explain(run: str, rank: str, given: Mapping[str, str], *, root: Path) -> None:
    """Print what is known of a rank, from the run's folder and its log."""
    folder = open_run(run, given, root=root)
    number = variables.rank_number(rank)
    world = len(folder.tasks)
    if number is None or number >= world:
        which = f"0 to {world - 1}" if world else "unknown, it has no manifest.json"
        raise UsageError(f"RANK={rank.strip() or '…'} names none of the ranks of {folder.run_id}: they are {which}.")
    print_story(Console(highlight=False), Story(folder, log_of_run(folder), number))


if __name__ == "__main__":
    typer.run(main)
