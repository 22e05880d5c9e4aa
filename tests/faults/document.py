"""docs/faults.md: the table as it is tested."""

from collections.abc import Iterator
from pathlib import Path

from tests.faults.rows import table
from tests.faults.whole import WHOLE

PATH = Path(__file__).parents[2] / "docs" / "faults.md"
BEGINNING = """# What may go wrong, and how a run ends then

Written by `make faults` from the tests in [tests/faults](../tests/faults). One judge looks at every row: each galaxy of
the plan is there exactly once with the bits of an undisturbed run, or its rank is named with the reason; a run is
complete if and only if nothing is missing; an error is the product's own, or what AWS says of a function that did not
come to raise one, and names the object; and all is over in time. A run that is refused has computed nothing; what of a
run is lost, `make resume` computes again.

`complete`: nothing is missing. `lost: 2 MissingRecord`: rank 2 of four is lost for this reason; the run fails, unless
its request tolerates that. `refused: …`: the execution fails with this error.
"""


def text() -> str:
    """Return the page."""
    return "\n".join([BEGINNING, *_lines()]) + "\n"


def _lines() -> Iterator[str]:
    yield "## In this process, over a storage proxy\n"
    yield "| where | what happens | how the run ends |"
    yield "|---|---|---|"
    for row in table():
        yield f"| {row.stage} | {row.what} | {row.end} |"
    yield "\n## Through the state machine and Lambda's runtime\n"
    yield "| what happens | how the run ends |"
    yield "|---|---|"
    for one in WHOLE:
        yield f"| {one.what} | {one.end} |"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
