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

from inference.cleaning import missing_bands
from inference.contract import TABLE_CSV_KEY, TABLE_KEY
from inference.quality import Quality
from scripts.command.whole_file import written_whole
from scripts.data.galaxies import Facts

_MAGNITUDES = [f"mag_{band}" for band in "ugriz"]
_UNITS = {"ra_deg": "deg", "dec_deg": "deg", **dict.fromkeys(_MAGNITUDES, "mag")}
SCHEMA = pa.schema(
    [
        pa.field("object_id", pa.int64(), nullable=False),
        *(
            pa.field(name, pa.float64(), metadata={"unit": _UNITS.get(name, "")})
            for name in ("ra_deg", "dec_deg", *_MAGNITUDES)
        ),
        pa.field("quality", pa.uint8(), nullable=False),
        pa.field("z_spec", pa.float64()),
    ],
    metadata={
        "rows": "one per galaxy, in the order of the shards; one row group per shard",
        "magnitudes": "AB, corrected for Galactic extinction; imputed where quality says so, null where rejected",
        "quality": ", ".join(f"{flag.name}={flag.value}" for flag in Quality),
    },
)


def make_table(
    object_id: NDArray[np.int64],
    facts: Facts,
    magnitudes: NDArray[np.float64],
    quality: NDArray[np.uint8],
    redshifts: NDArray[np.float64],
) -> pa.Table:
    """Put N galaxies in rows.

    Parameters
    ----------
    object_id : array, shape (N,), int64
    facts : Facts
    magnitudes : array, shape (N, 5), float64
        Dereddened, as cleaned or, in rejected rows, as measured; what is not a measurement becomes null [mag].
    quality : array, shape (N,), uint8
        All flags.
    redshifts : array, shape (N,), float64
        Spectroscopic; NaN becomes null.
    """
    bands = np.where(missing_bands(magnitudes), np.nan, magnitudes).T
    columns: list[NDArray[Any]] = [object_id, facts.ra_deg, facts.dec_deg, *bands, quality, redshifts]
    arrays = [
        pa.array(column, type=field.type, from_pandas=field.nullable)
        for column, field in zip(columns, SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


@contextmanager
def table_files(folder: Path) -> Iterator[Callable[[pa.Table], None]]:
    """Yield what appends the rows of a shard to both files of the table, as one row group.

    The files appear under their names when the block ends.
    """
    options = pyarrow.csv.WriteOptions(quoting_style="needed")
    with (
        written_whole(folder / TABLE_KEY) as parquet_path,
        written_whole(folder / TABLE_CSV_KEY) as csv_path,
        pyarrow.parquet.ParquetWriter(parquet_path, SCHEMA) as parquet,
        pyarrow.csv.CSVWriter(csv_path, SCHEMA, write_options=options) as csv,
    ):

        def add(table: pa.Table) -> None:
            parquet.write_table(table, row_group_size=max(len(table), 1))
            csv.write_table(table)

        yield add
