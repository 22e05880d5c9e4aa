"""`make repartition DATASET=… SHARD_MB=…`: the same galaxies in shards of another size, in one pass."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from inference import contract
from scripts.command.exit_status import told_in_one_line
from scripts.data.datasets import find_dataset
from scripts.data.present import progress_bar, shown
from scripts.data.shard_folder import ShardFolder
from scripts.data.shards import DatasetPlan, make
from scripts.data.variables import MAX_SHARD_MB, whole
from scripts.runs.variables import UsageError

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


def plan_partition(root: Path, *, dataset: str, shard_mb: str) -> DatasetPlan:
    """Plan the same dataset with shards of another size.

    Raises
    ------
    UsageError
        If there is no such dataset, or it has this partition already.
    """
    if not dataset or not shard_mb:
        raise UsageError("DATASET and SHARD_MB are needed, as in DATASET=sdss/10MB SHARD_MB=25.")
    size = whole("SHARD_MB", shard_mb, 1, MAX_SHARD_MB)
    folder = find_dataset(dataset, asked=f"DATASET={dataset}", root=root).folder.resolve()
    galaxies = ShardFolder(folder)
    card = galaxies.card
    datasets = (root / "datasets").resolve()
    inside = folder.is_relative_to(datasets) and folder.parent != datasets
    plan = DatasetPlan(
        galaxies=galaxies,
        root=root.resolve(),
        name=folder.parent.relative_to(datasets).as_posix() if inside else folder.name,
        shard_mb=size,
        seed=card.seed if card else 0,
        provenance=card.provenance if card else f"{len(galaxies.names)} shards of the folder {folder.name}.",
        is_sequential=True,
    )
    if plan.folder == folder:
        raise UsageError(f"DATASET={dataset} has shards of {size} MB already; SHARD_MB={size} would write over them.")
    return plan


def _keep_report(plan: DatasetPlan) -> None:
    """Keep what cleaning found when the galaxies were first read: what was dropped then is not there any more."""
    assert isinstance(plan.galaxies, ShardFolder), "planned above"
    report = plan.galaxies.folder / contract.CLEANING_KEY
    if report.exists():
        shutil.copyfile(report, plan.folder / contract.CLEANING_KEY)


if __name__ == "__main__":
    typer.run(main)
