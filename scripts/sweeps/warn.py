"""What limits the comparison of a sweep's settings, in sentences."""

import statistics
from collections.abc import Iterator, Sequence

from scripts.sweeps.journal import Journal
from scripts.sweeps.rows import RunRow

COLD_SHARE_DIFFERENCE = 0.25
"""Settings whose cold ranks differ by more than this share are not compared under equal conditions."""

RESTLESS = 0.25
"""Repeats that differ by more than this share of their median were not measured on a quiet machine."""

PROVENANCE = {"weights_sha256": "weights", "code_version": "versions of the code", "image_digest": "images"}


def warnings_of(journal: Journal, rows: Sequence[RunRow], varied: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for everything that a reader of the numbers should know.

    Parameters
    ----------
    journal : Journal
        The sweep.
    rows : sequence of RunRow
        Runs that have ended.
    varied : sequence of str
        Columns that vary.
    """
    ended = [row for row in rows if row.state != "failed"]
    num_planned = len(journal.plan.settings) * journal.plan.repeat
    if len(rows) < num_planned:
        yield f"The sweep is not over: {len(rows)} of {num_planned} runs have ended."
    if failed := len(rows) - len(ended):
        yield f"{failed} of {len(rows)} runs failed; they are in no median. RETRY=1 runs them again."
    if journal.plan.repeat == 1:
        yield "One run per setting: nothing says how far chance moves a number. REPEAT=3 gives intervals."
    if not ended:
        return
    yield from _of_the_machine(journal, ended, varied)
    yield from _of_the_runs(ended)


def _of_the_machine(journal: Journal, ended: Sequence[RunRow], varied: Sequence[str]) -> Iterator[str]:
    at_once = max(row.max_concurrency for row in ended)
    if any((row.world_size or 0) > at_once for row in ended):
        yield f"{at_once} ranks run at a time: a world size above that waits in turns and cannot be faster."
    if journal.plan.target == "local":
        yield "Starts of workers and engines are in no row: a run that is not counted went before."
        yield "Nothing was paid: prices are what these times would cost on AWS, whose processors are others."
        if "memory_mb" in varied:
            yield "Here MEMORY sets threads and the limit; on Lambda it sets the share of a processor, too."
    if "batch_size" in varied and not any(row.profile for row in ended):
        yield "Without PROFILE=1 the loop computes in batches of its own: BATCH changes the published metrics only."


def _of_the_runs(ended: Sequence[RunRow]) -> Iterator[str]:
    shares: dict[str, list[float]] = {}
    times_s: dict[str, list[float]] = {}
    for row in ended:
        shares.setdefault(row.setting, []).append(row.num_cold_starts / max(row.num_records, 1))
        times_s.setdefault(row.setting, []).append(row.end_to_end_s or 0.0)
    spread, setting = max(
        ((max(each) - min(each)) / (statistics.median(each) or 1.0), name) for name, each in times_s.items()
    )
    if spread > RESTLESS:
        yield (
            f"Repeats of {setting} differ by {spread:.0%} of their median: the machine was busy with other things, and "
            "small differences say nothing."
        )
    cold = [sum(each) / len(each) for each in shares.values()]
    if max(cold) - min(cold) > COLD_SHARE_DIFFERENCE:
        yield f"Between {min(cold):.0%} and {max(cold):.0%} of a setting's ranks started cold: part of the difference."
    if len({row.num_samples for row in ended}) > 1:
        yield "Settings predicted different numbers of galaxies: compare rates, not times."
    if retried := sum(row.num_retried_ranks for row in ended):
        yield f"{retried} ranks were retried; their first attempts are in the wall time."
    for column, words in PROVENANCE.items():
        if len({getattr(row, column) for row in ended}) > 1:
            yield f"The runs used different {words}: they are not repeats of the same thing."
