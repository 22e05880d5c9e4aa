"""A catalog as Parquet: one row group per block, metadata for astropy, for VOParquet readers and in plain text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scripts.catalogs.columns import ROW, Column, columns_of
from scripts.catalogs.provenance import Card, as_text
from scripts.catalogs.template import astropy_yaml, votable_xml


def schema(provenance: Mapping[str, Card], row: np.dtype[Any] = ROW) -> pa.Schema:
    """Return the columns with unit, UCD and description, and what the whole file says about itself."""
    metadata = {
        **as_text(provenance),
        # How astropy knows the length of a text.
        **{f"table::len::{name}": str(row[name].itemsize) for name in row.names or () if row[name].kind == "S"},
        "table_meta_yaml": astropy_yaml(provenance, row),
        "IVOA.VOTable-Parquet.version": "1.0",
        "IVOA.VOTable-Parquet.content": votable_xml(provenance, row),
    }
    return pa.schema([_field(column) for column in columns_of(row)], metadata=metadata)


class ParquetWriter:
    """Writes rows to a Parquet file."""

    def __init__(self, path: Path, provenance: Mapping[str, Card], row: np.dtype[Any] = ROW) -> None:
        self._schema = schema(provenance, row)
        # Floats of a measurement hardly repeat: a dictionary would only cost time.
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=["flags"])

    def write(self, rows: NDArray[Any]) -> None:
        """Append rows as one row group: shape (N,)."""
        arrays = [_array(rows[name]) for name in self._schema.names]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


def row_of(batch: pa.RecordBatch, row: np.dtype[Any] = ROW) -> NDArray[Any]:
    """Return rows as they were written: shape (N,), NaN for null."""
    rows = np.empty(batch.num_rows, dtype=row)
    for name in row.names or ():
        values = batch.column(name).to_numpy(zero_copy_only=False)
        rows[name] = values.astype(row[name]) if values.dtype.kind == "O" else values
    return rows


def _field(column: Column) -> pa.Field:
    kind = pa.string() if column.dtype == "S" else pa.from_numpy_dtype(np.dtype(column.dtype))
    is_float = column.dtype.startswith("f")
    described = {"description": column.description, "ucd": column.ucd, "unit": column.unit or ""}
    return pa.field(column.name, kind, nullable=is_float, metadata=described)


def _array(values: NDArray[Any]) -> pa.Array:
    if values.dtype.kind == "S":
        return pa.array(np.char.decode(values, "ascii").tolist(), pa.string())
    values = np.ascontiguousarray(values)
    return pa.array(values, mask=np.isnan(values)) if values.dtype.kind == "f" else pa.array(values)
