"""`make repartition DATASET=… SHARD_MB=…`: the same galaxies in shards of another size, in one pass."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from inference import contract
from scripts.command.exit_status import told_in_one_line
from scripts.data.partition import plan_partition
from scripts.data.present import progress_bar, shown
from scripts.data.reader import ShardFolder
from scripts.data.writer import DatasetPlan, make

ROOT = Path(__file__).parent.parent


def main(
    dataset: Annotated[str, typer.Option(envvar="DATASET", help="Dataset, or folder with shards.")] = "",
    shard_mb: Annotated[str, typer.Option(envvar="SHARD_MB", help="Largest shard [MiB].")] = "",
) -> None:
    """Write the dataset in another partition beside it. Exit status: 0 written, 1 failed, 2 wrong usage."""
    with told_in_one_line(), progress_bar() as progress:
        plan = plan_partition(ROOT, dataset=dataset, shard_mb=shard_mb)
        bar = progress.add_task("galaxies", total=len(plan.galaxies))
        # One process: reading, hashing and writing wait for the disk.
        card = make(plan, processes=1, tick=lambda rows: progress.advance(bar, rows))
        _keep_report(plan)
    size_mb = sum(shard.size_bytes for shard in card.shards) / 1e6
    print(f"{shown(plan.folder)}: {card.num_rows:,} galaxies in {len(card.shards)} shards, {size_mb:,.0f} MB")


def _keep_report(plan: DatasetPlan) -> None:
    """Keep what cleaning found when the galaxies were first read: what was dropped then is not there any more."""
    assert isinstance(plan.galaxies, ShardFolder), "planned above"
    report = plan.galaxies.folder / contract.CLEANING_KEY
    if report.exists():
        shutil.copyfile(report, plan.folder / contract.CLEANING_KEY)


if __name__ == "__main__":
    typer.run(main)
