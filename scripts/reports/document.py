"""What a report is made of, whether it becomes a page or Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure as Drawing

Cell = str
Row = Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """A table with a caption; the first column names the row."""

    caption: str
    columns: tuple[str, ...]
    """Names with units; an empty one is the column of a remark."""

    rows: Sequence[Row]

    words: frozenset[int] = frozenset({0})
    """Columns that hold words and are aligned left; the others hold numbers."""

    is_sortable: bool = False
    """Whether a reader may want another order."""

    filter_hint: str = ""
    """What can be typed to find rows of a sortable table."""

    all_rows: Sequence[Sequence[float | str | None]] = ()
    """For a table of which only the first rows are shown: all of them as numbers, for the page's script."""


@dataclass(frozen=True)
class Figure:
    """A plot, what it shows in words, and the numbers behind it."""

    title: str
    drawing: Drawing
    caption: str
    """What to see in it."""

    table: Table | None = None
    """The numbers behind it; in Markdown they stand for the plot."""

    is_wide: bool = False
    """True when it needs the whole width of the page."""


@dataclass(frozen=True)
class Note:
    """A sentence between tables and figures."""

    text: str


Block = Table | Figure | Note


@dataclass(frozen=True)
class Section:
    """One question of the report and its answer."""

    title: str
    lead: str
    """The answer in a sentence or two."""

    blocks: Sequence[Block] = ()

    @property
    def anchor(self) -> str:
        """Name of the section in a link."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


@dataclass(frozen=True)
class Fact:
    """One of the few numbers that stand on top."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """A report, complete and without layout."""

    kind: str
    """``Run`` or ``Sweep``."""

    name: str
    sentence: str
    """The sentence that matters."""

    facts: Sequence[Fact] = ()
    warnings: Sequence[str] = ()
    sections: Sequence[Section] = field(default_factory=tuple)
