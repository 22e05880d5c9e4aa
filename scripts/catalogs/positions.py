"""The dataset's own table, read in step with the predictions: positions, magnitudes, identifiers of lost rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scripts.catalogs.columns import SOURCE_ID, as_ascii, row_type
from scripts.command.errors import CommandError

TABLE_NAME = "table.parquet"
"""What `make dataset` writes into the folder of the shards: one row per galaxy, in dataset order."""

WANTED = ("object_id", "source_id", "ra_deg", "dec_deg", "mag_r", "quality", "z_spec")
BATCH_ROWS = 65_536
WHAT_NEXT = "TABLE=file.parquet names the right one, TABLE=none leaves positions out."


def is_of_dataset(path: Path) -> bool:
    """Return whether a file is a table that `make dataset` wrote."""
    try:
        names = pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError):
        return path.suffix == ".parquet"
    return {"object_id", "quality"} <= set(names)


class DatasetTable:
    """A dataset's table as a stream of rows."""

    def __init__(self, path: Path, *, num_rows: int, is_part: bool) -> None:
        """Open it.

        Parameters
        ----------
        path : Path
            Parquet file.
        num_rows : int
            Rows of the run.
        is_part : bool
            True when the run read only the first shards of the dataset: then the table may be longer.

        Raises
        ------
        CommandError
            If it is not a table with identifiers, or has another number of rows.
        """
        self.path = path
        try:
            self._file = pq.ParquetFile(path, pre_buffer=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise CommandError(f"{path} is not a readable Parquet file ({error}). Make the dataset again.") from error
        found = self._file.metadata.num_rows
        if found < num_rows or (found > num_rows and not is_part):
            raise CommandError(
                f"{path} has {found:,} rows and the run {num_rows:,}: it is another dataset's. {WHAT_NEXT}"
            )
        self.names = tuple(name for name in WANTED if name in self._file.schema_arrow.names)
        if "object_id" not in self.names:
            raise CommandError(f"{path} has no column object_id, so nothing proves whose rows these are.")
        self.row = row_type(self._source_id_bytes())
        """What a row of the catalog holds."""
        self._batches = self._read()
        self._ahead: list[dict[str, NDArray[Any]]] = []

    def take(self, num_rows: int) -> dict[str, NDArray[Any]]:
        """Return the next rows by column; NaN where a float is null."""
        parts: list[dict[str, NDArray[Any]]] = []
        missing = num_rows
        while missing:
            batch = self._ahead.pop() if self._ahead else next(self._batches)
            size = len(batch["object_id"])
            parts.append({name: values[:missing] for name, values in batch.items()})
            if size > missing:
                self._ahead.append({name: values[missing:] for name, values in batch.items()})
            missing -= min(size, missing)
        return {name: np.concatenate([part[name] for part in parts]) for name in self.names}

    def _source_id_bytes(self) -> int:
        """Return the length of the longest identifier of the source; 0 where there are none."""
        if SOURCE_ID.name not in self.names:
            return 0
        batches = self._file.iter_batches(batch_size=BATCH_ROWS, columns=[SOURCE_ID.name])
        return max((as_ascii(batch.column(0).to_pylist()).dtype.itemsize for batch in batches), default=1)

    def _read(self) -> Iterator[dict[str, NDArray[Any]]]:
        for batch in self._file.iter_batches(batch_size=BATCH_ROWS, columns=list(self.names)):
            yield {
                name: as_ascii(column.to_pylist()) if name == SOURCE_ID.name else column.to_numpy(zero_copy_only=False)
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            }


def refuse_other_galaxies(
    table: DatasetTable, known: NDArray[np.int64], stated: NDArray[np.int64], first_row: int
) -> None:
    """Raise when the table's identifiers are not those that were predicted.

    Raises
    ------
    CommandError
        Naming the first row that differs.
    """
    differing = np.flatnonzero(known != stated)
    if len(differing):
        row = int(differing[0])
        raise CommandError(
            f"{table.path} belongs to another dataset: its row {first_row + row:,} is object_id {stated[row]} and the "
            f"run predicted {known[row]}. {WHAT_NEXT}"
        )
