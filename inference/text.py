"""Text that a stranger wrote, as a terminal and a page may show it."""

import re

_BIDIRECTIONAL = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROL = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *_BIDIRECTIONAL)
_SHOWN = dict.fromkeys((code for code in _CONTROL if chr(code) not in "\n\t"), "?")

_IN_JSON = re.compile(rb"\\\\|\\u([0-9a-fA-F]{4})|\\[bfr]")
"""An escaped backslash, which begins no other escape; or what JSON escapes."""


def printable(text: str) -> str:
    """Return a text with ``?`` for what moves a terminal's cursor, reorders a line, or is no character."""
    return text.translate(_SHOWN).encode(errors="replace").decode()


def printable_json(content: bytes) -> bytes:
    """Return a JSON document in which no text has a control character; see `printable`.

    As bytes, so that whatever reads it next needs to know nothing of this.
    """

    def shown(escape: re.Match[bytes]) -> bytes:
        if escape[0] == rb"\\":
            return escape[0]
        code = int(escape[1], 16) if escape[1] else 0
        return b"?" if code in _SHOWN else escape[0]

    content = _IN_JSON.sub(shown, content)
    if content.isascii():
        return content
    # Those below 32 stand between values here; in a text, JSON itself refuses them.
    raw = {code: "?" for code in _SHOWN if code >= 0x7F}
    return content.decode(errors="surrogateescape").translate(raw).encode(errors="surrogateescape")
