"""The published tables and figures again, from the published files, with what does not add up."""

import csv
import io
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure as Drawing

from inference.contract import BITS_PER_ROW
from scripts.command.console import counted
from scripts.command.whole_file import write_whole
from scripts.pricing.cost import usd_as_published
from scripts.reports.figures.output import as_png
from scripts.reports.figures.settings import Point, Series, draw_series
from scripts.runs.imported.checks import LISTING_PAGE, check
from scripts.runs.imported.file import TIME_KEY
from scripts.runs.imported.kit import Kit, PublishedRun, Setting

PAGE, RUNS, DOUBTS = "reproduction.md", "runs.csv", "discrepancies.csv"
CONFIGURED_GB = 10.0
"""Memory of the published functions, which Lambda bills, used or not."""

MEMORY_KEY = "total_process_memory (MB)"
RATE_KEY = "sample_persec"
USUAL_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run in numbers; None where the files do not say."""

    setting: Setting
    run: str
    source: str
    num_records: int
    end_to_end_s: float | None
    map_s: float | None
    loop_median_s: float | None
    loop_max_s: float | None
    num_rows: float | None
    """Galaxies of the records that were kept."""

    rank_rates_bit_per_s: float | None
    """Sum of the ranks' own rates: the published throughput."""

    published_usd: float | None
    """Records x loop x used memory, the published method."""

    configured_usd: float | None
    """The same for the memory that was configured: what Lambda bills is more, the loop is not the whole invocation."""

    doubts: tuple[str, ...]

    @property
    def map_bit_per_s(self) -> float | None:
        """The same galaxies by the wall time of the Map."""
        return _rate(self.num_rows, self.map_s)

    @property
    def end_to_end_bit_per_s(self) -> float | None:
        """The same galaxies by the wall time of the run."""
        return _rate(self.num_rows, self.end_to_end_s)


def _rate(num_rows: float | None, time_s: float | None) -> float | None:
    return num_rows * BITS_PER_ROW / time_s if num_rows and time_s else None


def results(kit: Kit) -> list[Result]:
    """Return every run of a folder in numbers, with what is doubtful about it."""
    return [_result(run) for run in kit.runs]


def _result(run: PublishedRun) -> Result:
    records = run.records
    loops_s = [float(record[TIME_KEY]) for record in records if record.get(TIME_KEY)]
    rates = [float(record[RATE_KEY]) for record in records if record.get(RATE_KEY)]
    has_rows = bool(records) and len(rates) == len(loops_s) == len(records)
    used_gb = [float(record[MEMORY_KEY]) / 1024 for record in records if record.get(MEMORY_KEY)]
    has_cost = bool(records) and len(used_gb) == len(loops_s) == len(records)
    pairs = list(zip(loops_s, used_gb, strict=True)) if has_cost else []
    published_usd = sum(usd_as_published(1, loop_s, gb) for loop_s, gb in pairs) if has_cost else None
    configured_usd = sum(usd_as_published(1, loop_s, CONFIGURED_GB) for loop_s, _ in pairs) if has_cost else None
    found = Result(
        setting=run.setting,
        run=run.run,
        source=run.source,
        num_records=len(records),
        end_to_end_s=run.duration.end_to_end_s if run.duration else None,
        map_s=run.duration.map_s if run.duration else None,
        loop_median_s=statistics.median(loops_s) if loops_s else None,
        loop_max_s=max(loops_s, default=None),
        num_rows=sum(rate * s for rate, s in zip(rates, loops_s, strict=True)) if has_rows else None,
        rank_rates_bit_per_s=sum(rates) * BITS_PER_ROW if has_rows else None,
        published_usd=published_usd,
        configured_usd=configured_usd,
        doubts=(),
    )
    return replace(found, doubts=tuple(_doubts(run, found)))


def _doubts(run: PublishedRun, found: Result) -> Iterator[str]:
    """Yield a sentence for everything that does not add up."""
    if not run.records:
        yield from _doubts_of_table(run)
        return
    yield from check(run.records, expected=run.setting.num_ranks)
    files = [record["data_path"] for record in run.records if record.get("data_path")]
    if (again := len(files) - len(set(files))) > 0:
        yield f"{again:,} records are of a shard that another record read too."
    if found.map_s is None:
        yield "No table has its durations."
    elif found.loop_max_s and found.loop_max_s > found.map_s:
        num = sum(float(record.get(TIME_KEY) or 0) > found.map_s for record in run.records)
        yield (
            f"The loop of {counted(num, 'rank')}, up to {found.loop_max_s:.1f} s, is longer than "
            f"the whole Map, {found.map_s:.1f} s: the profiler's sum counts twice."
        )
    if found.published_usd and found.configured_usd:
        ratio = found.configured_usd / found.published_usd
        if abs(ratio - 1) > 0.05:
            yield f"Its published cost counts used memory; configured memory costs {ratio:.1f} times that."


def _doubts_of_table(run: PublishedRun) -> Iterator[str]:
    """Yield what does not add up in a line of a table, where that is all there is of the run."""
    found, num_ranks = run.duration, run.setting.num_ranks
    if found is None or found.num_records is None:
        return
    if found.num_records != num_ranks:
        yield f"{found.num_records:,} records of {num_ranks:,} ranks, by its table."
    if found.num_records == LISTING_PAGE:
        yield "Exactly 1,000 records: one page of a listing."
    if found.loop_max_s and found.loop_max_s > found.map_s:
        yield (
            f"A loop of {found.loop_max_s:.1f} s is longer than the whole Map, {found.map_s:.1f} s: the profiler's sum "
            "counts twice."
        )


# ----------------------------------------------------------------------------------------------- files


def write_reproduction(kit: Kit, folder: Path) -> list[Path]:
    """Write page, tables and figures: the same files, the same bytes. Return the paths.

    Parameters
    ----------
    kit : Kit
    folder : Path
        Where to; it exists.
    """
    found = results(kit)
    figures = dict(_figures(found))
    for name, (title, drawing) in figures.items():
        as_png(drawing, folder / name, title=title)
    write_whole(folder / RUNS, _csv(RUN_COLUMNS, map(_run_row, found)))
    doubts = ((*_key(one), one.source, doubt) for one in found for doubt in one.doubts)
    write_whole(folder / DOUBTS, _csv((*KEY_COLUMNS, "source", "discrepancy"), doubts))
    page = "\n".join(_page(kit, found, {name: title for name, (title, _) in figures.items()})) + "\n"
    write_whole(folder / PAGE, page.encode())
    return [folder / name for name in (PAGE, RUNS, DOUBTS, *figures)]


KEY_COLUMNS = ("partition_mb", "data_gb", "batch_size", "run")
RUN_COLUMNS = (
    *KEY_COLUMNS,
    "ranks",
    "records",
    "end_to_end_s",
    "map_s",
    "loop_median_s",
    "loop_max_s",
    "sum_of_rank_rates_gbit_per_s",
    "map_gbit_per_s",
    "end_to_end_gbit_per_s",
    "published_usd",
    "configured_usd",
)


def _key(one: Result) -> tuple[str, ...]:
    setting = one.setting
    return (f"{setting.shard_mb:g}", f"{setting.data_gb:g}", str(setting.batch_size), one.run)


def _run_row(one: Result) -> tuple[str, ...]:
    rates = (one.rank_rates_bit_per_s, one.map_bit_per_s, one.end_to_end_bit_per_s)
    return (
        *_key(one),
        str(one.setting.num_ranks),
        str(one.num_records),
        *(_number(value, 2) for value in (one.end_to_end_s, one.map_s, one.loop_median_s, one.loop_max_s)),
        *(_number(rate / 1e9 if rate else None, 4) for rate in rates),
        *(_number(usd, 4) for usd in (one.published_usd, one.configured_usd)),
    )


def _csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _number(value: float | None, num_decimals: int) -> str:
    return "" if value is None else f"{value:.{num_decimals}f}"


# ------------------------------------------------------------------------------------------------ page


def _page(kit: Kit, found: Sequence[Result], figures: dict[str, str]) -> Iterator[str]:
    groups = _grouped(found)
    num_doubtful = sum(bool(one.doubts) for one in found)
    yield "# The published runs, again"
    yield ""
    yield f"{len(found)} runs of {len(groups)} settings; {num_doubtful} with something that does not add up."
    yield f"Every run is in `{RUNS}`, every discrepancy in `{DOUBTS}`. Means over the runs of a setting."
    yield ""
    for title, rows in _tables(groups):
        yield f"## {title}"
        yield ""
        yield from _table(TIME_COLUMNS, rows)
        yield ""
    yield THROUGHPUT
    yield ""
    yield "## Cost"
    yield ""
    yield from _table(COST_COLUMNS, [row for group in groups if (row := _cost_row(group))])
    yield ""
    yield COST
    yield ""
    yield from (f"![{title}]({name})" for name, title in figures.items())
    yield ""
    yield "## What does not add up"
    yield ""
    for one in found:
        name = f"{one.setting.shard_mb:g} MB, {one.setting.data_gb:g} GB, batch {one.setting.batch_size}, run {one.run}"
        yield from (f"- {name}: {doubt}" for doubt in one.doubts)
    yield from (f"- Not used: {reason}" for reason in kit.left_out)
    if not num_doubtful and not kit.left_out:
        yield "Nothing."


THROUGHPUT = """Throughput in Gbit/s at 164,160 bits per galaxy, of the records that were kept: the sum of the ranks'
own rates is what was published; by the wall time of the Map and of the run it is what a user sees."""

COST = """Published: records x loop x used memory x 0.00001667. Configured: 10 GB in place of the used memory, which is
still less than Lambda bills, for the loop is not the whole invocation."""

TIME_COLUMNS = (
    "shards",
    "data",
    "batch",
    "ranks",
    "records",
    "end to end [s]",
    "Map [s]",
    "loop, median [s]",
    "sum of rank rates",
    "by Map wall",
    "end to end",
)
COST_COLUMNS = ("shards", "data", "batch", "records", "loop, median [s]", "published [USD]", "configured [USD]")


def _grouped(found: Sequence[Result]) -> list[list[Result]]:
    settings = sorted({one.setting for one in found})
    return [[one for one in found if one.setting == setting] for setting in settings]


def _tables(groups: Sequence[Sequence[Result]]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield the published tables: by shard size at the whole data, by data size, by batch size."""
    usual = [group for group in groups if group[0].setting.batch_size in (USUAL_BATCH, 0)]
    sizes_gb = [group[0].setting.data_gb for group in usual]
    whole_gb = max(sizes_gb, key=lambda gb: (sizes_gb.count(gb) > 1, gb), default=0.0)
    yield f"By shard size, {whole_gb:g} GB", [_time_row(one) for one in usual if one[0].setting.data_gb == whole_gb]
    yield "By data size", [_time_row(one) for one in usual]
    keys = [(one[0].setting.shard_mb, one[0].setting.data_gb) for one in groups]
    varied = [one for one, key in zip(groups, keys, strict=True) if keys.count(key) > 1]
    if varied:
        yield "By batch size", [_time_row(one) for one in varied]


def _time_row(group: Sequence[Result]) -> tuple[str, ...]:
    setting = group[0].setting
    records = sorted({one.num_records for one in group})
    rates: list[Callable[[Result], float | None]] = [
        lambda one: one.rank_rates_bit_per_s,
        lambda one: one.map_bit_per_s,
        lambda one: one.end_to_end_bit_per_s,
    ]
    return (
        f"{setting.shard_mb:g} MB",
        f"{setting.data_gb:g} GB",
        str(setting.batch_size or "mixed"),
        f"{setting.num_ranks:,}",
        f"{records[0]:,}" if len(records) == 1 else f"{records[0]:,}-{records[-1]:,}",
        _mean(group, lambda one: one.end_to_end_s),
        _mean(group, lambda one: one.map_s),
        _mean(group, lambda one: one.loop_median_s),
        *(_mean(group, rate, per=1e9) for rate in rates),
    )


def _cost_row(group: Sequence[Result]) -> tuple[str, ...] | None:
    setting = group[0].setting
    published = _mean(group, lambda one: one.published_usd, num_decimals=3)
    if not published:
        return None
    return (
        f"{setting.shard_mb:g} MB",
        f"{setting.data_gb:g} GB",
        str(setting.batch_size or "mixed"),
        _mean(group, lambda one: float(one.num_records), num_decimals=0),
        _mean(group, lambda one: one.loop_median_s),
        published,
        _mean(group, lambda one: one.configured_usd, num_decimals=3),
    )


def _mean(
    group: Sequence[Result], of: Callable[[Result], float | None], *, per: float = 1.0, num_decimals: int = 2
) -> str:
    values = [value for one in group if (value := of(one)) is not None]
    return f"{statistics.fmean(values) / per:.{num_decimals}f}" if values else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


# --------------------------------------------------------------------------------------------- figures


def _figures(found: Sequence[Result]) -> Iterator[tuple[str, tuple[str, Drawing]]]:
    """Yield the published figures as far as the files have what they show: name of the file, title and drawing."""
    usual = [one for one in found if one.setting.batch_size in (USUAL_BATCH, 0)]
    measures: tuple[tuple[str, str, Callable[[Result], float | None]], ...] = (
        ("end-to-end.png", "end to end [s]", lambda one: one.end_to_end_s),
        ("map.png", "Map [s]", lambda one: one.map_s),
        ("throughput.png", "by the wall time of the run [Gbit/s]", lambda one: _giga(one.end_to_end_bit_per_s)),
    )
    for name, label, measure in measures:
        if series := _series(
            usual, measure, lambda one: one.setting.data_gb, lambda one: f"{one.setting.shard_mb:g} MB"
        ):
            yield name, (f"{label} by data size", draw_series(series, x_label="data [GB]", y_label=label))
    of_data = [(setting.shard_mb, setting.data_gb) for setting in {one.setting for one in found}]
    varied = [one for one in found if of_data.count((one.setting.shard_mb, one.setting.data_gb)) > 1]
    label = "end to end [s]"
    series = _series(varied, lambda one: one.end_to_end_s, lambda one: float(one.setting.batch_size), _of_data)
    if series:
        yield "batch.png", (f"{label} by batch size", draw_series(series, x_label="galaxies per batch", y_label=label))


def _of_data(one: Result) -> str:
    return f"{one.setting.shard_mb:g} MB, {one.setting.data_gb:g} GB"


def _giga(rate: float | None) -> float | None:
    return rate / 1e9 if rate is not None else None


def _series(
    found: Sequence[Result],
    measure: Callable[[Result], float | None],
    along: Callable[[Result], float],
    name: Callable[[Result], str],
) -> list[Series]:
    """Return means with smallest and largest run, a series for every name, in the order of the runs."""
    series = []
    for title in dict.fromkeys(map(name, found)):
        known = [(along(one), value) for one in found if name(one) == title and (value := measure(one)) is not None]
        points = []
        for x in sorted({x for x, _ in known}):
            values = [value for at, value in known if at == x]
            mean = statistics.fmean(values)
            points.append(Point(x, mean, min(values), max(values), f"{title}: {mean:.2f}"))
        if points:
            series.append(Series(title, points))
    return series
