"""A sweep in numbers: every setting, every run, and where they come from."""

import numpy as np

from scripts.command.console import counted
from scripts.reports.document import Row, Section, Table
from scripts.reports.quantities import UNKNOWN, count, decimals, number, percent
from scripts.reports.sections.provenance import provenance_rows
from scripts.reports.sweep_evidence import SweepEvidence, median
from scripts.sweeps.statistics import SettingStatistics

MIB = 2**20
OF_ONE_RUN = ("machine", "dataset sha256")
"""What only the folder of a run says."""


def settings_section(sweep: SweepEvidence) -> Section:
    """Return every setting with its medians."""
    columns = (
        "setting",
        "runs",
        "end to end [s]",
        "interval [s]",
        "galaxies/s",
        "speedup",
        "efficiency",
        "memory [MB]",
        "billed [s]",
        "USD",
        "(GB/s)/USD",
        "Pareto",
    )
    rows = [_setting_row(one) for one in sweep.statistics.settings]
    table = Table(
        f"Medians over the repeats; interval: {sweep.statistics.interval}",
        columns,
        rows,
        frozenset({0, 11}),
        is_sortable=True,
        filter_hint="a word (batch=32, yes), or a bound (end to end < 20)",
    )
    return Section("Settings", f"{counted(len(rows), 'setting')}, in the order of the lists as typed.", [table])


def _setting_row(one: SettingStatistics) -> Row:
    time = one.end_to_end_s
    memory = one.peak_memory_bytes
    return (
        one.setting or "the only one",
        f"{one.num_runs}" + (f" + {one.num_failed} failed" if one.num_failed else ""),
        decimals(median(time), 2) if time else UNKNOWN,
        f"{decimals(time.low, 2)} to {decimals(time.high, 2)}" if time else UNKNOWN,
        number(median(one.end_to_end_per_s)) if one.end_to_end_per_s else UNKNOWN,
        number(one.speedup),
        percent(one.parallel_efficiency, 0),
        count(memory.median / MIB) if memory else UNKNOWN,
        decimals(median(one.rank_seconds), 1) if one.rank_seconds else UNKNOWN,
        number(median(one.list_price_usd)) if one.list_price_usd else UNKNOWN,
        number(one.performance_efficiency),
        "yes" if one.is_pareto else "",
    )


def runs_section(sweep: SweepEvidence) -> Section:
    """Return every run, failed ones too."""
    ordered = sorted(sweep.runs, key=lambda row: row.position)
    columns = (
        "order",
        "setting",
        "repeat",
        "state",
        "end to end [s]",
        "Map [s]",
        "galaxies/s",
        "cold ranks",
        "memory [MB]",
        "NMAD",
        "run",
    )
    rows = [
        (
            f"{row.position}",
            row.setting,
            f"{row.repeat}",
            row.state if row.state != "failed" else f"failed: {row.error}",
            decimals(row.end_to_end_s, 2),
            decimals(row.map_s, 2),
            number(row.end_to_end_per_s),
            count(row.num_cold_starts),
            count(row.peak_memory_bytes / MIB) if row.peak_memory_bytes else UNKNOWN,
            number(row.nmad),
            row.run_id or UNKNOWN,
        )
        for row in ordered
    ]
    table = Table(
        "Runs in the order in which they ran",
        columns,
        rows,
        frozenset({1, 3, 10}),
        is_sortable=True,
        filter_hint="a word (failed, batch=32), or a bound (end to end > 20)",
    )
    return Section("Runs", "Settings take turns, so that drift of the machine does not favour one.", [table])


def provenance_section(sweep: SweepEvidence) -> Section:
    """Return by what exactly the runs were done."""
    rows: list[Row] = []
    for name, column, meaning in (
        ("target", "target", ""),
        ("dataset", "dataset", ""),
        ("engine", "engines_used", "library that computed"),
        ("weights", "weights_sha256", "sha256 of the checkpoint"),
        ("image", "image_digest", "digest of the container image; local: no image, the code of this clone"),
        ("code", "code_version", "version of the code; local: the code of this clone"),
    ):
        values = dict.fromkeys(str(value) for row in sweep.runs if (value := getattr(row, column)))
        if values:
            rows.append((name, ", ".join(values), meaning))
    if sweep.example:
        rows += [row for row in provenance_rows(sweep.example) if row[0] in OF_ONE_RUN and row[1]]
    first = min((row.started_at_s for row in sweep.runs), default=0.0)
    last = max((row.started_at_s for row in sweep.runs), default=0.0)
    rows.append(("started", f"{_moment(first)} to {_moment(last)} UTC", "first and last run"))
    return Section(
        "Provenance",
        "With these, the same rows give the same redshifts.",
        [Table("Origin", ("what", "value", "remark"), rows, frozenset({0, 1, 2}))],
    )


def _moment(at_s: float) -> str:
    return f"{np.datetime64(int(at_s), 's')}".replace("T", " ")
