"""How values of any type become numbers, whole numbers, texts or angles."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scripts.command.errors import SourceError
from scripts.data import table_file
from scripts.data.table_file import ArrayTable, Batch, NotWholeError, TableFile, astropy_units, first_line

LARGEST = 2**63 - 1


def table_of(values: Any) -> ArrayTable:
    return ArrayTable.of(Path("folder/my.npz"), {"a": np.ma.asanyarray(values)})


def read(values: Any, kind: str) -> list[Any]:
    (batch,) = table_of(values).batches({"a": kind})
    return batch["a"].tolist()


@dataclass(frozen=True)
class ArrowTable(TableFile):
    """A table of one record batch, or one that cannot be read."""

    batch: Any = None
    error: Exception | None = None

    def _batches(self, kinds: Mapping[str, str]) -> Iterator[Batch]:
        if self.error:
            raise self.error
        yield self._from_arrow(self.batch, kinds)


def arrow(values: Any, kind: str, type_: Any = None) -> tuple[list[Any], dict[Any, int]]:
    """Return a column of Arrow as a kind, and the cells that were odd."""
    table = ArrowTable(Path("my.parquet"), ["a"], {}, pa.record_batch([pa.array(values, type_)], names=["a"]))
    (batch,) = table.batches({"a": kind})
    return batch["a"].tolist(), dict(table.odd_cells)


# ----------------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1.0, 2.0, np.nan, np.inf], ["1", "2", "", "inf"]),
        ([1.5, 2.0], ["1.5", "2.0"]),
        ([1e22, 3.0], ["10000000000000000000000", "3"]),
        ([1, -2], ["1", "-2"]),
        (np.array([b" a ", b"\xff"], object), ["a", "\ufffd"]),
        (np.array([None, " x ", 7, np.nan], object), ["", "x", "7", ""]),
        (np.ma.array([1, 2], mask=[True, False]), ["", "2"]),
        (np.ma.array([LARGEST, 2], mask=[False, True]), [str(LARGEST), ""]),
    ],
)
def test_a_text_is_the_value_without_spaces_and_nothing_for_none(values: Any, texts: list[str]) -> None:
    assert read(values, "text") == texts


# ------------------------------------------------------------------------------------------------- whole numbers


@pytest.mark.parametrize(
    ("values", "whole"),
    [
        ([0, LARGEST], [0, LARGEST]),
        (np.array([0, LARGEST], np.uint64), [0, LARGEST]),
        ([0.0, 2.0**53 - 1], [0, 2**53 - 1]),
        (["7", "8"], [7, 8]),
        ([True, False], [1, 0]),
    ],
)
def test_identifiers_are_exact(values: Any, whole: list[int]) -> None:
    assert read(values, "whole") == whole


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, -5, -7], "^-5$"),
        (np.array([1, 2**63, 2**63 + 1], np.uint64), f"^{2**63}$"),
        ([1.0, np.nan], "^an empty one$"),
        (np.ma.array([1, 2], mask=[False, True]), "^an empty one$"),
        (["7", "eight"], "^'eight'$"),
        (["7", "x" * 50], f"^'{'x' * 40}'$"),
        (np.array([1, 2**70], object), f"^1|{2**70}$"),
    ],
)
def test_what_is_no_identifier_is_told_by_the_first(values: Any, said: str) -> None:
    with pytest.raises(NotWholeError, match=said):
        read(values, "whole")


@pytest.mark.parametrize("value", [0.5, 2.0**53, -(2.0**53)])
def test_identifiers_that_were_rounded_are_refused(value: float) -> None:
    with pytest.raises(SourceError, match=r"^my\.npz: a does not hold whole numbers \(its values were rounded"):
        read([1.0, value], "whole")


# ---------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (["1", "-2.5", "+.5", "3.", "1e3", "1D-2", "INF", "-Infinity"], [1, -2.5, 0.5, 3, 1000, 0.01, np.inf, -np.inf]),
        (["True", "FALSE", "1"], [1, 0, 1]),
        (["1", *table_file.MISSING], [1, *[np.nan] * len(table_file.MISSING)]),
        (np.array([b"1.5", None, b"2"], object), [1.5, np.nan, 2]),
        (np.ma.array([1.5, 2.5], mask=[True, False]), [np.nan, 2.5]),
        (np.ma.array([0.1, 2.5], mask=[False, True], dtype=np.float32), [float(np.float32(0.1)), np.nan]),
        (np.ma.array(["1", "2"], mask=[True, False]), [np.nan, 2]),
        (np.array([1, 2], ">i2"), [1, 2]),
    ],
)
def test_a_number_is_read_as_whatever_program_wrote_it(values: Any, numbers: list[float]) -> None:
    np.testing.assert_array_equal(read(values, "number"), numbers)


def test_cells_that_hold_no_number_are_counted_below_the_first_of_them() -> None:
    table = table_of(["1", "x" * 50, "bad", "?"])

    (batch,) = table.batches({"a": "number"})

    np.testing.assert_array_equal(batch["a"], [1, np.nan, np.nan, np.nan])
    assert dict(table.odd_cells) == {("a", "x" * 40): 3}
    list(table.batches({"a": "number"}))
    assert dict(table.odd_cells) == {("a", "x" * 40): 6}


def test_a_column_without_any_number_is_refused() -> None:
    with pytest.raises(SourceError, match=r"^my\.npz: a does not hold numbers, the first is 'bad'\. FIELDS names"):
        read(["", "Bad", "worse"], "number")


@pytest.mark.parametrize(
    ("values", "found"), [(["1.5", "2"], [1.5, 2]), (["1.5", "12:00"], ["1.5", "12:00"]), ([1.5, 2.0], [1.5, 2])]
)
def test_an_angle_is_a_number_where_all_are(values: Any, found: list[Any]) -> None:
    assert read(values, "angle") == found


# ----------------------------------------------------------------------------------------------------- columns


def test_columns_of_columns_have_names_with_dots() -> None:
    inner = np.array([(1.0, 2.0), (3.0, 4.0)], [("u", float), ("g", float)])
    outer = np.array([((1.0, 2.0), 5), ((3.0, 4.0), 6)], [("mag", inner.dtype), ("id", int)])

    table = ArrayTable.of(Path("a"), outer, {"id": "mag"}, ("a note",))

    assert (table.columns, len(table), table.about_rows) == (["mag.u", "mag.g", "id"], 2, 2)
    assert (table.units, table.notes, table.name) == ({"id": "mag"}, ("a note",), "a")
    assert len(ArrayTable.of(Path("a"), {})) == 0


def test_many_rows_come_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_file, "BATCH_ROWS", 4)

    blocks = [batch["a"].tolist() for batch in table_of(np.arange(9)).batches({"a": "whole"})]

    assert blocks == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


@pytest.mark.parametrize(
    ("values", "kind", "found"),
    [
        ([1, None], "text", ["1", ""]),
        ([LARGEST, None], "text", [str(LARGEST), ""]),
        (["a", None], "text", ["a", ""]),
        ([1, 2], "whole", [1, 2]),
        ([1.5, None], "number", [1.5, np.nan]),
    ],
)
def test_a_column_of_arrow_is_exact_also_with_empty_cells(values: Any, kind: str, found: list[Any]) -> None:
    np.testing.assert_array_equal(arrow(values, kind)[0], found)


def test_an_empty_identifier_of_arrow_is_none() -> None:
    with pytest.raises(NotWholeError, match="an empty one"):
        arrow([1, None], "whole")


def test_lists_of_the_usual_length_are_rows_and_others_are_odd() -> None:
    rows, odd = arrow([[1.0, 2.0], None, [3.0, 4.0], [5.0], [6.0], [7.0, 8.0]], "number")

    np.testing.assert_array_equal(rows, [[1, 2], [np.nan] * 2, [3, 4], [np.nan] * 2, [np.nan] * 2, [7, 8]])
    assert odd == {("a", "a list of 1"): 2}
    np.testing.assert_array_equal(arrow([[1.0, 2.0]], "number", pa.list_(pa.float64(), 2))[0], [[1, 2]])


def test_an_empty_list_is_a_missing_one() -> None:
    rows, odd = arrow([[], [], None, [5.0]], "number", pa.list_(pa.float64()))

    np.testing.assert_array_equal(rows, [[np.nan], [np.nan], [np.nan], [5]])
    assert odd == {}
    assert arrow([[], None], "number", pa.list_(pa.float64()))[0] == [[], []]


@pytest.mark.parametrize("error", [OSError("cut"), EOFError(), ValueError("cut\nbelow"), pa.ArrowInvalid("cut")])
def test_a_file_that_cannot_be_read_is_named_in_one_line(error: Exception) -> None:
    with pytest.raises(SourceError, match=r"^my\.parquet cannot be read to its end, .*: (cut|EOFError)\.$"):
        list(ArrowTable(Path("my.parquet"), ["a"], {}, error=error).batches({}))


def test_units_and_errors_are_read_from_what_others_wrote() -> None:
    described = ["datatype:", "- {name: u, unit: mag, datatype: float64}", "- {name: g, datatype: float64}"]

    assert (astropy_units(described), astropy_units([])) == ({"u": "mag"}, {})
    assert (first_line(OSError("  a\nb")), first_line(EOFError())) == ("a", "EOFError")
