"""A sweep as text: what it will do, and what came of it, in the width there is."""

from rich.console import Console
from rich.text import Text

from scripts.command.console import Column, fitting_table, say
from scripts.sweeps.journal import Journal
from scripts.sweeps.statistics import SettingStatistics, Statistic, SweepStatistics

NAME_WIDTH = 11
COLUMNS: tuple[Column[SettingStatistics], ...] = (
    (0, "setting", lambda one: one.setting),
    (3, "runs", lambda one: str(one.num_runs) + (f"+{one.num_failed} failed" if one.num_failed else "")),
    (0, "end to end [s]", lambda one: _span(one.end_to_end_s, "{:.2f}")),
    (6, "Map [s]", lambda one: _median(one.map_s, "{:.2f}")),
    (7, "sum of rank rates", lambda one: _median(one.sum_of_rank_rates_per_s, "{:,.0f} /s")),
    (6, "Map wall", lambda one: _median(one.map_wall_per_s, "{:,.0f} /s")),
    (1, "end to end", lambda one: _median(one.end_to_end_per_s, "{:,.0f} /s")),
    (2, "speedup", lambda one: _plain(one.speedup, "{:.2f}")),
    (4, "efficiency", lambda one: _plain(one.parallel_efficiency, "{:.0%}")),
    (5, "peak [MB]", lambda one: _median(one.peak_memory_bytes, "{:,.0f}", 2**20)),
    (1, "list [USD]", lambda one: _median(one.list_price_usd, "{:.6f}") + (" *" if one.is_pareto else "  ")),
    (8, "(GB/s)/USD", lambda one: _plain(one.performance_efficiency, "{:,.2f}")),
)


def print_plan(console: Console, journal: Journal, *, num_left: int, cost: str) -> None:
    """Print how many runs there are, over what, and what they cost."""
    plan = journal.plan
    counts = [f"{len(getattr(plan, name))} {name.upper()}" for name in plan.varied] or ["1 setting"]
    repeats = [f"{plan.repeat} repeats"] if plan.repeat > 1 else []
    total = len(plan.settings) * plan.repeat
    order = f", interleaved, seed {plan.seed}" if total > 1 else ""
    say(console, _fact("runs", f"{total}: {' by '.join([*counts, *repeats])}{order}"))
    if num_left < total:
        done = f"{total - num_left} of {total}, in {journal.folder}/; {num_left} to go"
        say(console, _fact("done", done))
    say(console, _fact("cost", cost))


def print_statistics(console: Console, found: SweepStatistics, folder: str) -> None:
    """Print the table of settings, what to take, and what limits the comparison."""
    measured = [one for one in found.settings if one.num_runs]
    over = "complete" if found.num_runs == found.num_planned else "not over"
    failed = f", {found.num_failed} failed" if found.num_failed else ""
    counts = f"{found.num_runs} of {found.num_planned} runs{failed}"
    say(console, Text.assemble((found.sweep, "bold"), f": {over}, {counts}"))
    if measured:
        console.print()
        console.print(fitting_table(COLUMNS, measured, console.width))
        say(console, f"  median; in brackets the interval: {found.interval}", style="dim")
        say(console, f"  * no other setting is both faster and cheaper; {found.prices}", style="dim")
        console.print()
        for one in found.recommendations:
            say(console, _fact(one.goal, f"{one.setting}: {one.why}"))
    for setting in found.settings:
        if setting.error:
            say(console, _fact("failed", f"{setting.setting}, {setting.num_failed} of its runs: {setting.error}"))
    for warning in found.warnings:
        say(console, _fact("note", warning))
    console.print()
    say(console, _fact("files", f"{folder}/: runs.parquet, ranks.parquet (and .csv), statistics.json"))


def _median(value: Statistic | None, template: str, scale: float = 1.0) -> str:
    return "" if value is None else template.format(value.median / scale)


def _plain(value: float | None, template: str) -> str:
    return "" if value is None else template.format(value)


def _span(value: Statistic | None, template: str) -> str:
    if value is None:
        return ""
    if value.low == value.high:
        return template.format(value.median)
    return f"{template.format(value.median)} ({template.format(value.low)}-{template.format(value.high)})"


def _fact(name: str, text: str) -> Text:
    return Text(f"{name:<{NAME_WIDTH}}{text}")
