"""`make repartition DATASET=… SHARD_MB=…`: the same galaxies in shards of another size, in one pass."""

import shutil
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from inference import contract
from scripts.command.console import progress_bar, say_here
from scripts.command.errors import UsageError
from scripts.command.program import start
from scripts.command.variables import Variables
from scripts.data.location import find_dataset
from scripts.data.partition import plan_partition
from scripts.data.writer import ShardMb, in_words, make


class RepartitionVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make repartition`."""

    dataset: Annotated[str, Meta(description="a dataset, or a folder with shards")] = ""
    shard_mb: ShardMb | None = None


def main(variables: RepartitionVariables) -> None:
    """Write the dataset in another partition, next to it. Exit status: 0 written, 1 failed, 2 wrong usage."""
    if not variables.dataset or not variables.shard_mb:
        raise UsageError("DATASET and SHARD_MB are needed, as in DATASET=sdss/10MB SHARD_MB=25.")
    found = find_dataset(variables.dataset, asked=f"DATASET={variables.dataset}", root=Path())
    found.refuse_unfinished()
    found.checksums(found.shards(None))
    source = found.folder
    plan = plan_partition(source, variables.shard_mb, root=Path())
    with progress_bar() as progress:
        bar = progress.add_task("galaxies", total=len(plan.galaxies))
        # One process: reading, hashing and writing wait for the disk.
        card = make(plan, processes=1, tick=lambda rows: progress.advance(bar, rows))
    if (source / contract.CLEANING_KEY).exists():
        # What was dropped when the galaxies were first read is not there any more to be counted.
        shutil.copyfile(source / contract.CLEANING_KEY, plan.folder / contract.CLEANING_KEY)
    say_here(f"{plan.folder}: {in_words(card)}")


if __name__ == "__main__":
    start(main)
