"""The datasets of a sweep: found before anything starts, in the partitions it asks for."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from inference import contract
from inference.plan import SHARD_SUFFIXES
from scripts.command.console import counted, step
from scripts.command.errors import UsageError
from scripts.data.location import UNFINISHED, LocalDataset, RemoteDataset
from scripts.data.partition import plan_partition
from scripts.data.writer import make
from scripts.runs.perform import find_data
from scripts.sweeps.plan import Setting, SweepPlan

Dataset = LocalDataset | RemoteDataset
Key = tuple[str | None, int | None]
"""Dataset as named, and the largest size of its shards [MiB]; None: as it is."""


def key_of(setting: Setting) -> Key:
    """Return which dataset a setting reads."""
    return (setting.data, setting.shard_mb)


def find_datasets(plan: SweepPlan, root: Path, buckets: Sequence[str | None]) -> dict[Key, Dataset]:
    """Find every dataset of a sweep.

    Returns
    -------
    dict
        A partition that is not there yet is in it too; see `cut_missing`.

    Raises
    ------
    UsageError
        If there is no such dataset, or one in S3 is to be cut.
    """
    found: dict[Key, Dataset] = {}
    for name in plan.data or (None,):
        asked = f"DATA={name}" if name else "the default dataset"
        named = _one_partition(name, root) if plan.shard_mb else name
        source = find_data(named or contract.SAMPLE_PREFIX, asked=asked, root=root, buckets=buckets)
        for shard_mb in plan.shard_mb or (None,):
            found[name, shard_mb] = source if shard_mb is None else _partition(source, shard_mb, asked, root)
    return found


def without_images(plan: SweepPlan, root: Path) -> str | None:
    """Return the first dataset here that holds no images; None where all do, or nothing is known."""
    for name in plan.data:
        try:
            dataset = find_data(_one_partition(name, root) or name, asked=f"DATA={name}", root=root)
        except UsageError:  # `find_datasets` says it
            continue
        if isinstance(dataset, LocalDataset) and dataset.card and dataset.card.image_origin == "none":
            return name
    return None


def cut_missing(datasets: Mapping[Key, Dataset], root: Path, console: Console) -> None:
    """Cut the partitions that are not there yet from one of the same dataset that is."""
    for (name, shard_mb), dataset in datasets.items():
        if shard_mb is None or not isinstance(dataset, LocalDataset) or _is_there(dataset.folder):
            continue
        source = find_data(_one_partition(name, root) or contract.SAMPLE_PREFIX, asked=f"DATA={name}", root=root)
        assert isinstance(source, LocalDataset), "found here before"
        with step(console, "cut") as facts:
            card = make(plan_partition(source.folder, shard_mb, root=root), processes=1)
            facts.append(
                f"{dataset.folder}: {counted(card.num_rows, 'galaxy')} in {counted(len(card.shards), 'shard')}"
            )


def _one_partition(name: str | None, root: Path) -> str | None:
    """Return a dataset with the partition it is cut from: any one of several, whose galaxies are the same."""
    if name is None:
        return None
    folder = root / "datasets" / name.strip("/").removeprefix("datasets/")
    partitions = [child for child in sorted(folder.glob("*")) if child.is_dir() and _is_there(child)]
    return str(partitions[0]) if partitions else name


def _partition(source: Dataset, shard_mb: int, asked: str, root: Path) -> LocalDataset:
    if isinstance(source, RemoteDataset):
        raise UsageError(f"{asked} is in S3: SHARD_MB cuts datasets of this machine only.")
    if source.folder.name == f"{shard_mb}MB":
        return source
    plan = plan_partition(source.folder, shard_mb, root=root)
    return LocalDataset(plan.folder, contract.as_prefix(plan.folder.relative_to(root).as_posix()))


def _is_there(folder: Path) -> bool:
    """Return whether a partition is whole: a kill while it was cut left the mark."""
    has_shards = any(path.suffix in SHARD_SUFFIXES for path in folder.glob("*"))
    return has_shards and not (folder / UNFINISHED).exists()
