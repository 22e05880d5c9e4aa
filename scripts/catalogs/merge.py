"""Joins the predictions of all ranks, in dataset order, with the dataset's table; memory does not grow with the run."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.pipeline import Predictions
from inference.quality import Quality
from inference.run_folder import Inventory, RunFolder
from scripts.catalogs.columns import LOST, unknown_rows
from scripts.catalogs.positions import DatasetTable, refuse_other_galaxies

BLOCK_ROWS = 131_072
"""Rows that are handed on at a time, and of a row group of the Parquet file."""

FROM_PREDICTIONS = {
    "object_id": "object_id",
    "z_phot": "z_phot",
    "sigma": "z_phot_err",
    "quality": "flags",
    "z_spec": "z_spec",
}
FROM_TABLE = ("ra_deg", "dec_deg", "mag_r")
TABLE_FLAGS = (Quality.LOW_SIGNAL | Quality.HIGH_EXTINCTION).value
"""Flags that need flux errors and extinction: the table had them, a worker sees neither."""


def merged_blocks(folder: RunFolder, found: Inventory, table: DatasetTable | None) -> Iterator[NDArray[Any]]:
    """Yield the rows of a run in dataset order.

    Yields
    ------
    array, shape (N,), dtype `columns.ROW`
        `BLOCK_ROWS` rows, the last block excepted.

    Raises
    ------
    RunFolderError
        If a file of predictions cannot be read.
    CommandError
        If the table is another dataset's.
    """
    waiting: list[NDArray[Any]] = []
    num_waiting = 0
    for rows in _pieces(folder, found, table):
        waiting.append(rows)
        num_waiting += len(rows)
        if num_waiting >= BLOCK_ROWS:
            joined = np.concatenate(waiting)
            yield joined[:BLOCK_ROWS]
            waiting, num_waiting = [joined[BLOCK_ROWS:]], num_waiting - BLOCK_ROWS
    if num_waiting:
        yield np.concatenate(waiting)


def _pieces(folder: RunFolder, found: Inventory, table: DatasetTable | None) -> Iterator[NDArray[Any]]:
    """Yield the rows of rank after rank, at most `BLOCK_ROWS` at a time."""
    first_row = 0
    for task in found.tasks:
        predictions = None if task.rank in found.lost else folder.predictions(task)
        for start in range(0, task.num_samples, BLOCK_ROWS):
            part = slice(start, min(start + BLOCK_ROWS, task.num_samples))
            rows = unknown_rows(part.stop - start)
            stated = table.take(len(rows)) if table else {}
            if predictions is None:
                _fill_lost(rows, stated)
            else:
                _fill_predicted(rows, predictions, part)
            if table and predictions is not None:
                refuse_other_galaxies(table, rows["object_id"], stated["object_id"], first_row + start)
            for name in FROM_TABLE:
                if name in stated:
                    rows[name] = stated[name]
            if "quality" in stated:
                rows["flags"] |= stated["quality"].astype(np.uint8) & np.uint8(TABLE_FLAGS)
            yield rows
        first_row += task.num_samples


def _fill_predicted(rows: NDArray[Any], predictions: Predictions, part: slice) -> None:
    for name, column in FROM_PREDICTIONS.items():
        rows[column] = getattr(predictions, name)[part]


def _fill_lost(rows: NDArray[Any], stated: dict[str, NDArray[Any]]) -> None:
    """Keep what is known of galaxies without a prediction."""
    for name in ("object_id", "z_spec"):
        if name in stated:
            rows[name] = stated[name]
    rows["flags"] = stated.get("quality", np.zeros(1, dtype=np.uint8)).astype(np.uint8) | np.uint8(LOST)
