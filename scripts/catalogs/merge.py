"""Joins the predictions of all ranks, in dataset order, with the dataset's table; memory does not grow with the run."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.distributions import summary
from inference.pipeline import Predictions
from inference.quality import Quality
from inference.run_folder import Inventory, RunFolder
from scripts.catalogs.columns import LOST, ROW, unknown_rows
from scripts.catalogs.positions import DatasetTable, refuse_other_galaxies
from scripts.command.errors import CommandError

BLOCK_ROWS = 131_072
"""Rows that are handed on at a time, and of a row group of the Parquet file."""

FROM_PREDICTIONS = {
    "object_id": "object_id",
    "z_phot": "z_phot",
    "sigma": "z_phot_err",
    "quality": "flags",
    "z_spec": "z_spec",
}
FROM_TABLE = ("source_id", "ra_deg", "dec_deg", "mag_r")
TABLE_FLAGS = (Quality.LOW_SIGNAL | Quality.HIGH_EXTINCTION).value
"""Flags that need flux errors and extinction: the table had them, a worker sees neither."""


class Galaxies(NamedTuple):
    """Consecutive galaxies of a run."""

    rows: NDArray[Any]
    """Shape (N,), dtype `columns.ROW`, or with identifiers of the source."""

    pz: NDArray[np.float32]
    """Distributions as `inference.distributions` reads them, shape (N, P); NaN where unknown, P = 0 where all are."""


def merged_blocks(folder: RunFolder, found: Inventory, table: DatasetTable | None) -> Iterator[Galaxies]:
    """Yield the galaxies of a run in dataset order.

    Yields
    ------
    Galaxies
        `BLOCK_ROWS` of them, the last block excepted.

    Raises
    ------
    RunFolderError
        If a file of predictions cannot be read.
    CommandError
        If the table is another dataset's, or ranks have different forms of p(z).
    """
    waiting: list[Galaxies] = []
    num_waiting = 0
    for piece in _pieces(folder, found, table):
        waiting.append(piece)
        num_waiting += len(piece.rows)
        if num_waiting >= BLOCK_ROWS:
            rows, pz = _joined(waiting)
            yield Galaxies(rows[:BLOCK_ROWS], pz[:BLOCK_ROWS])
            waiting, num_waiting = [Galaxies(rows[BLOCK_ROWS:], pz[BLOCK_ROWS:])], num_waiting - BLOCK_ROWS
    if num_waiting:
        yield _joined(waiting)


def _joined(pieces: Sequence[Galaxies]) -> Galaxies:
    widths = {piece.pz.shape[1] for piece in pieces} - {0}
    if len(widths) > 1:
        raise CommandError("Ranks of this run gave p(z) in different forms: the deployment changed under the run.")
    pz = np.full((sum(len(piece.pz) for piece in pieces), *(widths or {0})), np.nan, np.float32)
    start = 0
    for piece in pieces:
        if piece.pz.shape[1]:
            pz[start : start + len(piece.pz)] = piece.pz
        start += len(piece.pz)
    return Galaxies(np.concatenate([piece.rows for piece in pieces]), pz)


def _pieces(folder: RunFolder, found: Inventory, table: DatasetTable | None) -> Iterator[Galaxies]:
    """Yield the rows of rank after rank, at most `BLOCK_ROWS` at a time."""
    first_row = 0
    for task in found.tasks:
        predictions = None if task.rank in found.lost else folder.predictions(task)
        for start in range(0, task.num_samples, BLOCK_ROWS):
            part = slice(start, min(start + BLOCK_ROWS, task.num_samples))
            rows = unknown_rows(part.stop - start, table.row if table else ROW)
            pz = None if predictions is None or predictions.pz is None else predictions.pz[part]
            stated = table.take(len(rows)) if table else {}
            if predictions is None:
                _fill_lost(rows, stated)
            else:
                _fill_predicted(rows, predictions, part)
            if pz is not None:
                fill_summary(rows, pz)
            if table and predictions is not None:
                refuse_other_galaxies(table, rows["object_id"], stated["object_id"], first_row + start)
            for name in FROM_TABLE:
                if name in stated:
                    rows[name] = stated[name]
            if "quality" in stated:
                rows["flags"] |= stated["quality"].astype(np.uint8) & np.uint8(TABLE_FLAGS)
            yield Galaxies(rows, np.empty((len(rows), 0), np.float32) if pz is None else pz)
        first_row += task.num_samples


def _fill_predicted(rows: NDArray[Any], predictions: Predictions, part: slice) -> None:
    for name, column in FROM_PREDICTIONS.items():
        rows[column] = getattr(predictions, name)[part]


def fill_summary(rows: NDArray[Any], pz: NDArray[np.float32]) -> None:
    """Fill in the columns that describe p(z)."""
    for column, values in summary(pz).items():
        rows[column] = values


def _fill_lost(rows: NDArray[Any], stated: dict[str, NDArray[Any]]) -> None:
    """Keep what is known of galaxies without a prediction."""
    for name in ("object_id", "z_spec"):
        if name in stated:
            rows[name] = stated[name]
    rows["flags"] = stated.get("quality", np.zeros(1, dtype=np.uint8)).astype(np.uint8) | np.uint8(LOST)
