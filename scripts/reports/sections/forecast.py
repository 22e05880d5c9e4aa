"""What was forecast, next to what came."""

from scripts.command.errors import UsageError
from scripts.forecasts.kept import PHASES, Kept, read_kept, verdict
from scripts.reports.document import Row, Section, Table
from scripts.reports.evidence import RunEvidence
from scripts.reports.quantities import decimals, percent


def forecast_sections(run: RunEvidence, cost: float | None) -> tuple[Section, ...]:
    """Return the forecast of a run next to the facts; nothing where it had none, or has no clock yet."""
    try:
        kept = read_kept(run.folder)
    except UsageError as error:
        return (Section("Forecast", str(error)),)
    measured_s = run.get("clock", "end_to_end")
    if kept is None or not measured_s:
        return ()
    rows = [_row(f"{name} [s]", kept.seconds[phase], run.get("clock", phase), 2) for phase, name in PHASES.items()]
    if run.entry and run.entry.stack:
        rows.append(_row("price [USD]", kept.usd, cost, 4))
    columns = ("", "forecast", "central 50 %", "central 90 %", "measured", "longer by", "within 90 %")
    lead = f"{verdict(kept, measured_s)}. The forecast was {_source(kept)}."
    return (Section("Forecast", lead, [Table("Forecast and fact", columns, rows, frozenset({0, 6}))]),)


def _source(kept: Kept) -> str:
    return kept.source if kept.source.startswith("calibrated") else f"made by {kept.source}"


def _row(name: str, ends: tuple[float, ...], fact: float | None, num_decimals: int) -> Row:
    p5, p25, p50, p75, p95 = (decimals(end, num_decimals) for end in ends)
    off = percent(fact / ends[2] - 1, 0) if fact is not None else ""
    inside = "" if fact is None else ("yes" if ends[0] <= fact <= ends[4] else "no")
    return (name, p50, f"{p25} to {p75}", f"{p5} to {p95}", decimals(fact, num_decimals), off, inside)
