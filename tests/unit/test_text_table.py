"""How a file of text becomes columns: its delimiter, names, units and rows, whatever program wrote it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.command.errors import SourceError
from scripts.data import compressed, text_table
from scripts.data.table_file import NotWholeError
from scripts.data.text_table import TextTable

U_G = {"u": ["1", "3"], "g": ["2", "4"]}
NAMED_ROWS = "the first column, without a name, read as names of rows, as of R"


def opened(folder: Path, content: str | bytes) -> TextTable:
    path = folder / "my.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return TextTable.open(path)


def read(table: TextTable, kind: str) -> dict[str, list[Any]]:
    """Return all columns, read as one kind."""
    batches = list(table.batches(dict.fromkeys(table.columns, kind)))
    return {name: [value for batch in batches for value in batch[name].tolist()] for name in table.columns}


@pytest.mark.parametrize(
    ("content", "columns", "units", "note"),
    [
        ("u,g\n1,2\n3,4\n", U_G, {}, ""),
        ("u,g\n1,2\n3,4", U_G, {}, ""),
        ("u,g\r1,2\r3,4\r", U_G, {}, ""),
        ("u,g\r\n1,2\r\n3,4\r\n", U_G, {}, ""),
        ("u;g\n1;2\n3;4\n", U_G, {}, ""),
        ("u\tg\n1\t2\n3\t4\n", U_G, {}, ""),
        ("u | g\n1 | 2\n3 | 4\n", U_G, {}, ""),
        ("u g\n1 2\n3 4\n", U_G, {}, ""),
        ("  u   g\n  1   2\n\t3\t4 \n", U_G, {}, ""),
        ("sep=;\nu;g\n1;2\n3;4\n", U_G, {}, ""),
        ("# one\n% two\n! three\n// four\n\nu,g\n1,2\n3,4\n", U_G, {}, ""),
        ("u,g\n\n# between\n1,2\n3,4\n# below\n", U_G, {}, ""),
        ("u g\n\n# between\n1 2\n3 4\n# below\n", U_G, {}, ""),
        ('"u",`g`\n"1",2\n3,4\n', U_G, {}, ""),
        ("[u],'g'\n1,2\n3,4\n", U_G, {}, ""),
        ("[u,g]\n1,2\n3,4\n", {"[u": ["1", "3"], "g]": ["2", "4"]}, {}, ""),
        ("[],g\n1,2\n3,4\n", {"[]": ["1", "3"], "g": ["2", "4"]}, {}, ""),
        ('u "my g"\n1 "a b"\n3 "4"\n', {"u": ["1", "3"], "my g": ["a b", "4"]}, {}, ""),
        # Rules below the names.
        ("u g\n--- ---\n1 2\n3 4\n", U_G, {}, ""),
        (" u | g\n---+---\n 1 | 2\n 3 | 4\n(2 rows)\n", U_G, {}, ""),
        ("u;g\nmag;mag\n---;---\n1;2\n3;4\n", U_G, {"u": "mag", "g": "mag"}, ""),
        # Units.
        ("u,g\nmag,(mag)\n1,2\n3,4\n", U_G, {"u": "mag", "g": "(mag)"}, ""),
        ("u,g\nmag,---\n1,2\n3,4\n", U_G, {"u": "mag", "g": "---"}, ""),
        ("u,g\nmag,foo\n1,2\n", {"u": ["mag", "1"], "g": ["foo", "2"]}, {}, ""),
        ("u (mag),g [deg]\n1,2\n3,4\n", U_G, {"u": "mag", "g": "deg"}, ""),
        ("u (mag),u [deg]\n1,2\n", {"u (mag)": ["1"], "u [deg]": ["2"]}, {}, ""),
        (
            "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: u, unit: mag, datatype: float64}\n"
            "# - {name: g, datatype: float64}\nu g\n1 2\n3 4\n",
            U_G,
            {"u": "mag"},
            "",
        ),
        # Titles.
        ("My own galaxies\nu,g\n1,2\n3,4\n", U_G, {}, "the first line, 'My own galaxies', read as a title"),
        ("My own galaxies\nu g\n1 2\n3 4\n", U_G, {}, "the first line, 'My own galaxies', read as a title"),
        (f"{'x' * 50}\nu,g\n1,2\n3,4\n", U_G, {}, f"the first line, '{'x' * 40}', read as a title"),
        ("a,b\nu,g\n1,2\n", {"a": ["u", "1"], "b": ["g", "2"]}, {}, ""),
        # Names in comments.
        ("# galaxies\n# u g\n1 2\n3 4\n", U_G, {}, ""),
        (
            "#   1 U  Kron [mag]\n#   2 V  several [deg]\n#   4 FLAGS  flags\n 1 2 3 4\n",
            {"U": ["1"], "V": ["2"], "V_1": ["3"], "FLAGS": ["4"]},
            {"U": "mag", "V": "deg"},
            "",
        ),
        ("#   1 U  Kron [mag]\n#   2 V  several\n 1 2 3\n", {"U": ["1"], "V": ["2"], "V_1": ["3"]}, {"U": "mag"}, ""),
        ("# 1 U\n# 2 V\n# 9 W\n 1 2 3\n", {"U": ["1"], "V": ["2"], "V_1": ["3"]}, {}, ""),
        # A column without a name.
        ('"u","g"\n"7",1,2\n"9",3,4\n', {"row_name": ["7", "9"], **U_G}, {}, NAMED_ROWS),
        ("u g\n1 1 2\n2 3 4\n", {"row_name": ["1", "2"], **U_G}, {}, NAMED_ROWS),
        ("u g\na 1 2\nb 3 4\n", {"row_name": ["a", "b"], **U_G}, {}, NAMED_ROWS),
        (
            "u,g\na,1,2\nb,3,\n",
            {"row_name": ["a", "b"], "u": ["1", "3"], "g": ["2", ""]},
            {},
            NAMED_ROWS,
        ),
        ("u,g\n1,2,\n3,4,\n", {**U_G, "unnamed": ["", ""]}, {}, ""),
        ("u,7\n1,2\n3,4\n", {"u": ["1", "3"], "7": ["2", "4"]}, {}, ""),  # half of the names are none
        # Places.
        (
            "u    g    r\n1.0  2.0  3.0\n4.0       6.0\n",
            {"u": ["1.0", "4.0"], "g": ["2.0", ""], "r": ["3.0", "6.0"]},
            {},
            "columns read at fixed places, blank where there is no value",
        ),
        (
            "# u, g\nu   g\n     2\n# between\n3   4\n",
            {"u": ["", "3"], "g": ["2", "4"]},
            {},
            "columns read at fixed places, blank where there is no value",
        ),
        # Encodings.
        ("u,g\n1,2\n3,4\n".encode("utf-16"), U_G, {}, ""),
        ("u,g\n1,2\n3,4\n".encode("utf-32"), U_G, {}, ""),
        ("u g\n1 2\n3 4\n".encode("utf-16"), U_G, {}, ""),
        ("u,g\n1,2\n3,4\n".encode("utf-8-sig"), U_G, {}, ""),
        (b"u,na\xefve\n1,2\n", {"u": ["1"], "naïve": ["2"]}, {}, "text read as latin-1"),
        # Decimal commas, kept in texts.
        ("u;g\n1,5;2\n", {"u": ["1,5"], "g": ["2"]}, {}, "numbers read with decimal commas"),
        ("u;g\n1,5 mag;2\n", {"u": ["1,5 mag"], "g": ["2"]}, {}, ""),
    ],
)
def test_a_table_has_its_names_its_units_and_its_rows(
    content: str | bytes, columns: dict[str, list[str]], units: dict[str, str], note: str, tmp_path: Path
) -> None:
    table = opened(tmp_path, content)

    assert list(table.columns) == list(columns)
    assert dict(table.units) == units
    assert table.notes == ((note,) if note else ())
    assert read(table, "text") == columns


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no line of column names"),
        ("# only\n\n", "holds no line of column names"),
        ("u,1,2\n3,4,5\n", "begins with numbers, not with the names of its columns: u,1,2. Write the names"),
        ("# 2 x\n1 2\n", "begins with numbers, not with the names of its columns: 1 2. Write"),
    ],
)
def test_a_table_without_names_is_refused(content: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        opened(tmp_path, content)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("u,g\n1,2\n3\n", "line 3 has 1 cells, and there are 2 names: '3'. Correct the line"),
        (f"u g\n1 2\n{'x' * 200}\n", f"line 3 has 1 cells, and there are 2 names: '{'x' * 60}'. Correct the line"),
        ("# a\nu  g\n1  2\n\n7  8  9\n", "line 5 has 3 cells, and there are 2 names: '7\\t8\\t9'. Correct the line"),
        (f"u,g\n1,2\n{'x' * 200}\n", f"line 3 has 1 cells, and there are 2 names: '{'x' * 60}'. Correct the line"),
    ],
)
def test_a_row_that_does_not_fit_is_named_by_its_line(content: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read(opened(tmp_path, content), "text")

    assert said in str(caught.value)


def test_a_first_row_that_is_too_short_is_named_too(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="line 2 has 1 cells, and there are 2 names"):
        list(opened(tmp_path, "ra,u\n1\n").batches({"u": "angle"}))


def test_a_row_longer_than_a_block_is_told_as_pyarrow_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_table, "BLOCK_BYTES", 64)

    with pytest.raises(SourceError, match=r"my\.csv: .*[^.]$") as caught:
        read(opened(tmp_path, f"u,g\n1,{'2' * 500}\n3,4\n"), "text")

    assert "Save it as UTF-8" not in str(caught.value)


@pytest.mark.parametrize("odd", ["x 1.0  2.0", "  1.0  2.0 x", "  1.0 x2.0"])
def test_a_value_between_the_columns_is_an_error_wherever_it_is(
    odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (compressed, text_table):
        monkeypatch.setattr(module, "HEAD_BYTES", 100)
    lines = ["    u    g", "  1.0     ", *["  1.0  2.0"] * 20]

    assert len(read(opened(tmp_path, "\n".join(lines)), "number")["u"]) == 21
    with pytest.raises(SourceError, match=f"has a value between its columns, .* rows above: '{odd}'. Save it with"):
        read(opened(tmp_path, "\n".join([*lines, odd])), "number")


def test_a_tab_has_no_place(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="line 3 has 1 cells, and there are 2 names"):
        read(opened(tmp_path, "u    g\n1.0  2\n\t     3\n"), "number")


def test_a_letter_that_is_not_of_the_encoding_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = opened(tmp_path, b"u,g\n1,2\n")
    table.path.write_bytes(b"u,g\n1,\xef\n")

    with pytest.raises(SourceError, match=r"UTF8.* Save it as UTF-8\.$"):
        read(table, "text")


@pytest.mark.parametrize("delimiter", [",", " ", "   "])
@pytest.mark.parametrize("bad", [None, 0, 500, 999])
def test_numbers_are_read_block_by_block_also_where_one_is_none(
    delimiter: str, bad: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_table, "BLOCK_BYTES", 256)
    rows = [[f"{number}.5", "bad" if number == bad else f"{number}"] for number in range(1000)]
    lines = [delimiter.join(row) for row in [["u", "g"], *rows]]

    table = opened(tmp_path, "\n".join(lines) + "\n")
    found = read(table, "number")

    assert found["u"] == [number + 0.5 for number in range(1000)]
    np.testing.assert_array_equal(found["g"], [np.nan if number == bad else number for number in range(1000)])
    assert dict(table.odd_cells) == ({} if bad is None else {("g", "bad"): 1})
    assert len(list(table.batches({"u": "number"}))) > 10


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        ("u;g\n1,5;2\n2,5;x\n3,5;4\n", "number", {"u": [1.5, 2.5, 3.5], "g": [2.0, np.nan, 4.0]}),
        ("u,g\n1,NA\n--,INDEF\n", "number", {"u": [1.0, np.nan], "g": [np.nan, np.nan]}),
        ("u,g\na,--\nINDEF,NA\n", "text", {"u": ["a", ""], "g": ["", ""]}),
        ("u,g\n1,2\n3,4\n", "whole", {"u": [1, 3], "g": [2, 4]}),
        ("u,g\n1.5,12:00:00\n", "angle", {"u": [1.5], "g": ["12:00:00"]}),
        ("u,g\n,12:00\n", "angle", {"u": [np.nan], "g": ["12:00"]}),
        ("u;g\n1,5;2\n", "angle", {"u": [1.5], "g": [2.0]}),
    ],
)
def test_a_column_is_read_as_the_kind_that_is_asked_for(
    content: str, kind: str, expected: dict[str, list[Any]], tmp_path: Path
) -> None:
    found = read(opened(tmp_path, content), kind)

    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_an_identifier_that_is_no_whole_number_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotWholeError, match="seven"):
        read(opened(tmp_path, "u\n1\nseven\n"), "whole")


def test_of_two_columns_of_one_name_the_first_is_read(tmp_path: Path) -> None:
    assert read(opened(tmp_path, "u,u,g\n1,2,3\n"), "number") == {"u": [1.0], "g": [3.0]}


def test_the_number_of_rows_is_that_of_the_beginning_times_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "u,g\n" + "1.5,2.5\n" * 1000
    whole = opened(tmp_path, content).about_rows
    monkeypatch.setattr(text_table, "HEAD_BYTES", 400)
    monkeypatch.setattr(text_table, "read_head", lambda path: path.read_bytes()[:400])

    assert whole == 1000
    assert opened(tmp_path, content).about_rows == pytest.approx(1000, rel=0.05)
