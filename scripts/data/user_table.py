"""A user's table of any format, told by its first bytes."""

import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
from astropy.io import fits
from astropy.io.ascii import InconsistentTableError
from astropy.table import Table
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from inference.plan import natural_order
from scripts.command.errors import SourceError
from scripts.data.compressed import compression_of, open_bytes, read_head
from scripts.data.numpy_file import NPY, arrays_in, has_cutouts, open_npy, open_npz
from scripts.data.table_file import BATCH_ROWS, ArrayTable, Batch, NotWholeError, TableFile, astropy_units, first_line
from scripts.data.text_table import MARKS, RULE, TextTable

FITS_ENDINGS = (".fits", ".fit", ".fts")
ENDINGS = (
    *(".csv", ".tsv", ".tab", ".txt", ".dat", ".cat", ".asc", ".ecsv", ".tbl", ".mrt"),
    *(
        ".parquet",
        ".parq",
        ".pq",
        ".feather",
        ".arrow",
        *FITS_ENDINGS,
        ".hdf5",
        ".h5",
        ".hdf",
        ".vot",
        ".votable",
        ".xml",
    ),
)
"""Of tables; in a folder of cutouts they tell which file is one."""
TENSOR_ENDINGS = (".pt", ".pth")
COMPRESSED = ("", ".gz", ".bz2", ".xz", ".zst", ".zip")
SUFFIXES = tuple(ending + compressed for ending in ENDINGS for compressed in COMPRESSED)

FORMATS = (
    "CSV or other text, Parquet, Feather, FITS, HDF5, .npz and .npy, VOTable, IPAC, MRT; compressed by gzip, bzip2, "
    "xz, zstd, zip"
)


def open_table(path: Path) -> TableFile:
    """Open a table by what it holds; a folder, as the parts of one table in Parquet.

    Raises
    ------
    SourceError
        If it is not a table, empty, or of another kind.
    """
    if path.is_dir():
        return _opened(path, ParquetTable.open)
    if path.exists() and not path.is_file():
        raise SourceError(f"{path} is a pipe or a device, which cannot be read twice: save the table as a file first.")
    if not path.is_file():
        raise SourceError(f"{path} does not exist.")
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty: a table has a line of column names and rows.")
    if arrays_in(path):
        return _opened(path, open_npz)
    head = read_head(path)
    if not head:
        raise SourceError(f"{path} is cut off or damaged: nothing of it can be unpacked.")
    start = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    if compression_of(path) and start.startswith((b"PAR1", b"ARROW1", b"FEA1")):
        raise SourceError(f"{path} is compressed as a whole: unpack it first.")
    for read, marks in READERS.items():
        if start.startswith(marks):
            return _opened(path, read)
    if b"<VOTABLE" in head[:4096]:
        return _opened(path, _open_votable)
    if start[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise SourceError(f"{path} is a page of the web, not a table: the download answered with a message or a form.")
    if start.startswith(b"<"):
        raise SourceError(f"{path} is XML, but no VOTable.")
    if re.match(rb"\{|\[\s*[\[{\"\d-]", start):
        raise SourceError(f"{path} is JSON, which is no table; it may be any of {FORMATS}.")
    if b"\0" in head[:1024] and not head.startswith(tuple(mark for marks in MARKS.values() for mark in marks)):
        raise SourceError(f"{path} is no table that can be read: it is none of {FORMATS}.")
    if path.name.lower().endswith((".parquet", ".hdf5", ".h5", ".npy", ".npz", *FITS_ENDINGS)):
        raise SourceError(f"{path} cannot be read as its ending says: it begins as another kind of file.")
    if path.name == README and (tables := described_by(path)):
        raise SourceError(f"{path} describes tables: name one of them, as in SOURCE={tables[0]}.")
    if readme := readme_of(path):
        return _opened(path, _open_cds(readme))
    return _opened(path, TextTable.open)


README = "ReadMe"
"""What the CDS calls the file that describes the columns of the others in a folder."""
_DESCRIBED = re.compile(r"^Byte-by-byte Description of file(?: ?\([^)]*\))?:(.*)$", re.MULTILINE)


def readme_of(path: Path) -> Path | None:
    """Return the description of a table's columns next to it, as the CDS writes it; None where there is none."""
    readme = path.parent / README
    return readme if path in described_by(readme) else None


def described_by(readme: Path) -> list[Path]:
    """Return the files that a description of the CDS is about, those that are there."""
    if not readme.is_file():
        return []
    names = re.split(r"[\s,]+", " ".join(_DESCRIBED.findall(readme.read_text("utf-8", errors="replace"))))
    return [path for name in dict.fromkeys(names) if name and (path := readme.parent / name).is_file()]


def is_table(path: Path) -> bool:
    """Return whether a path is read as a table without images: no published file, and no folder of other things."""
    if path.is_dir():
        if described_by(path / README):
            return True
        images = (*FITS_ENDINGS, ".fits.gz", ".fits.fz")
        below = (child for pattern in ("*", "*/*") for child in path.glob(pattern))
        return bool(parts_of(path)) and not any(child.name.lower().endswith(images) for child in below)
    return path.is_file() and path.suffix.lower() not in TENSOR_ENDINGS and not has_cutouts(path)


def parts_of(folder: Path) -> list[Path]:
    """Return the files of a table in several of Parquet, as Spark and HATS leave them."""
    parts = [path for path in folder.rglob("*.parquet") if not path.name.startswith(("_", "."))]
    return sorted(parts, key=lambda path: natural_order(path.relative_to(folder).as_posix()))


def _opened(path: Path, read: Callable[[Path], TableFile]) -> TableFile:
    try:
        return read(path)
    except (pa.ArrowException, OSError, TypeError, ValueError, KeyError, IndexError, InconsistentTableError) as error:
        raise SourceError(f"{path} cannot be read: {first_line(error)}") from error


@dataclass(frozen=True)
class ParquetTable(TableFile):
    """Files of Parquet; a column's unit is its metadata entry `unit`, or in the table's description by astropy."""

    parts: tuple[Path, ...]

    @classmethod
    def open(cls, path: Path) -> "ParquetTable":
        """Read the schema."""
        parts = parts_of(path) if path.is_dir() else [path]
        schema = pyarrow.parquet.read_schema(parts[0])
        for part in parts[1:]:
            if (other := pyarrow.parquet.read_schema(part)).names != schema.names:
                differing = set(other.names) ^ set(schema.names)
                raise SourceError(
                    f"{part} has other columns than {parts[0].name}: {', '.join(sorted(differing)) or 'their order'}."
                )
        units = astropy_units((schema.metadata or {}).get(b"table_meta_yaml", b"").decode().splitlines())
        names, of_fields = _leaves(schema)
        return cls(path, names, units | of_fields, tuple(parts))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about how it is read."""
        return (f"{len(self.parts)} files of {self.name}/ read as one table",) if self.path.is_dir() else ()

    @property
    def about_rows(self) -> int:
        """Number of rows."""
        return sum(pyarrow.parquet.read_metadata(part).num_rows for part in self.parts)

    def _batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        for part in self.parts:
            with pyarrow.parquet.ParquetFile(part) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=list(kinds)):
                    yield self._from_arrow(_flat_batch(batch), kinds)


@dataclass(frozen=True)
class FeatherTable(TableFile):
    """A file of Arrow, also known as Feather."""

    table: Any

    @classmethod
    def open(cls, path: Path) -> "FeatherTable":
        """Map it into memory."""
        table = pyarrow.feather.read_table(path, memory_map=not compression_of(path))
        table = _flat(table)
        names, units = _leaves(table.schema)
        return cls(path, names, units, table)

    @property
    def about_rows(self) -> int:
        """Number of rows."""
        return len(self.table)

    def _batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        for batch in self.table.select(list(kinds)).to_batches(max_chunksize=BATCH_ROWS):
            yield self._from_arrow(batch, kinds)


def _leaves(fields: Iterable[Any], outer: str = "") -> tuple[list[str], dict[str, str]]:
    """Return the columns of an Arrow schema and their units; those in a struct ``a`` are ``a.b``."""
    names: list[str] = []
    units: dict[str, str] = {}
    for field in fields:
        name = f"{outer}{field.name}"
        inner, of_inner = _leaves(field.type, f"{name}.") if pa.types.is_struct(field.type) else ([name], {})
        names += inner
        units |= of_inner
        if unit := (field.metadata or {}).get(b"unit"):
            units[name] = unit.decode()
    return names, units


def _flat(table: Any) -> Any:
    """Return a table of Arrow with the columns of its structs on their own, ``a.b``."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def _flat_batch(batch: Any) -> Any:
    table = _flat(pa.Table.from_batches([batch]))
    return pa.record_batch([column.chunk(0) for column in table.columns], names=table.column_names)


@dataclass(frozen=True)
class FitsTable(TableFile):
    """The table of a FITS file with the most columns: others hold headers, as in FITS_LDAC, or log what was done."""

    index: int
    missing: Mapping[str, int]
    """Column of whole numbers to the number that stands for none (TNULL)."""
    about_rows: int = 0
    """Number of rows."""
    which: str = ""
    """Which of several tables it is."""

    @classmethod
    def open(cls, path: Path) -> "FitsTable":
        """Find the table and read its columns."""
        with _open_fits(path) as file:
            tables = [index for index, part in enumerate(file) if isinstance(part, fits.BinTableHDU | fits.TableHDU)]
            if not tables:
                raise SourceError(f"{path} holds no table; it has {len(file)} parts of other kinds.")
            index = max(tables, key=lambda index: len(file[index].columns))
            which = f"table {tables.index(index) + 1} of {len(tables)}, {file[index].name or 'without a name'}"
            if file[index].header.get("ZTABLE"):
                raise SourceError(f"{path} holds a table compressed in tiles: `funpack` unpacks it.")
            columns = file[index].columns
            units = {column.name: column.unit for column in columns if column.unit}
            missing = {column.name: column.null + (column.bzero or 0) for column in columns if column.null is not None}
            num_rows = file[index].header["NAXIS2"]
            return cls(path, list(columns.names), units, index, missing, num_rows, which if len(tables) > 1 else "")

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about how it is read."""
        return (self.which,) if self.which else ()

    def _batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        with _open_fits(self.path) as file:
            data = file[self.index].data
            for start in range(0, len(data), BATCH_ROWS):
                part = data[start : start + BATCH_ROWS]
                yield {name: self._column(np.asarray(part[name]), kind, name) for name, kind in kinds.items()}

    def _column(self, values: NDArray[Any], kind: str, name: str) -> NDArray[Any]:
        if name in self.missing and (is_missing := values == self.missing[name]).any():
            if kind == "whole":
                raise NotWholeError("an empty one")
            if kind == "text":
                values = values.astype(object)  # as floating point it would be rounded
                values[is_missing] = None
            else:
                values = np.where(is_missing, np.nan, values)
        return self._as_kind(values, kind, name)


@contextmanager
def _open_fits(path: Path) -> Iterator[Any]:
    """Open a file, or what is in it; what astropy warns of is an error where it matters."""
    content: Any = path
    if compression_of(path) not in ("", "gzip"):
        with open_bytes(path) as file:
            content = io.BytesIO(file.read())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        with fits.open(content, memmap=not compression_of(path)) as found:
            yield found


def _open_astropy(format_name: str) -> Callable[[Path], TableFile]:
    def read(path: Path) -> TableFile:
        with warnings.catch_warnings(), open_bytes(path) as file:
            warnings.simplefilter("ignore", AstropyWarning)
            table = Table.read(file.read().decode(errors="replace"), format=format_name)
        return _of_astropy(path, table)

    return read


def _open_bars(path: Path) -> TableFile:
    """Open columns between bars: of IPAC, or with a bar at the beginning of every line, as Markdown and MySQL have."""
    try:
        return _open_astropy("ascii.ipac")(path)
    except (InconsistentTableError, ValueError):
        with open_bytes(path) as file:
            lines = file.read().decode(errors="replace").splitlines()
        rows = [line.strip() for line in lines if line.lstrip().startswith("|")]
        cells = [row.strip("|") for row in rows if not RULE.fullmatch(row.replace(":", "-"))]
        return _of_astropy(path, Table.read(cells, format="ascii.basic", delimiter="|"))


def _open_cds(readme: Path) -> Callable[[Path], TableFile]:
    def read(path: Path) -> TableFile:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            table = Table.read(str(path), format="ascii.cds", readme=str(readme))
        return replace(_of_astropy(path, table), how=(f"columns as {readme.name} describes them",))

    return read


def _open_votable(path: Path) -> TableFile:
    from astropy.io import votable

    with warnings.catch_warnings(), open_bytes(path) as file:
        warnings.simplefilter("ignore", AstropyWarning)
        document = votable.parse(io.BytesIO(file.read()))
        found = next((table for table in document.iter_tables() if len(table.fields) > 1), None)
        if found is None:
            raise SourceError(f"{path} is a VOTable without a table, as services answer that found nothing or failed.")
        return _of_astropy(path, found.to_table(use_names_over_ids=True))


def _of_astropy(path: Path, table: Table) -> ArrayTable:
    columns = {name: np.ma.asarray(table[name]) for name in table.colnames}
    return ArrayTable.of(
        path, columns, {name: str(table[name].unit) for name in table.colnames if table[name].unit is not None}
    )


def _open_hdf5(path: Path) -> TableFile:
    """Open columns as data sets of one length in a group (RAIL), one compound data set, or a frame of pandas."""
    import h5py

    with h5py.File(path if not compression_of(path) else io.BytesIO(open_bytes(path).read()), "r") as file:
        groups: list[Any] = [file]
        file.visititems(lambda _, item: groups.append(item) if isinstance(item, h5py.Group) else None)
        found: dict[str, tuple[Mapping[str, Any], dict[str, str]]] = {}
        for group in groups:
            found |= _hdf5_tables(group, path)
        if len(found) != 1:
            raise SourceError(
                f"{path} holds {len(found)} tables{': ' if found else ''}{', '.join(found)}. One is read, of "
                "columns of one length in a group or of one compound data set: save the one that is meant by itself."
            )
        arrays, units = next(iter(found.values()))
        return ArrayTable.of(path, arrays, units)


def _hdf5_tables(group: Any, path: Path) -> dict[str, tuple[Mapping[str, Any], dict[str, str]]]:
    """Return the tables that are directly in a group, by their names."""
    import h5py

    sets = {name: item for name, item in group.items() if isinstance(item, h5py.Dataset) and item.ndim}
    if "block0_values" in sets:
        return {group.name: (_pandas_blocks(sets), {})}
    tables: dict[str, tuple[Mapping[str, Any], dict[str, str]]] = {}
    for name, item in sets.items():
        if not item.dtype.names:
            continue
        if any(column.startswith("values_block") for column in item.dtype.names):
            raise SourceError(
                f"{path} holds a frame of pandas whose names are pickled, which may run code and is not read. Save it "
                f"again: pd.read_hdf({path.name!r}).to_parquet('{path.stem}.parquet')."
            )
        meta = sets.get(f"{name}.__table_column_meta__")
        lines = [line.decode() for line in meta[()].tolist()] if meta is not None else []
        tables[item.name] = (item[()], astropy_units(lines))
    columns = {
        name: item for name, item in sets.items() if not item.dtype.names and "__table_column_meta__" not in name
    }
    lengths = [len(item) for item in columns.values()]
    if len(columns) > 1 and len(set(lengths)) == 1:
        units = {name: str(item.attrs.get("unit", item.attrs.get("units", ""))) for name, item in columns.items()}
        values = {name: item[()] for name, item in columns.items()}
        tables[group.name] = (values, {name: unit for name, unit in units.items() if unit})
    return tables


def _pandas_blocks(sets: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a frame that pandas wrote, but those of objects, which are pickled."""
    arrays: dict[str, Any] = {}
    for number in range(sum(name.endswith("_values") for name in sets)):
        values = sets[f"block{number}_values"]
        if values.ndim == 2:
            names = [name.decode() for name in sets[f"block{number}_items"][()].tolist()]
            arrays |= {name: values[:, column] for column, name in enumerate(names)}
    index = sets.get("axis1")
    if index is not None and isinstance(name := index.attrs.get("name"), str | bytes):
        name = name.decode() if isinstance(name, bytes) else name
        # What is no text is pickled.
        if name.isidentifier() and arrays and len(index) == len(next(iter(arrays.values()))):
            arrays[name] = index[()]
    return arrays


READERS: dict[Callable[[Path], TableFile], tuple[bytes, ...]] = {
    ParquetTable.open: (b"PAR1",),
    FeatherTable.open: (b"ARROW1", b"FEA1"),
    open_npy: (NPY,),
    FitsTable.open: (b"SIMPLE  =",),
    _open_hdf5: (b"\x89HDF\r\n\x1a\n",),
    _open_astropy("ascii.aastex"): (b"\\begin{deluxetable",),
    _open_astropy("ascii.latex"): (b"\\begin{",),
    _open_bars: (b"\\", b"|", b"+-"),
    _open_astropy("ascii.mrt"): (b"Title:",),
    _open_astropy("ascii.rst"): (b"====",),
}
"""What opens a table, by its first bytes; what is none of them is text."""
