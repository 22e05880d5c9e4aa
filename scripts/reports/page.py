"""A report as one HTML file that needs nothing else: no server, no network, no script to be readable."""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from scripts.reports.document import Block, Figure, Note, Report, Table
from scripts.reports.figures.output import as_svg

TEMPLATES = Path(__file__).parent / "templates"


def as_page(report: Report, *, footer: str) -> str:
    """Return the report as HTML.

    Notes
    -----
    The page's policy (Content-Security-Policy) allows the one style sheet and the one script in it, by their
    checksums, and nothing from anywhere else: what a record says can never run.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "csp_hash": _csp_hash,
        "arranged": _arranged,
        "drawn": _drawn,
        "rows_as_json": _rows_as_json,
        "marked": _marked,
    }
    css, js = ((TEMPLATES / f"report.{kind}").read_text() for kind in ("css", "js"))
    return environment.get_template("report.html.jinja").render(report=report, css=css, js=js, footer=footer)


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _marked(text: str) -> Markup:
    """Return text with what stands in backticks as code, and checksums small enough for their column."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\b[0-9a-f]{64}\b", r'<code class="hash">\g<0></code>', marked))  # noqa: S704 - escaped above


def _drawn(figure: Figure) -> Markup:
    return as_svg(figure.drawing, title=figure.title, description=figure.caption)


def _rows_as_json(table: Table) -> Markup:
    """Return rows for the page's script; no text in them can end the script element."""
    return Markup(msgspec.json.encode(table.all_rows).decode().replace("<", "\\u003c"))  # noqa: S704


def _arranged(blocks: Sequence[Block]) -> Iterator[tuple[str, Block]]:
    """Yield each block with how it is laid out: narrow figures stand in pairs, the odd one next to its caption."""
    num_waiting = 0
    for i, block in enumerate(blocks):
        if isinstance(block, Table | Note):
            num_waiting = 0
            yield ("table" if isinstance(block, Table) else "note"), block
            continue
        if block.is_wide:
            num_waiting = 0
            yield "wide", block
            continue
        following = blocks[i + 1] if i + 1 < len(blocks) else None
        has_partner = num_waiting % 2 == 1 or (isinstance(following, Figure) and not following.is_wide)
        num_waiting += 1
        yield ("half" if has_partner else "lone"), block
