"""`make logs`, `make explain` and `make cost` of a real run on the local AWS, one of whose ranks is lost."""

import csv
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference import contract
from inference.contract import DatasetCard, RankRecord, ShardEntry
from tests.commands import run_command
from tests.factories import make_shard_bytes

ROWS = 400
"""Enough for a rank to take seconds: a millisecond between two phases is not 2 % then."""
LOST_RANK = 1
OURS = re.compile(
    r"MAKE|MFLAGS|WORLD|BATCH|DATASET|FILES|RESULT|PROFILE|PAYLOAD|TARGET|TOLERATE|ENGINE|PRECISION|COLUMNS|BUDGET|RUN$|RANK|FILE$|PRICES"
)


def command(module: str, root: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    return run_command(module, cwd=root, env=inherited | variables)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run three ranks, the second of which finds a shard with four magnitudes; return the run's folder."""
    root = tmp_path_factory.mktemp("accounting")
    folder = root / "datasets" / "tiny" / "1MB"
    folder.mkdir(parents=True)
    entries = []
    for number in range(3):
        content = make_shard_bytes(ROWS, magnitudes=np.full((ROWS, 4 if number == LOST_RANK else 5), 18.0))
        path = folder / f"{number}.safetensors"
        path.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        entries.append(ShardEntry(name=path.name, num_rows=ROWS, size_bytes=len(content), sha256=sha256))
    # Initialize believes the card, so that the worker is the first to see the bad shard.
    card = DatasetCard(
        name="tiny", partition="1MB", num_rows=3 * ROWS, shards=tuple(entries), arrays={}, seed=0, provenance="noise"
    )
    (folder / "dataset.json").write_bytes(contract.encode(card))
    done = command("run", root, DATASET="tiny", WORLD="3", TOLERATE="34")
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = (root / "runs").iterdir()
    return made


def look(module: str, run: Path, **variables: str) -> str:
    done = command(module, run.parents[1], RUN=run.name, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def records(run: Path) -> list[RankRecord]:
    return contract.decode((run / "combined_data.json").read_bytes(), list[RankRecord])


@pytest.fixture(scope="module")
def table(run: Path) -> dict[str, Any]:
    look("logs", run)
    with (run / "logs.csv").open() as file:
        return {row["rank"] or row["stage"]: row for row in csv.DictReader(file)}


def test_the_phases_of_real_ranks_add_up_to_their_time(records: list[RankRecord]) -> None:
    for record in records:
        clock = record.clock
        phases = clock.model_load + clock.download + clock.inference + clock.upload + clock.record
        assert phases == pytest.approx(clock.total, rel=0.02)


def test_the_phases_and_the_record_add_up_to_what_lambda_reports(
    run: Path, records: list[RankRecord], table: Any
) -> None:
    lines = "".join(path.read_text() for path in (run / "logs").glob("infer-*.log"))
    for record in records:
        (line,) = [text for text in lines.splitlines() if record.request_id in text and "rank inferred" in text]
        clock = record.clock
        phases = clock.model_load + clock.download + clock.inference + clock.upload + clock.record
        seconds = phases + json.loads(line)["record_write_s"]
        assert seconds == pytest.approx(float(table[str(record.rank)]["duration_ms"]) / 1000, rel=0.02)


def test_every_invocation_is_in_the_table_with_what_lambda_bills(table: dict[str, Any]) -> None:
    assert set(table) == {"0", "1", "2", "initialize", "summarize"}
    for row in table.values():
        duration_ms, init_ms = float(row["duration_ms"]), float(row["init_ms"] or 0)
        assert duration_ms + init_ms <= int(row["billed_ms"]) <= duration_ms + init_ms + 1.02
        assert 0 < int(row["max_memory_mb"]) < int(row["memory_mb"])
    assert table[str(LOST_RANK)]["status"] == "ShardFormatError"


def test_the_lines_of_a_rank_are_shown_in_order(run: Path) -> None:
    lines = look("logs", run, RANK="2").splitlines()

    words = ["START", "rank started", "rank inferred", "END", "REPORT"]
    places = [next(number for number, line in enumerate(lines) if word in line) for word in words]
    assert places == sorted(places)


def test_a_rank_that_is_not_there_is_answered_with_those_that_are(run: Path) -> None:
    done = command("explain", run.parents[1], RUN=run.name, RANK="17")

    assert done.returncode == 2
    assert done.stderr == f"RANK=17 names none of the ranks of {run.name}: they are 0 to 2.\n"


def test_a_rank_that_is_done_tells_its_inputs_its_time_and_its_output(run: Path, records: list[RankRecord]) -> None:
    story = look("explain", run, RANK="2")

    assert story.startswith(f"{run.name}, rank 2 of 3: done\n")
    assert "datasets/tiny/1MB/2.safetensors rows 0 to 399" in story
    assert f"1. {records[-1].request_id}  succeeded" in story
    assert re.search(r"inference +\d+\.\d{3} s +\d+%  #+", story)
    assert re.search(r"predictions/00002\.npz, [\d,]+ bytes, sha256 [0-9a-f]{64}", story)


def test_a_lost_rank_tells_why_and_who_tried(run: Path) -> None:
    story = look("explain", run, RANK=str(LOST_RANK))

    assert f"rank {LOST_RANK} of 3: lost: ShardFormatError: datasets/tiny/1MB/1.safetensors holds magnitudes" in story
    assert re.search(r"1\. [0-9a-f-]{36}  ShardFormatError", story)
    assert "none: runs/" in story


def test_the_receipt_counts_what_lambda_reported(run: Path, table: dict[str, Any]) -> None:
    shown = look("cost", run)

    receipt = json.loads((run / "cost.json").read_text())
    billed = sum(int(table[str(rank)]["billed_ms"]) for rank in range(3))
    assert receipt["usage"]["billed_ms"]["infer"] == billed
    assert "from the REPORT lines of 5 invocations" in shown
    assert "USD on AWS, nothing here" in shown
    assert max(map(len, shown.splitlines()[1:-1])) <= 80


def test_a_run_above_its_budget_is_not_started(run: Path) -> None:
    root = run.parents[1]
    before = set((root / "runs").iterdir())

    done = command("run", root, DATASET="tiny", BUDGET="0.00001")

    assert done.returncode == 2
    assert "Nothing was started" in done.stderr.splitlines()[-1]
    assert set((root / "runs").iterdir()) == before


@pytest.mark.parametrize("module", ["logs", "cost", "explain"])
def test_an_unknown_run_is_answered_in_one_line(module: str, run: Path) -> None:
    done = command(module, run.parents[1], RUN=f"{run.name[:-1]}z")

    assert done.returncode == 2
    assert done.stderr == f"RUN={run.name[:-1]}z: there is no such run. Similar: {run.name}.\n"
