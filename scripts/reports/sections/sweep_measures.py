"""How the settings of a sweep show: time, throughput, scaling, memory and cost along every axis that varies."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from scripts.command.console import counted
from scripts.reports.document import Figure, Section
from scripts.reports.figures.canvas import Array
from scripts.reports.figures.settings import Offer, draw_front, draw_series
from scripts.reports.quantities import seconds, usd
from scripts.reports.sweep_axes import Axis, series_along, varying
from scripts.reports.sweep_evidence import SweepEvidence

MIB = 2**20

Measure = tuple[str, str, str, float]
"""Field of SettingStatistics, its name, its unit, and what to divide it by."""

TIMES: tuple[Measure, ...] = (
    ("end_to_end_s", "end-to-end time", "s", 1.0),
    ("rank_median_s", "time of the median rank", "s", 1.0),
)
RATES: tuple[Measure, ...] = (
    ("end_to_end_per_s", "end-to-end throughput", "galaxies/s", 1.0),
    ("sum_of_rank_rates_per_s", "sum of rank rates", "galaxies/s", 1.0),
    ("map_wall_per_s", "throughput of the Map", "galaxies/s", 1.0),
)
MEMORY: tuple[Measure, ...] = (("peak_memory_bytes", "peak memory", "MB", MIB),)
BILLED: tuple[Measure, ...] = (("rank_seconds", "billed duration of all ranks", "s", 1.0),)


def measure_section(sweep: SweepEvidence, title: str, measures: Sequence[Measure], lead: str) -> Section:
    """Return a figure for each measure along each axis that varies."""
    axes = varying(sweep.settings)
    if not axes:
        return Section(title, f"{lead} No setting varies: see the table of settings.")
    figures = (_figure(sweep, axis, measure) for measure in measures for axis in axes)
    return Section(title, lead, [figure for figure in figures if figure])


def _figure(
    sweep: SweepEvidence, axis: Axis, measure: Measure, ideal: Callable[[Array], Array] | None = None
) -> Figure | None:
    """Return a measure along an axis, with what it would be if everything scaled where that is known."""
    field, name, unit, scale = measure
    series, names, held = series_along(axis, sweep.settings, field, sweep.fastest, unit=unit, scale=scale)
    points = [point for one in series for point in one.points]
    if not points:
        return None
    lowest, highest = min(points, key=lambda point: point.y), max(points, key=lambda point: point.y)
    extremes = f"Best: {highest.text.strip()}." if ideal else f"Lowest: {lowest.text}. Highest: {highest.text}."
    caption = extremes + (f" At {held}, as in the fastest setting." if held else "")
    title = f"{name[:1].upper()}{name[1:]}" + ("" if ideal else f" against {axis.name.partition(' [')[0]}")
    y_label = f"{name} [{unit}]" if unit else name
    drawing = draw_series(series, x_label=axis.name, y_label=y_label, x_names=names or None, ideal=ideal)
    return Figure(title, drawing, caption)


def scaling_sections(sweep: SweepEvidence) -> Iterator[Section]:
    """Yield speedup and efficiency where the number of ranks varies."""
    axis = next((axis for axis in varying(sweep.settings) if axis.column == "world_size"), None)
    if axis is None:
        return
    smallest = min(float(str(setting.place["world_size"])) for setting in sweep.settings)

    def linear(x: Array) -> Array:
        return x / smallest

    figures = (
        _figure(sweep, axis, (field, name, "", 1.0), ideal)
        for field, name, ideal in (
            ("speedup", "speedup end to end", linear),
            ("speedup_map", "speedup of the Map", linear),
            ("parallel_efficiency", "parallel efficiency end to end", np.ones_like),
            ("parallel_efficiency_map", "parallel efficiency of the Map", np.ones_like),
        )
    )
    lead = (
        f"Speedup compares with the same setting on {counted(round(smallest), 'rank')}; efficiency is the speedup over "
        "the factor in ranks. Dashed: perfect scaling."
    )
    yield Section("Speedup and efficiency", lead, [figure for figure in figures if figure])


def price_section(sweep: SweepEvidence) -> Section:
    """Return time against cost, with the Pareto front."""
    offers = []
    for found in (setting.statistics for setting in sweep.settings):
        if found.end_to_end_s is None or found.list_price_usd is None:
            continue
        x, y = found.end_to_end_s.median, found.list_price_usd.median
        text = f"{found.setting or 'the setting'}: {seconds(x)}, {usd(y)}" + (
            ", on the front" if found.is_pareto else ""
        )
        offers.append(Offer(x, y, found.is_pareto, ", ".join(sweep.goals.get(found.setting, ())), text))
    lead = f"Prices: {sweep.statistics.prices}."
    if sweep.statistics.target == "local":
        lead = f"Nothing was paid: the runs were local, and their times are this machine's. {lead}"
    if not offers:
        return Section("Cost", f"{lead} No run has a price.")
    num = sum(offer.is_pareto for offer in offers)
    caption = (
        f"Filled: {counted(num, 'setting')} on the Pareto front; no other that predicted as many galaxies is both "
        "faster and cheaper. Hollow: the others."
    )
    return Section("Cost", lead, [Figure("Time against cost", draw_front(offers), caption, is_wide=True)])
