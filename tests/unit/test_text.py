"""What a stranger wrote never moves a cursor, reorders a line or stops a file from being written."""

import json
import unicodedata

import pytest

from inference.errors import RunError, ShardFormatError
from inference.text import printable, printable_json
from scripts.command.errors import UsageError
from scripts.runs.execution import ending
from scripts.runs.logs.lines import LogEvent

WICKED = "a\x1b]0;title\x07\x1b[2J\r\x9b31m\u202eb\ud800c"
SHOWN = "a?]0;title??[2J??31m?b?c"


def test_what_a_terminal_would_obey_is_replaced_and_text_stays() -> None:
    assert printable(WICKED) == SHOWN
    assert printable("größer\n\tals ✓ 星系 😀") == "größer\n\tals ✓ 星系 😀"


def test_what_is_replaced_are_controls_breaks_of_lines_and_changes_of_direction() -> None:
    directions = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}

    for char in map(chr, range(0x3000)):
        is_control = unicodedata.category(char) in ("Cc", "Zl", "Zp") and char not in "\n\t"
        is_hidden = is_control or unicodedata.bidirectional(char) in directions
        assert printable(char) == ("?" if is_hidden else char), hex(ord(char))


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_a_json_document_keeps_all_but_them(ensure_ascii: bool) -> None:
    wicked = WICKED.replace("\ud800", "") + '\b\f \\u001b \\\\u001b \\ " \n\t 😀'
    document = {"key\x1b": [wicked, 1.5, None]}

    shown = json.loads(printable_json(json.dumps(document, ensure_ascii=ensure_ascii, indent=1).encode()))

    assert shown == {"key?": [SHOWN.replace("?c", "c") + '?? \\u001b \\\\u001b \\ " \n\t 😀', 1.5, None]}


def test_bytes_that_are_no_text_stay_what_they_are() -> None:
    assert printable_json(b'{"a": "\xff\xc2\x9b"}') == b'{"a": "\xff?"}'


@pytest.mark.parametrize("kind", [RunError, ShardFormatError, UsageError])
def test_no_error_carries_them(kind: type[Exception]) -> None:
    assert str(kind(f"0.safetensors has no array {WICKED}")) == f"0.safetensors has no array {SHOWN}"


def test_neither_the_end_of_a_run_nor_a_line_of_a_log_does() -> None:
    found = ending({"status": "FAILED", "error": "E\x1b", "cause": json.dumps({"errorMessage": WICKED})})

    assert (found.error, found.message) == ("E?", SHOWN)
    assert LogEvent("infer-0.log", WICKED).message == SHOWN
    assert LogEvent("infer-0.log", json.dumps({"a": "\x1b[2J"})).message == '{"a": "?[2J"}'
