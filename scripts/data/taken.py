"""Whose a name under `datasets/` is: no source takes the dataset of another one without being asked to."""

import re
from collections.abc import Callable
from itertools import count
from pathlib import Path

from scripts.command.errors import UsageError
from scripts.data.location import read_card
from scripts.data.sample import SAMPLE

SOURCE_NAME = "source.txt"
"""In the folder of a dataset's partitions: the path it was made from. It stays on this machine."""
SYNTHETIC = "synthetic galaxies"
ENDING = re.compile(
    r"(\.(csv|tsv|tab|txt|dat|cat|asc|ecsv|tbl|mrt|parquet|parq|pq|feather|arrow|fits|fit|fts|hdf5|h5|hdf|vot|votable|xml|"
    r"npz|pt|snappy|gz|bz2|xz|zst|zip))+$",
    re.IGNORECASE,
)


def name_of(source: Path) -> str:
    """Name a dataset after its file or folder, as the user called it."""
    own = source.name if source.name not in ("", "..") else source.resolve().name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", ENDING.sub("", own)).strip("-._")[:64] or "galaxies"


def free_name(source: Path, *, root: Path, is_same: Callable[[str], bool], may_replace: bool) -> str:
    """Return the name of a source, with a number behind it where another one's dataset has that name.

    Parameters
    ----------
    source : Path
    root : Path
        Folder that holds `datasets/`.
    is_same : callable
        Whether the provenance on a card, of a dataset that does not say its path, is that of this very source.
    may_replace : bool
        Whether another one's dataset may go, which the sample never does.
    """
    name = name_of(source)
    names = (name if number == 1 else f"{name[:60]}-{number}" for number in count(1))
    if may_replace:
        return next(one for one in names if one != SAMPLE)
    return next(one for one in names if not _other(one, str(source.resolve()), root, is_same))


def refuse_taken(name: str, source: str, *, root: Path, is_same: Callable[[str], bool]) -> None:
    """Raise when a name is that of another source's dataset.

    Raises
    ------
    UsageError
        The message says whose it is, and how it is replaced.
    """
    if other := _other(name, source, root, is_same):
        raise UsageError(
            f"datasets/{name} was made from {other}, and would be replaced. Give this one another NAME, or say YES=1."
        )


def _other(name: str, source: str, root: Path, is_same: Callable[[str], bool]) -> str:
    """Return what other source a name belongs to; empty where it is free, or that of this one."""
    if name == SAMPLE:
        return "the sample of real galaxies"
    folder = root / "datasets" / name
    if (folder / SOURCE_NAME).is_file():
        known = (folder / SOURCE_NAME).read_text(encoding="utf-8").strip()
        return "" if known == source else known
    provenances = [card.provenance for child in sorted(folder.glob("*MB")) if (card := read_card(child))]
    other = next((text for text in provenances if not is_same(text)), "")
    return other.removeprefix("Made from ").split(":", maxsplit=1)[0]
