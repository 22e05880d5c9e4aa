"""The same galaxies in shards of another size."""

from pathlib import Path

from scripts.command.errors import UsageError
from scripts.data.location import find_dataset
from scripts.data.reader import ShardFolder
from scripts.data.variables import MAX_SHARD_MB, whole
from scripts.data.writer import DatasetPlan


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
