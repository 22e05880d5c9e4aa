"""Summarize as a tree: what a part of the ranks reported, joined level by level until it is the run.

A branch is about ranks that follow each other, and two of them join only where one begins as the other ends: what
covers a run has every rank of its manifest once, valid or lost. Of a rank it holds the clock, whatever the rank
recorded, and of the galaxies the residuals, up to `EXACT` of them; beyond that how many there are of each, rounded to
`metrics.BIN`.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from inference import metrics
from inference.contract import AccuracySums, LostRank, RankRecord, RankTask
from inference.errors import ManifestError
from inference.run_clock import RankTimes

EXACT = 2**24
"""Galaxies whose residuals are kept one by one, 64 MB of them."""

WAVE_RANKS = 2_000
"""Ranks whose records are in memory at the same time."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """What some ranks reported, those from `first_rank` until before `stop_rank`."""

    run_id: str
    first_rank: int
    stop_rank: int
    ranks: tuple[RankTimes, ...]
    """Of the valid records, in rank order."""

    lost: tuple[LostRank, ...]
    """The other ranks, in rank order."""

    sums: AccuracySums
    residuals: metrics.Residuals
    num_flagged: Mapping[str, int]
    ratios_95: frozenset[float | None]
    sum_of_rank_rates: float
    bits_per_row: int
    """Largest of any rank; 0 without one."""

    num_s3_requests: int
    peak_memory_bytes: int
    function_memory_mb: int
    texts: Mapping[str, frozenset[str]]
    """Field of the records to the values found in it; see `TEXTS`."""


TEXTS = ("engine", "model", "weights_sha256", "image_digest", "code_version", "sigma_note")
"""Fields of a record that are the same for all ranks, or worth a note."""


def branch_of(tasks: Sequence[RankTask], records: Sequence[RankRecord], lost: Sequence[LostRank]) -> Branch:
    """Return what ranks that follow each other reported.

    Parameters
    ----------
    tasks : sequence of RankTask
        One at least, in rank order without a gap.
    records, lost
        A valid record or a reason for every one of them, in rank order; see `inference.summary.prove`.
    """
    return Branch(
        run_id=tasks[0].run_id,
        first_rank=tasks[0].rank,
        stop_rank=tasks[-1].rank + 1,
        ranks=tuple(map(RankTimes.of, records)),
        lost=tuple(lost),
        sums=metrics.add_sums(record.accuracy for record in records),
        residuals=metrics.Residuals.of(record.residuals for record in records).within(EXACT),
        num_flagged=_add_up(record.num_flagged for record in records),
        ratios_95=frozenset(record.ratio_95 for record in records),
        sum_of_rank_rates=sum(record.sample_persec for record in records),
        bits_per_row=max((record.bits_per_row for record in records), default=0),
        num_s3_requests=sum(record.s3_num_requests for record in records),
        peak_memory_bytes=max((record.peak_memory_bytes for record in records), default=0),
        function_memory_mb=max((record.function_memory_mb for record in records), default=0),
        texts={name: frozenset(getattr(record, name) or "" for record in records) for name in TEXTS},
    )


def join(branches: Iterable[Branch]) -> Branch:
    """Join branches of one run that follow each other.

    Raises
    ------
    ManifestError
        If ranks between them are in none, or in two, or one is of another run.
    """
    parts = sorted(branches, key=lambda branch: branch.first_rank)
    for one, other in itertools.pairwise(parts):
        if one.run_id != other.run_id or one.stop_rank != other.first_rank:
            raise ManifestError(
                f"Ranks {one.first_rank} to {one.stop_rank - 1} of run {one.run_id} do not join ranks "
                f"{other.first_rank} to {other.stop_rank - 1} of run {other.run_id}: a rank would be missing or count "
                "twice."
            )
    return Branch(
        run_id=parts[0].run_id,
        first_rank=parts[0].first_rank,
        stop_rank=parts[-1].stop_rank,
        ranks=tuple(itertools.chain.from_iterable(one.ranks for one in parts)),
        lost=tuple(itertools.chain.from_iterable(one.lost for one in parts)),
        sums=metrics.add_sums(one.sums for one in parts),
        residuals=metrics.Residuals.join([one.residuals for one in parts]).within(EXACT),
        num_flagged=_add_up(one.num_flagged for one in parts),
        ratios_95=frozenset[float | None]().union(*(one.ratios_95 for one in parts)),
        sum_of_rank_rates=sum(one.sum_of_rank_rates for one in parts),
        bits_per_row=max(one.bits_per_row for one in parts),
        num_s3_requests=sum(one.num_s3_requests for one in parts),
        peak_memory_bytes=max(one.peak_memory_bytes for one in parts),
        function_memory_mb=max(one.function_memory_mb for one in parts),
        texts={name: frozenset[str]().union(*(one.texts[name] for one in parts)) for name in TEXTS},
    )


def in_waves(
    tasks: Iterable[RankTask], read: Callable[[Sequence[RankTask], Counter[int]], tuple[Branch, Counter[int]]]
) -> Branch:
    """Read and join a run wave by wave, so that no more than `WAVE_RANKS` records are in memory at the same time.

    Parameters
    ----------
    tasks : iterable of RankTask
        The manifest, one task at least; is iterated again where records claim ranks of other waves.
    read : callable
        Reads and proves the records of some tasks, given how many records of other waves claim each rank; returns
        their branch, and how many of their records claim each rank of another wave.

    Raises
    ------
    ManifestError
        If what was read is not about every rank of the manifest, once.
    """
    claims: Counter[int] = Counter()
    branches = []
    num_ranks = 0
    for wave in _waves(tasks):
        num_ranks += len(wave)
        found, beyond = read(wave, Counter())
        branches.append(found)
        claims += beyond
    if claims:
        for i, wave in enumerate(_waves(tasks)):
            if any(task.rank in claims for task in wave):
                # A record of another wave says that it is of a rank of this one: two of them are none.
                branches[i], _ = read(wave, claims)
    whole = join(branches)
    if whole.stop_rank - whole.first_rank != num_ranks:
        raise ManifestError(
            f"Ranks {whole.first_rank} to {whole.stop_rank - 1} were merged, and the manifest has {num_ranks} ranks: "
            "run again."
        )
    return whole


def _waves(tasks: Iterable[RankTask]) -> Iterator[list[RankTask]]:
    left = iter(tasks)
    while wave := list(itertools.islice(left, WAVE_RANKS)):
        yield wave


def _add_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total)
