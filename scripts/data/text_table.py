"""A table of text in constant memory: CSV of any delimiter, encoding and header, columns between white space."""

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from scripts.command.errors import SourceError
from scripts.data.compressed import HEAD_BYTES, compression_of, open_bytes, read_head
from scripts.data.table_file import MISSING, Batch, NotWholeError, TableFile, astropy_units, first_line

COMMENTS = ("#", "%", "!", "//")
"""What a line before the names begins with where it is a comment."""
MARKS = {
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
"""What text in an encoding begins with; in this order, for one mark begins as another."""
BLOCK_BYTES = 2**20
"""pyarrow decodes some 30 blocks ahead of its reader: larger ones take hundreds of megabytes."""
WHITE_SPACE = ""
"""In the place of a delimiter."""
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
RULE = re.compile(r"[-=+|,;\s]*-{2}[-=+|,;\s]*")
"""A line of dashes below the names, as VizieR and SQL print it."""
NO_ROW = re.compile(r"#|\(\d+ rows?\)$")
"""A line between or below the rows: a comment, or how many psql printed."""
_UNITS = (
    r"(?:AB )?mag(?:nitudes?)?|deg(?:rees?)?|rad(?:ians?)?|h:m:s|d:m:s|arcsec|[munµ]?Jy|n?mgy|(?:nano)?magg(?:y|ies)"
)
UNIT = re.compile(rf"{_UNITS}|dimensionless|none|unitless", re.IGNORECASE)
WITH_UNIT = re.compile(rf"(\S+)\s+[(\[]({_UNITS})[)\]]", re.IGNORECASE)
"""A name with its unit behind it, as in ``u (mag)``."""
ROW_NAME, UNNAMED = "row_name", "unnamed"
"""What columns are called that have no name."""
SEXTRACTOR = re.compile(r"#\s*(\d+)\s+(\S+)\s*.*?(?:\[(.+)\])?\s*")
"""A line of its header: number of the column, name, comment, unit."""


@dataclass(frozen=True)
class TextTable(TableFile):
    """One galaxy per line, below one line of names; lines that begin with # are comments."""

    delimiter: str
    num_skipped: int
    """Lines before the first row."""

    first_row: Sequence[str]
    encoding: str = "utf8"
    title: str = ""
    """Line above the names."""
    places: Sequence[tuple[int, int]] = ()
    """First and last-plus-one letter of every column, where blanks stand for no value between white space."""
    about_rows: int = 0
    """As many as the file's size has room for; 0 where it is compressed."""

    @classmethod
    def open(cls, path: Path) -> "TextTable":
        """Read the names and, where the file states them, the units.

        Raises
        ------
        SourceError
            If it has no names.
        """
        head = read_head(path)
        text, encoding = _decoded(head)
        lines = re.split(r"\r\n|\n|\r", text)
        if len(head) == HEAD_BYTES:
            del lines[-1:]  # a part of one
        start, stated = 0, ""
        while start < len(lines) and (not lines[start].strip() or lines[start].startswith((*COMMENTS, "sep="))):
            if lines[start].startswith("sep="):
                stated = lines[start][4:5]
            start += 1
        title = _title(lines[start : start + 3]) if not stated else ""
        start += bool(title)
        if start == len(lines):
            raise SourceError(f"{path} holds no line of column names.")
        comments, below = lines[:start], lines[start + 1 :]
        delimiter = stated or _delimiter(lines[start])
        names = [_unquoted(name) for name in _cells(lines[start], delimiter)]
        is_header = sum(map(_is_number, names)) <= len(names) / 2
        units = astropy_units([line[2:] for line in comments[1:]]) if text.startswith("# %ECSV") else {}
        num_skipped = start + 1
        if (
            is_header
            and (rule := next((i for i, line in enumerate(below[:2]) if RULE.fullmatch(line)), None)) is not None
        ):
            if rule:  # VizieR has units between the names and the dashes
                units = dict(zip(names, _cells(below[0], delimiter), strict=False))
            num_skipped += rule + 1
        elif is_header and below and _are_units(_cells(below[0], delimiter)):
            units = dict(zip(names, _cells(below[0], delimiter), strict=False))
            num_skipped += 1
        elif not is_header:
            names, units = _names_in_comments(comments, delimiter, len(names))
            num_skipped = start
        if not names:
            raise SourceError(
                f"{path} begins with numbers, not with the names of its columns: {lines[start][:60]}. Write the names, "
                "with the same delimiter, on a first line."
            )
        rows = [line for line in lines[num_skipped:] if line.strip() and not line.startswith("#")]
        names = _with_unnamed(names, rows, delimiter)
        places: list[tuple[int, int]] = []
        if delimiter == WHITE_SPACE and any(len(_cells(line, delimiter)) != len(names) for line in rows):
            places = _places([lines[start], *rows], len(names)) or _places(rows, len(names))
        first_row = _cells(next(iter(rows), ""), delimiter)
        if places:
            first_row = [rows[0][first:last].strip() for first, last in places]
        names, units = _without_units(names, {name: unit for name, unit in units.items() if unit})
        share = path.stat().st_size / len(head) if not compression_of(path) else 0
        return cls(
            path, names, units, delimiter, num_skipped, first_row, encoding, title, places, round(share * len(rows))
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about how it is read."""
        is_odd = {
            "numbers read with decimal commas": self._has_decimal_commas,
            f"the first line, {self.title[:40]!r}, read as a title": bool(self.title),
            f"text read as {self.encoding}": self.encoding == "latin-1",
            "the first column, without a name, read as names of rows, as of R": ROW_NAME in self.columns[:1],
            "columns read at fixed places, blank where there is no value": bool(self.places),
        }
        return tuple(note for note, is_so in is_odd.items() if is_so)

    @property
    def _has_decimal_commas(self) -> bool:
        return self.delimiter != "," and any(DECIMAL_COMMA.fullmatch(cell) for cell in self.first_row)

    def _batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        types = {"number": pa.float64(), "whole": pa.int64(), "text": pa.string()}
        kept = {name: types[self._kind_of(name, kind)] for name, kind in kinds.items()}
        num_done = 0
        try:
            for batch in self._read(kept):
                yield self._from_arrow(batch, kinds)
                num_done += len(batch)
            return
        except pa.ArrowInvalid as error:
            if "conversion error to int64" in str(error):
                raise NotWholeError(str(error).rpartition("invalid value ")[2]) from None
            if "conversion error to double" not in str(error):
                raise self._explained(error) from error
        # Some cell is no number: text takes ten times as long, and every cell of it is judged alone.
        as_text = {name: pa.string() if kind == pa.float64() else kind for name, kind in kept.items()}
        try:
            for batch in self._read(as_text):
                rows = batch.slice(max(num_done, 0))
                num_done -= len(batch)
                if len(rows):
                    yield self._from_arrow(self._with_points(rows), kinds)
        except pa.ArrowInvalid as error:
            raise self._explained(error) from error

    def _kind_of(self, name: str, kind: str) -> str:
        """Return how a column is read; angles as numbers unless the first is none, for text takes longer."""
        if kind != "angle":
            return kind
        position = self.columns.index(name)
        cell = self.first_row[position] if position < len(self.first_row) else ""
        return "number" if not cell or _is_number(cell.replace(",", ".")) else "text"

    def _with_points(self, batch: Any) -> Any:
        if not self._has_decimal_commas:
            return batch
        columns = [
            pa.compute.replace_substring(column, ",", ".") if pa.types.is_string(column.type) else column
            for column in batch.columns
        ]
        return pa.record_batch(columns, names=batch.schema.names)

    def _read(self, kept: Mapping[str, Any]) -> Iterator[Any]:
        try:
            with pyarrow.csv.open_csv(
                self._stream(),
                read_options=pyarrow.csv.ReadOptions(
                    skip_rows=0 if self.delimiter == WHITE_SPACE else self.num_skipped,
                    # Two columns of one name, which nothing reads, would stop it.
                    column_names=[
                        name if self.columns.index(name) == i else f"{name}\0{i}" for i, name in enumerate(self.columns)
                    ],
                    block_size=BLOCK_BYTES,
                    encoding=self.encoding if self.delimiter else "utf8",
                ),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=self.delimiter or "\t",
                    invalid_row_handler=lambda row: "skip" if NO_ROW.match(row.text) else "error",
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=list(kept),
                    column_types=dict(kept),
                    null_values=[*MISSING, " "],
                    strings_can_be_null=True,
                    decimal_point="," if self._has_decimal_commas else ".",
                ),
            ) as reader:
                yield from reader
        except pa.ArrowInvalid as error:
            if "Empty CSV" not in str(error):
                raise

    def _stream(self) -> Any:
        stream = open_bytes(self.path)
        if self.delimiter != WHITE_SPACE:
            return stream
        if self.encoding != "utf8":
            stream = pa.transcoding_input_stream(stream, self.encoding, "utf8")
        rewritten = _Rewritten(self.num_skipped, _Cut(self.path, self.places) if self.places else _with_tabs)
        return pa.TransformInputStream(stream, rewritten)

    def _explained(self, error: Exception) -> SourceError:
        said = first_line(error)
        if found := re.search(r"Expected (\d+) columns, got (\d+): (.*)", said):
            where = self._line_of(found[3])
            return SourceError(
                f"{self.path}: line {where} has {found[2]} cells, and there are {found[1]} names: {found[3][:60]!r}. "
                "Correct the line, quote a text that holds the delimiter, or give every column a name."
            )
        hint = " Save it as UTF-8." if "UTF8" in said else ""
        return SourceError(f"{self.path}: {said}{hint}")

    def _line_of(self, row: str) -> int:
        """Return the number of the first line that holds a row, from 1, which pyarrow cuts after some 100 letters."""
        beginning = row.removesuffix(" ...")
        wanted = self._spaced(beginning)
        with open_bytes(self.path) as stream:
            for number, line in enumerate(codecs.getreader(self.encoding)(stream, "replace"), start=1):
                found = self._spaced(line)
                if found == wanted or (beginning != row and found.startswith(wanted)):
                    return number
        return 0

    def _spaced(self, line: str) -> str:
        return re.sub(r"\s+", "\t", line.strip()) if self.delimiter == WHITE_SPACE else line.rstrip("\r\n")


class _Rewritten:
    """Puts one tab between cells, block by block, behind the lines before the rows."""

    def __init__(self, num_skipped: int, rewrite: Callable[[bytes], bytes]) -> None:
        self._num_skipped, self._rewrite, self._rest = num_skipped, rewrite, b""

    def __call__(self, block: Any) -> bytes:
        text = self._rest + bytes(block)
        self._rest = b""
        if len(block):
            text, _, self._rest = text.rpartition(b"\n")
        if self._num_skipped:
            lines = text.splitlines()
            skipped = min(self._num_skipped, len(lines))
            self._num_skipped -= skipped
            text = b"\n".join(lines[skipped:])
        text = self._rewrite(text)
        # An empty answer would be taken for the end of the file, and another one than empty at its end for more of it.
        return text + b"\n" if len(block) or text else b""


_IRREGULAR = (b"  ", b"\t", b'"', b"\n ", b" \n", b" \r", b"\n#")


def _with_tabs(text: bytes) -> bytes:
    """Put one tab in the place of white space, but in quotation marks, and leave out comments."""
    if not text.startswith((b" ", b"#")) and not any(mark in text for mark in _IRREGULAR):
        return text.replace(b" ", b"\t")
    return b"\n".join(
        [
            re.sub(rb'("[^"]*")|[ \t]+', lambda found: found[1] or b"\t", line.strip())
            if b'"' in line
            else b"\t".join(line.split())
            for line in text.splitlines()
            if not line.startswith(b"#")
        ]
    )


class _Cut:
    """Cuts lines at fixed places and leaves out comments."""

    def __init__(self, path: Path, places: Sequence[tuple[int, int]]) -> None:
        ends = [0, *(end for place in places for end in place)]
        self._path, self._places = path, [slice(first, last) for first, last in places]
        self._gaps = [slice(first, last) for first, last in zip(ends[::2], [*ends[1::2], None], strict=True)]

    def __call__(self, text: bytes) -> bytes:
        lines = (line for line in text.decode().splitlines() if line.strip() and not line.startswith("#"))
        return "\n".join(map(self._cut, lines)).encode()

    def _cut(self, line: str) -> str:
        if any(line[gap].strip() for gap in self._gaps):
            raise SourceError(
                f"{self._path} has a value between its columns, which are at the places of the rows above: "
                f"{line[:80]!r}. Save it with commas."
            )
        return "\t".join([line[place].strip() for place in self._places])


def _places(lines: Sequence[str], num: int) -> list[tuple[int, int]]:
    """Find the places of so many columns, between which all lines are blank; none where there are others."""
    if any("\t" in line for line in lines):
        return []
    is_used = np.zeros(max(map(len, lines)) + 1, dtype=bool)
    for line in lines:
        is_used[: len(line)] |= np.frombuffer(line.encode("utf-32-le"), "<u4") != ord(" ")
    edges = np.flatnonzero(np.diff(is_used, prepend=False)).reshape(-1, 2).tolist()
    return [(first, last) for first, last in edges] if len(edges) == num else []


def _decoded(head: bytes) -> tuple[str, str]:
    """Return the beginning of a file as text, and its encoding."""
    for encoding, marks in MARKS.items():
        if head.startswith(marks):
            return codecs.getincrementaldecoder(encoding)("replace").decode(head), encoding
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(head), "utf8"
    except UnicodeDecodeError:
        return head.decode("latin-1"), "latin-1"


def _delimiter(line: str) -> str:
    found = max(",;\t|", key=line.count)
    return found if line.count(found) else WHITE_SPACE


def _cells(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line without spaces and quotation marks around them."""
    if delimiter == WHITE_SPACE:
        return [one.strip('"') for one in re.findall(r'"[^"]*"|\S+', line)]
    return [cell.strip().strip('"') for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _without_units(names: Sequence[str], units: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return names without the units behind them, and those units too."""
    found = {name: with_unit for name in names if (with_unit := WITH_UNIT.fullmatch(name))}
    plain = [found[name][1] if name in found else name for name in names]
    if not found or len(set(plain)) < len(plain):
        return list(names), units
    return plain, {**units, **{one[1]: one[2] for one in found.values()}}


def _names_in_comments(comments: Sequence[str], delimiter: str, num: int) -> tuple[list[str], dict[str, str]]:
    """Find names of columns, and units, in the comments before the first row; none where there are none."""
    described = [found for line in comments if (found := SEXTRACTOR.fullmatch(line))]
    if described and described[0][1] == "1":
        names = [""] * num
        for found in described:
            first = int(found[1])
            for number in range(first, num + 1):  # a column of several values is named once
                names[number - 1] = found[2] + (f"_{number - first}" if number > first else "")
        return names, {found[2]: found[3] or "" for found in described}
    for line in reversed(comments):
        names = _cells(line.lstrip("#%!/ "), delimiter)
        if len(names) == num and not any(map(_is_number, names)):
            return names, {}
    return [], {}


def _title(lines: Sequence[str]) -> str:
    """Return the first of three lines if it is a title: those below are names and numbers, and it has other cells."""
    if len(lines) < 3:
        return ""
    delimiter = _delimiter(lines[1])
    first, names, row = (_cells(line, delimiter) for line in lines)
    is_table = len(names) == len(row) > 1 and not any(map(_is_number, names)) and any(map(_is_number, row))
    return lines[0] if is_table and len(first) != len(names) and not _are_units(names) else ""


def _are_units(cells: Sequence[str]) -> bool:
    """Return whether a line below the names states units, some of them of light or angles, instead of values."""
    stated = [cell.strip("()[]") for cell in cells if cell.strip("-")]
    return bool(stated) and all(UNIT.fullmatch(cell) for cell in stated)


def _unquoted(name: str) -> str:
    """Return a name without what databases put around it."""
    return name[1:-1] if len(name) > 2 and (name[0], name[-1]) in {("[", "]"), ("`", "`"), ("'", "'")} else name


def _with_unnamed(names: list[str], rows: Sequence[str], delimiter: str) -> list[str]:
    """Give a name to the one column that has none: of the rows' names, as R writes them, or of nothing, at the end.

    Without quotation marks, numbers are names of rows only where they count them: it may be the last that lacks a name.
    """
    cells = [_cells(line, delimiter) for line in rows]
    if not cells or {len(one) for one in cells} != {len(names) + 1}:
        return names
    if not any(one[-1] for one in cells):
        return [*names, UNNAMED]
    is_quoted = all(line.lstrip().startswith('"') for line in rows)
    counted = [str(number) for number in range(1, len(cells) + 1)]
    firsts = [one[0] for one in cells]
    return [ROW_NAME, *names] if is_quoted or firsts == counted or not any(map(_is_number, firsts)) else names


def _is_number(text: str) -> bool:
    try:
        float(re.sub("(?<=[0-9.])[dD](?=[-+]?[0-9])", "e", text))
    except ValueError:
        return False
    return True
