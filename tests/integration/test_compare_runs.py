"""`make compare` as a user starts it, on a dataset that fits on a page."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.factories import make_shard_bytes
from tests.integration.test_sweep import OURS

ROUNDING = 2e-5
"""Between the engines, which sum in another order: docs/performance.md has 2e-6 for the redshifts of real galaxies."""


def test_the_plain_loop_and_a_run_say_the_same_of_the_same_rows(tmp_path: Path) -> None:
    folder = tmp_path / "datasets" / "tiny" / "1MB"
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"{number}.safetensors").write_bytes(make_shard_bytes(6))
    inherited = {name: value for name, value in os.environ.items() if not OURS.match(name)}

    done = subprocess.run(
        [sys.executable, "-m", "scripts.compare"],
        cwd=tmp_path,
        env=inherited | {"DATASET": "tiny", "WORLD": "2", "BATCH": "12", "TARGET": "local", "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )

    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    found = json.loads((run / "comparison.json").read_text())
    plain, profiled, local = found["methods"]
    assert [method["name"] for method in found["methods"]] == ["plain loop", "plain loop, profiled", "local AWS"]
    assert [method["num_compared"] for method in found["methods"]] == [12, 12, 12]
    assert plain["max_abs_difference"] == profiled["max_abs_difference"] == 0.0
    assert local["max_abs_difference"] < ROUNDING
    assert local["speedup"] == pytest.approx(plain["end_to_end_s"] / local["end_to_end_s"])
    assert max(map(len, done.stdout.splitlines())) <= 80
