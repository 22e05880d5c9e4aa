"""What a report says about a run, also when half of it is missing."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.errors import RunFolderError
from inference.pz_metrics import LIMITS_68, kolmogorov_smirnov, labelled, pit, share_inside
from inference.run_folder import RunFolder
from scripts.command.errors import CommandError, UsageError
from scripts.report import ReportVariables, sweep_folder
from scripts.report import main as write_report
from scripts.reports.document import Figure, Report, Section, Table
from scripts.reports.evidence import read_run
from scripts.reports.figures.redshifts import STACK
from scripts.reports.quantities import number, percent
from scripts.reports.run_report import run_report
from scripts.runs import journal
from tests.run_folders import write_run

PUBLISHED = {
    "total_cpu_time (seconds)": 20.0,
    "total_cpu_memory (MB)": 9000.0,
    "total_process_memory (MB)": 1100.0,
    "execution_time (seconds/batch)": 2.0,
    "num_batches": 10,
    "batch_size": 512,
    "device": "cpu",
    "throughput_bps": 4.0e7,
    "sample_persec": 250.0,
    "result_path": "result-partition-25MB/",
    "data_path": "25MB/1.pt",
}


def report_of(folder: Path) -> Report:
    return run_report(read_run(folder), root=folder)


def section(report: Report, title: str) -> Section:
    (found,) = [one for one in report.sections if one.title == title]
    return found


def titles(found: Section) -> list[str]:
    return [
        block.title if isinstance(block, Figure) else block.caption
        for block in found.blocks
        if hasattr(block, "caption")
    ]


def is_table(block: Any, caption: str) -> bool:
    return isinstance(block, Table) and block.caption == caption


def misaligned(report: Report) -> list[tuple[str, str]]:
    """Columns of tables, after the first, that hold words and are aligned as numbers or the other way round."""
    blocks = [block for one in report.sections for block in one.blocks]
    tables = [block.table if isinstance(block, Figure) else block for block in blocks]
    return [
        (table.caption, name)
        for table in tables
        if isinstance(table, Table) and not table.is_sortable
        for i, name in enumerate(table.columns[1:], start=1)
        if (cells := [row[i] for row in table.rows if row[i] not in ("", "–")])  # noqa: RUF001
        and all(cell[0] in "+-.0123456789" for cell in cells) == (i in table.words)
    ]


def edit(folder: Path, change: Any, name: str = "summary.json") -> None:
    document = json.loads((folder / name).read_text())
    change(document)
    (folder / name).write_text(json.dumps(document))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs" / "run-a", world_size=8)
    return tmp_path / "runs" / "run-a"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is only looked at."""
    folder = tmp_path_factory.mktemp("plain") / "runs" / "run-a"
    write_run(folder, world_size=8)
    return folder


@pytest.fixture(scope="module")
def report(plain: Path) -> Report:
    """Its report."""
    return report_of(plain)


def imported(tmp_path: Path, num: int, **changes: Any) -> Path:
    folder = tmp_path / "runs" / "imported"
    folder.mkdir(parents=True)
    records = [PUBLISHED | {"total_cpu_time (seconds)": 20.0 + i % 7} | changes for i in range(num)]
    (folder / "combined_data.json").write_text(json.dumps(records))
    return folder


# -------------------------------------------------------------------------------------------- the top


def test_the_sentence_has_galaxies_time_ranks_and_accuracy(report: Report) -> None:
    sentence = report.sentence

    assert sentence.startswith("512 galaxies in 41.0 s on 8 ranks, 12.5 galaxies/s end to end, NMAD 0.0")
    assert sentence.endswith("USD had it run on AWS.")


def test_an_incomplete_run_says_so_first(tmp_path: Path) -> None:
    write_run(tmp_path / "run-a", world_size=8, num_lost=2)
    report = report_of(tmp_path / "run-a")

    assert report.sentence.startswith("Incomplete: 2 ranks of 8 lost. 384 galaxies")
    assert report.warnings[0].startswith("Incomplete: 2 ranks of 8 gave no valid record. rank 6: ShardFormatError: ")


def test_stragglers_retries_and_cold_starts_are_warned_of(report: Report) -> None:
    warnings = "\n".join(report.warnings)

    assert "Stragglers: rank 4 took" in warnings
    assert "1 rank needed more than one attempt, up to 2: throttled" in warnings
    assert "Cold starts: " in warnings


def test_phases_that_do_not_add_up_are_warned_of(run: Path) -> None:
    edit(run, lambda records: records[3]["clock"].update(total=99.0), "combined_data.json")

    assert any("The phases of 1 rank do not add up" in warning for warning in report_of(run).warnings)


def test_a_deployment_that_changed_under_the_run_is_warned_of(run: Path) -> None:
    edit(run, lambda records: records[3].update(weights_sha256="1" * 64), "combined_data.json")

    assert any(warning.startswith("2 different weights") for warning in report_of(run).warnings)


# ------------------------------------------------------------------------------------------- sections


def test_a_run_has_every_figure_of_its_sections(report: Report) -> None:
    assert titles(section(report, "Accuracy")) == [
        "Metrics",
        "Photometric against spectroscopic redshift",
        "Distribution of redshifts, n(z)",
        "Residuals against z_spec",
        "Calibration of sigma",
        "Errors against sigma",
        "Calibration of p(z)",
        "Quality flags of the input; a galaxy can have several",
    ]
    assert titles(section(report, "Clock")) == [
        "Wall time by stage",
        "Time of the ranks by phase",
        "Waterfall of the ranks",
        "Distribution of the billed time of a rank",
        "Slowest ranks",
        "All 8 ranks",
    ]
    assert titles(section(report, "Cost"))[0] == "Receipt"


@pytest.fixture(scope="module")
def clocked(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight ranks, two of them cold, that compute for 2, 3 … 9 s."""

    def change(records: list[dict[str, Any]]) -> None:
        for i, record in enumerate(records):
            phases = {"queue": 9.0, "init": 4.0 if i < 2 else 0.0, "model_load": 0.0, "download": 1.0, "upload": 0.0}
            record["cold_start"] = i < 2
            record["clock"] = {**phases, "inference": 2.0 + i, "record": 0.0, "total": 3.0 + i}

    folder = tmp_path_factory.mktemp("clocked") / "run-a"
    shutil.copytree(plain, folder)
    edit(folder, change, "combined_data.json")
    return folder


@pytest.fixture(scope="module")
def clock(clocked: Path) -> Section:
    """What its report says of time."""
    return section(report_of(clocked), "Clock")


def test_a_stage_has_its_share_of_the_whole_run(report: Report) -> None:
    (stages, *_) = section(report, "Clock").blocks

    assert [row[:3] for row in stages.rows] == [
        ("Initialize", "0.50", "1.2 %"),
        ("Map", "40.00", "97.6 %"),
        ("Summarize", "0.50", "1.2 %"),
        ("end to end", "41.00", "100.0 %"),
    ]


def test_a_phase_has_its_share_of_what_was_worked_and_its_quantiles(clock: Section) -> None:
    (phases,) = [block.table for block in clock.blocks if isinstance(block, Figure)][:1]

    assert phases is not None
    rows = {row[0]: row[1:] for row in phases.rows}
    assert rows["inference"] == ("44.000", "73.3 %", "5.500", "8.650", "9.000", "2.500", "6.500")
    assert rows["init"][:2] == ("8.000", "13.3 %")
    assert rows["queue"][:2] == ("72.000", "–")  # noqa: RUF001


def test_the_slowest_ranks_come_first_with_what_took_longest_in_each(clock: Section) -> None:
    (slowest,) = [block for block in clock.blocks if is_table(block, "Slowest ranks")]

    assert [row[0] for row in slowest.rows] == ["7", "6", "1", "5", "0", "4", "3", "2"]
    assert slowest.rows[0] == ("7", "64", "10.0 s", "1.33", "inference 9.00 s", "warm", "0")
    assert slowest.rows[2] == ("1", "64", "8.00 s", "1.07", "init 4.00 s", "cold", "1")


def test_the_table_of_all_ranks_has_what_each_reported(clocked: Path, clock: Section) -> None:
    (ranks,) = [block for block in clock.blocks if is_table(block, "All 8 ranks")]
    record = json.loads((clocked / "combined_data.json").read_text())[1]

    row = dict(zip(ranks.columns, ranks.rows[1], strict=True))

    measured = (f"{record['sample_persec']:,.1f}", f"{record['peak_memory_bytes'] / 2**20:,.0f}")
    assert (row["galaxies/s"], row["peak memory [MB]"]) == measured
    assert (row["rank"], row["galaxies"], row["cold"], row["retries"]) == ("1", "64", "cold", "1")
    assert (row["init [s]"], row["inference [s]"], row["billed time [s]"]) == ("4.000", "3.000", "8.000")


def test_magnitudes_come_from_wherever_the_dataset_is(run: Path, tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    identifiers = RunFolder(run).all_predictions().object_id
    parquet.write_table(
        pa.table({"object_id": identifiers, "mag_r": 17 + identifiers % 7 / 10}), folder / "table.parquet"
    )
    write_entry(run, dataset=str(folder), status="SUCCEEDED")

    assert "Residuals against r" in titles(section(report_of(run), "Accuracy"))


@pytest.mark.parametrize(("column", "is_shown"), [("mag_r", True), ("mag_g", False)])
def test_residuals_are_shown_against_r_where_the_datasets_table_is_at_hand(
    column: str, is_shown: bool, run: Path
) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    ids = read_run(run).predictions.object_id[::-1]
    folder = run.parents[1] / "datasets" / "sdss" / "10MB"
    folder.mkdir(parents=True)
    magnitudes = np.linspace(14, 18, len(ids))
    parquet.write_table(pa.table({"object_id": ids, column: magnitudes}), folder / "table.parquet")

    report = run_report(read_run(run), root=run.parents[1])

    assert ("Residuals against r" in titles(section(report, "Accuracy"))) == is_shown


def test_numbers_of_the_receipt_add_up(report: Report) -> None:
    (table, *_) = section(report, "Cost").blocks
    prices = {row[0]: float(row[1]) for row in table.rows}

    items = sum(usd for name, usd in prices.items() if name not in ("together", "as published"))
    assert prices["together"] == pytest.approx(items, abs=5e-6)  # six decimals each


def test_columns_of_words_are_aligned_left_and_those_of_numbers_right(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "run-a", world_size=8, num_lost=1)

    wrong = misaligned(report_of(tmp_path / "runs" / "run-a")) + misaligned(report_of(imported(tmp_path, 8)))

    assert wrong == [("Request and deployment", "value")]  # 512 galaxies, where others have names


def test_the_origin_says_when_and_where_a_local_run_ran(run: Path) -> None:
    noted = {"run_id": "run-a", "target": "local", "execution_arn": "a", "bucket": "b", "run_prefix": "runs/run-a/"}
    noted |= {"started_at_s": 1_795_308_908.0, "machine": "Fast 9000, 2 CPUs"}
    (run / "execution.json").write_text(json.dumps(noted))
    rows = section(report_of(run), "Provenance").blocks[0].rows

    assert ("started", "2026-11-22 00:55:08 UTC", "") in rows
    assert any(row[:2] == ("machine", "Fast 9000, 2 CPUs") for row in rows)


def test_the_memory_of_the_ranks_has_its_parts_and_its_distribution(run: Path) -> None:
    def change(records: list[dict[str, Any]]) -> None:
        for i, record in enumerate(records):
            record["peak_memory_bytes"] = (400 + i) * 2**20

    edit(run, change, "combined_data.json")

    memory = section(report_of(run), "Memory")

    assert memory.lead == "Peak of any rank 407 MB, 23 % of the 1,769 MB configured. MB are 2²⁰ bytes."
    parts, distribution = memory.blocks
    assert parts.rows[0][:4] == ("peak", "400.0", "403.5", "407.0")
    assert [row[0] for row in parts.rows] == ["peak", "process", "model", "batch", "libraries"]
    assert distribution.caption.startswith("Median 404 MB. ")
    assert list(range(400, 408)) in [list(one.get_xdata()) for one in distribution.drawing.axes[0].lines]


def test_what_is_needed_for_the_same_numbers_is_named_with_the_shards_that_were_read(report: Report) -> None:
    origin, shards = section(report, "Provenance").blocks

    rows = {row[0]: row[1:] for row in origin.rows}
    assert rows["weights"][0] == "0" * 64
    assert (rows["engine"][0], rows["device"][0]) == ("fake 1", "cpu")
    assert rows["dataset"][1] == "1 shard"
    assert "dataset sha256" not in rows  # no card stated one
    assert shards.rows == [("d/0.safetensors", "512", "–")]  # noqa: RUF001


def test_a_dataset_has_the_checksum_of_the_checksums_of_its_shards(run: Path) -> None:
    def change(records: list[dict[str, Any]]) -> None:
        for i, record in enumerate(records):
            record["inputs"][0] |= {"key": f"d/{i // 2}.safetensors", "sha256": f"{i // 2}" * 64}

    edit(run, change, "combined_data.json")

    origin, shards = section(report_of(run), "Provenance").blocks

    rows = {row[0]: row[1:] for row in origin.rows}
    together = hashlib.sha256("".join(f"{i}" * 64 for i in range(4)).encode()).hexdigest()
    assert (rows["dataset"][1], rows["dataset sha256"][0]) == ("4 shards", together)
    assert shards.rows[3] == ("d/3.safetensors", "128", "3" * 64)


def test_the_three_throughputs_stand_side_by_side_in_both_units(report: Report) -> None:
    (table, *_) = section(report, "Throughput").blocks

    assert [row[0] for row in table.rows] == ["sum of rank rates", "Map wall", "end to end"]
    assert table.rows[2][1:3] == ("12.49", "2.05 Mbit/s")  # 512 galaxies of 164,160 bits in 41 s


def test_many_ranks_are_listed_in_part_and_handed_to_the_script_in_full(tmp_path: Path) -> None:
    write_run(tmp_path / "run-a", world_size=100)
    (table,) = [
        block
        for block in section(report_of(tmp_path / "run-a"), "Clock").blocks
        if isinstance(block, Table) and block.is_sortable
    ]

    assert len(table.rows) == 20
    assert len(table.all_rows) == 100
    assert [len(row) for row in table.all_rows] == [len(table.columns)] * 100


def test_p_z_is_compared_with_the_redshifts_and_added_up(plain: Path, report: Report) -> None:
    accuracy = section(report, "Accuracy")
    figures = {block.title: block for block in accuracy.blocks if isinstance(block, Figure)}
    predictions = RunFolder(plain).all_predictions()
    assert predictions is not None
    pair = labelled(predictions.pz, predictions.z_spec)
    assert pair is not None
    transform = pit(*pair)

    table = figures["Calibration of p(z)"].table

    assert table is not None
    rows = {row[0]: row[1] for row in table.rows}
    assert rows["Kolmogorov-Smirnov"] == number(kolmogorov_smirnov(transform))
    assert rows["inside the central 68 %"] == percent(share_inside(transform, LIMITS_68))
    # Errors are drawn as wide as the distributions are.
    assert share_inside(transform, LIMITS_68) == pytest.approx(0.68, abs=0.07)
    legend = figures["Distribution of redshifts, n(z)"].drawing.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["z_spec", "z_phot", STACK]


# ------------------------------------------------------------------------------- what is not there


def test_a_run_without_predictions_keeps_its_numbers(run: Path) -> None:
    for path in (run / "predictions").iterdir():
        path.unlink()
    accuracy = section(report_of(run), "Accuracy")

    assert titles(accuracy) == ["Metrics"]
    assert "no plots" in accuracy.blocks[-1].text


def unbind(run: Path) -> None:
    """Let the records not say which predictions are theirs."""
    path = run / "combined_data.json"
    records = json.loads(path.read_bytes())
    path.write_text(json.dumps([{**record, "predictions": None} for record in records]))


def test_a_run_without_labels_shows_its_predictions_and_no_accuracy(run: Path) -> None:
    edit(run, lambda summary: summary.update(accuracy=None))
    for path in (run / "predictions").iterdir():
        arrays = dict(np.load(path))
        np.savez(path, **(arrays | {"z_spec": np.full_like(arrays["z_spec"], np.nan)}))
    unbind(run)
    accuracy = section(report_of(run), "Accuracy")

    assert accuracy.lead.startswith("Unknown: no galaxy")
    assert titles(accuracy)[0] == "Predicted redshifts"
    legend = accuracy.blocks[0].drawing.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["z_phot", STACK]


@pytest.mark.parametrize(("status", "how"), [("ABORTED", "Stopped"), ("FAILED", "Failed"), ("", "Cut off")])
def test_a_run_that_ended_before_its_summary_is_reported_from_its_ranks(status: str, how: str, run: Path) -> None:
    if status:
        write_entry(run, status=status)
    records = json.loads((run / "combined_data.json").read_text())
    (run / "ranks").mkdir()
    for record in records[:5]:
        (run / "ranks" / f"{record['rank']:05d}.json").write_text(json.dumps(record))
    for name in ("summary.json", "combined_data.json"):
        (run / name).unlink()
    report = report_of(run)

    assert report.sentence.startswith(f"{how} when 5 of 8 ranks had ended: 320 galaxies.")
    assert "5 of 8 ranks left a record; 3 did not." in report.warnings
    assert "Waterfall of the ranks" in titles(section(report, "Clock"))


def write_entry(run: Path, **noted: Any) -> None:
    """What the terminal that started it noted."""
    known = {"target": "local", "execution_arn": "arn", "bucket": "b", "run_prefix": "runs/run-a/"}
    journal.write(run, journal.Entry(run_id="run-a", started_at_s=1.0, **known, **noted))


def test_a_run_of_an_older_version_is_reported(run: Path) -> None:
    def forget(summary: dict[str, Any]) -> None:
        for name in ("phases", "cold", "warm", "slowest", "num_concurrent_ranks", "parallel_efficiency"):
            summary["clock"].pop(name)
        for name in ("bias_median", "sigma_mad", "sigma_iqr", "coverage_68", "coverage_95"):
            summary["accuracy"].pop(name)

    edit(run, forget)
    report = report_of(run)

    assert "NMAD" in report.sentence
    assert "Parallel efficiency" not in section(report, "Clock").lead


def test_published_records_without_our_keys_are_reported(tmp_path: Path) -> None:
    report = report_of(imported(tmp_path, 130))

    assert report.sentence.startswith("130 records of ranks without a summary: 746,000 galaxies. 32,500 galaxies/s")
    assert titles(section(report, "Clock")) == ["Distribution of the loop time of a rank", "Slowest records"]
    assert titles(section(report, "Throughput"))[0] == "Throughput by definition"
    assert "1,100 MB" in section(report, "Memory").lead
    assert section(report, "Accuracy").lead.startswith("Unknown")
    assert section(report, "Cost").lead.startswith("Unknown")


def test_a_rate_is_read_from_whichever_key_states_it(tmp_path: Path) -> None:
    bits = imported(tmp_path / "a", 3, sample_persec=None, throughput_bps=200 * 164_160.0)
    batches = imported(tmp_path / "b", 3, **dict.fromkeys(("sample_persec", "throughput_bps")))

    assert read_run(bits).ranks["sample_persec"] == pytest.approx([200] * 3)
    assert read_run(batches).ranks["sample_persec"] == pytest.approx([512 / 2] * 3)


def test_what_an_import_found_doubtful_is_warned_of(tmp_path: Path) -> None:
    folder = imported(tmp_path, 1000)
    known = {"source": "/somewhere/results.json", "source_sha256": "ab" * 32, "warnings": ["No record of rank 7."]}
    (folder / "import.json").write_text(json.dumps(known))
    report = report_of(folder)

    assert report.warnings[:2] == (
        "Imported: whether every rank reported was not checked, and wall times are unknown.",
        "No record of rank 7.",
    )
    assert ("imported from", "results.json", "") in section(report, "Provenance").blocks[0].rows


def test_exactly_a_thousand_published_records_look_cut(tmp_path: Path) -> None:
    report = report_of(imported(tmp_path, 1000))

    assert any(warning.startswith("Exactly 1,000 records") for warning in report.warnings)


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("name", ["summary.json", "combined_data.json", "predictions/00003.npz"])
def test_a_file_that_was_cut_is_named_and_nothing_is_written(name: str, run: Path) -> None:
    whole = (run / name).read_bytes()
    (run / name).write_bytes(whole[: len(whole) // 2])

    with pytest.raises(RunFolderError, match=f"{name}.*[Ff]etch the run again"):
        write_report(ReportVariables(run="run-a"), root=run.parents[1])

    assert not (run / "report.html").exists()


def test_a_folder_without_anything_to_report_says_so(run: Path) -> None:
    for name in ("summary.json", "combined_data.json"):
        (run / name).unlink()

    with pytest.raises(CommandError, match=r"neither summary.json nor records of ranks: there is nothing to report"):
        read_run(run)


def test_an_unknown_sweep_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"SWEEP=batch: there is no such sweep. Known: none\.$"):
        write_report(ReportVariables(sweep="batch"), root=tmp_path)
    for name in ("batches", "batch-2", "batch-3", "batch-4", *(f"0{place}" for place in range(8))):
        (tmp_path / "sweeps" / name).mkdir(parents=True)
    (tmp_path / "sweeps" / "z.txt").touch()

    with pytest.raises(UsageError, match=r"SWEEP=batch: .* Known: batches, batch-4, batch-3\.$"):
        write_report(ReportVariables(sweep="batch"), root=tmp_path)
    with pytest.raises(UsageError, match=r"SWEEP=x: .* Known: 02, 03, 04, 05, 06, 07, batch-2, .*-4, batches\.$"):
        write_report(ReportVariables(sweep="x"), root=tmp_path)
    assert sweep_folder("batches", tmp_path) == sweep_folder("sweeps/batches/", tmp_path)
    assert sweep_folder(str(tmp_path), tmp_path / "elsewhere") == tmp_path


def test_a_run_and_a_sweep_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="RUN=a and SWEEP=b: a report is about one of them"):
        write_report(ReportVariables(run="a", sweep="b"), root=tmp_path)
    with pytest.raises(UsageError, match=r"SWEEP=b has the model it was run with: leave out MODEL=c\.$"):
        write_report(ReportVariables(sweep="b", model="c"), root=tmp_path)
