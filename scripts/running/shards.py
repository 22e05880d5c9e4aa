"""Where a dataset lies on this machine, and under which keys it goes into the bucket."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inference import contract
from inference.errors import InvalidRequestError
from inference.plan import SHARD_SUFFIXES, natural_order
from scripts.running.variables import UsageError

HOW_TO_MAKE = "`make dataset` makes the sample, `make dataset NAME=name N=10000` another one."


@dataclass(frozen=True)
class LocalDataset:
    """A folder of shards and the prefix it is read from in the bucket."""

    folder: Path
    prefix: str

    def files(self, file_limit: int | None) -> list[Path]:
        """Return what a run reads: the first shards in natural order, and ``dataset.json`` where there is one."""
        shards = sorted(_shards(self.folder), key=lambda path: natural_order(path.name))[:file_limit]
        card = self.folder / contract.DATASET_KEY
        return [*shards, card] if card.exists() else shards

    def describe(self) -> str:
        """Return where it lies and how large it is."""
        num_shards = len(_shards(self.folder))
        card = self.folder / contract.DATASET_KEY
        try:
            num_rows = contract.decode(card.read_bytes(), contract.DatasetCard).num_rows
        except (FileNotFoundError, InvalidRequestError):
            # A card that cannot be read is for Initialize to refuse.
            return f"{self.folder}: {num_shards} shards"
        return f"{self.folder}: {num_rows:,} galaxies in {num_shards} shards"


def is_sample(name: str) -> bool:
    """Return whether `name` means the sample dataset, which is made when it is missing."""
    sample = contract.SAMPLE_PREFIX.removeprefix("datasets/").strip("/")
    return name.strip("/").removeprefix("datasets/") in (sample, sample.split("/", maxsplit=1)[0])


def find_dataset(name: str, *, asked: str, root: Path) -> LocalDataset:
    """Find a dataset by its name, ``name/partition``, the key prefix of a request, or as a folder.

    Parameters
    ----------
    name : str
        As the user gave it.
    asked : str
        Where the name comes from, such as ``DATASET=sdss``, for messages.
    root : Path
        Folder in which ``datasets/`` lies.

    Raises
    ------
    UsageError
        If there is no such dataset, or it has several partitions; the message lists what there is.
    """
    if name.startswith("s3://"):
        raise UsageError(f"{asked} is in another account's S3; TARGET=local reads {root / 'datasets'} or a folder.")
    datasets = root / "datasets"
    for folder in (datasets / name.strip("/").removeprefix("datasets/"), Path(name).expanduser()):
        if _shards(folder):
            return LocalDataset(folder, _prefix(folder, datasets))
        partitions = [child for child in sorted(folder.glob("*")) if _shards(child)]
        if len(partitions) == 1:
            return LocalDataset(partitions[0], _prefix(partitions[0], datasets))
        if partitions:
            names = ", ".join(partition.name for partition in partitions)
            raise UsageError(
                f"{asked} has several partitions: {names}. Name one: {name.rstrip('/')}/{partitions[0].name}."
            )
        if folder.is_dir():
            raise UsageError(f"{asked}: {folder} holds no shard; shards end in {', '.join(SHARD_SUFFIXES)}.")
    present = ", ".join(_present(datasets)) or "none"
    override = "" if asked.startswith("DATASET") else " DATASET=name reads another one instead."
    raise UsageError(f"{asked}: no such dataset here. Present: {present}.{override} {HOW_TO_MAKE}")


def _shards(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if path.suffix in SHARD_SUFFIXES and path.is_file()]


def _prefix(folder: Path, datasets: Path) -> str:
    """Return the same keys for a dataset as it would have in a deployment."""
    folder, datasets = folder.resolve(), datasets.resolve()
    inside = folder.relative_to(datasets) if folder.is_relative_to(datasets) else Path(folder.name)
    return contract.as_prefix(f"datasets/{inside.as_posix()}")


def _present(datasets: Path) -> Iterator[str]:
    for folder in sorted(datasets.glob("*/*")):
        if _shards(folder):
            yield folder.relative_to(datasets).as_posix()
