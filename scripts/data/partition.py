"""The same galaxies in shards of another size."""

from pathlib import Path

from scripts.command.console import counted
from scripts.command.errors import UsageError
from scripts.data.reader import ShardFolder
from scripts.data.writer import DatasetPlan


def plan_partition(folder: Path, shard_mb: int, *, root: Path) -> DatasetPlan:
    """Plan the dataset of a folder with shards of another size.

    Parameters
    ----------
    folder : Path
        Shards of any format.
    shard_mb : int
        Largest shard [MiB].
    root : Path
        Folder that holds `datasets/`.

    Raises
    ------
    UsageError
        If these are shards of that size already.
    """
    galaxies, datasets = ShardFolder(folder), (root / "datasets").resolve()
    card, real = galaxies.card, folder.resolve()
    inside = real.is_relative_to(datasets) and real.parent != datasets
    plan = DatasetPlan(
        galaxies=galaxies,
        root=root,
        name=real.parent.relative_to(datasets).as_posix() if inside else real.name,
        shard_mb=shard_mb,
        seed=card.seed if card else 0,
        provenance=card.provenance if card else f"{counted(len(galaxies.names), 'shard')} of the folder {real.name}.",
        origin=galaxies.origin,
        is_sequential=True,
    )
    if plan.folder.resolve() == real:
        raise UsageError(f"{folder} has shards of {shard_mb} MB already; SHARD_MB={shard_mb} would write over them.")
    return plan
