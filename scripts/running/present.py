"""The result of a run as a short table: short enough for 80 columns, readable without colour."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from inference.contract import LostRank, RunSummary
from scripts.running.execution import Ending

MAX_LOST_RANKS = 10
"""Lost ranks that are listed; the others are counted."""

PHASES = ("queue", "init", "model_load", "download", "inference", "upload")
LABEL_WIDTH = 17
VALUE_WIDTH = 14


def print_result(
    console: Console,
    run_id: str,
    summary: RunSummary | None,
    ending: Ending,
    folder: Path,
    *,
    notes: Sequence[str] = (),
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
    """
    console.print(_headline(run_id, summary, ending))
    if summary is not None:
        _print_section(console, "", _counts(summary))
    if summary is not None and summary.num_records:
        _print_section(console, *_accuracy(summary))
        _print_section(console, "Throughput", _throughput(summary))
        _print_section(console, "Wall time", _wall_time(summary))
    if summary is not None:
        _print_list(console, "Lost ranks", list(_lost(summary.lost_ranks)))
    if summary is None or not (ending.succeeded or summary.lost_ranks):
        _print_list(console, "Reason", [": ".join(filter(None, (ending.error, ending.message))) or ending.status])
    _print_list(console, "Notes", [*notes, *(summary.notes if summary else ())])
    _print_list(console, "Files", [f"{folder}/", files_in(folder)])


def files_in(folder: Path) -> str:
    """Name what lies in a run's folder, folders with the number of their files."""
    children = sorted(folder.iterdir(), key=lambda child: (child.is_dir(), child.name))
    return ", ".join(f"{child.name}/ ({_count(child)})" if child.is_dir() else child.name for child in children)


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


# ------------------------------------------------------------------------------------ what is printed


def _headline(run_id: str, summary: RunSummary | None, ending: Ending) -> Text:
    state, style, why = "failed", "bold red", ""
    if ending.succeeded:
        state, style = "complete", "bold green"
    if summary is not None and summary.lost_ranks:
        why = f" ({len(summary.lost_ranks):,} of {summary.world_size:,} ranks lost)"
        if ending.succeeded:
            state, style = "incomplete, as tolerated", "bold"
    return Text.assemble((run_id, "bold"), ": ", (state, style), why)


def _counts(summary: RunSummary) -> list[Text]:
    starts = f"{summary.num_cold_starts} cold, {summary.num_records - summary.num_cold_starts} warm"
    memory = f"{summary.function_memory_mb:,} MB configured"
    return [
        _row(
            "ranks",
            f"{summary.num_records:,} of {summary.world_size:,}",
            f"{starts}, {summary.num_retried_ranks} retried",
        ),
        _row("galaxies", f"{summary.num_samples:,} of {summary.num_samples_planned:,}", ", ".join(summary.engines)),
        _row("peak memory", f"{summary.peak_memory_bytes / 1e6:,.0f} MB", f"largest of any rank; {memory}"),
    ]


def _accuracy(summary: RunSummary) -> tuple[str, list[Text]]:
    found = summary.accuracy
    if found is None:
        return "Accuracy", [_row("unknown", "", "no galaxy has a spectroscopic redshift")]
    r2 = "undefined" if found.r2 is None else f"{found.r2:.4f}"
    return f"Accuracy over {found.num_labelled:,} galaxies, dz = (z_phot - z_spec) / (1 + z_spec)", [
        _row("NMAD", f"{found.nmad:.5f}", "1.48 · median(|dz - median(dz)|)"),
        _row("bias", f"{found.bias:.5f}", "mean of dz"),
        _row("outliers", f"{100 * found.outlier_005:.2f} %", "share with |dz| > 0.05"),
        _row("", f"{100 * found.outlier_015:.2f} %", "share with |dz| > 0.15"),
        _row("MAE", f"{found.mae:.5f}", "mean of |z_phot - z_spec|"),
        _row("R²", r2, f"with std(z_spec) = {found.std_z_spec:.4f}"),
    ]


def _throughput(summary: RunSummary) -> list[Text]:
    rates = summary.throughput
    return [
        _row(
            "sum of rank rates", f"{rates.sum_of_rank_rates:,.1f} /s", "galaxies over each rank's inference loop, added"
        ),
        _row("Map wall", f"{rates.map_wall:,.1f} /s", "galaxies over the wall time of the Map"),
        _row("end to end", f"{rates.end_to_end:,.1f} /s", "galaxies over the wall time of the run"),
    ]


def _wall_time(summary: RunSummary) -> list[Text]:
    clock = summary.clock
    names = [phase.replace("_", " ") for phase in PHASES]
    means = [f"{getattr(clock.ranks, phase) / summary.num_records:.2f} s" for phase in PHASES]
    widths = [max(map(len, pair)) for pair in zip(names, means, strict=True)]
    return [
        _row("plan", f"{clock.initialize:.2f} s", "Initialize"),
        _row("Map", f"{clock.map:.2f} s", "all ranks"),
        _row("summarize", f"{clock.summarize:.2f} s", "Summarize, up to the summary"),
        _row("end to end", f"{clock.end_to_end:.2f} s", ""),
        Text(),
        Text("mean of a rank    ", "dim").append("   ".join(map(str.rjust, names, widths)), "dim"),
        Text(" " * 18).append("   ".join(map(str.rjust, means, widths))),
    ]


def _lost(lost: Sequence[LostRank]) -> Iterator[str]:
    for rank in lost[:MAX_LOST_RANKS]:
        shards = rank.shards[0] + (f" and {len(rank.shards) - 1} more" if len(rank.shards) > 1 else "")
        yield f"rank {rank.rank}, {shards}: {rank.error}: {rank.message}"
    if len(lost) > MAX_LOST_RANKS:
        yield f"and {len(lost) - MAX_LOST_RANKS:,} more in summary.json"


# --------------------------------------------------------------------------------------- how it looks


def _row(label: str, value: str, meaning: str) -> Text:
    text = Text(f"{label:<{LABEL_WIDTH}} {value:>{VALUE_WIDTH}}")
    return text.append(f"   {meaning}", "dim") if meaning else text


def _print_section(console: Console, title: str, rows: Sequence[Text]) -> None:
    console.print()
    if title:
        console.print(Text(f"  {title}", "bold"))
    for row in rows:
        console.print(Text("  ").append_text(row) if row else "")


def _print_list(console: Console, title: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    console.print()
    console.print(Text(f"  {title}", "bold"))
    # A path or key in two pieces cannot be copied.
    wrapper = textwrap.TextWrapper(
        console.width - 1,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        for part in wrapper.wrap(line):
            console.print(Text(part), soft_wrap=True)
