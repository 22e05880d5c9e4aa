"""Whether a dataset is what its card and its table say: every shard, every row."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference import contract
from inference.block import Block
from inference.checksum import file_sha256
from inference.cleaning import missing_bands
from inference.contract import RowRange, ShardEntry
from inference.dataset import find_differences
from inference.errors import RunError
from inference.quality import Quality
from inference.shard import count_rows, read_blocks
from scripts.command.errors import SourceError
from scripts.data.cleaning_report import inspect
from scripts.data.location import UNFINISHED
from scripts.data.reader import FolderReader, ShardFolder

ROUNDING = 1e-9
"""Imputed magnitudes [mag] differ in their last digits between blocks of other sizes."""


def find_problems(folder: Path, tick: Callable[[int], None] = lambda _: None) -> Iterator[str]:
    """Yield what is wrong with a dataset, one line each; memory does not grow with it.

    Parameters
    ----------
    folder : Path
        Folder of the shards.
    tick : callable
        Called with the number of galaxies checked.
    """
    dataset = ShardFolder(folder)
    try:
        card = dataset.card
    except SourceError as error:
        yield str(error)
        return
    if card is None:
        yield f"{contract.DATASET_KEY} is missing: the dataset is unfinished, or was not made by `make dataset`."
        return
    if (folder / UNFINISHED).exists():
        yield "it is unfinished: `make dataset` or `make repartition` did not come to its end here."
    yield from (
        f"{name} is a symbolic link, which no run follows." for name in dataset.names if (folder / name).is_symlink()
    )
    sizes = {name: (folder / name).stat().st_size for name in dataset.names}
    yield from (f"{difference}." for difference in find_differences(card, sizes))
    table = _open_table(folder)
    if table is None:
        yield f"{contract.TABLE_KEY} is missing or no Parquet file."
    elif (table.metadata.num_rows, table.num_row_groups) != (card.num_rows, len(card.shards)):
        yield (
            f"{contract.TABLE_KEY} has {table.metadata.num_rows} rows in {table.num_row_groups} groups; "
            f"the dataset has {card.num_rows} in {len(card.shards)} shards."
        )
        table = None
    for index, entry in enumerate(card.shards):
        yield from (f"{entry.name}: {problem}" for problem in _check_shard(dataset, entry, index, table))
        tick(entry.num_rows)
    yield from _check_csv(folder, card.num_rows)


def _check_shard(dataset: ShardFolder, entry: ShardEntry, index: int, table: Any) -> Iterator[str]:
    folder, layout = dataset.folder, dataset.layout
    path = folder / entry.name
    if not path.is_file():
        return  # as was said of the whole folder
    if (size := path.stat().st_size) == entry.size_bytes and file_sha256(path) != entry.sha256:
        yield f"its content has changed: sha256 is not that of {contract.DATASET_KEY}."
    reader = FolderReader(folder)
    try:
        num_rows = count_rows(reader, entry.name, size, layout, etag="")
        if num_rows != entry.num_rows:
            yield f"holds {num_rows} galaxies; {contract.DATASET_KEY} says {entry.num_rows}."
        rows = RowRange(key=entry.name, start_row=0, stop_row=num_rows, etag="")
        expected = _read_group(table, index, layout.bands) if table else None
        start = 0
        for block in read_blocks(reader, rows, layout):
            yield from _check_labels(block, start)
            if expected is not None:
                yield from _compare(
                    block,
                    {name: values[start : start + len(block)] for name, values in expected.items()},
                    layout.bands,
                )
            start += len(block)
    except (RunError, OSError) as error:
        yield str(error)


def _check_labels(block: Block, start: int) -> Iterator[str]:
    bad = np.flatnonzero(~np.isnan(block.redshifts) & ~((block.redshifts > 0) & np.isfinite(block.redshifts)))
    if len(bad):
        yield f"{len(bad)} redshifts are not positive, the first {block.redshifts[bad[0]]} in row {start + bad[0]}."


def _compare(block: Block, expected: dict[str, NDArray[Any]], bands: tuple[str, ...]) -> Iterator[str]:
    """Name the columns in which the table and the shard differ; what is missing in the shard must be flagged there."""
    unseen = expected["quality"] & np.uint8((Quality.LOW_SIGNAL | Quality.HIGH_EXTINCTION).value)
    if len(unseen) != len(block):
        yield f"{contract.TABLE_KEY} has another number of rows for it."
        return
    magnitudes, quality, _ = inspect(block.images, block.magnitudes, block.redshifts, unseen, bands)
    stated = np.stack([expected[f"mag_{band}"] for band in bands], axis=1)
    magnitudes[missing_bands(magnitudes)] = np.nan
    differs = {
        "object_id": expected["object_id"] != block.object_id,
        "magnitudes": ~np.isclose(stated, magnitudes, rtol=0, atol=ROUNDING, equal_nan=True).all(axis=1),
        "quality": expected["quality"] != quality,
        "z_spec": ~(
            (expected["z_spec"] == block.redshifts) | (np.isnan(expected["z_spec"]) & np.isnan(block.redshifts))
        ),
    }
    for name, is_different in differs.items():
        if rows := np.flatnonzero(is_different).tolist():
            yield (
                f"{name} of {len(rows)} galaxies differ from {contract.TABLE_KEY}, the first with object_id "
                f"{block.object_id[rows[0]]}."
            )


def _check_csv(folder: Path, num_rows: int) -> Iterator[str]:
    path = folder / contract.TABLE_CSV_KEY
    if not path.is_file():
        yield f"{path.name} is missing."
        return
    with path.open("rb") as file:
        num_lines = sum(piece.count(b"\n") for piece in iter(lambda: file.read(2**20), b""))
    if num_lines != num_rows + 1:
        yield f"{path.name} has {num_lines} lines; {num_rows} galaxies and the names are {num_rows + 1}."


def _open_table(folder: Path) -> Any:
    """Open the dataset's Parquet table; None where there is none."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(folder / contract.TABLE_KEY)
    except (OSError, pa.ArrowException):
        return None


def _read_group(table: Any, index: int, bands: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    names = ["object_id", *(f"mag_{band}" for band in bands), "quality", "z_spec"]
    group = table.read_row_group(index, columns=names)
    kinds = {"object_id": "i8", "quality": "u1"}
    return {name: np.asarray(group.column(name).to_numpy(), dtype=kinds.get(name, "f8")) for name in names}
