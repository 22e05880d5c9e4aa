"""The story of a rank says what it was to do, who tried, where its time went and what it left."""

import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

from inference import contract, summary
from inference.contract import LostRank, RankFailure
from scripts import explain
from scripts.command.errors import UsageError
from scripts.runs.logs.invocations import Invocation, Log
from scripts.runs.logs.lines import LogEvent, LogLine
from scripts.runs.run_folder import Run
from scripts.runs.story import Story, print_story
from tests.factories import RUN, make_predictions, make_record_for
from tests.unit.test_run_clock import make_clock
from tests.unit.test_run_present import make_summary
from tests.unit.test_summary import make_tasks

NOTHING = Log({}, ())
TRY = Invocation(
    request_id="8b9a5829",
    rank=1,
    started_at_s=1_795_308_908.0,
    duration_ms=2500,
    billed_ms=2600,
    memory_mb=1769,
    max_memory_mb=436,
    init_ms=1200,
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Three ranks of three galaxies: the first failed, the second needed two attempts."""
    folder = tmp_path / "runs" / RUN
    for name in ("predictions", "failures"):
        (folder / name).mkdir(parents=True)
    tasks = make_tasks(3)
    clocks = (make_clock(2.0, model_load=1.0, download=0.5, queue=0.25, init=4.0, total=4.0), make_clock(9.0))
    records = [
        make_record_for(
            task, clock=clock, attempt=1 - i, cold_start=i == 0, sample_persec=1234.5, s3_num_requests=7,
            s3_total_time=0.5, s3_max_time=0.125, image_digest="local", code_version="1", peak_memory_bytes=436 * 2**20,
        )
        for i, (task, clock) in enumerate(zip(tasks[1:], clocks, strict=True))
    ]  # fmt: skip
    failure = RankFailure(run_id=RUN, rank=0, error="ShardFormatError", cause='{"errorMessage": "d/0 is cut"}')
    (folder / "failures" / "00000.json").write_bytes(contract.encode(failure))
    (folder / "manifest.json").write_bytes(contract.encode(tasks))
    (folder / "combined_data.json").write_bytes(summary.combine(records))
    return Run(folder, RUN)


def story_of(run: Run, rank: int, log: Log = NOTHING) -> str:
    file = io.StringIO()
    print_story(Console(file=file, width=80), Story(run, log, rank))
    return file.getvalue()


def leave_predictions(run: Run, rank: int, **arrays: Any) -> Path:
    path = run.path / "predictions" / f"{rank:05d}.npz"
    path.write_bytes(make_predictions(**arrays).to_npz())
    return path


def test_the_first_line_says_how_the_rank_ended(run: Run) -> None:
    first = [story_of(run, rank).splitlines()[0] for rank in range(3)]

    assert first == [
        f"{RUN}, rank 0 of 3: lost: ShardFormatError: d/0 is cut",
        f"{RUN}, rank 1 of 3: done at attempt 2",
        f"{RUN}, rank 2 of 3: done",
    ]


def test_a_rank_without_record_and_failure_may_still_go_on(run: Run) -> None:
    (run.path / "failures" / "00000.json").unlink()

    assert "rank 0 of 3: neither a record nor a failure" in story_of(run, 0)


def test_a_rank_that_failed_has_its_input_and_no_output(run: Run) -> None:
    line = LogLine("ours", LogEvent("s", ""), "r", 0.0, fields={"message": "hi", "level": "INFO"})
    attempt = Invocation(request_id="r", rank=0)

    lines = story_of(run, 0, Log({"r": [line]}, (attempt,))).splitlines()

    assert lines == [
        f"{RUN}, rank 0 of 3: lost: ShardFormatError: d/0 is cut",
        "",
        "  Input: 3 galaxies",
        "  d/0.safetensors rows 0 to 2",
        "    sha256 not stated by dataset.json, etag e",
        "",
        "  Attempts",
        "  1. r  succeeded",
        "     time unknown, no REPORT line, warm",
        "",
        "  Output",
        "  none: runs/run-a/predictions/00000.npz does not exist",
        "",
        "  What its workers printed (UTC)",
        "00:00:00.000  INFO     hi",
    ]


def test_a_long_message_stays_in_one_line(run: Run) -> None:
    failure = RankFailure(run_id=RUN, rank=0, error="E", cause="why " * 40)
    (run.path / "failures" / "00000.json").write_bytes(contract.encode(failure))

    assert story_of(run, 0).splitlines()[0].endswith("E: " + "why " * 40)


def test_what_a_rank_read_is_told_in_the_place_of_what_it_was_to_read(run: Run) -> None:
    (record, other), (rows,) = run.records, run.tasks[1].rows
    read = msgspec.structs.replace(rows, etag="", sha256="f" * 64)
    clock = make_clock(0.0, total=0.0)
    records = [msgspec.structs.replace(record, inputs=(read,), clock=clock), other]
    (run.path / "combined_data.json").write_bytes(summary.combine(records))

    found = story_of(Run(run.path, RUN), 1)

    assert f"    sha256 {'f' * 64}, etag none\n" in found
    assert "  inference      0.000 s    0%\n" in found


def test_what_the_summary_says_of_a_lost_rank_comes_before_its_failure(run: Run) -> None:
    lost = LostRank(rank=0, error="StaleRecord", message="of another run", shards=("d/0",))
    (run.path / "summary.json").write_bytes(contract.encode(make_summary(num_samples_planned=9, lost_ranks=(lost,))))

    assert story_of(run, 0).startswith(f"{RUN}, rank 0 of 3: lost: StaleRecord: of another run\n")


def test_a_phase_has_its_share_of_the_handlers_time(run: Run) -> None:
    lines = story_of(run, 1).splitlines()

    begin = lines.index("  Time") + 1
    assert lines[begin : begin + 9] == [
        "  queue          0.250 s  before the handler, a cold start included",
        "  init           4.000 s  a fresh process",
        "  model load     1.000 s   25%  ########",
        "  download       0.500 s   12%  ####",
        "  inference      2.000 s   50%  ###############",
        "  upload         0.000 s    0%",
        "  record         0.000 s    0%",
        "  total          4.000 s  0.500 s of it in no phase; then the record was written",
        "  8.000 s with init; the median rank 8.500 s; 1 of 2 ranks took longer",
    ]
    assert "init           0.000 s  warm" in story_of(run, 2)


def test_what_computed_is_named_with_its_rate_its_memory_and_its_requests(run: Run) -> None:
    lines = story_of(run, 1).splitlines()

    begin = lines.index("  Computed") + 1
    assert lines[begin : begin + 6] == [
        "  1,234.5 galaxies/s with fake 1 in fp32, 1 thread",
        "  436 MB at most, 1,769 MB configured",
        "  7 requests to S3, 0.500 s in all, the longest 0.125 s",
        "  model   fake",
        f"  weights {'0' * 64}",
        "  image local, code 1",
    ]


def test_threads_are_counted_and_what_an_engine_notes_is_told(run: Run) -> None:
    records = [msgspec.structs.replace(one, num_threads=2, engine_note="no AVX", model="") for one in run.records]
    (run.path / "combined_data.json").write_bytes(summary.combine(records))

    found = story_of(Run(run.path, RUN), 1)

    assert "with fake 1 in fp32, 2 threads\n  no AVX\n" in found
    assert "model   of an older version\n" in found


def test_every_attempt_has_its_numbers_and_what_was_printed_follows(run: Run) -> None:
    line = LogLine("ours", LogEvent("s", ""), "8b9a5829", 0.0, fields={"message": "hi", "record_write_s": 0.0625})
    cut = Invocation(request_id="cut", rank=1, status="timeout")
    other = Invocation(request_id="other", rank=2)

    found = story_of(run, 1, Log({"8b9a5829": [line], "cut": [], "other": []}, (cut, TRY, other)))

    assert "  1. cut  timeout\n     time unknown, no REPORT line, warm\n" in found
    assert "  2. 8b9a5829  succeeded\n" in found
    assert "     2026-11-22 00:55:08 UTC, 2.50 s, billed 2.60 s, init 1.20 s, 436 of 1769 MB\n" in found
    assert "in no phase; then 0.062 s to write the record" in found
    assert found.partition("What its workers printed (UTC)\n")[2].count("\n") == 1
    assert "other" not in found


def test_the_predictions_are_counted_and_described(run: Run) -> None:
    path = leave_predictions(
        run,
        1,
        z_phot=np.array([0.1, 0.3, np.nan], dtype=np.float32),
        z_spec=np.array([0.25, np.nan, 0.2]),
        quality=np.array([0, 0, 1], dtype=np.uint8),
    )

    found = story_of(run, 1)

    assert f"{path}, {path.stat().st_size:,} bytes, sha256 " in found
    assert "3 galaxies, 1 without a redshift, 2 labelled\n  z_phot 0.1000 to 0.3000, median 0.2000\n" in found
    assert f"mean dz {(0.1 - 0.25) / 1.25:.5f}\n" in found
    assert found.splitlines()[-1].startswith("  flags: ")
    assert found.endswith(" 1\n")


def test_galaxies_without_redshift_label_and_flag_are_described_too(run: Run) -> None:
    leave_predictions(run, 1, z_phot=np.full(3, np.nan, dtype=np.float32), z_spec=np.full(3, np.nan))

    assert story_of(run, 1).endswith("3 galaxies, 3 without a redshift, 0 labelled\n  flags: none\n")


def test_a_missing_or_damaged_file_of_predictions_is_said(run: Run) -> None:
    (run.path / "predictions" / "00002.npz").write_bytes(b"PK")

    assert "none: runs/run-a/predictions/00000.npz does not exist" in story_of(run, 0)
    assert f"{run.path}/predictions/00001.npz is not here" in story_of(run, 1)
    assert "it cannot be read: " in story_of(run, 2)


def test_the_rows_of_a_rank_are_named_with_their_checksum(run: Run) -> None:
    (rows,) = run.tasks[0].rows

    found = story_of(run, 0)

    assert "  Input: 3 galaxies\n" in found
    assert f"  {rows.key} rows {rows.start_row} to {rows.stop_row - 1}\n" in found
    assert f"    sha256 not stated by dataset.json, etag {(rows.etag or '').strip(chr(34))}\n" in found


@pytest.mark.parametrize(("num", "end"), [(20, ""), (21, "  and 1 more in runs/run-a/ranks/00000.json\n")])
def test_twenty_parts_of_shards_are_named_and_more_are_counted(num: int, end: str, run: Run) -> None:
    (rows,) = run.tasks[0].rows
    part = msgspec.structs.replace(rows, start_row=1000, stop_row=3000, sha256="f" * 64, etag="")
    tasks = [msgspec.structs.replace(run.tasks[0], rows=(part,) * num), *run.tasks[1:]]
    (run.path / "manifest.json").write_bytes(contract.encode(tasks))

    found = story_of(Run(run.path, RUN), 0)

    named = f"  {rows.key} rows 1,000 to 2,999\n    sha256 {'f' * 64}, etag none\n"
    assert f"  Input: 3 galaxies\n{named * 20}{end}\n" in found


@pytest.mark.parametrize(("rank", "asked"), [(None, "RANK=…"), (3, "RANK=3")])
def test_a_rank_that_is_none_of_the_run_is_refused(
    rank: int | None, asked: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.path.parents[1])

    with pytest.raises(UsageError, match=f"{asked} names none of the ranks of {RUN}: they are 0 to 2"):
        explain.main(explain.ExplainVariables(run=RUN, rank=rank))


def test_the_last_rank_is_explained(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.path.parents[1])

    explain.main(explain.ExplainVariables(run=RUN, rank=2))

    assert capsys.readouterr().out.startswith(f"{RUN}, rank 2 of 3: done\n")
