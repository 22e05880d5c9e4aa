"""The tables of a sweep on disk: Parquet and CSV with the same columns, each written whole or not at all."""

import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import csv, parquet

from scripts.command.errors import CommandError
from scripts.command.whole_file import written_whole
from scripts.sweeps.rows import RankRow, RunRow, plain

RUNS, RANKS = "runs", "ranks"
"""Names of the two tables, without their suffix."""

SUFFIXES = (".parquet", ".csv")
ARROW_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
AnyRow = TypeVar("AnyRow", RunRow, RankRow)


class TableError(CommandError):
    """A table cannot be read; the message names the file, what is wrong, and what to do. Exit status 1."""


def write_tables(folder: Path, runs: Sequence[RunRow], ranks: Sequence[RankRow]) -> None:
    """Write both tables of a sweep, Parquet and CSV, into its folder."""
    write_table(folder / RUNS, runs, RunRow)
    write_table(folder / RANKS, ranks, RankRow)


def read_runs(folder: Path) -> list[RunRow]:
    """Return the rows of ``runs.parquet``, or of ``runs.csv`` where there is only that.

    Raises
    ------
    TableError
        If there is none, or it is cut or of another version.
    """
    return read_table(folder / RUNS, RunRow)


def write_table(path: Path, rows: Sequence[AnyRow], kind: type[AnyRow]) -> None:
    """Write rows to ``path.parquet`` and ``path.csv``.

    Parameters
    ----------
    path : Path
        The table, without a suffix.
    rows : sequence
        What it holds.
    kind : type
        Class of the rows: an empty table has columns too.
    """
    schema = arrow_schema(kind)
    table = pa.table({name: [getattr(row, name) for row in rows] for name in schema.names}, schema=schema)
    with written_whole(path.with_suffix(".parquet")) as partial:
        parquet.write_table(table, partial)
    with written_whole(path.with_suffix(".csv")) as partial:
        csv.write_csv(_quoted(table), partial)


def read_table(path: Path, kind: type[AnyRow]) -> list[AnyRow]:
    """Read what `write_table` wrote.

    Raises
    ------
    TableError
        As `read_runs`.
    """
    found = next((path.with_suffix(suffix) for suffix in SUFFIXES if path.with_suffix(suffix).exists()), None)
    if found is None:
        raise TableError(f"{path.parent} holds no {path.name}.parquet and no {path.name}.csv: not a sweep's folder.")
    try:
        table = _read_csv(found, kind) if found.suffix == ".csv" else parquet.read_table(found)
        return msgspec.convert(table.to_pylist(), list[kind])  # type: ignore[valid-type]
    except (pa.ArrowException, OSError, msgspec.ValidationError) as error:
        why = " ".join(str(error).split())
        again = f" `make sweep NAME={path.parent.name}` writes it again from its journal."
        raise TableError(f"{found} cannot be read as a table of {path.name} ({why[:160]}).{again}") from error


def arrow_schema(kind: type[AnyRow]) -> pa.Schema:
    """Return the columns of a row class, its own before those of the contract: name, type, may a cell be empty."""
    hints = typing.get_type_hints(kind)
    names = dict.fromkeys((*kind.__annotations__, *(field.name for field in msgspec.structs.fields(kind))))
    return pa.schema([_column(name, hints[name]) for name in names])


def _column(name: str, hint: Any) -> pa.Field:
    kind = str if typing.get_origin(hint) is typing.Literal else plain(hint)
    return pa.field(name, ARROW_TYPES[kind], nullable=isinstance(hint, types.UnionType))


def _read_csv(path: Path, kind: type[AnyRow]) -> pa.Table:
    schema = arrow_schema(kind)
    # An empty text is text; an empty number is not a number.
    options = csv.ConvertOptions(column_types=schema, strings_can_be_null=False)
    return _quoted(csv.read_csv(path, convert_options=options), undo=True)


def _quoted(table: pa.Table, *, undo: bool = False) -> pa.Table:
    """Put an apostrophe before texts that a spreadsheet would take for formulas; or take it away."""
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            pattern, quoted = (r"^'('*[=+\-@\t\r])", r"\1") if undo else (r"^('*[=+\-@\t\r])", r"'\1")
            column = pc.replace_substring_regex(table.column(index), pattern, quoted)
            table = table.set_column(index, field, column)
    return table
