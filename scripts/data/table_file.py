"""A user's table as blocks of columns, whatever its format: what every reader shares."""

import lzma
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy.table.meta import get_header_from_yaml
from numpy.typing import NDArray

from scripts.command.errors import SourceError

BATCH_ROWS = 65_536

Batch = Mapping[str, NDArray[Any]]
"""Column name to values, shape (N,) or (N, 5)."""

MISSING = ("", "null", "NULL", "None", "NA", "N/A", "nan", "NaN", "NAN", "-", "--", "---", "\\N", "INDEF", "undef")
"""Texts that stand for no value."""

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([ed][+-]?\d+)?$|^[+-]?inf(inity)?$"
"""In small letters; Fortran writes d in the place of e."""


class NotWholeError(Exception):
    """A column of identifiers holds something else than whole numbers from 0 to 2^63; the message is an example."""


@dataclass(frozen=True)
class TableFile(ABC):
    """A table that is read block by block."""

    path: Path
    columns: Sequence[str]
    """Names of all columns."""

    units: Mapping[str, str]
    """Units of the columns that state one."""

    odd_cells: Counter[tuple[str, str]] = field(default_factory=Counter, init=False, compare=False)
    """Column, and a text in it that is no number, to how many such cells were read as missing."""

    @property
    def name(self) -> str:
        """File name, for messages."""
        return self.path.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about how it is read."""
        return ()

    @property
    def about_rows(self) -> int:
        """About how many rows it has; 0 where that is not known before they are read."""
        return 0

    def batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        """Yield the columns named, block by block in order.

        Parameters
        ----------
        kinds : mapping
            Column to ``number``, ``whole``, ``text``, or ``angle``, which is text where it is not a number.

        Raises
        ------
        NotWholeError
            If a column that is read as ``whole`` is not.
        SourceError
            If the file cannot be read.
        """
        try:
            yield from self._batches(kinds)
        except (pa.ArrowException, OSError, EOFError, TypeError, ValueError, lzma.LZMAError, zlib.error) as error:
            raise SourceError(
                f"{self.path} cannot be read to its end, it may be cut off or damaged: {first_line(error)}."
            ) from error

    @abstractmethod
    def _batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]: ...

    def _as_kind(self, values: NDArray[Any], kind: str, name: str) -> NDArray[Any]:
        """Bring a column to float64, int64 or str in native byte order."""
        if kind == "text":
            return _as_text(values)
        if kind == "whole":
            return _as_whole(values, f"{self.name}: {name}")
        if values.dtype.kind not in "OSU":
            return values.astype(np.float64)
        text = pa.array(_as_text(values).tolist(), pa.string())
        if kind == "angle" and not pc.all(_is_number(text)).as_py():
            return _as_text(values)
        return self._read_numbers(text, name)

    def _read_numbers(self, text: Any, name: str) -> NDArray[np.float64]:
        """Read text; what is no number is missing and counted, unless all of it is none."""
        is_missing = pc.is_in(text, pa.array(MISSING))
        text = pc.if_else(is_missing, None, pc.utf8_lower(text))
        for word, number in (("^true$", "1"), ("^false$", "0")):
            text = pc.replace_substring_regex(text, word, number)
        is_number = pc.fill_null(_is_number(text), fill_value=False)
        is_odd = np.asarray(pc.and_not(pc.is_valid(text), is_number))
        if num_odd := int(is_odd.sum()):
            example = text[int(is_odd.argmax())].as_py()[:40]
            if not pc.any(is_number).as_py():
                raise SourceError(
                    f"{self.name}: {name} does not hold numbers, the first is {example!r}. FIELDS names another "
                    'column; with none, as in "z_spec=", it is left out.'
                )
            known = next((key for key in self.odd_cells if key[0] == name), (name, example))
            self.odd_cells[known] += num_odd
        numbers = pc.replace_substring(pc.if_else(is_number, text, None), "d", "e").cast(pa.float64())
        return np.array(numbers.to_numpy(zero_copy_only=False), np.float64)

    def _from_arrow(self, batch: Any, kinds: Mapping[str, str]) -> Batch:
        """Bring the columns of a record batch to their kinds."""
        arrays = {}
        for name, kind in kinds.items():
            column = batch.column(name)
            if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
                values = self._as_matrix(column, name)
            else:
                if kind == "whole" and column.null_count:
                    raise NotWholeError("an empty one")
                # A null makes whole numbers floats, which round them.
                as_text = kind == "text" and column.null_count and not pa.types.is_string(column.type)
                values = (column.cast(pa.string()) if as_text else column).to_numpy(zero_copy_only=False)
            arrays[name] = self._as_kind(values, kind, name)
        return arrays

    def _as_matrix(self, column: Any, name: str) -> NDArray[Any]:
        """Return lists as rows; one without values, or with another number of them than most, is NaN.

        Where no row of the batch has a list they have no columns, unless the type says how many.
        """
        lengths = np.nan_to_num(pc.list_value_length(column).to_numpy(zero_copy_only=False).astype(float))
        widths, counts = np.unique(lengths[lengths > 0].astype(int), return_counts=True)
        if not len(widths):
            return np.full((len(column), getattr(column.type, "list_size", 0)), np.nan)
        width = int(widths[counts.argmax()])
        is_there = lengths == width
        for other in widths[widths != width].tolist():
            self.odd_cells[name, f"a list of {other}"] += int(np.sum(lengths == other))
        values = np.full((len(column), width), np.nan)
        values[is_there] = column.filter(pa.array(is_there)).flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
        return values


@dataclass(frozen=True)
class ArrayTable(TableFile):
    """Columns in memory: labels of a published ``.npz``, and formats that are read whole."""

    arrays: Mapping[str, NDArray[Any]]
    """Name to values, all of one length; masked where there is none."""

    how: tuple[str, ...] = ()
    """Notes."""

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values()), ()))

    @property
    def about_rows(self) -> int:
        """Number of rows."""
        return len(self)

    @classmethod
    def of(
        cls,
        path: Path,
        arrays: Mapping[str, Any] | NDArray[Any],
        units: Mapping[str, str] | None = None,
        how: tuple[str, ...] = (),
    ) -> "ArrayTable":
        """Make a table of columns, as a mapping or a structured array."""
        names = getattr(getattr(arrays, "dtype", None), "names", None) or list(arrays)
        columns = _flattened({name: arrays[name] for name in names})
        return cls(path, list(columns), units or {}, columns, how)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about how it is read."""
        return self.how

    def _batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        for start in range(0, len(self), BATCH_ROWS):
            rows = slice(start, start + BATCH_ROWS)
            yield {
                name: self._as_kind(filled(self.arrays[name][rows], kind), kind, name) for name, kind in kinds.items()
            }


def _flattened(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of structured columns on their own: ``mag`` with a field ``u`` becomes ``mag.u``."""
    flat: dict[str, Any] = {}
    for name, values in columns.items():
        if inner := getattr(values.dtype, "names", None):
            flat |= _flattened({f"{name}.{one}": values[one] for one in inner})
        else:
            flat[name] = values
    return flat


def filled(values: Any, kind: str) -> NDArray[Any]:
    """Return values without a mask: NaN, or no text, where they are masked.

    Raises
    ------
    NotWholeError
        If an identifier is masked.
    """
    is_missing = np.ma.getmaskarray(values)
    values = np.ma.getdata(values)
    if not is_missing.any():
        return np.asarray(values)
    if kind == "whole":
        raise NotWholeError("an empty one")
    if kind == "number" and values.dtype.kind in "iufb":
        return np.where(is_missing, np.nan, values)
    values = values.astype(object)
    values[is_missing] = None
    return np.asarray(values)


def _is_number(text: Any) -> Any:
    return pc.match_substring_regex(text, NUMBER)


def _as_text(values: NDArray[Any]) -> NDArray[Any]:
    """Return every value as text without spaces around it; nothing for none."""
    if values.dtype.kind == "f":
        is_whole = np.all((values == np.round(values)) | ~np.isfinite(values))
        texts = [("" if v != v else f"{v:.0f}" if is_whole else repr(v)) for v in values.tolist()]
    else:
        texts = [
            ""
            if value is None or value != value
            else (value.decode(errors="replace") if isinstance(value, bytes) else str(value)).strip()
            for value in values.tolist()
        ]
    return np.array(texts, dtype=np.str_)


def _as_whole(values: NDArray[Any], where: str) -> NDArray[np.int64]:
    if values.dtype.kind == "f":
        if np.isnan(values).any():
            raise NotWholeError("an empty one")
        if not np.all((np.abs(values) < 2**53) & (values == np.round(values))):
            raise SourceError(
                f"{where} does not hold whole numbers (its values were rounded to floating point). "
                'FIELDS="object_id=" numbers the rows instead.'
            )
    try:
        too_large = values.dtype.kind == "u" and bool(np.any(values > np.iinfo(np.int64).max))
        whole = values.astype(np.int64)
    except (TypeError, ValueError, OverflowError):
        texts = _as_text(values).tolist()
        raise NotWholeError(next((repr(text[:40]) for text in texts if not text.isdecimal()), texts[0])) from None
    if too_large or (whole < 0).any():
        raise NotWholeError(str(values[int((values > np.iinfo(np.int64).max if too_large else whole < 0).argmax())]))
    return whole


def astropy_units(lines: list[str]) -> dict[str, str]:
    """Read the units in astropy's description of a table, as in ECSV and its Parquet files."""
    if not lines:
        return {}
    columns = get_header_from_yaml(lines)["datatype"]
    return {column["name"]: str(column["unit"]) for column in columns if column.get("unit")}


def first_line(error: Exception) -> str:
    """Return what an error says, or its name, on one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
