"""Published files become the published tables and figures again, and what does not add up is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import reproduce as command
from scripts.command.errors import UsageError
from scripts.reports.reproduction import Result, results, write_reproduction
from scripts.reproduce import ReproduceVariables, main
from scripts.runs.imported.kit import read_kit

ROWS = 1278


def record(shard: int, *, loop_s: float = 6.0, batch_size: int = 512, **changes: Any) -> dict[str, Any]:
    """One made-up record with the published keys."""
    return {
        "total_cpu_time (seconds)": loop_s,
        "total_process_memory (MB)": 2048.0,
        "batch_size": batch_size,
        "sample_persec": ROWS / loop_s,
        "throughput_bps": 164_160 * ROWS / loop_s,
        "data_path": f"/tmp/{shard}.pt",
        **changes,
    }


def write_records(folder: Path, records: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    (folder / "combined_data.json").write_text(json.dumps(records))


def make_folder(root: Path) -> Path:
    """Two shard sizes, two batch sizes, one run short of a record, one whose loop is longer than its Map."""
    write_records(root / "result-partition-25MB" / "0.1GB" / "1", [record(i) for i in range(5)])
    write_records(root / "result-partition-25MB" / "0.1GB" / "2", [record(i) for i in range(4)])
    write_records(
        root / "result-partition-25MB" / "0.1GB" / "batch-32" / "1", [record(i, batch_size=32) for i in range(5)]
    )
    write_records(root / "result-partition-50MB" / "0.1GB" / "1", [record(0, loop_s=40.0), record(0), record(1)])
    (root / "logs.csv").write_text(
        "partition (MB),data (GB),run,batch_size,total_duration (s),inference_duration (s)\n"
        "25MB,0.1GB,1,512,20,15\n25MB,0.1GB,2,512,22,17\n25,0.1,1,32,40,33\n50,0.1,1,512,30,25\n75,0.1,1,512,39,36\n"
    )
    return root


def result_of(root: Path, shard_mb: float, run: str = "1", batch_size: int = 512) -> Result:
    (found,) = [
        one
        for one in results(read_kit(root))
        if (one.setting.shard_mb, one.setting.batch_size, one.run) == (shard_mb, batch_size, run)
    ]
    return found


def test_a_run_is_its_records_and_its_durations_with_three_throughputs(tmp_path: Path) -> None:
    found = result_of(make_folder(tmp_path), 25.0)

    bits = 5 * ROWS * 164_160
    assert (found.num_records, found.end_to_end_s, found.map_s, found.loop_median_s) == (5, 20.0, 15.0, 6.0)
    assert found.rank_rates_bit_per_s == pytest.approx(bits / 6)
    assert found.map_bit_per_s == pytest.approx(bits / 15)
    assert found.end_to_end_bit_per_s == pytest.approx(bits / 20)
    assert found.published_usd == pytest.approx(5 * 6 * 2 * 0.00001667)
    assert found.configured_usd == pytest.approx(5 * 6 * 10 * 0.00001667)


def test_what_does_not_add_up_is_said_of_the_run(tmp_path: Path) -> None:
    root = make_folder(tmp_path)

    whole, short, odd = (
        " ".join(one.doubts) for one in (result_of(root, 25.0), result_of(root, 25.0, "2"), result_of(root, 50.0))
    )

    assert "Only" not in whole
    assert "Only 4 of 5 ranks have a record" in short
    assert "1 records are of a shard that another record read too" in odd
    assert "The loop of 1 rank, up to 40.0 s, is longer than the whole Map, 25.0 s" in odd
    assert "configured memory costs 5.0 times that" in whole


def test_exactly_a_page_of_records_is_doubted(tmp_path: Path) -> None:
    write_records(tmp_path / "100MB" / "256GB" / "1", [record(i) for i in range(1000)])

    (found,) = results(read_kit(tmp_path))

    assert any(doubt.startswith("Exactly 1,000 records") for doubt in found.doubts)
    assert any(doubt.startswith("Only 1,000 of 2,622 ranks") for doubt in found.doubts)
    assert "No table has its durations." in found.doubts


def test_the_same_files_are_the_same_bytes(tmp_path: Path) -> None:
    kit = read_kit(make_folder(tmp_path / "published"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    first, second = (write_reproduction(kit, tmp_path / name) for name in ("a", "b"))

    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert {"reproduction.md", "runs.csv", "discrepancies.csv", "end-to-end.png", "throughput.png", "batch.png"} <= {
        path.name for path in first
    }
    tables = {path.name: path.read_bytes().decode().split("\n") for path in first if path.suffix == ".csv"}
    assert tables["runs.csv"][0].startswith("partition_mb,data_gb,batch_size,run,ranks,records,end_to_end_s,map_s,")
    assert tables["runs.csv"][1:] == [
        "25,0.1,32,1,5,5,40.00,33.00,6.00,6.00,0.1748,0.0318,0.0262,0.0010,0.0050",
        "25,0.1,512,1,5,5,20.00,15.00,6.00,6.00,0.1748,0.0699,0.0524,0.0010,0.0050",
        "25,0.1,512,2,5,4,22.00,17.00,6.00,6.00,0.1399,0.0494,0.0381,0.0008,0.0040",
        "50,0.1,512,1,3,3,30.00,25.00,6.00,40.00,0.0752,0.0252,0.0210,0.0017,0.0087",
        "75,0.1,512,1,2,0,39.00,36.00,,,,,,,",
        "",
    ]
    assert "50,0.1,512,1," in tables["discrepancies.csv"][-2]
    page = first[0].read_text()
    assert "| 25 MB | 0.1 GB | 512 | 5 | 4-5 | 21.00 | 16.00 | 6.00 |" in page
    parts = {part.partition("\n")[0]: rows_of(part) for part in page.split("\n## ")}
    whole = [
        "25 MB | 0.1 GB | 512 | 5 | 4-5 | 21.00 | 16.00 | 6.00 | 0.16 | 0.06 | 0.05",
        "50 MB | 0.1 GB | 512 | 3 | 3 | 30.00 | 25.00 | 6.00 | 0.08 | 0.03 | 0.02",
        "75 MB | 0.1 GB | 512 | 2 | 0 | 39.00 | 36.00 |  |  |  | ",
    ]
    assert parts["By shard size, 0.1 GB"] == parts["By data size"] == whole
    in_batches = "25 MB | 0.1 GB | 32 | 5 | 5 | 40.00 | 33.00 | 6.00 | 0.17 | 0.03 | 0.03"
    assert parts["By batch size"] == [in_batches, whole[0]]
    assert parts["Cost"] == [
        "25 MB | 0.1 GB | 32 | 5 | 6.00 | 0.001 | 0.005",
        "25 MB | 0.1 GB | 512 | 4 | 6.00 | 0.001 | 0.005",
        "50 MB | 0.1 GB | 512 | 3 | 6.00 | 0.002 | 0.009",
    ]
    assert "5 runs of 4 settings; 4 with something that does not add up." in page
    assert page.count("\n- ") == sum(len(one.doubts) for one in results(kit)) == len(tables["discrepancies.csv"]) - 2
    assert "Nothing." not in page


def rows_of(part: str) -> list[str]:
    """Return the rows of the first table of a part of a page."""
    return [line[2:-2] for line in part.splitlines() if line.startswith("| ")][1:]


def test_a_page_of_runs_that_add_up_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(
        "partition_mb,data_gb,batch_size,run,ranks,end_to_end_s,map_s\n25,1.0,512,1,41,20,15\n25,2.0,512,1,82,30,25\n"
    )

    page, *_ = write_reproduction(read_kit(tmp_path), tmp_path)

    text = page.read_text()
    assert text.endswith("## What does not add up\n\nNothing.\n")
    # The whole data is the largest that several shard sizes have, or else the largest.
    assert "## By shard size, 2 GB" in text
    assert "By batch size" not in text


@pytest.mark.parametrize(("used_mb", "is_doubted"), [(10_240.0, False), (9_800.0, False), (9_700.0, True)])
def test_a_cost_is_doubted_from_a_difference_of_five_percent_on(
    used_mb: float, is_doubted: bool, tmp_path: Path
) -> None:
    write_records(tmp_path / "25MB" / "0.1GB" / "1", [record(i, **{MEMORY: used_mb}) for i in range(5)])

    (found,) = results(read_kit(tmp_path))

    assert any("configured memory" in doubt for doubt in found.doubts) is is_doubted


MEMORY = "total_process_memory (MB)"


@pytest.mark.parametrize("missing", [MEMORY, "sample_persec", "total_cpu_time (seconds)"])
def test_what_one_record_does_not_say_is_not_summed_over_the_others(missing: str, tmp_path: Path) -> None:
    records = [record(i) for i in range(5)]
    del records[2][missing]
    write_records(tmp_path / "25MB" / "0.1GB" / "1", records)

    (found,) = results(read_kit(tmp_path))

    assert (found.published_usd is None) == (missing != "sample_persec")
    assert (found.rank_rates_bit_per_s is None, found.num_rows is None) == (missing != MEMORY, missing != MEMORY)
    assert found.map_bit_per_s is None
    assert found.loop_median_s == 6


def test_a_run_that_only_the_table_has_is_kept_and_two_of_one_name_are_two(tmp_path: Path) -> None:
    header = "partition_mb,data_gb,batch_size,run,ranks,end_to_end_s,map_s\n"
    (tmp_path / "runs.csv").write_text(header + "25,1.0,512,1,41,20,15\n25,1.0,512,1,41,21,16\n")

    assert [(one.run, one.map_s, one.doubts) for one in results(read_kit(tmp_path))] == [
        ("1", 15, ()),
        ("1 (2)", 16, ()),
    ]


def test_a_table_that_counts_records_is_doubted_without_them(tmp_path: Path) -> None:
    header = "partition_mb,data_gb,batch_size,run,end_to_end_s,map_s,records,loop_max_s\n"
    (tmp_path / "runs.csv").write_text(header + "100,256,512,1,130,80,1000,90\n100,1,512,1,50,45,11,40\n")

    whole, cut = results(read_kit(tmp_path))

    assert whole.doubts == ()
    assert [doubt.split(",")[0] for doubt in cut.doubts[:2]] == ["1", "Exactly 1"]
    assert "A loop of 90.0 s is longer than the whole Map" in cut.doubts[2]


def test_a_folder_called_total_is_of_all_the_data_and_others_say_how_much(tmp_path: Path) -> None:
    write_records(tmp_path / "25MB" / "total" / "1", [record(0)])
    write_records(tmp_path / "25 MB" / "1.5 GB" / "2", [record(0), record(1, batch_size=32)])

    runs = read_kit(tmp_path).runs

    assert [(one.setting.shard_mb, one.setting.data_gb, one.setting.batch_size, one.run) for one in runs] == [
        (25.0, 1.5, 0, "2"),  # of records with two batch sizes
        (25.0, 12.6, 512, "1"),
    ]


def test_a_folder_in_which_nothing_is_a_run_says_what_was_wrong_with_the_first_file(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")

    with pytest.raises(UsageError, match=r"holds no published run: .*\. other\.csv has no column partition_mb"):
        read_kit(tmp_path)


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    write_records(root / "elsewhere", [record(0)])
    (root / "other.csv").write_text("a,b\n1,2\n")
    with (root / "logs.csv").open("a") as file:
        file.write("100,0.1,1,512,,\n")

    left_out = " ".join(read_kit(root).left_out)

    assert "elsewhere/combined_data.json says not what was run" in left_out
    assert "other.csv has no column partition_mb" in left_out
    assert "logs.csv, line 7, is no run" in left_out


@pytest.mark.parametrize(
    ("variables", "answer"),
    [
        ({}, "FROM is needed"),
        ({"from_": "missing"}, "FROM=missing: there is no such folder"),
        ({"from_": "."}, r"FROM=\. holds no published run"),
    ],
    ids=["nothing", "no folder", "an empty one"],
)
def test_a_folder_that_is_none_is_said_in_a_line(
    variables: dict[str, str], answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match=answer):
        main(ReproduceVariables(**variables))


@pytest.mark.parametrize("to", ["", "~/my/out"])
def test_the_command_says_what_it_wrote(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "published")
    (tmp_path / "published" / "other.csv").write_text("a,b\n1,2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(command, "write_reproduction", lambda kit, folder: [folder / "reproduction.md"])

    for _ in range(2):  # again, into the same folder
        main(ReproduceVariables(from_="~/published", to=to))

    kit = read_kit(tmp_path / "published")
    folder = tmp_path / "my" / "out" if to else Path("reproduction")
    num_doubts = sum(len(one.doubts) for one in results(kit))
    assert num_doubts > 0
    assert folder.is_dir()
    assert (
        capsys.readouterr().out
        == (
            f"5 runs of 4 settings, {num_doubts} discrepancies, {len(kit.left_out)} files or lines left out\n"
            f"  {folder}/reproduction.md\n"
        )
        * 2
    )
