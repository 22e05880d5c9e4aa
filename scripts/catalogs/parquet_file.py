"""A catalog as Parquet: one row group per block, metadata for astropy, for VOParquet readers and in plain text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scripts.catalogs.columns import COLUMNS, ROW, Column
from scripts.catalogs.provenance import Card, as_text
from scripts.catalogs.template import astropy_yaml, votable_xml


def schema(provenance: Mapping[str, Card]) -> pa.Schema:
    """Return the columns with unit, UCD and description, and what the whole file says about itself."""
    metadata = {
        **as_text(provenance),
        "table_meta_yaml": astropy_yaml(provenance),
        "IVOA.VOTable-Parquet.version": "1.0",
        "IVOA.VOTable-Parquet.content": votable_xml(provenance),
    }
    return pa.schema([_field(column) for column in COLUMNS], metadata=metadata)


class ParquetWriter:
    """Writes rows to a Parquet file."""

    def __init__(self, path: Path, provenance: Mapping[str, Card]) -> None:
        self._schema = schema(provenance)
        # Floats of a measurement hardly repeat: a dictionary would only cost time.
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=["flags"])

    def write(self, rows: NDArray[Any]) -> None:
        """Append rows as one row group: shape (N,), dtype `ROW`."""
        arrays = [_array(rows[column.name]) for column in COLUMNS]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


def row_of(batch: pa.RecordBatch) -> NDArray[Any]:
    """Return rows as they were written: shape (N,), dtype `ROW`, NaN for null."""
    rows = np.empty(batch.num_rows, dtype=ROW)
    for column in COLUMNS:
        rows[column.name] = batch.column(column.name).to_numpy(zero_copy_only=False)
    return rows


def _field(column: Column) -> pa.Field:
    is_float = column.dtype.startswith("f")
    described = {"description": column.description, "ucd": column.ucd, "unit": column.unit or ""}
    return pa.field(column.name, pa.from_numpy_dtype(np.dtype(column.dtype)), nullable=is_float, metadata=described)


def _array(values: NDArray[Any]) -> pa.Array:
    values = np.ascontiguousarray(values)
    return pa.array(values, mask=np.isnan(values)) if values.dtype.kind == "f" else pa.array(values)
