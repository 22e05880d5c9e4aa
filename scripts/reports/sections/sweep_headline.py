"""What a sweep says first: the setting to take for each goal, and what limits the comparison."""

from collections.abc import Iterator

from scripts.command.console import counted
from scripts.reports.document import Block, Fact, Note, Section, Table
from scripts.reports.quantities import count, number, seconds, usd
from scripts.reports.sweep_axes import varying
from scripts.reports.sweep_evidence import SweepEvidence, median

MIB = 2**20
MAX_FAILED_NAMED = 3


def sentence(sweep: SweepEvidence) -> str:
    """Return what to take for which goal, in one sentence."""
    parts = [f"{' and '.join(named)}: {_in_words(sweep, setting)}" for setting, named in sweep.goals.items()]
    first = "; ".join(parts)
    return f"{first[:1].upper()}{first[1:]}." if parts else f"{counted(len(sweep.runs), 'run')}, no recommendation."


def facts(sweep: SweepEvidence) -> Iterator[Fact]:
    """Yield the numbers of the top."""
    statistics = sweep.statistics
    yield Fact(
        "runs", count(statistics.num_runs), f"of {statistics.num_planned:,} planned, {statistics.num_failed} failed"
    )
    yield Fact("settings", count(len(sweep.settings)), ", ".join(axis.variable for axis in varying(sweep.settings)))
    times = [median(setting.statistics.end_to_end_s) for setting in sweep.settings]
    yield Fact("end to end", seconds(min(times)), f"slowest setting {seconds(max(times))}")
    rates = [median(setting.statistics.end_to_end_per_s) for setting in sweep.settings]
    yield Fact("best throughput", f"{number(max(rates))} /s", "galaxies, end to end")
    peaks = [median(setting.statistics.peak_memory_bytes) for setting in sweep.settings]
    yield Fact("peak memory", f"{count(max(peaks) / MIB)} MB", "of any setting")


def warnings(sweep: SweepEvidence) -> Iterator[str]:
    """Yield what limits the comparison, in sentences."""
    statistics = sweep.statistics
    if statistics.num_runs < statistics.num_planned:
        missing = statistics.num_planned - statistics.num_runs
        yield (
            f"Incomplete: {missing:,} of {statistics.num_planned:,} planned runs are missing. "
            f"`make sweep NAME={sweep.name}` continues where it stopped."
        )
    failed = [row for row in sweep.runs if row.state == "failed"]
    for row in failed[:MAX_FAILED_NAMED]:
        yield f"Failed: {row.setting or 'a run'}, repeat {row.repeat}: {row.error}: {row.message}"
    if len(failed) > MAX_FAILED_NAMED:
        yield f"{len(failed) - MAX_FAILED_NAMED:,} more runs failed; the table of runs names them."
    yield from statistics.warnings


def recommendation_section(sweep: SweepEvidence) -> Section:
    """Return the setting to take for each goal, and why."""
    rows = [(one.goal, one.setting or "the only one", one.why) for one in sweep.statistics.recommendations]
    table = Table("What to take", ("goal", "setting", "why"), rows, frozenset({0, 1, 2}))
    lead = f"Settings are compared by their medians; intervals are {sweep.statistics.interval}."
    return Section("Recommendation", lead, [table, *_shared(sweep)])


def _shared(sweep: SweepEvidence) -> Iterator[Block]:
    """Yield what all runs had in common."""
    varied = {axis.column for axis in varying(sweep.settings)} | set(sweep.statistics.varied)
    common = {
        name: value
        for name, value in sweep.settings[0].statistics.values.items()
        if name not in varied and value is not None
    }
    if common:
        yield Note(
            "The same in all runs: " + ", ".join(f"{name} {_cell(value)}" for name, value in common.items()) + "."
        )


def _in_words(sweep: SweepEvidence, setting: str) -> str:
    numbers = [setting or "the only setting"]
    for one in sweep.statistics.settings:
        if one.setting == setting:
            numbers.append(seconds(median(one.end_to_end_s)))
            if one.list_price_usd:
                numbers.append(usd(one.list_price_usd.median))
    return ", ".join(numbers)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return number(value, 4) if isinstance(value, float) else str(value)
