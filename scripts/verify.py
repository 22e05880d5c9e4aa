"""`make verify DATASET=…`: check every shard against the dataset's card and table."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.command.errors import FAILED, UsageError
from scripts.command.exit_status import told_in_one_line
from scripts.data.location import find_dataset
from scripts.data.present import progress_bar, shown
from scripts.data.reader import ShardFolder
from scripts.data.verification import find_problems

ROOT = Path(__file__).parent.parent
MAX_SHOWN = 20


def main(
    dataset: Annotated[str, typer.Option(envvar="DATASET", help="Dataset, or folder with shards.")] = "",
) -> None:
    """Say what is wrong with a dataset. Exit status: 0 nothing, 1 something, 2 wrong usage."""
    with told_in_one_line(), progress_bar() as progress:
        if not dataset:
            raise UsageError("DATASET names what to verify, as in DATASET=sdss/10MB.")
        folder = find_dataset(dataset, asked=f"DATASET={dataset}", root=ROOT).folder
        bar = progress.add_task("galaxies", total=None)
        problems = list(find_problems(folder, lambda rows: progress.advance(bar, rows)))
    for problem in problems[:MAX_SHOWN]:
        print(f"{shown(folder)}: {problem}")
    if len(problems) > MAX_SHOWN:
        print(f"{shown(folder)}: and {len(problems) - MAX_SHOWN} more problems.")
    if problems:
        raise typer.Exit(FAILED)
    card = ShardFolder(folder).card
    assert card is not None, "a missing card is a problem"
    what = f"{card.num_rows:,} galaxies in {len(card.shards)} shards"
    print(f"{shown(folder)}: {what} are what dataset.json and the table say")


if __name__ == "__main__":
    typer.run(main)
