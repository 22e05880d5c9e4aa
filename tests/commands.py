"""Commands as a user types them, forked from a process that has imported what they import: a second of CPU less each.

`tests/integration/test_run.py` starts one from nothing, as make does, and so do all that send signals.
"""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.forked import COMMANDS


def run_command(
    name: str, *, cwd: Path, env: Mapping[str, str], timeout_s: float = 240
) -> "subprocess.CompletedProcess[str]":
    """Run ``python -m scripts.NAME`` to its end; return its exit status and what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder) / "stdout", Path(folder) / "stderr"
        with open(os.devnull, "rb") as nothing, stdout.open("wb") as output, stderr.open("wb") as errors:
            process = COMMANDS.start(f"scripts.{name}", cwd=cwd, env=env, streams=(nothing, output, errors))
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise subprocess.TimeoutExpired(name, timeout_s, stdout.read_bytes(), stderr.read_bytes()) from None
        finally:
            process.kill()
        return subprocess.CompletedProcess([name], process.wait(), stdout.read_text(), stderr.read_text())
