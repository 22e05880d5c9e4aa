"""A user's table, CSV, Parquet or FITS, as blocks of columns: memory does not grow with the file."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from astropy.io import fits
from numpy.typing import NDArray

from scripts.command.errors import SourceError

BATCH_ROWS = 65_536
CSV_BLOCK_BYTES = 2**20
"""pyarrow decodes some 30 blocks ahead of its reader: larger ones take hundreds of megabytes."""
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".parquet", ".fits", ".fits.gz", ".fit")

Batch = Mapping[str, NDArray[Any]]
"""Column name to values, shape (N,) or (N, 5)."""

_WHOLE = ("object_id",)
_TEXT = ("class", "file")


@dataclass(frozen=True)
class TableFile(ABC):
    """A table that is read block by block."""

    path: Path
    columns: Sequence[str]
    """Names of all columns."""

    units: Mapping[str, str]
    """Units of the columns that state one."""

    @property
    def name(self) -> str:
        """File name, for messages."""
        return self.path.name

    @abstractmethod
    def batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        """Yield the columns named, whose kind is ``number``, ``whole`` or ``text``, block by block in order."""


def open_table(path: Path) -> TableFile:
    """Open a table by the ending of its name.

    Raises
    ------
    SourceError
        If it is no table, empty, or of another kind.
    """
    if not path.is_file():
        raise SourceError(f"{path} does not exist.")
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty: a table has a line of column names and rows.")
    name = path.name.lower()
    try:
        if name.endswith((".csv", ".csv.gz", ".tsv")):
            return CsvTable.open(path)
        if name.endswith(".parquet"):
            return ParquetTable.open(path)
        if name.endswith((".fits", ".fits.gz", ".fit")):
            return FitsTable.open(path)
    except (pa.ArrowException, OSError, TypeError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as its ending says: {_first_line(error)}") from error
    raise SourceError(f"{path} is none of {', '.join(SUFFIXES)}.")


@dataclass(frozen=True)
class CsvTable(TableFile):
    """Values between commas, semicolons or tabs below one line of names; lines before it may begin with #."""

    delimiter: str
    num_comments: int

    @classmethod
    def open(cls, path: Path) -> "CsvTable":
        """Read the names."""
        with pa.input_stream(path, compression="detect") as stream:
            lines = stream.read(2**20).decode("utf-8-sig").splitlines()
        num_comments = len(list(takewhile(lambda line: line.startswith("#"), lines)))
        if num_comments == len(lines):
            raise SourceError(f"{path} holds no line of column names.")
        head = lines[num_comments]
        delimiter = max(",;\t", key=head.count)
        names = [name.strip().strip('"') for name in head.split(delimiter)]
        if all(_is_number(name) for name in names):
            raise SourceError(f"{path} begins with numbers, not with the names of its columns: {head[:60]}")
        return cls(path, names, {}, delimiter, num_comments)

    def batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        """Yield the columns named, block by block in order."""
        types = {"number": pa.float64(), "whole": pa.int64(), "text": pa.string()}
        try:
            with pyarrow.csv.open_csv(
                pa.input_stream(self.path, compression="detect"),
                read_options=pyarrow.csv.ReadOptions(
                    skip_rows=self.num_comments + 1,
                    column_names=list(self.columns),
                    block_size=CSV_BLOCK_BYTES,
                ),
                parse_options=pyarrow.csv.ParseOptions(delimiter=self.delimiter),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=list(kinds),
                    column_types={name: types[kind] for name, kind in kinds.items()},
                    null_values=["", "null", "NULL", "None", "NA", "N/A", "nan", "NaN", "NAN", "-", "--"],
                    strings_can_be_null=True,
                ),
            ) as reader:
                for batch in reader:
                    yield _from_arrow(batch, kinds, self.name)
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            raise SourceError(f"{self.path}: {_first_line(error)}") from error


@dataclass(frozen=True)
class ParquetTable(TableFile):
    """A Parquet file; a column's unit is its metadata entry `unit`."""

    @classmethod
    def open(cls, path: Path) -> "ParquetTable":
        """Read the schema."""
        schema = pyarrow.parquet.read_schema(path)
        units = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in schema}
        return cls(path, list(schema.names), {name: unit for name, unit in units.items() if unit})

    def batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        """Yield the columns named, block by block in order."""
        with pyarrow.parquet.ParquetFile(self.path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(kinds)):
                yield _from_arrow(batch, kinds, self.name)


@dataclass(frozen=True)
class FitsTable(TableFile):
    """The first table of a FITS file."""

    index: int

    @classmethod
    def open(cls, path: Path) -> "FitsTable":
        """Find the table and read its columns."""
        with fits.open(path) as file:
            for index, part in enumerate(file):
                if isinstance(part, fits.BinTableHDU | fits.TableHDU):
                    units = {column.name: column.unit for column in part.columns if column.unit}
                    return cls(path, list(part.columns.names), units, index)
        raise SourceError(f"{path} holds no table; it has {len(file)} parts of other kinds.")

    def batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        """Yield the columns named, block by block in order."""
        with fits.open(self.path, memmap=not self.path.name.endswith(".gz")) as file:
            data = file[self.index].data
            for start in range(0, len(data), BATCH_ROWS):
                part = data[start : start + BATCH_ROWS]
                yield {name: _as_kind(np.asarray(part[name]), kind, name, self.name) for name, kind in kinds.items()}


@dataclass(frozen=True)
class ArrayTable(TableFile):
    """A structured array, as the labels of the published ``.npz``."""

    array: NDArray[Any]

    def batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        """Yield the columns named, block by block in order."""
        for start in range(0, len(self.array), BATCH_ROWS):
            part = self.array[start : start + BATCH_ROWS]
            yield {name: _as_kind(part[name], kind, name, self.name) for name, kind in kinds.items()}


def _from_arrow(batch: Any, kinds: Mapping[str, str], source: str) -> Batch:
    arrays = {}
    for name, kind in kinds.items():
        column = batch.column(name)
        if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
            values = column.flatten().to_numpy(zero_copy_only=False)
            width = len(values) // max(len(column), 1)
            if width * len(column) != len(values):
                raise SourceError(f"{source}: the lists in {name} differ in length.")
            arrays[name] = _as_kind(values.reshape(len(column), width), kind, name, source)
        else:
            if kind == "whole" and column.null_count:
                raise SourceError(
                    f"{source}: {name} has {column.null_count} rows without a value; identifiers need one."
                )
            arrays[name] = _as_kind(column.to_numpy(zero_copy_only=False), kind, name, source)
    return arrays


def _as_kind(values: NDArray[Any], kind: str, name: str, source: str) -> NDArray[Any]:
    """Bring a column to float64, int64 or str in native byte order."""
    if kind == "text":
        return np.array(["" if value is None else str(value).strip() for value in values.tolist()])
    try:
        if kind == "number":
            return values.astype(np.float64)
        if values.dtype.kind == "f" and not np.all((np.abs(values) < 2**53) & (values == np.round(values))):
            raise ValueError("its values were rounded to floating point")
        return values.astype(np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        kinds = {"number": "numbers", "whole": "whole numbers"}
        raise SourceError(f"{source}: {name} does not hold {kinds[kind]} ({_first_line(error)}).") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
