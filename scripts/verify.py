"""`make verify DATASET=…`: check every shard against the dataset's card and table."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from scripts.command.console import counted, progress_bar, say_here
from scripts.command.errors import COMPLETE, FAILED, UsageError
from scripts.command.program import start
from scripts.command.variables import Variables
from scripts.data.location import find_dataset
from scripts.data.reader import ShardFolder
from scripts.data.verification import find_problems

MAX_SHOWN = 20


class VerifyVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make verify`."""

    dataset: Annotated[str, Meta(description="a dataset, or a folder with shards")] = ""


def main(variables: VerifyVariables) -> int:
    """Say what is wrong with a dataset. Exit status: 0 nothing, 1 something, 2 wrong usage."""
    if not variables.dataset:
        raise UsageError("DATASET names what to verify, as in DATASET=sdss/10MB.")
    folder = find_dataset(variables.dataset, asked=f"DATASET={variables.dataset}", root=Path()).folder
    with progress_bar() as progress:
        bar = progress.add_task("galaxies", total=None)
        problems = list(find_problems(folder, lambda rows: progress.advance(bar, rows)))
    for problem in problems[:MAX_SHOWN]:
        say_here(f"{folder}: {problem}")
    if len(problems) > MAX_SHOWN:
        say_here(f"{folder}: and {len(problems) - MAX_SHOWN} more problems.")
    if problems:
        return FAILED
    card = ShardFolder(folder).card
    assert card is not None, "a missing card is a problem"
    what = f"{counted(card.num_rows, 'galaxy')} in {counted(len(card.shards), 'shard')}"
    say_here(f"{folder}: {what} are what dataset.json and the table say")
    return COMPLETE


if __name__ == "__main__":
    start(main)
