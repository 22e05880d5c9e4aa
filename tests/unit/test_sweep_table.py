"""A sweep's tables: both files say the same, and a damaged one is named in one line."""

import re
from pathlib import Path

import pytest

from scripts.sweeps import table
from scripts.sweeps.rows import RunRow
from scripts.sweeps.table import TableError
from tests.factories import make_run_row

ROWS = [make_run_row(), make_run_row(repeat=1, state="failed", error="PlanError", message='a "quoted", text\nof two')]


def test_a_table_reads_back_as_it_was_written(tmp_path: Path) -> None:
    table.write_table(tmp_path / table.RUNS, ROWS, RunRow)

    assert table.read_runs(tmp_path) == ROWS


def test_csv_alone_says_the_same(tmp_path: Path) -> None:
    table.write_table(tmp_path / table.RUNS, ROWS, RunRow)
    (tmp_path / "runs.parquet").unlink()

    assert table.read_runs(tmp_path) == ROWS


def test_no_text_is_a_formula_to_a_spreadsheet(tmp_path: Path) -> None:
    rows = [make_run_row(message=text) for text in ("=HYPERLINK(0)", "+1", "-1", "@x", "'=1", "a=b", "")]
    table.write_table(tmp_path / table.RUNS, rows, RunRow)
    (tmp_path / "runs.parquet").unlink()

    content = (tmp_path / "runs.csv").read_text()

    assert not re.search(r'(?:^|,)"[=+@-]', content, re.MULTILINE)
    assert '"\'=HYPERLINK(0)"' in content
    assert table.read_runs(tmp_path) == rows


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    table.write_table(tmp_path / table.RUNS, [], RunRow)

    assert (tmp_path / "runs.csv").read_text().startswith('"sweep","setting","repeat"')
    assert table.read_runs(tmp_path) == []


def test_a_table_without_the_newest_columns_is_read(tmp_path: Path) -> None:
    table.write_table(tmp_path / table.RUNS, ROWS, RunRow)
    whole = table.parquet.read_table(tmp_path / "runs.parquet")
    older = whole.drop_columns(["record_s", "num_labelled", "coverage_68"])
    table.parquet.write_table(older, tmp_path / "runs.parquet")

    assert table.read_runs(tmp_path) == ROWS


def test_a_column_is_a_number_with_gaps_or_a_text() -> None:
    schema = table.arrow_schema(RunRow)

    assert [str(schema.field(name).type) for name in ("sweep", "world_size", "map_s", "profile", "num_samples")] == [
        "string",
        "int64",
        "double",
        "bool",
        "int64",
    ]
    assert [schema.field(name).nullable for name in ("state", "world_size", "map_s", "num_samples")] == [
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_table_cut_in_the_middle_is_told_in_one_line(suffix: str, tmp_path: Path) -> None:
    table.write_table(tmp_path / table.RUNS, ROWS, RunRow)
    other = {".parquet": ".csv", ".csv": ".parquet"}[suffix]
    (tmp_path / f"runs{other}").unlink()
    path = tmp_path / f"runs{suffix}"
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 4])

    with pytest.raises(TableError, match=rf"runs{suffix} cannot be read as a table of runs") as caught:
        table.read_runs(tmp_path)

    assert "\n" not in str(caught.value)


def test_a_table_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("sweep,speed\nmine,7\n")

    with pytest.raises(TableError, match="cannot be read"):
        table.read_runs(tmp_path)


def test_of_a_long_reason_the_beginning_is_told_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    table.parquet.write_table(table.pa.table({"x" * 300: [1]}), tmp_path / "mine" / "runs.parquet")

    with pytest.raises(TableError) as caught:
        table.read_runs(tmp_path / "mine")

    reason, _, advice = str(caught.value).partition("). ")
    assert len(reason.partition(" of runs (")[2]) == 160
    assert advice == "`make sweep NAME=mine` writes it again from its journal."


def test_a_folder_without_a_table_is_no_sweeps(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"holds no runs\.parquet and no runs\.csv: not a sweep's folder\.$"):
        table.read_runs(tmp_path)


def test_both_tables_are_written(tmp_path: Path) -> None:
    table.write_tables(tmp_path, ROWS, [])

    assert {path.name for path in tmp_path.iterdir()} == {"runs.parquet", "runs.csv", "ranks.parquet", "ranks.csv"}


def test_a_write_that_fails_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table.write_table(tmp_path / table.RUNS, ROWS[:1], RunRow)

    def fail(_: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(table.parquet, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        table.write_table(tmp_path / table.RUNS, ROWS, RunRow)

    assert table.read_runs(tmp_path) == ROWS[:1]
    assert {path.name for path in tmp_path.iterdir()} == {"runs.parquet", "runs.csv"}
