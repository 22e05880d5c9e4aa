"""Where a dataset is on this machine, and under which keys it goes into the bucket."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from inference import contract
from inference.checksum import file_sha256
from inference.contract import DatasetCard, ShardEntry
from inference.dataset import find_differences, note_others, refuse_differences
from inference.errors import DatasetError, InvalidRequestError
from inference.plan import SHARD_SUFFIXES, is_shard, natural_order
from scripts.command.console import counted
from scripts.command.errors import UsageError

HOW_TO_MAKE = "`make dataset` makes the sample, `make dataset NAME=name N=10000` another one."


UNFINISHED = ".unfinished"
"""A file in the folder of a dataset while it is written."""


@dataclass(frozen=True)
class LocalDataset:
    """A folder of shards and the prefix it is read from in the bucket."""

    folder: Path
    prefix: str

    def shards(self, file_limit: int | None) -> list[Path]:
        """Return what a run reads: the first shards in natural order."""
        return sorted(_shards(self.folder), key=lambda path: natural_order(path.name))[:file_limit]

    def files(self, file_limit: int | None) -> list[Path]:
        """Return what is uploaded: those shards, then the table, and ``dataset.json`` last, where there are any."""
        others = [self.folder / name for name in (*contract.TABLE_KEYS, contract.DATASET_KEY)]
        return [*self.shards(file_limit), *(path for path in others if path.exists())]

    def checksums(self, paths: Sequence[Path]) -> dict[Path, str]:
        """Return the sha256 of every file, in order.

        Notes
        -----
        Every file is read: neither its size nor its times tell that it was replaced.

        Raises
        ------
        DatasetError
            If a shard is another one than the card describes.
        """
        with ThreadPoolExecutor() as pool:
            found = dict(zip(paths, pool.map(file_sha256, paths), strict=True))
        stated = {entry.name: entry.sha256 for entry in card.shards} if (card := self.card) else {}
        changed = [path.name for path in paths if stated.get(path.name, found[path]) != found[path]]
        refuse_differences(str(self.folder), [f"the content of {name} has changed" for name in changed])
        return found

    def refuse_unfinished(self, file_limit: int | None = None) -> None:
        """Raise when the folder is not the dataset that its card describes, as far as a listing shows it.

        Raises
        ------
        DatasetError
            Naming the folder, what differs, and what to do.
        """
        if (self.folder / UNFINISHED).exists():
            raise DatasetError(
                f"{self.folder} is unfinished: `make dataset` or `make repartition` did not come to its end there. Run "
                "it again, or remove the folder."
            )
        if links := [path.name for path in self.files(file_limit) if path.is_symlink()]:
            raise DatasetError(
                f"{self.folder / links[0]} is a symbolic link, which is not followed: it may lead anywhere. Put the "
                "file itself there."
            )
        if card := self.card:
            sizes = {path.name: path.stat().st_size for path in _shards(self.folder)}
            refuse_differences(str(self.folder), list(find_differences(card, sizes, file_limit=file_limit)))

    @property
    def card(self) -> DatasetCard | None:
        """What ``dataset.json`` says; see `read_card`."""
        return read_card(self.folder)

    def describe(self) -> str:
        """Return where it is and how large."""
        num_shards = len(_shards(self.folder))
        if card := self.card:
            return f"{self.folder}: {counted(card.num_rows, 'galaxy')} in {counted(num_shards, 'shard')}"
        names = (path.name + "/" * path.is_dir() for path in self.folder.glob("*"))
        return f"{self.folder}: {'. '.join([counted(num_shards, 'shard'), *note_others(names)])}"


@dataclass(frozen=True)
class RemoteDataset:
    """A folder of shards that is in S3 already."""

    bucket: str
    prefix: str

    def describe(self) -> str:
        """Return where it is."""
        return f"s3://{self.bucket}/{self.prefix}"


def read_card(folder: Path) -> DatasetCard | None:
    """Return the card of a dataset; None where there is none, or one that is for Initialize to refuse."""
    try:
        return contract.decode((folder / contract.DATASET_KEY).read_bytes(), DatasetCard)
    except (FileNotFoundError, NotADirectoryError, InvalidRequestError):
        return None


def whole_card(folder: Path) -> DatasetCard | None:
    """Return the card of a dataset of which every file is there and every shard has its size and checksum, or None."""
    card = read_card(folder)
    tables = (folder / name for name in contract.TABLE_KEYS)
    if card is None or (folder / UNFINISHED).exists() or not all(table.is_file() for table in tables):
        return None
    return card if all(_is_intact(folder / shard.name, shard) for shard in card.shards) else None


def _is_intact(path: Path, shard: ShardEntry) -> bool:
    return path.is_file() and path.stat().st_size == shard.size_bytes and file_sha256(path) == shard.sha256


def find_remote(name: str, *, asked: str, buckets: Sequence[str | None]) -> RemoteDataset | None:
    """Return the dataset that ``s3://bucket/prefix`` means, or None when `name` is no such address.

    Raises
    ------
    UsageError
        If the stack may not read there.
    """
    if not name.startswith("s3://"):
        return None
    bucket, _, prefix = name.removeprefix("s3://").partition("/")
    readable = [known for known in buckets if known]
    if bucket not in readable:
        raise UsageError(
            f"{asked}: the stack reads {' and '.join(readable)} only. Terraform's data_bucket={bucket} admits it."
        )
    if not prefix.strip("/"):
        raise UsageError(f"{asked} names no folder of shards: s3://{bucket}/folder.")
    return RemoteDataset(bucket, contract.as_prefix(prefix))


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
        Folder that holds ``datasets/``.

    Raises
    ------
    UsageError
        If there is no such dataset, or it has several partitions; the message lists what there is.
    """
    if name.startswith("s3://"):
        raise UsageError(f"{asked} is in S3, which TARGET=aws reads; TARGET=local reads {root / 'datasets'}/.")
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
    return [path for path in folder.glob("*") if is_shard(path.name) and path.is_file()]


def _prefix(folder: Path, datasets: Path) -> str:
    """Return the same keys for a dataset as it would have in a deployment."""
    folder, datasets = folder.resolve(), datasets.resolve()
    inside = folder.relative_to(datasets) if folder.is_relative_to(datasets) else Path(folder.name)
    return contract.as_prefix(f"datasets/{inside.as_posix()}")


def _present(datasets: Path) -> Iterator[str]:
    for folder in sorted(datasets.glob("*/*")):
        if _shards(folder):
            yield folder.relative_to(datasets).as_posix()
