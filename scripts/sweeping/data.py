"""The datasets of a sweep: found before anything starts, in the partitions it asks for."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from inference import contract
from scripts.running.perform import find_data
from scripts.running.shards import LocalDataset, RemoteDataset
from scripts.running.variables import UsageError
from scripts.sweeping.plan import Setting, SweepPlan

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
        If there is no such dataset, or one that lies in S3 is to be cut.
    """
    found: dict[Key, Dataset] = {}
    for name in plan.data or (None,):
        asked = f"DATA={name}" if name else "the default dataset"
        dataset = find_data(name or contract.SAMPLE_PREFIX, asked=asked, root=root, buckets=buckets)
        for shard_mb in plan.shard_mb or (None,):
            found[name, shard_mb] = dataset if shard_mb is None else _partition(dataset, shard_mb, asked)
    return found


def cut_missing(datasets: Mapping[Key, Dataset]) -> None:
    """Cut the partitions that are not there yet from one of the same dataset that is."""
    for dataset in datasets.values():
        if isinstance(dataset, LocalDataset) and not dataset.folder.exists():
            raise UsageError(f"{dataset.folder} is not there: `make repartition` cuts it.")


def _partition(dataset: Dataset, shard_mb: int, asked: str) -> LocalDataset:
    if isinstance(dataset, RemoteDataset):
        raise UsageError(f"{asked} lies in S3: SHARD_MB cuts datasets of this machine only.")
    name = f"{shard_mb}MB"
    prefix = contract.as_prefix(dataset.prefix.rstrip("/").rsplit("/", maxsplit=1)[0] + f"/{name}")
    return LocalDataset(dataset.folder.with_name(name), prefix)
