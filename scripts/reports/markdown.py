"""A report as Markdown: the same sentences and tables; the numbers behind a chart stand for it."""

from collections.abc import Iterable, Iterator

from scripts.reports.document import Block, Figure, Note, Report, Table


def as_markdown(report: Report, *, footer: str) -> str:
    """Return the report as GitHub-flavoured Markdown."""
    return "\n".join(_lines(report, footer)) + "\n"


def _lines(report: Report, footer: str) -> Iterator[str]:
    yield f"# {_escaped(report.name)}"
    yield f"\n**{_escaped(report.sentence)}**\n"
    yield from (f"- {fact.label}: **{fact.value}** {_escaped(fact.detail)}".rstrip() for fact in report.facts)
    if report.warnings:
        yield "\n## Warnings\n"
        yield from (f"- {_escaped(warning)}" for warning in report.warnings)
    for section in report.sections:
        yield f"\n## {section.title}\n\n{_escaped(section.lead)}"
        for block in section.blocks:
            yield from _block(block)
    yield f"\n---\n\n{_escaped(footer)}"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Figure):
        yield f"\n### {_escaped(block.title)}\n\n{_escaped(block.caption)}"
        if block.table:
            yield from _table(block.table)
    else:
        assert isinstance(block, Note), "a block is a table, a figure or a note"
        yield f"\n{_escaped(block.text)}"


def _table(table: Table) -> Iterator[str]:
    yield f"\n*{_escaped(table.caption)}*\n"
    yield _row(map(_escaped, table.columns))
    yield _row(":--" if i in table.words else "--:" for i in range(len(table.columns)))
    yield from (_row(map(_escaped, row)) for row in table.rows)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Return text as Markdown shows it: nothing in it is markup, a table or HTML."""
    return "".join(f"\\{c}" if c in "\\*_|<>[]#" else c for c in " ".join(text.split()))
