"""The dataset that is made from a source."""

import re
from collections.abc import Callable
from pathlib import Path

from inference.checksum import file_sha256
from scripts.command.errors import UsageError
from scripts.data.cleaning_report import CleaningReport
from scripts.data.selection import select_for_training
from scripts.data.source import open_source
from scripts.data.writer import DatasetPlan

MAX_HASHED_BYTES = 2**30
"""Larger files are told apart by size and time: reading them twice would take minutes."""

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


def name_of(source: Path, name: str) -> str:
    """Name a dataset as the user does, or after its source.

    Raises
    ------
    UsageError
        If the name cannot be that of a folder and of keys.
    """
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", source.resolve().name.split(".", maxsplit=1)[0]).lstrip(".-_")[:64]
    if not re.fullmatch(NAME, name):
        raise UsageError(f"NAME={name} is not valid: NAME is letters, digits, dots, dashes and underscores.")
    return name


def plan_source(
    root: Path,
    path: Path,
    *,
    name: str,
    fields: str,
    for_training: bool,
    shard_mb: int,
    seed: int,
    scratch: Path,
    tick: Callable[[int], None] = lambda _: None,
) -> DatasetPlan:
    """Read what there is to know before the first shard, and plan the dataset.

    Parameters
    ----------
    root : Path
        Folder that holds `datasets/`.
    path : Path
        Table, published file, or folder of shards or cutouts.
    name : str
        Of the dataset.
    fields : str
        The user's names of columns.
    for_training : bool
        Leave out what is not clean, labelled and unique, instead of flagging it.
    shard_mb : int
        Largest shard [MiB].
    seed : int
        Decides what is drawn.
    scratch : Path
        Folder for records, needed until the dataset is made.
    tick : callable
        Called with the number of galaxies read.
    """
    source = open_source(path, fields=fields, scratch=scratch, seed=seed, tick=tick)
    galaxies, report = source.galaxies, CleaningReport(rules=source.rules)
    if for_training:
        galaxies, report = select_for_training(source, tick)
    images = "Images are rendered from the photometry." if source.is_rendered else "Images are those of the source."
    which = (
        "Only clean rows with a label, each identifier once." if for_training else "All rows; what is wrong is flagged."
    )
    return DatasetPlan(
        galaxies=galaxies,
        root=root,
        name=name,
        shard_mb=shard_mb,
        seed=seed,
        provenance=f"Made from {_fingerprint(path)}: {source.description}. {images} {which}",
        report=report,
        is_sequential=source.is_sequential,
    )


def _fingerprint(path: Path) -> str:
    """Say which very file or folder it was."""
    if path.is_dir():
        files = [child for child in path.iterdir() if child.is_file()]
        newest = max(child.stat().st_mtime_ns for child in files)
        return f"{path.name}/ ({len(files)} files, {sum(child.stat().st_size for child in files)} bytes, {newest})"
    facts = path.stat()
    if facts.st_size > MAX_HASHED_BYTES:
        return f"{path.name} ({facts.st_size} bytes, {facts.st_mtime_ns})"
    return f"{path.name} (sha256 {file_sha256(path)})"
