"""Whether a folder holds the dataset that its card describes, before anything is read of it."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from inference.contract import DATASET_KEY, TABLE_KEYS, DatasetCard, ShardEntry
from inference.errors import DatasetError
from inference.plan import SHARD_SUFFIXES, Shard, is_shard, natural_order

COPY = re.compile(r" \(\d+\)\.|[ -]copy( \d+)?\.|^copy of ", re.IGNORECASE)
"""How systems name the copy of a file."""

MAX_NAMED = 5
"""Problems that an error names; more are counted."""


def find_differences(card: DatasetCard, sizes: Mapping[str, int], *, file_limit: int | None = None) -> Iterator[str]:
    """Yield in what a folder differs from its card, in sentences.

    Parameters
    ----------
    card : DatasetCard
        What ``dataset.json`` says.
    sizes : mapping of str to int
        Name of every shard in the folder to its size [bytes].
    file_limit : int, optional
        Judge only the first shards, which a run reads.
    """
    entries = {entry.name: entry for entry in card.shards}
    for name, count in Counter(entry.name for entry in card.shards).items():
        if count > 1:
            yield f"{DATASET_KEY} describes {name} {count} times"
    if card.num_rows != (total := sum(entry.num_rows for entry in card.shards)):
        yield f"{DATASET_KEY} says {card.num_rows} galaxies, its shards add up to {total}"
    expected, found = (sorted(names, key=natural_order)[:file_limit] for names in (entries, sizes))
    for name in expected:
        if name not in sizes:
            yield f"{name} is missing"
        elif sizes[name] != entries[name].size_bytes:
            yield f"{name} has {sizes[name]} bytes, {DATASET_KEY} says {entries[name].size_bytes}"
    yield from (f"{name} is not in {DATASET_KEY}" for name in found if name not in entries)


def find_miscounts(counted: Iterable[tuple[ShardEntry, int]]) -> Iterator[str]:
    """Yield which shards hold another number of galaxies than the card states."""
    for entry, num_rows in counted:
        if num_rows != entry.num_rows:
            yield f"{entry.name} holds {num_rows} galaxies, {DATASET_KEY} says {entry.num_rows}"


def refuse_differences(where: str, differences: Sequence[str]) -> None:
    """Raise when there are any.

    Raises
    ------
    DatasetError
        Naming the folder, and the first of them.
    """
    if differences:
        more = f"; and {len(differences) - MAX_NAMED} more" if len(differences) > MAX_NAMED else ""
        raise DatasetError(
            f"{where} is not the dataset of its {DATASET_KEY}: {'; '.join(differences[:MAX_NAMED])}{more}. Make or "
            f"upload it again; without {DATASET_KEY} the shards are read as they are."
        )


def judge_copies(
    where: str, contents: Iterable[tuple[str, tuple[str, int]]], *, are_allowed: bool = False
) -> Iterator[str]:
    """Yield a note on shards with the content of another one, whose galaxies count twice.

    Parameters
    ----------
    where : str
        The folder.
    contents : iterable
        Name of every shard, with its entity tag and size [bytes].
    are_allowed : bool
        True where copies are wanted, whatever they are called.

    Raises
    ------
    DatasetError
        If one of them is named as systems name copies.
    """
    first: dict[tuple[str, int], str] = {}
    found = [(name, first.setdefault(content, name)) for name, content in contents]
    copies = {name: original for name, original in found if name != original}
    for name, original in copies.items():
        if not are_allowed and (COPY.search(name) or COPY.search(original)):
            raise DatasetError(
                f"{where} holds {name}, a copy of {original}: its galaxies would count twice. Remove one of them, or "
                "set `allow_copies` in the request."
            )
    if copies:
        name, original = next(iter(copies.items()))
        which = "1 shard has" if len(copies) == 1 else f"{len(copies)} shards have"
        yield f"{which} the content of another, as {name} of {original}: their galaxies count twice."


def note_ignored(names: Iterable[str]) -> Iterator[str]:
    """Yield a note on hidden files, which systems make and which are no shards."""
    hidden = sorted(name for name in names if name.startswith(".") and name.endswith(SHARD_SUFFIXES))
    if hidden:
        more = f" and {len(hidden) - 1} more" if len(hidden) > 1 else ""
        yield f"{hidden[0]}{more} was ignored: a hidden file is no shard."


def note_others(names: Iterable[str]) -> Iterator[str]:
    """Yield a note on what is next to the shards of a folder without a card, and may have been meant to be one."""
    own = (DATASET_KEY, *TABLE_KEYS)
    others = sorted(name for name in names if not is_shard(name) and not name.startswith(".") and name not in own)
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        ends = ", ".join(SHARD_SUFFIXES)
        yield f"{others[0]}{more} was not read: shards are directly in the folder, and end in {ends}."


def note_unproved(shards: Sequence[Shard]) -> Iterator[str]:
    """Yield a note on shards whose bytes no rank can prove."""
    if num := sum(not shard.crc32 for shard in shards):
        which = "1 shard" if num == 1 else f"{num} shards"
        yield f"No {DATASET_KEY} states checksums for the parts of {which}: their bytes are not checked when read."


@dataclass(frozen=True)
class Extent:
    """How many galaxies a shard holds, and how many bytes they take."""

    num_rows: int
    """Galaxies."""

    head_bytes: int
    """Before the first galaxy [bytes]."""

    row_bytes: int
    """Of a galaxy, all arrays together [bytes]."""

    @classmethod
    def of_header(cls, head: bytes | memoryview, size_bytes: int) -> "Extent | None":
        """Read it from the beginning of a safetensors file of that size; None where it does not say.

        No array is made and numpy not imported: the ranks, which read the rows, judge the whole header.
        """
        try:
            length = int.from_bytes(head[:8], "little")
            header = json.loads(bytes(head[8 : 8 + length]))
            (num_rows,) = {entry["shape"][0] for name, entry in header.items() if name != "__metadata__"}
            row_bytes, rest = divmod(size_bytes - 8 - length, num_rows)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError):
            return None
        return cls(num_rows, 8 + length, row_bytes) if rest == 0 and row_bytes > 0 else None

    def proves(self, entry: ShardEntry) -> bool:
        """Tell whether a shard's size leaves no other number of galaxies than its entry states.

        The shards of a dataset differ by whole galaxies and by a few digits in their headers.
        """
        rest = entry.size_bytes - self.head_bytes - entry.num_rows * self.row_bytes
        return entry.name.endswith(".safetensors") and 2 * abs(rest) < self.row_bytes
