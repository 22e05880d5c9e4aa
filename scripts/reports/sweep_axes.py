"""A sweep's settings as points of charts: which axes vary, and which settings share a line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scripts.reports.figures.settings import STYLES, Point, Series
from scripts.reports.quantities import number
from scripts.sweeps.statistics import SettingStatistics, Statistic

Value = int | float | str | bool | None


@dataclass(frozen=True)
class Axis:
    """A setting that varies."""

    column: str
    name: str
    """As the reader knows it, with the unit."""

    variable: str
    """As it is typed."""

    label: str = ""
    """Column whose values name those of this one in keys; itself when empty."""


AXES = (
    Axis("world_size", "world size [ranks]", "WORLD"),
    Axis("batch_size", "batch size [galaxies]", "BATCH"),
    Axis("shard_mb", "partition size [MB]", "SHARD_MB"),
    Axis("data_mb", "data size [MB]", "data MB"),
    Axis("memory_mb", "configured memory [MB]", "MEMORY"),
    Axis("engine", "engine", "ENGINE"),
    Axis("precision", "precision", "PRECISION"),
    Axis("profile", "profiler", "PROFILE"),
    Axis("target", "target", "TARGET"),
    Axis("dataset", "dataset", "DATASET"),
)


@dataclass(frozen=True)
class Setting:
    """One setting with its numbers, and its place on every axis."""

    statistics: SettingStatistics
    place: Mapping[str, Value]


def varying(settings: Sequence[Setting]) -> list[Axis]:
    """Return the axes with more than one value; a dataset only where no number distinguishes its variants.

    Different datasets that differ in size are points on its axis, and have their names in keys.
    """
    found = [axis for axis in AXES if len({setting.place.get(axis.column) for setting in settings}) > 1]
    if any(axis.column in ("shard_mb", "data_mb") for axis in found):
        found = [axis for axis in found if axis.column != "dataset"]
    if len({str(setting.place.get("dataset")).partition("/")[0] for setting in settings}) > 1:
        found = [
            replace(axis, variable="DATA", label="dataset") if axis.column == "data_mb" else axis for axis in found
        ]
    return found


def series_along(
    axis: Axis, settings: Sequence[Setting], measure: str, reference: Setting, *, unit: str, scale: float = 1.0
) -> tuple[list[Series], dict[float, str], str]:
    """Return the lines of a measure along an axis.

    Parameters
    ----------
    axis : Axis
    settings : sequence of Setting
    measure : str
        A field of SettingStatistics.
    reference : Setting
        Where there would be more than six lines, the axes beyond the first are held at its values.
    unit : str
        Of the measure, for tooltips.
    scale : float
        What to divide the measure by.

    Returns
    -------
    series : list of Series
    names : dict
        Place to name, for an axis that is not a number.
    held : str
        Settings that were held, in words; empty when none was.
    """
    shown, others, held = _held(axis, settings, reference)
    values = sorted({setting.place[axis.column] for setting in shown}, key=_order)
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    places = {value: float(value) if is_number else float(i) for i, value in enumerate(values)}  # type: ignore[arg-type]
    lines: dict[str, list[Point]] = {}
    for setting in shown:
        found = getattr(setting.statistics, measure)
        if found is not None:
            name = " ".join(_typed(other, setting) for other in others)
            point = _point(places[setting.place[axis.column]], found, setting, unit, scale)
            lines.setdefault(name, []).append(point)
    names = {} if is_number else {place: _shown(value) for value, place in places.items()}
    return [Series(name, points) for name, points in lines.items()], names, held


def _held(axis: Axis, settings: Sequence[Setting], reference: Setting) -> tuple[Sequence[Setting], list[Axis], str]:
    others = [other for other in varying(settings) if other != axis]
    held: list[Axis] = []
    shown = settings
    while others and len({tuple(s.place[o.column] for o in others) for s in shown}) > len(STYLES):
        last = others.pop()
        held.append(last)
        shown = [setting for setting in shown if setting.place[last.column] == reference.place[last.column]]
    return shown, others, " ".join(_typed(one, reference) for one in held)


def _point(place: float, found: Statistic | float, setting: Setting, unit: str, scale: float) -> Point:
    if not isinstance(found, Statistic):
        found = Statistic(median=found, low=found, high=found)
    median, low, high = found.median / scale, found.low / scale, found.high / scale
    text = f"{setting.statistics.setting or 'the setting'}: {number(median)} {unit}"
    if high > low:
        text += f" ({number(low)} to {number(high)})"
    return Point(place, median, low, high, text)


def _typed(axis: Axis, setting: Setting) -> str:
    return f"{axis.variable}={_shown(setting.place[axis.label or axis.column])}"


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def _order(value: Value) -> tuple[int, float, str]:
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))
