"""A user's table, CSV, Parquet or FITS, as blocks of columns: memory does not grow with the file."""

import codecs
import re
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
from astropy.table.meta import get_header_from_yaml
from numpy.typing import NDArray

from scripts.command.errors import SourceError

BATCH_ROWS = 65_536
CSV_BLOCK_BYTES = 2**20
"""pyarrow decodes some 30 blocks ahead of its reader: larger ones take hundreds of megabytes."""
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".parquet", ".fits", ".fits.gz", ".fit")

Batch = Mapping[str, NDArray[Any]]
"""Column name to values, shape (N,) or (N, 5)."""

DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")


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

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about how it is read."""
        return ()

    @abstractmethod
    def batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        """Yield the columns named, block by block in order.

        Parameters
        ----------
        kinds : mapping
            Column to ``number``, ``whole``, ``text``, or ``angle``, which is text where it is not a number.
        """


def open_table(path: Path) -> TableFile:
    """Open a table by the ending of its name.

    Raises
    ------
    SourceError
        If it is not a table, empty, or of another kind.
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
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: the names of its columns are not UTF-8 text. Save it as UTF-8.") from error
    except (pa.ArrowException, OSError, TypeError) as error:
        raise SourceError(f"{path} cannot be read as its ending says: {first_line(error)}") from error
    raise SourceError(f"{path} is none of {', '.join(SUFFIXES)}.")


@dataclass(frozen=True)
class CsvTable(TableFile):
    """Values between commas, semicolons or tabs below one line of names; lines before it may begin with #."""

    delimiter: str
    num_comments: int
    first_row: Sequence[str]

    @classmethod
    def open(cls, path: Path) -> "CsvTable":
        """Read the names and, in a file of astropy (ECSV), the units."""
        with pa.input_stream(path, compression="detect") as stream:
            lines = stream.read(2**20).removeprefix(codecs.BOM_UTF8).splitlines()
        comments = list(takewhile(lambda line: line.startswith(b"#"), lines))
        if len(comments) == len(lines):
            raise SourceError(f"{path} holds no line of column names.")
        head = lines[len(comments)].decode()
        first_row = b"".join(lines[len(comments) + 1 :][:1]).decode(errors="replace")
        delimiter = max(",;\t", key=head.count)
        names = [name.strip().strip('"') for name in head.split(delimiter)]
        if all(_is_number(name) for name in names):
            raise SourceError(f"{path} begins with numbers, not with the names of its columns: {head[:60]}")
        is_ecsv = bool(comments) and comments[0].startswith(b"# %ECSV")
        units = _astropy_units([line.decode()[2:] for line in comments[1:]]) if is_ecsv else {}
        return cls(path, names, units, delimiter, len(comments), first_row.split(delimiter))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about how it is read."""
        return ("numbers read with decimal commas",) if self._has_decimal_commas else ()

    @property
    def _has_decimal_commas(self) -> bool:
        return self.delimiter != "," and any(DECIMAL_COMMA.fullmatch(field.strip()) for field in self.first_row)

    def batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        """Yield the columns named, block by block in order."""
        types = {"number": pa.float64(), "whole": pa.int64(), "text": pa.string(), "angle": pa.float64()}
        # Text is read as such only where it must be: numbers take a tenth of the time.
        if any(":" in field for field in self.first_row):
            types["angle"] = pa.string()
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
                    decimal_point="," if self._has_decimal_commas else ".",
                ),
            ) as reader:
                for batch in reader:
                    yield _from_arrow(batch, kinds, self.name)
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            hint = " Save it as UTF-8." if "UTF8" in str(error) else ""
            raise SourceError(f"{self.path}: {first_line(error)}{hint}") from error


@dataclass(frozen=True)
class ParquetTable(TableFile):
    """A Parquet file; a column's unit is its metadata entry `unit`, or in the table's description by astropy."""

    @classmethod
    def open(cls, path: Path) -> "ParquetTable":
        """Read the schema."""
        schema = pyarrow.parquet.read_schema(path)
        units = _astropy_units((schema.metadata or {}).get(b"table_meta_yaml", b"").decode().splitlines())
        units |= {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in schema if field.metadata}
        return cls(path, list(schema.names), {name: unit for name, unit in units.items() if unit})

    def batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        """Yield the columns named, block by block in order."""
        with pyarrow.parquet.ParquetFile(self.path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(kinds)):
                yield _from_arrow(batch, kinds, self.name)


@dataclass(frozen=True)
class FitsTable(TableFile):
    """The first table of a FITS file with more than one column: FITS_LDAC begins with one that holds a header."""

    index: int
    missing: Mapping[str, int]
    """Column of whole numbers to the number that stands for none (TNULL)."""

    @classmethod
    def open(cls, path: Path) -> "FitsTable":
        """Find the table and read its columns."""
        with fits.open(path) as file:
            tables = [index for index, part in enumerate(file) if isinstance(part, fits.BinTableHDU | fits.TableHDU)]
            if not tables:
                raise SourceError(f"{path} holds no table; it has {len(file)} parts of other kinds.")
            index = next((index for index in tables if len(file[index].columns) > 1), tables[0])
            columns = file[index].columns
            units = {column.name: column.unit for column in columns if column.unit}
            missing = {column.name: column.null + (column.bzero or 0) for column in columns if column.null is not None}
            return cls(path, list(columns.names), units, index, missing)

    def batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        """Yield the columns named, block by block in order."""
        with fits.open(self.path, memmap=not self.path.name.endswith(".gz")) as file:
            data = file[self.index].data
            for start in range(0, len(data), BATCH_ROWS):
                part = data[start : start + BATCH_ROWS]
                yield {name: self._column(np.asarray(part[name]), kind, name) for name, kind in kinds.items()}

    def _column(self, values: NDArray[Any], kind: str, name: str) -> NDArray[Any]:
        if name in self.missing:
            is_missing = values == self.missing[name]
            if kind == "whole":
                _refuse_missing(int(is_missing.sum()), name, self.name)
            values = np.where(is_missing, np.nan, values) if kind == "number" else values
        return _as_kind(values, kind, name, self.name)


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
            if kind == "whole":
                _refuse_missing(column.null_count, name, source)
            arrays[name] = _as_kind(column.to_numpy(zero_copy_only=False), kind, name, source)
    return arrays


def _refuse_missing(num: int, name: str, source: str) -> None:
    if num:
        raise SourceError(
            f"{source}: {name} has {num} rows without a value; identifiers need one. "
            'FIELDS="object_id=" numbers the rows instead.'
        )


def _astropy_units(lines: list[str]) -> dict[str, str]:
    """Read the units in astropy's description of a table, as in ECSV and its Parquet files."""
    if not lines:
        return {}
    columns = get_header_from_yaml(lines)["datatype"]
    return {column["name"]: str(column["unit"]) for column in columns if column.get("unit")}


def _as_kind(values: NDArray[Any], kind: str, name: str, source: str) -> NDArray[Any]:
    """Bring a column to float64, int64 or str in native byte order."""
    if kind == "text" or (kind == "angle" and values.dtype.kind in "OSU"):
        text = ["" if value is None else str(value).strip() for value in values.tolist()]
        if kind == "text" or any(":" in value for value in text):
            return np.array(text)
    try:
        if kind in ("number", "angle"):
            return values.astype(np.float64)
        if values.dtype.kind == "f" and not np.all((np.abs(values) < 2**53) & (values == np.round(values))):
            raise ValueError("its values were rounded to floating point")
        return values.astype(np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        kinds = {"number": "numbers", "angle": "angles", "whole": "whole numbers"}
        raise SourceError(f"{source}: {name} does not hold {kinds[kind]} ({first_line(error)}).") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def first_line(error: Exception) -> str:
    """Return what an error says, or its name, on one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
