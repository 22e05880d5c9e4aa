"""The report of a sweep: which sections, in which order."""

from scripts.reports.document import Report
from scripts.reports.sections import sweep_headline
from scripts.reports.sections.sweep_measures import (
    BILLED,
    MEMORY,
    RATES,
    TIMES,
    measure_section,
    price_section,
    scaling_sections,
)
from scripts.reports.sections.sweep_tables import provenance_section, runs_section, settings_section
from scripts.reports.sweep_evidence import SweepEvidence


def sweep_report(sweep: SweepEvidence) -> Report:
    """Return the report of a sweep."""
    return Report(
        kind="Sweep",
        name=sweep.name,
        sentence=sweep_headline.sentence(sweep),
        facts=tuple(sweep_headline.facts(sweep)),
        warnings=tuple(sweep_headline.warnings(sweep)),
        sections=(
            sweep_headline.recommendation_section(sweep),
            measure_section(sweep, "Execution time", TIMES, "Median over the repeats; whiskers are the interval."),
            measure_section(sweep, "Throughput", RATES, "Three definitions; compare one with itself only."),
            *scaling_sections(sweep),
            measure_section(sweep, "Memory", MEMORY, "Highest resident memory of any rank. MB are 2²⁰ bytes."),
            measure_section(sweep, "Billed duration", BILLED, "Handlers and init over all ranks: what Lambda bills."),
            price_section(sweep),
            settings_section(sweep),
            runs_section(sweep),
            provenance_section(sweep),
        ),
    )
