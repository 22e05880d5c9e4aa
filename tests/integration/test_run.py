"""`make run` as a user starts it, on a dataset that fits on a page."""

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

from inference.run_folder import RunFolder
from tests.commands import run_command
from tests.factories import make_arrays, make_shard_bytes
from tests.integration.conftest import MARK, marked_processes, wait_until

ROWS_PER_SHARD = 20


def make_dataset(root: Path, *, bad_shard: int | None = None) -> None:
    """Write ``datasets/tiny/1MB/`` with three shards, each with a pixel that is NaN; the bad one is cut off."""
    folder = root / "datasets" / "tiny" / "1MB"
    folder.mkdir(parents=True)
    for number in range(3):
        images = make_arrays(ROWS_PER_SHARD)["images"]
        images[7, 2, 3, 4] = np.nan
        content = make_shard_bytes(ROWS_PER_SHARD, images=images)
        (folder / f"{number}.safetensors").write_bytes(content[:-100] if number == bad_shard else content)


def environment(**variables: str) -> dict[str, str]:
    ours = re.compile(
        r"MAKE|MFLAGS|WORLD|BATCH|DATASET|FILES|RESULT|PROFILE|PAYLOAD|TARGET|TOLERATE|ENGINE|PRECISION|COLUMNS"
    )
    inherited = {name: value for name, value in os.environ.items() if not ours.match(name)}
    return inherited | {"DATASET": "tiny", **variables}


def run(root: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.run"],
        cwd=root,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def start(root: Path, **variables: str) -> "subprocess.Popen[str]":
    """Begin a run that a test ends: its messages come through a pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.run"],
        cwd=root,
        env=environment(**variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_folder(root: Path) -> Path:
    (folder,) = (root / "runs").iterdir()
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_published_payload_runs_prints_its_result_and_leaves_its_folder(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    payload = {"bucket_name": "cosmicai-data", "world_size": "2", "dataset_path": "10MB", "data_size": "1GB"}
    (tmp_path / "payload.json").write_text(json.dumps(payload))

    done = run(tmp_path, PAYLOAD="payload.json", BATCH="8", RESULT="experiments/$7 a", FORECAST="1")

    folder = run_folder(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{folder.name}: complete\n")
    assert all(name in done.stdout for name in ("NMAD", "R²", "sum of rank rates", "Map wall", "end to end"))
    assert "`bucket_name`" in done.stdout
    assert "`data_size` was ignored" in done.stdout
    ranks = {f"ranks/{rank:05d}.json" for rank in range(2)} | {f"predictions/{rank:05d}.npz" for rank in range(2)}
    assert re.search(r"^forecast   [\d.]+ s end to end .*defaults", done.stderr, re.MULTILINE)
    assert re.search(r"^forecast   [\d.]+ s forecast, [\d.]+ s measured", done.stderr, re.MULTILINE)
    whole = {
        "forecast.json",
        "request.json",
        "manifest.json",
        "combined_data.json",
        "summary.json",
        "logs/server.log",
        *ranks,
    }
    assert whole <= files(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["world_size"], summary["request"]["result_path"]) == (2, "experiments/$7 a/")
    assert summary["num_samples"] == 3 * ROWS_PER_SHARD
    assert summary["num_flagged"]["FILLED_PIXELS"] == 3
    assert re.search(r"^ +3   with pixels filled in$", done.stdout, re.MULTILINE)
    assert "within sigma" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if "data_size" not in line) <= 80


def test_a_bad_shard_fails_the_run_by_name_and_keeps_the_other_ranks(tmp_path: Path) -> None:
    make_dataset(tmp_path, bad_shard=1)

    done = run_command("run", cwd=tmp_path, env=environment(WORLD="3", COLUMNS="400"))

    folder = run_folder(tmp_path)
    assert done.returncode == 1, done.stderr
    assert re.search(r"rank 1, datasets/tiny/1MB/1\.safetensors: ShardFormatError: \w+", done.stdout)
    assert {"ranks/00000.json", "ranks/00002.json", "failures/00001.json", "summary.json"} <= files(folder)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("moment", "number"),
    [("server.log", signal.SIGINT), ("request.json", signal.SIGTERM), ("infer-0.log", signal.SIGINT)],
    ids=["local AWS starts", "execution starts", "ranks run"],
)
def test_an_interrupted_run_leaves_its_files_and_no_process(
    moment: str, number: signal.Signals, tmp_path: Path
) -> None:
    make_dataset(tmp_path)
    mark = uuid.uuid4().hex
    process = start(tmp_path, WORLD="3", **{MARK: mark})
    wait_until(lambda: any(tmp_path.glob(f"runs/*/**/{moment}")), timeout_s=60)

    process.send_signal(number)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130
    folder = run_folder(tmp_path)
    assert f"Its files are in runs/{folder.name}/" in said
    assert (f"`make resume RUN={folder.name}` goes on" in said) == (folder / "plan.json").exists()
    assert "Traceback" not in said
    wait_until(lambda: not marked_processes(mark), timeout_s=10)


def test_a_run_that_is_killed_keeps_what_its_ranks_had_finished_and_goes_on(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    mark = uuid.uuid4().hex
    process = start(tmp_path, WORLD="30", **{MARK: mark})
    wait_until(lambda: len(list(tmp_path.glob("runs/*/ranks/*.json"))) >= 2, timeout_s=120)

    process.kill()
    process.communicate()
    wait_until(lambda: not marked_processes(mark), timeout_s=10)  # its local AWS writes until it has ended, too

    folder = RunFolder(run_folder(tmp_path))
    found = folder.inventory()
    assert len(found.tasks) == 30
    assert found.num_predicted >= 2 * 2
    for task in found.tasks:
        assert task.rank in found.lost or len(folder.predictions(task).z_phot) == task.num_samples
    done = {task.predictions_key: folder.predictions(task) for task in found.tasks if task.rank not in found.lost}
    written = {key: (folder.path / key.removeprefix(found.tasks[0].run_prefix)).stat().st_mtime_ns for key in done}

    resumed = run_command("resume", cwd=tmp_path, env=environment(RUN=folder.path.name))

    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.startswith(f"{folder.path.name}: complete\n")
    assert f"resume     {len(found.lost)} of 30 ranks are left\n" in resumed.stderr
    folder = RunFolder(folder.path)
    assert (folder.summary.complete, folder.inventory().lost) == (True, {})
    assert [one.num_ranks for one in folder.summary.resumptions] == [len(found.lost)]
    for key, time_ns in written.items():
        assert (folder.path / key.removeprefix(found.tasks[0].run_prefix)).stat().st_mtime_ns == time_ns
    # The three shards hold the same galaxies: those of the first terminal must have the bits of the second one's.
    redshifts = np.concatenate([folder.predictions(task).z_phot for task in folder.tasks])
    np.testing.assert_array_equal(redshifts.reshape(3, ROWS_PER_SHARD), np.tile(redshifts[:ROWS_PER_SHARD], (3, 1)))


def test_an_interrupt_when_all_ranks_are_done_loses_none(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    process = start(tmp_path, WORLD="3")
    wait_until(lambda: any(tmp_path.glob("runs/*/summary.json")), timeout_s=120)

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    folder = RunFolder(run_folder(tmp_path))
    assert (folder.summary.complete, folder.inventory().lost) == (True, {})
