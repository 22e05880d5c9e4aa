"""Lines as wide as the screen."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from scripts.command.console import fact, say, say_here


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
