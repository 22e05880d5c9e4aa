"""The result of a run as a short table: short enough for 80 columns, readable without colour."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from inference.contract import Accuracy, CommSummary, LostRank, RunSummary
from scripts.command.console import counted, say
from scripts.pricing.cost import Bill
from scripts.runs.ending import Ending

MAX_LOST_RANKS = 10
"""Lost ranks that are listed; the others are counted."""

PHASES = ("queue", "init", "model_load", "download", "inference", "upload")
LABEL_WIDTH = 17

FLAGS = {
    "REFUSED": "refused: too little was measured",
    "OUT_OF_DOMAIN": "unlike the training galaxies",
    "COLOR_OUTLIER": "with a colour of no galaxy",
    "IMPUTED_BAND": "with an estimated magnitude",
    "FILLED_PIXELS": "with pixels filled in",
    "LOW_SIGNAL": "with little signal",
    "HIGH_EXTINCTION": "behind much dust",
}
"""Flags of `inference.quality.Quality` in words, the gravest first."""

Row = tuple[str, str, str]
"""Label, value, meaning."""


def print_result(
    console: Console,
    run_id: str,
    summary: RunSummary | None,
    ending: Ending,
    folder: Path,
    *,
    notes: Sequence[str] = (),
    bill: Bill | None = None,
) -> None:
    """Print how a run ended, what it found, what failed, and where the files are.

    Parameters
    ----------
    console : Console
        Where to print.
    run_id : str
        Name of the execution.
    summary : RunSummary or None
        None when the run ended before there was one: the request was refused.
    ending : Ending
        How the execution ended.
    folder : Path
        The run's folder on this machine.
    notes : sequence of str
        What was noticed outside the run, in sentences.
    bill : Bill, optional
        What the run cost; None where nothing is paid.
    """
    say(console, _headline(run_id, summary, ending))
    if summary is not None:
        _print_sections(console, _measured(summary) | _costs(bill))
        if summary.num_records:
            _print_phases(console, summary)
        _print_list(console, "Lost ranks", list(_lost(summary.lost_ranks)))
    if summary is None or not (ending.succeeded or summary.lost_ranks):
        goes_on = f"`make resume RUN={run_id}` goes on with it." if ending.status == "ABORTED" else ending.status
        _print_list(console, "Reason", [": ".join(filter(None, (ending.error, ending.message))) or goes_on])
    _print_list(console, "Notes", [*notes, *(summary.notes if summary else ())])
    _print_list(console, "Files", [f"{folder}/", files_in(folder)])


def files_in(folder: Path) -> str:
    """Name what is in a run's folder, folders with the number of their files."""
    children = sorted(folder.iterdir(), key=lambda child: (child.is_dir(), child.name))
    return ", ".join(f"{child.name}/ ({_count(child)})" if child.is_dir() else child.name for child in children)


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


# ------------------------------------------------------------------------------------ what is printed


def _headline(run_id: str, summary: RunSummary | None, ending: Ending) -> Text:
    state, style, why = ending.in_a_word, "bold green" if ending.succeeded else "bold red", ""
    if summary is not None and summary.lost_ranks:
        why = f" ({len(summary.lost_ranks):,} of {summary.world_size:,} ranks lost)"
        if ending.succeeded:
            state, style = "incomplete, as tolerated", "bold"
    return Text.assemble((run_id, "bold"), ": ", (state, style), why)


def _measured(summary: RunSummary) -> dict[str, list[Row]]:
    """Return title to rows; without a single record there is nothing to say but the counts."""
    sections = {"": _counts(summary)}
    if summary.num_records:
        labelled = f" over {summary.accuracy.num_labelled:,} galaxies" if summary.accuracy else ""
        sections[f"Accuracy{labelled}, dz = (z_phot - z_spec) / (1 + z_spec)"] = _accuracy(summary)
        sections["Throughput"] = _throughput(summary)
        sections["Wall time"] = _wall_time(summary)
        if summary.comm:
            sections["Ranks that talk"] = list(_comm(summary.comm, summary.world_size))
    return sections


def _counts(summary: RunSummary) -> list[Row]:
    ranks = f"{summary.num_records:,} of {summary.world_size:,}"
    galaxies = f"{summary.num_samples:,} of {summary.num_samples_planned:,}"
    memory = f"{summary.peak_memory_bytes / 2**20:,.0f} MB"
    precision = summary.request.precision
    reduced = "" if precision == "fp32" else f" in {precision}"
    starts = f"{summary.num_cold_starts} cold, {summary.num_records - summary.num_cold_starts} warm"
    return [
        ("ranks", ranks, f"{starts}, {summary.num_retried_ranks} retried"),
        ("galaxies", galaxies, ", ".join(summary.engines) + reduced),
        *_flagged(summary),
        ("peak memory", memory, f"of any rank; {summary.function_memory_mb:,} MB configured"),
    ]


def _flagged(summary: RunSummary) -> Iterator[Row]:
    """Yield a line for each flag that galaxies carry; a clean run has none."""
    label = "flagged"
    for name, meaning in FLAGS.items():
        if summary.num_flagged.get(name):
            yield label, f"{summary.num_flagged[name]:,}", meaning
            label = ""


def _accuracy(summary: RunSummary) -> list[Row]:
    found = summary.accuracy
    if found is None:
        return [("unknown", "", "no galaxy has a spectroscopic redshift")]
    return [
        ("NMAD", f"{found.nmad:.5f}", "1.48 · median(|dz - median(dz)|)"),
        ("bias", f"{found.bias:.5f}", "mean of dz"),
        ("outliers", f"{100 * found.outlier_005:.2f} %", "share with |dz| > 0.05"),
        ("", f"{100 * found.outlier_015:.2f} %", "share with |dz| > 0.15"),
        *_coverage(found),
        ("MAE", f"{found.mae:.5f}", "mean of |z_phot - z_spec|"),
        ("R²", "undefined" if found.r2 is None else f"{found.r2:.4f}", f"with std(z_spec) = {found.std_z_spec:.4f}"),
    ]


def _coverage(found: Accuracy) -> list[Row]:
    """Return how often sigma was large enough; nothing where no sigma is known."""
    if found.coverage_68 is None:
        return []
    return [("within sigma", f"{100 * found.coverage_68:.1f} %", "share with |z_phot - z_spec| <= sigma")]


def _throughput(summary: RunSummary) -> list[Row]:
    rates = summary.throughput
    return [
        ("sum of rank rates", f"{rates.sum_of_rank_rates:,.1f} /s", "each rank's own rate, added: as published"),
        ("Map wall", _rate(rates.map_wall), "galaxies over the wall time of the Map"),
        ("end to end", _rate(rates.end_to_end), "galaxies over the wall time of the run"),
    ]


def _rate(per_s: float) -> str:
    return f"{per_s:,.1f} /s" if per_s else "unknown"


def _wall_time(summary: RunSummary) -> list[Row]:
    clock = summary.clock
    return [
        ("plan", f"{clock.initialize:.2f} s", "Initialize"),
        ("Map", f"{clock.map:.2f} s", "all ranks"),
        ("summarize", f"{clock.summarize:.2f} s", "Summarize, up to the summary"),
        ("end to end", f"{clock.end_to_end:.2f} s", ""),
        *_efficiency(summary),
    ]


def _efficiency(summary: RunSummary) -> list[Row]:
    """Return how well the workers were used; nothing for summaries of older versions."""
    share = summary.clock.parallel_efficiency
    if share is None:
        return []
    workers = summary.clock.num_concurrent_ranks
    return [("efficiency", f"{100 * share:.0f} %", f"inference; {counted(workers, 'rank')} at a time")]


def _comm(comm: CommSummary, world_size: int) -> Iterator[Row]:
    """Yield how the ranks met: over which connections, who waited for whom, and whether their sums are right."""
    paths = ", ".join(f"{count:,} {path}" for path, count in comm.paths.items()) or "no connection needed"
    yield "met", f"{comm.num_met:,} of {world_size:,}", comm.why or paths
    if comm.last_rank is not None and world_size > 1:
        yield "barrier skew", f"{comm.skew_s:.2f} s", f"all waited for rank {comm.last_rank}"
        yield "connecting", f"{1000 * comm.meet_s:,.0f} ms", "the slowest pair, once both were there"
    if comm.reduced:
        num_equal = sum(value.is_equal for value in comm.reduced.values())
        yield "equal sums", f"{num_equal} of {len(comm.reduced)}", "by the ranks, and from their records"


def _costs(bill: Bill | None) -> dict[str, list[Row]]:
    """Return the bill with its sum; nothing where nothing is paid."""
    if bill is None:
        return {}
    rows = [(item.name, f"{item.usd:.5f} USD", item.quantity) for item in bill.items]
    total = ("together", f"{bill.usd:.5f} USD", "the dataset's storage comes on top")
    return {f"Cost at the prices of {bill.prices_of}": [*rows, total]}


def _lost(lost: Sequence[LostRank]) -> Iterator[str]:
    for rank in lost[:MAX_LOST_RANKS]:
        shards = rank.shards[0] + (f" and {len(rank.shards) - 1} more" if len(rank.shards) > 1 else "")
        yield f"rank {rank.rank}, {shards}: {rank.error}: {rank.message}"
    if len(lost) > MAX_LOST_RANKS:
        yield f"and {len(lost) - MAX_LOST_RANKS:,} more in summary.json"


# --------------------------------------------------------------------------------------- how it looks


def _print_sections(console: Console, sections: dict[str, list[Row]]) -> None:
    width = max(len(value) for rows in sections.values() for _, value, _ in rows)
    for title, rows in sections.items():
        console.print()
        if title:
            say(console, Text(f"  {title}", "bold"))
        for label, value, meaning in rows:
            line = Text(f"  {label:<{LABEL_WIDTH}} {value:>{width}}")
            say(console, line.append(f"   {meaning}", "dim") if meaning else line)


def _print_phases(console: Console, summary: RunSummary) -> None:
    names = [phase.replace("_", " ") for phase in PHASES]
    rows = {"mean of rank": [getattr(summary.clock.ranks, phase) / summary.num_records for phase in PHASES]}
    for one in summary.clock.slowest[:1]:
        rows[f"slowest: {one.rank}"] = [getattr(one.clock, phase) for phase in PHASES]
    cells = {label: [f"{seconds:.2f}" for seconds in row] for label, row in rows.items()}
    widths = [max(map(len, column)) + 2 for column in zip(names, *cells.values(), strict=True)]
    console.print()
    say(console, Text(f"  {'phases [s]':<{LABEL_WIDTH}}" + "".join(map(str.rjust, names, widths)), "dim"))
    for label, row in cells.items():
        say(console, Text(f"  {label:<{LABEL_WIDTH}}" + "".join(map(str.rjust, row, widths))))


def _print_list(console: Console, title: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    console.print()
    say(console, Text(f"  {title}", "bold"))
    for line in lines:
        say(console, f"  {line}")
