"""What `make smoke` saw on an account, as the file that it writes and the table that it prints."""

from collections.abc import Sequence

import msgspec
from rich.table import Table
from rich.text import Text

MASKED_ACCOUNT = "000000000000"
"""In place of the account's number."""


class SmokeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that AWS's pages leave open, and how it is on this account."""

    question: str
    """What was asked."""

    expected: str
    """What AWS's documentation, or the lack of it, let us expect."""

    seen: str
    """What was seen."""

    is_expected: bool
    """Whether that is what was expected."""

    evidence: tuple[str, ...] = ()
    """ARNs, object keys and messages that show it."""


class SmokeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one `make smoke` saw. The account's number is replaced by zeros wherever it stood."""

    began_at: str
    """When it began, ISO 8601."""

    total_s: float
    """How long it took, from the answer to the question to the end of destroying [s]."""

    region: str
    """Where it was."""

    architecture: str
    """Processor of the functions."""

    code_version: str
    """Version of the code in the image."""

    estimated_usd: float | None
    """What it was to cost at most, by the price file; null where that does not know the region [USD]."""

    answers: tuple[SmokeAnswer, ...]
    """What was asked and seen, in order."""

    stopped_by: str
    """Why it ended early; empty when it did not."""

    left_behind: tuple[str, ...]
    """What could not be destroyed, by its address in Terraform; empty when nothing is left."""

    @property
    def is_good(self) -> bool:
        """True when it came to its end, all is as expected, and nothing is left."""
        return not self.stopped_by and not self.left_behind and all(answer.is_expected for answer in self.answers)


def encode_report(report: SmokeReport, account_id: str) -> bytes:
    """Return the report as JSON, without the account's number."""
    content = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    return content.replace(account_id.encode(), MASKED_ACCOUNT.encode())


def answer_table(answers: Sequence[SmokeAnswer]) -> Table:
    """Return what was asked, expected and seen, one row each."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0), header_style="dim")
    for title in ("", "question", "expected", "seen"):
        table.add_column(title)
    for answer in answers:
        verdict = Text("as expected", "green") if answer.is_expected else Text("otherwise", "bold red")
        table.add_row(verdict, *map(Text, (answer.question, answer.expected, answer.seen)))
    return table
