"""The galaxies that training may see: clean, labelled, each once."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.block import Block, join
from inference.cleaning import is_label
from scripts.command.errors import SourceError
from scripts.data.cleaning_report import CleaningReport, Inspected, inspect
from scripts.data.galaxies import Facts, Galaxies
from scripts.data.records import repeated
from scripts.data.source import Source

BLOCK_ROWS = 1_000
TABLE_BLOCK_ROWS = 50_000


class Judged(NamedTuple):
    """Consecutive galaxies of a source, judged."""

    start: int
    object_id: NDArray[np.int64]
    redshifts: NDArray[np.float64]
    facts: Facts
    inspected: Inspected


def judge(source: Source) -> Iterator[Judged]:
    """Apply the rules to every galaxy, block by block; images are looked at where they were measured."""
    num_rows = len(source.galaxies)
    size = TABLE_BLOCK_ROWS if source.is_rendered else BLOCK_ROWS
    for start in range(0, num_rows, size):
        stop = min(start + size, num_rows)
        facts = source.galaxies.facts(start, stop)
        if source.is_rendered and source.records:
            records = source.records.rows(start, stop)
            magnitudes, redshifts, identifiers = (records[name] for name in ("magnitudes", "redshift", "object_id"))
            inspected = inspect(None, magnitudes, redshifts, facts.quality, source.origin.bands)
        else:
            rows = source.galaxies.rows(start, stop)
            redshifts, identifiers = rows.redshifts, rows.object_id
            inspected = inspect(rows.images, rows.magnitudes, redshifts, facts.quality, source.origin.bands)
        yield Judged(start, identifiers, redshifts, facts, inspected)


@dataclass(frozen=True)
class Kept:
    """Some galaxies of others, in their order."""

    galaxies: Galaxies
    kept: NDArray[np.int64]
    """Their rows, ascending."""

    def __len__(self) -> int:
        return len(self.kept)

    def rows(self, start: int, stop: int) -> Block:
        """Make the kept galaxies from `start` to before `stop`."""
        return join([self.galaxies.rows(first, last)[chosen] for first, last, chosen in self._spans(start, stop)])

    def facts(self, start: int, stop: int) -> Facts:
        """Return what else is known of them."""
        return Facts.joined(
            [self.galaxies.facts(first, last)[chosen] for first, last, chosen in self._spans(start, stop)]
        )

    def _spans(self, start: int, stop: int) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
        """Yield short stretches of the others, and which of their rows are kept: memory stays flat."""
        wanted = self.kept[start:stop]
        for block in np.split(wanted, np.flatnonzero(np.diff(wanted // BLOCK_ROWS)) + 1):
            first = int(block[0])
            yield first, int(block[-1]) + 1, block - first


def select_for_training(source: Source, tick: Callable[[int], None] = lambda _: None) -> tuple[Kept, CleaningReport]:
    """Find the galaxies without any flag, with a label, and whose identifier no earlier one has.

    Returns
    -------
    Kept
        Those galaxies.
    CleaningReport
        The others, by the rules they break.

    Raises
    ------
    SourceError
        If none is left.
    """
    kept, report = [], source.report
    is_first = _is_first(source)
    for block in judge(source):
        good = _is_good(block, is_first)
        kept.append(np.flatnonzero(good) + block.start)
        report += _dropped(block, good)
        tick(len(good))
    rows = np.concatenate(kept)
    if not len(rows):
        reasons = ", ".join(f"{count:,} {rule}" for rule, count in report.rules.most_common())
        raise SourceError(f"None of the {len(source.galaxies):,} galaxies may be used for training: {reasons}.")
    return Kept(source.galaxies, rows), report


def clean_rows(source: Source, *, for_training: bool) -> Iterator[tuple[Any, CleaningReport]]:
    """Yield the table of a source block by block, with what cleaning found.

    Parameters
    ----------
    source : Source
    for_training : bool
        Leave out what is not clean, labelled and unique.
    """
    from scripts.data.dataset_table import make_table

    is_first = _is_first(source) if for_training else np.empty(0, dtype=bool)
    known = source.report
    for block in judge(source):
        labels = np.where(is_label(block.redshifts), block.redshifts, np.nan)
        table = make_table(
            block.object_id,
            block.facts,
            block.inspected.magnitudes,
            block.inspected.quality,
            labels,
            source.origin.bands,
        )
        report = block.inspected.report
        if for_training:
            good = _is_good(block, is_first)
            table = table.filter(good)
            report = _dropped(block, good) + CleaningReport(Counter({"clean": int(good.sum())}))
        yield table, report + known
        known = CleaningReport()


def _is_first(source: Source) -> NDArray[np.bool_]:
    return ~repeated(source.records) if source.records else np.ones(len(source.galaxies), dtype=bool)


def _is_good(block: Judged, is_first: NDArray[np.bool_]) -> NDArray[np.bool_]:
    quality = block.inspected.quality
    is_good: NDArray[np.bool_] = is_label(block.redshifts) & is_first[block.start : block.start + len(quality)]
    is_good &= quality == 0
    return is_good


def _dropped(block: Judged, good: NDArray[np.bool_]) -> CleaningReport:
    found = block.inspected.report
    unlabelled = Counter({"no usable redshift": int(np.sum(~is_label(block.redshifts)))})
    dropped = Counter({"dropped": int(np.sum(~good))})
    return CleaningReport(+dropped, found.rules + unlabelled, found.num_filled_pixels)
