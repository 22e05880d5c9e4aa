"""Lines as wide as the screen."""

import io
import re
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from scripts.command.console import (
    MovingLine,
    clock,
    counted,
    fact,
    fitting_table,
    megabytes,
    progress_bar,
    say,
    say_here,
    step,
)


def said(text: str | Text, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    say(console, text)
    return console.file.getvalue().splitlines()


ROW = "  S3 requests         0.000103 USD   18 PUT and LIST, 33 GET"


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("  Times by one run; no other", 80, ["  Times by one run; no other"]),
        ("  Times by one run; no other", 16, ["  Times by one", "    run; no", "    other"]),
        ("note       one two three four", 20, ["note       one two", "           three", "           four"]),
        (ROW, 56, ["  S3 requests         0.000103 USD", "    18 PUT and LIST, 33 GET"]),
        (ROW, 61, [ROW]),
        (
            "runs/run-20261128T084615Z-1970/report.html  0.14 MB",
            20,
            ["runs/run-20261128T084615Z-1970/report.html", "  0.14 MB"],
        ),
        ("one\n\n  two", 80, ["one", "", "  two"]),
        ("one\n", 80, ["one", ""]),
        ("[bold] is no mark", 80, ["[bold] is no mark"]),
    ],
)
def test_what_is_wider_than_the_screen_goes_on_below(text: str, width: int, lines: list[str]) -> None:
    assert said(text, width) == lines


def test_parts_of_a_line_keep_their_style() -> None:
    console = Console(file=io.StringIO(), width=20, color_system="standard", force_terminal=True)

    say(console, Text("word " * 3).append("word " * 4, "bold"))

    assert console.file.getvalue().splitlines()[1] == "  \x1b[1mword word word\x1b[0m"


def test_errors_that_a_program_reads_stay_on_their_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "word " * 30 + "end"
    monkeypatch.delenv("COLUMNS", raising=False)
    say_here(line)
    say(Console(stderr=True), line)
    monkeypatch.setenv("COLUMNS", "80")
    say(Console(stderr=True), line)

    said = capsys.readouterr()
    parts = said.out.splitlines()

    assert [len(part) for part in parts] == [79, 75]
    assert said.err.splitlines() == [line, *parts]


def test_what_is_known_under_a_name_stands_next_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")

    assert fact("extinction", "one two three").splitlines() == ["extinction one two", "           three"]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("word " * 4, 19, ["word word word word"]),
        ("word word", 4, ["word", "  word"]),
        ("  " + "a" * 30, 10, ["  " + "a" * 30]),
        ("aaaa " + "b" * 30 + " c", 10, ["aaaa", "  " + "b" * 30, "  c"]),
        ("one  two three four", 10, ["one  two", "     three", "     four"]),
        # A column that begins beyond six tenths of the width is too far to the right to go on below.
        ("1234567  two three", 12, ["1234567", "  two three"]),
        ("a  b  c  d  e", 8, ["a  b  c", "  d  e"]),
        ("g ddd  bbbbbbb  d", 4, ["g", "  ddd", "  bbbbbbb", "  d"]),
        ("    eeeee b   c  fffff  f aa", 12, ["    eeeee b", "    c", "    fffff", "    f aa"]),
        ("cccc  hhhhhhh gg", 10, ["cccc  hhhhhhh", "      gg"]),
        # A screen that has no room behind the spaces at the begin of a line.
        (" " * 22 + "→ one two three", 20, [" " * 22 + "→", " " * 12 + "one two", " " * 12 + "three"]),
        ("    ee f", 4, ["    ee", "    f"]),
        ("a b", 1, ["a", "  b"]),
        (" " * 10 + "a b c d e f g h", 16, [" " * 10 + "a b c", " " * 10 + "d e f", " " * 10 + "g h"]),
    ],
)
def test_a_line_is_cut_between_columns_or_words(text: str, width: int, lines: list[str]) -> None:
    assert said(text, width) == lines


@given(st.text("ab  ", max_size=40), st.integers(1, 30), st.integers(0, 40))
def test_no_screen_is_too_narrow_for_the_words_of_a_line(words: str, width: int, begin: int) -> None:
    assert " ".join(said(" " * begin + words, width)).split() == words.split()


@pytest.mark.parametrize(
    ("num", "noun", "words"),
    [(1, "shard", "1 shard"), (0, "shard", "0 shards"), (3033, "galaxy", "3,033 galaxies"), (1, "galaxy", "1 galaxy")],
)
def test_things_are_counted_in_words(num: int, noun: str, words: str) -> None:
    assert counted(num, noun) == words


@pytest.mark.parametrize(
    ("num_bytes", "said"),
    [(0, "1 kB"), (1_400, "1 kB"), (9_999_999, "10,000 kB"), (1e7, "10 MB"), (2.5e9, "2,500 MB")],
)
def test_a_size_is_read_in_megabytes_or_kilobytes(num_bytes: float, said: str) -> None:
    assert megabytes(num_bytes) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0:00"), (65.0, "1:05"), (3599.6, "1:00:00"), (3725.0, "1:02:05"), (float("nan"), "?")],
)
def test_a_duration_is_read_as_on_a_clock(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def shown(width: int, *columns: tuple[int, str, Callable[[str], str]]) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(fitting_table(columns, ["run-a", "run-bb"], width))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_table_leaves_out_what_is_empty_and_then_what_matters_least() -> None:
    name, size = (1, "run", str), (2, "size", lambda row: str(len(row)))
    least, empty = (3, "note", lambda row: "long words"), (9, "model", lambda row: "")

    assert shown(80, name, size, least, empty) == [
        "run     size  note",
        "run-a      5  long words",
        "run-bb     6  long words",
    ]
    # Every column takes its widest cell and two characters: 8, 6 and 12.
    assert shown(26, name, size, least)[0] == "run     size  note"
    assert shown(25, name, size, least) == ["run     size", "run-a      5", "run-bb     6"]
    assert shown(5, name, size) == ["run     size", "run-a      5", "run-bb     6"]
    assert shown(5, least, size, name)[0] == "size  run"


def test_of_columns_that_matter_alike_the_first_goes_first() -> None:
    columns = [(3, title, lambda row: "wide cell") for title in ("b", "a")]

    assert shown(25, (1, "run", str), (2, "size", lambda row: "5"), *columns)[0] == "run     size  a"


def test_words_stand_to_the_left_and_numbers_to_the_right_and_no_cell_is_cut_in_lines() -> None:
    mixed, number = (1, "error", lambda row: {"run-a": "7", "run-bb": "unknown"}[row]), (2, "size in MB", len)
    table = fitting_table([mixed, (2, "size in MB", lambda row: f"{number[2](row)}x")], ["run-a", "run-bb"], 80)
    narrow = Console(file=io.StringIO(), width=12)

    assert shown(80, mixed, (2, "size", lambda row: "5x")) == ["error    size", "7          5x", "unknown    5x"]
    narrow.print(table)
    assert len(narrow.file.getvalue().splitlines()) == 3


def test_titles_of_columns_are_dim() -> None:
    console = Console(file=io.StringIO(), width=80, color_system="standard", force_terminal=True)

    console.print(fitting_table([(1, "run", str)], ["a"], 80))

    assert console.file.getvalue().splitlines()[0].startswith("\x1b[2mrun")


def test_marks_in_a_table_are_text() -> None:
    assert "[bold]" in shown(80, (1, "[bold]", str))[0]
    assert shown(80, (1, "a", lambda row: "[red]x"))[1] == "[red]x"


@pytest.mark.parametrize("spinner", [True, False])
def test_a_step_says_what_it_found_and_how_long_it_took(spinner: bool) -> None:
    console = Console(file=io.StringIO(), width=80)

    with step(console, "dataset", spinner=spinner) as facts:
        facts += ["30 galaxies,", "3 shards"]
    with step(console, "engine", spinner=spinner):
        pass

    lines = console.file.getvalue().splitlines()
    assert re.fullmatch(r"dataset    30 galaxies, 3 shards \(\d\.\d s\)", lines[0])
    assert re.fullmatch(r"engine     ready \(\d\.\d s\)", lines[1])


@pytest.mark.parametrize(("options", "turns"), [({}, True), ({"spinner": True}, True), ({"spinner": False}, False)])
def test_a_step_turns_on_a_terminal_unless_something_else_moves(options: dict[str, bool], turns: bool) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)

    with step(console, "dataset", **options):
        pass

    # The cursor is hidden meanwhile.
    assert ("\x1b[?25l" in console.file.getvalue()) is turns


def test_numbers_in_what_is_said_have_the_colour_of_the_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")

    say_here("30 galaxies")

    assert capsys.readouterr().out == "30 galaxies\n"


@pytest.mark.parametrize(
    ("is_terminal", "kind", "moves"), [(True, "xterm", True), (True, "dumb", False), (False, "xterm", False)]
)
def test_a_line_moves_on_a_terminal_that_can_and_vanishes(
    is_terminal: bool, kind: str, moves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", kind)
    console = Console(file=io.StringIO(), width=80, force_terminal=is_terminal)
    threads = set(threading.enumerate())

    with MovingLine(console) as line:
        assert (line._live is not None) is moves
        assert threads.issuperset(threading.enumerate())  # it is rewritten when it is told to
        if line._live:
            line._live.update(Text("half"), refresh=True)
            assert line._live.is_started
    assert ("half" in console.file.getvalue()) is moves
    assert line._live is None or not line._live.is_started
    # The cursor goes back and the line is erased.
    assert ("\x1b[2K" in console.file.getvalue().rpartition("half")[2]) is moves


def test_a_bar_counts_on_a_terminal_only() -> None:
    assert progress_bar().disable
    assert progress_bar().console.stderr
    assert progress_bar().live.transient
