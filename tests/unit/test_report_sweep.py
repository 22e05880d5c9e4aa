"""What a report says about a sweep, also one that was cut."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from scripts.command.errors import CommandError
from scripts.report import ReportVariables
from scripts.report import main as write_report
from scripts.reports.document import Figure, Note, Report, Table
from scripts.reports.sections.sweep_headline import sentence, warnings
from scripts.reports.sections.sweep_measures import price_section
from scripts.reports.sections.sweep_tables import settings_section
from scripts.reports.sweep_axes import AXES, Setting, series_along, varying
from scripts.reports.sweep_evidence import read_sweep
from scripts.reports.sweep_report import sweep_report
from tests.sweep_folders import write_sweep
from tests.unit.test_report_run import misaligned


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sweep(tmp_path / "sweeps" / "s")
    return tmp_path / "sweeps" / "s"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a sweep that is only looked at."""
    folder = tmp_path_factory.mktemp("sweep") / "s"
    write_sweep(folder)
    return sweep_report(read_sweep(folder))


def figures(report: Report, title: str) -> list[str]:
    (section,) = [one for one in report.sections if one.title == title]
    return [block.title for block in section.blocks if isinstance(block, Figure)]


def test_the_sentence_recommends_with_numbers_and_names_a_setting_once(report: Report) -> None:
    assert report.sentence == (
        "Fastest and balanced: WORLD=8 BATCH=512, 7.01 s, 0.00170 USD; "
        "cheapest: WORLD=1 BATCH=512, 32.8 s, 0.00102 USD."
    )


def test_every_measure_is_drawn_against_every_axis_that_varies(report: Report) -> None:
    assert figures(report, "Execution time") == [
        "End-to-end time against world size",
        "End-to-end time against batch size",
        "Time of the median rank against world size",
        "Time of the median rank against batch size",
    ]
    assert len(figures(report, "Throughput")) == 3 * 2
    assert len(figures(report, "Memory")) == len(figures(report, "Billed duration")) == 2
    assert len(figures(report, "Speedup and efficiency")) == 4
    assert figures(report, "Cost") == ["Time against cost"]


def test_the_top_has_the_best_and_the_worst_of_all_settings(report: Report) -> None:
    assert [(fact.label, fact.value, fact.detail) for fact in report.facts] == [
        ("runs", "24", "of 24 planned, 1 failed"),
        ("settings", "12", "WORLD, BATCH"),
        ("end to end", "7.01 s", "slowest setting 37.9 s"),
        ("best throughput", "432 /s", "galaxies, end to end"),
        ("peak memory", "272 MB", "of any setting"),
    ]


def test_columns_of_words_are_aligned_left_and_those_of_numbers_right(report: Report) -> None:
    assert misaligned(report) == []


def test_what_all_runs_had_in_common_is_said_once(report: Report) -> None:
    (section,) = [one for one in report.sections if one.title == "Recommendation"]

    assert section.blocks[-1] == Note(
        "The same in all runs: dataset sdss/10MB, shard_mb 10, memory_mb 1769, engine auto, precision fp32, "
        "profile off."
    )


def table_of(report: Report, title: str) -> Table:
    (section,) = [one for one in report.sections if one.title == title]
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    return table


def captions(report: Report, title: str) -> list[str]:
    (section,) = [one for one in report.sections if one.title == title]
    return [section.lead, *(block.caption for block in section.blocks if isinstance(block, Figure))]


def test_a_setting_and_a_run_have_their_numbers_in_a_row(report: Report) -> None:
    settings, runs = table_of(report, "Settings").rows, table_of(report, "Runs").rows

    one = ("2", "37.88", "37.00 to 38.75", "80.1", "1.00", "100 %", "256", "35.9", "0.00118", "1.00", "")
    best = ("1 + 1 failed", "7.01", "7.01 to 7.01", "432", "4.57", "57 %", "272", "30.1", "0.00170", "1.00", "yes")
    assert (settings[0], settings[-1]) == (("WORLD=1 BATCH=8", *one), ("WORLD=8 BATCH=512", *best))
    known = ("0", "complete", "37.00", "36.00", "82.0", "0", "256", "0.0138", "run-0")
    failed = ("1", "failed: IncompleteRunError", *["–"] * 3, "0", "–", "–", "run-23")  # noqa: RUF001
    assert (runs[0], runs[-1]) == (("0", "WORLD=1 BATCH=8", *known), ("23", "WORLD=8 BATCH=512", *failed))


def test_a_figure_names_its_lowest_and_its_highest_point(report: Report) -> None:
    assert captions(report, "Execution time")[1] == (
        "Lowest: WORLD=8 BATCH=512: 7.01 s. Highest: WORLD=1 BATCH=8: 37.9 s (37.0 to 38.8)."
    )
    assert captions(report, "Memory")[1] == "Lowest: WORLD=1 BATCH=8: 256 MB. Highest: WORLD=1 BATCH=512: 272 MB."


def test_what_scales_is_compared_with_the_fewest_ranks(report: Report) -> None:
    assert captions(report, "Speedup and efficiency") == [
        "Speedup compares with the same setting on 1 rank; efficiency is the speedup over the factor in ranks. Dashed: "
        "perfect scaling.",
        *["Best: WORLD=8 BATCH=8: 4.72."] * 2,
        *["Best: WORLD=1 BATCH=8: 1.00."] * 2,
    ]


def test_a_front_of_prices_says_whether_they_were_paid(folder: Path, report: Report) -> None:
    evidence = read_sweep(folder)
    on_aws = replace(evidence, statistics=msgspec.structs.replace(evidence.statistics, target="aws"))

    prices = "Prices: us-east-1, January 2026, without free tier."
    assert price_section(on_aws).lead == prices
    assert captions(report, "Cost") == [
        f"Nothing was paid: the runs were local, and their times are this machine's. {prices}",
        "Filled: 2 settings on the Pareto front; no other that predicted as many galaxies is both faster and cheaper. "
        "Hollow: the others.",
    ]


def test_runs_without_a_price_have_no_front(folder: Path) -> None:
    evidence = read_sweep(folder)
    settings = tuple(msgspec.structs.replace(one, list_price_usd=None) for one in evidence.statistics.settings)
    free = replace(evidence, statistics=msgspec.structs.replace(evidence.statistics, settings=settings))

    assert price_section(free).lead.endswith(" No run has a price.")
    assert sentence(free).startswith("Fastest and balanced: WORLD=8 BATCH=512, 7.01 s; ")
    (table,) = settings_section(free).blocks
    assert isinstance(table, Table)
    assert table.rows[0][9] == "–"  # noqa: RUF001


def test_the_origin_names_what_the_runs_had_and_when_they_ran(report: Report) -> None:
    assert table_of(report, "Provenance").rows == [
        ("target", "local", ""),
        ("dataset", "sdss/10MB", ""),
        ("engine", "onnxruntime 1.31.1", "library that computed"),
        ("started", "2026-11-22 00:55:08 to 2026-11-22 01:18:08 UTC", "first and last run"),
    ]


@pytest.mark.parametrize("num", [3, 4, 5])
def test_of_many_failed_runs_three_are_named(num: int, folder: Path) -> None:
    evidence = read_sweep(folder)
    failed = [msgspec.structs.replace(row, state="failed") for row in evidence.runs[:num]]

    said = list(warnings(replace(evidence, runs=[*failed, *evidence.runs[num:23]])))

    more = [one for one in said if one.endswith(" more runs failed; the table of runs names them.")]
    assert len([one for one in said if one.startswith("Failed: ")]) == 3
    assert more == ([f"{num - 3} more runs failed; the table of runs names them."] if num > 3 else [])


def test_a_failed_run_is_named_on_top_and_in_the_table(report: Report) -> None:
    assert report.warnings[0] == "Failed: WORLD=8 BATCH=512, repeat 1: IncompleteRunError: 1 of 8 ranks is lost"
    (runs,) = [one for one in report.sections if one.title == "Runs"]
    table = runs.blocks[0]
    assert isinstance(table, Table)
    assert table.rows[-1][3] == "failed: IncompleteRunError"
    assert len(table.rows) == 24


def test_a_setting_is_placed_by_the_size_of_its_data(folder: Path) -> None:
    evidence = read_sweep(folder)

    assert len(evidence.settings) == 12
    assert {setting.place["data_mb"] for setting in evidence.settings} == {62.2}  # 3,033 galaxies of 20,520 bytes
    assert evidence.fastest.statistics.setting == "WORLD=8 BATCH=512"
    without = [msgspec.structs.replace(row, data_bytes=0) for row in evidence.runs if row.setting == "WORLD=1 BATCH=8"]
    assert len(replace(evidence, runs=without).settings) == 0


def test_a_sweep_that_is_not_over_says_how_to_go_on(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", num_planned=36)

    warning, *_ = warnings(read_sweep(tmp_path / "s"))

    assert warning == ("Incomplete: 12 of 36 planned runs are missing. `make sweep NAME=s` continues where it stopped.")


def test_a_setting_that_is_no_number_has_named_places(folder: Path) -> None:
    settings = [
        Setting(one.statistics, {**one.place, "world_size": 1, "engine": engine})
        for one, engine in zip(read_sweep(folder).settings, ("torch", "onnxruntime"), strict=False)
    ]
    axis = next(axis for axis in varying(settings) if axis.column == "engine")

    _, names, _ = series_along(axis, settings, "end_to_end_s", settings[0], unit="s")

    assert names == {0.0: "onnxruntime", 1.0: "torch"}


@pytest.mark.parametrize(
    ("names", "key"), [(("mixed/10MB", "lsstp/10MB"), "DATA=mixed/10MB"), (("a/10MB", "a/20MB"), "data MB=1.2")]
)
def test_datasets_have_their_names_in_keys_and_their_sizes_on_the_axis(
    names: tuple[str, str], key: str, folder: Path
) -> None:
    (one, *_) = read_sweep(folder).settings
    settings = [
        Setting(one.statistics, {**one.place, "world_size": world, "dataset": name, "data_mb": size})
        for world in (1, 2)
        for name, size in zip(names, (1.2, 0.8), strict=True)
    ]
    world, data = varying(settings)

    series, _, _ = series_along(world, settings, "end_to_end_s", settings[0], unit="s")

    assert [data.column, series[0].name] == ["data_mb", key]


def test_more_than_six_lines_are_cut_to_those_of_the_fastest_setting(folder: Path) -> None:
    base = read_sweep(folder).settings
    many = [Setting(one.statistics, {**one.place, "memory_mb": mb}) for one in base for mb in (1769, 3008, 10240)]
    axis = next(axis for axis in AXES if axis.column == "world_size")

    series, _, held = series_along(axis, many, "end_to_end_s", many[-1], unit="s")

    assert [one.name for one in series] == ["BATCH=8", "BATCH=64", "BATCH=512"]
    assert held == "MEMORY=10240"


@pytest.mark.parametrize("name", ["runs.parquet", "statistics.json"])
def test_a_cut_file_is_named_and_nothing_is_written(name: str, folder: Path) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])

    with pytest.raises(CommandError, match=f"{name}.*make sweep NAME=s"):
        write_report(ReportVariables(sweep="s"), root=folder.parents[1])

    assert not (folder / "report.html").exists()


def test_a_sweep_without_statistics_says_how_to_get_them(folder: Path) -> None:
    (folder / "statistics.json").unlink()

    with pytest.raises(CommandError, match=r"statistics.json is missing. `make sweep NAME=s` continues"):
        write_report(ReportVariables(sweep="s"), root=folder.parents[1])


def test_a_sweep_in_which_nothing_ran_has_nothing_to_report(folder: Path) -> None:
    statistics = read_sweep(folder).statistics
    (folder / "statistics.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(statistics, settings=())))

    with pytest.raises(CommandError, match="No run of the sweep s predicted anything yet"):
        write_report(ReportVariables(sweep="s"), root=folder.parents[1])
