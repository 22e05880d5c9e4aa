"""Where the time went: the run by stage, the ranks by phase, and the ranks that were slow."""

from collections.abc import Iterator

import numpy as np

from scripts.command.console import counted
from scripts.reports.document import Block, Figure, Note, Row, Section, Table
from scripts.reports.evidence import RunEvidence
from scripts.reports.figures.ranks import (
    Timeline,
    draw_distribution,
    draw_ranks_at_work,
    draw_shares,
    draw_waterfall,
    waterfall_rows,
)
from scripts.reports.quantities import UNKNOWN, count, decimals, number, percent, seconds
from scripts.reports.ranks import PHASES, Array, Ranks
from scripts.reports.sections.rank_tables import MAX_ROWS, NUM_SLOWEST, all_ranks, slowest_ranks

STAGES = (
    ("initialize", "Initialize", "listing the shards and dealing their rows"),
    ("map", "Map", "all ranks"),
    ("summarize", "Summarize", "proving that all ranks reported, merging"),
    ("end_to_end", "end to end", "from Initialize to the summary"),
)


def clock_section(run: RunEvidence) -> Section:
    """Return where the time of a run went."""
    ranks = run.ranks
    blocks: list[Block] = []
    if run.get("clock"):
        blocks.append(_stages(run))
    if not ranks.has("total"):
        blocks.append(Note("The records have no clock of our kind: the published loop times are all there is."))
        blocks += _loop_times(ranks)
        return Section("Clock", _lead(run), blocks)
    timeline = make_timeline(ranks)
    blocks.append(_phase_shares(ranks))
    if timeline is not None:
        blocks += _over_time(timeline, ranks)
    blocks.append(_distribution(ranks["seconds"], "billed time of a rank"))
    blocks.append(slowest_ranks(ranks))
    blocks.append(all_ranks(ranks))
    return Section("Clock", _lead(run), blocks)


def make_timeline(ranks: Ranks) -> Timeline | None:
    """Return when each rank was in which phase; None where no rank says when it started.

    The queue as recorded includes the init of a process started for the rank: it is drawn as two.
    """
    known = np.flatnonzero(np.isfinite(ranks["start"]) & np.isfinite(ranks["total"]))
    if not known.size:
        return None
    lengths = np.stack([np.nan_to_num(ranks[phase][known]) for phase in PHASES], axis=1)
    lengths[:, 0] = np.maximum(lengths[:, 0] - lengths[:, 1], 0.0)
    start = ranks["started_at_s"][known] - lengths[:, 0] - lengths[:, 1]
    order = np.argsort(start, kind="stable")
    return Timeline(PHASES, ranks["rank"][known][order].astype(np.int64), (start - start.min())[order], lengths[order])


def _lead(run: RunEvidence) -> str:
    clock, ranks = run.get("clock"), run.ranks
    if not clock:
        return "From the records of the ranks; the run left no summary."
    parts = [f"{seconds(clock['end_to_end'])} end to end, of which {seconds(clock['map'])} in the Map."]
    if ranks.has("seconds"):
        p50, p95, longest = (float(np.nanquantile(ranks["seconds"], q)) for q in (0.5, 0.95, 1.0))
        parts.append(
            f"A rank took {seconds(p50)} in the median, {seconds(p95)} at the 95th percentile and at most "
            f"{seconds(longest)}."
        )
    efficiency = clock.get("parallel_efficiency")
    if efficiency is not None:
        parts.append(
            f"Parallel efficiency {percent(efficiency, 0)}: seconds of inference over "
            f"{counted(clock['num_concurrent_ranks'], 'concurrent rank')} times the Map's wall time."
        )
    return " ".join(parts)


def _stages(run: RunEvidence) -> Table:
    whole = run.get("clock", "end_to_end") or float("nan")
    rows = [
        (name, decimals(run.get("clock", key), 2), percent((run.get("clock", key) or 0.0) / whole), meaning)
        for key, name, meaning in STAGES
    ]
    return Table("Wall time by stage", ("stage", "wall time [s]", "share", "what it does"), rows, frozenset({0, 3}))


def _phase_shares(ranks: Ranks) -> Figure:
    cold = ranks["cold_start"] == 1
    sums = {phase: float(np.nansum(ranks[phase])) for phase in PHASES}
    # A queue is waited for, not worked; what of it is init is counted as init.
    worked = {phase: total for phase, total in sums.items() if phase != "queue"}
    rows = [_phase_row(phase, ranks, cold, sums, sum(worked.values())) for phase in PHASES]
    columns = ("phase", "sum [s]", "share", "p50 [s]", "p95 [s]", "max [s]", "p50 cold [s]", "p50 warm [s]")
    caption = (
        f"Share of each phase in {seconds(sum(worked.values()))} of all ranks. "
        f"{count(float(cold.sum()))} of {len(ranks):,} ranks began in a fresh process (cold). "
        "The queue, before the handler, is not in the shares; it includes the init of a cold rank."
    )
    table = Table("Phases over the ranks", columns, rows)
    return Figure("Time of the ranks by phase", draw_shares(worked), caption, table, is_wide=True)


def _phase_row(phase: str, ranks: Ranks, cold: np.ndarray, sums: dict[str, float], worked: float) -> Row:
    values = ranks[phase]
    share = UNKNOWN if phase == "queue" else percent(sums[phase] / (worked or 1.0))
    quantiles = [
        decimals(float(np.nanquantile(values, q))) if np.isfinite(values).any() else UNKNOWN for q in (0.5, 0.95, 1)
    ]
    return (
        phase.replace("_", " "),
        decimals(sums[phase]),
        share,
        *quantiles,
        _median(values[cold]),
        _median(values[~cold]),
    )


def _median(values: Array) -> str:
    return decimals(float(np.nanmedian(values))) if np.isfinite(values).any() else UNKNOWN


def _over_time(timeline: Timeline, ranks: Ranks) -> Iterator[Figure]:
    rows = waterfall_rows(timeline)
    share = rows[0].num_ranks
    caption = (
        "Each row is a rank, its phases from left to right in the order of the key; download and inference "
        "alternate in reality; here they follow each other."
    )
    if share > 1:
        caption = (
            f"Each row is a group of {share} ranks in order of start: the phases of its median rank, and a thin line "
            "from the group's first start to its last end. Long lines to the right are stragglers."
        )
    yield Figure("Waterfall of the ranks", draw_waterfall(timeline, rows), caption, is_wide=True)
    if len(ranks) > MAX_ROWS:
        caption = "How many ranks were in each phase at each moment."
        yield Figure("Ranks at work over time", draw_ranks_at_work(timeline), caption, is_wide=True)


def _distribution(values: Array, what: str) -> Figure:
    p50, p95, longest = (float(np.nanquantile(values, q)) for q in (0.5, 0.95, 1.0))
    caption = (
        f"Median {seconds(p50)}, 95th percentile {seconds(p95)}, longest {seconds(longest)}: "
        f"{number(longest / p50)} times the median."
    )
    marks = {f"median {seconds(p50)}": p50, f"p95 {seconds(p95)}": p95}
    drawing = draw_distribution(values, label=f"{what} [s]", what="rank", marks=marks)
    return Figure(f"Distribution of the {what}", drawing, caption)


def _loop_times(ranks: Ranks) -> Iterator[Block]:
    values = ranks["total_cpu_time_s"]
    if not np.isfinite(values).any():
        return
    yield _distribution(values, "loop time of a rank")
    order = np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable")[:NUM_SLOWEST]
    rows = [
        (
            f"{ranks['rank'][i]:.0f}",
            seconds(float(values[i])),
            f"{float(values[i] / np.nanmedian(values)):.2f}",
            count(ranks["num_samples"][i]),
        )
        for i in order.tolist()
    ]
    yield Table("Slowest records", ("position in the file", "loop time", "times the median", "galaxies"), rows)
