"""The table of a dataset: one cleaned row per galaxy, next to the shards, as Parquet and CSV."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from inference.block import SDSS
from inference.cleaning import missing_bands
from inference.contract import TABLE_CSV_KEY, TABLE_KEY
from inference.quality import Quality
from scripts.command.whole_file import written_whole
from scripts.data.galaxies import Facts
from scripts.data.split_column import names_of


def schema(bands: tuple[str, ...] = SDSS.bands, text_columns: tuple[str, ...] = ()) -> pa.Schema:
    """Return the columns of the table of galaxies in these bands, perhaps with the part that each belongs to."""
    magnitudes = [f"mag_{band}" for band in bands]
    units = {"ra_deg": "deg", "dec_deg": "deg", **dict.fromkeys(magnitudes, "mag")}
    return pa.schema(
        [
            pa.field("object_id", pa.int64(), nullable=False),
            *(pa.field(name, pa.float64(), metadata={"unit": unit}) for name, unit in units.items()),
            pa.field("quality", pa.uint8(), nullable=False),
            pa.field("z_spec", pa.float64()),
            *(pa.field(name, pa.string()) for name in text_columns),
        ],
        metadata={
            "rows": "one per galaxy, in the order of the shards; one row group per shard",
            "magnitudes": "AB, corrected for Galactic extinction as dataset.json says; imputed where quality says so, "
            "null where rejected",
            "quality": ", ".join(f"{flag.name}={flag.value}" for flag in Quality),
        },
    )


def make_table(
    object_id: NDArray[np.int64],
    facts: Facts,
    magnitudes: NDArray[np.float64],
    quality: NDArray[np.uint8],
    redshifts: NDArray[np.float64],
    bands: tuple[str, ...] = SDSS.bands,
) -> pa.Table:
    """Put N galaxies in rows.

    Parameters
    ----------
    object_id : array, shape (N,), int64
    facts : Facts
    magnitudes : array, shape (N, B), float64
        Dereddened, as cleaned or, in rejected rows, as measured; what is not a measurement becomes null [mag].
    quality : array, shape (N,), uint8
        All flags.
    redshifts : array, shape (N,), float64
        Spectroscopic; NaN becomes null.
    bands : tuple of str
        Names of the bands.
    """
    kind = schema(bands, facts.text_columns)
    light = np.where(missing_bands(magnitudes), np.nan, magnitudes).T
    columns: list[NDArray[Any]] = [object_id, facts.ra_deg, facts.dec_deg, *light, quality, redshifts]
    if facts.split is not None:
        columns.append(np.array(names_of(facts.split), dtype=object))
    if facts.source_id is not None:
        columns.append(np.array([name or None for name in facts.source_id.tolist()], dtype=object))
    arrays = [
        pa.array(column, type=field.type, from_pandas=field.nullable)
        for column, field in zip(columns, kind, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=kind)


@contextmanager
def table_files(
    folder: Path, bands: tuple[str, ...] = SDSS.bands, text_columns: tuple[str, ...] = ()
) -> Iterator[Callable[[pa.Table], None]]:
    """Yield what appends the rows of a shard to both files of the table, as one row group.

    The files appear under their names when the block ends.
    """
    kind = schema(bands, text_columns)
    options = pyarrow.csv.WriteOptions(quoting_style="needed")
    with (
        written_whole(folder / TABLE_KEY) as parquet_path,
        written_whole(folder / TABLE_CSV_KEY) as csv_path,
        pyarrow.parquet.ParquetWriter(parquet_path, kind) as parquet,
        pyarrow.csv.CSVWriter(csv_path, kind, write_options=options) as csv,
    ):

        def add(table: pa.Table) -> None:
            parquet.write_table(table, row_group_size=max(len(table), 1))
            csv.write_table(table)

        yield add
