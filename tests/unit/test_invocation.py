"""What a process says of itself: cold or warm, how long it queued, how much memory it took."""

import logging
import os
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from handlers import invocation


def read_instead(monkeypatch: pytest.MonkeyPatch, folder: Path, **files: str) -> None:
    """Have files of /proc hold what a test says, and none else be there."""
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(invocation, "Path", lambda path: folder / path.rpartition("/")[2])


def test_the_first_invocation_of_a_process_is_the_cold_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invocation, "_num_invocations", 0)

    assert [invocation.count() for _ in range(3)] == [0, 1, 2]


def test_memory_is_what_the_kernel_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_instead(
        monkeypatch, tmp_path, statm="900 200 30 4", status="Name:\tpython\nVmPeak:\t 9 kB\nVmHWM:\t 2048 kB\n"
    )

    assert invocation.resident_memory_bytes() == 200 * resource.getpagesize()
    assert invocation.peak_memory_bytes() == 2 * 2**20


@pytest.mark.parametrize(("platform", "unit_bytes"), [("linux", 1024), ("darwin", 1)])
def test_without_proc_memory_is_the_peak_that_getrusage_gives(
    platform: str, unit_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_instead(monkeypatch, tmp_path)
    monkeypatch.setattr(sys, "platform", platform)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert invocation.resident_memory_bytes() == pytest.approx(peak * unit_bytes, rel=1e-6)
    assert invocation.init_s() == 0.0


@pytest.mark.parametrize(("began_s", "init_s"), [(40.0, 50.0), (95.0, 0.0)])
def test_starting_ends_with_the_import_and_takes_no_time_below_zero(
    began_s: float, init_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invocation, "_READY_AT_S", time.time() - 10)
    ticks = round(began_s * os.sysconf("SC_CLK_TCK"))
    # Of a process that is up for 100 s since the machine began, under a name that could be taken for an end of it.
    read_instead(monkeypatch, tmp_path, stat=f"7 (a (b) c) S {' 1' * 18} {ticks} 2", uptime="100.00 3.00")

    assert invocation.init_s() == pytest.approx(init_s, abs=5 if init_s else 0)


def test_the_peak_is_at_least_what_is_resident_now() -> None:
    ballast = np.ones(8_000_000)

    assert invocation.peak_memory_bytes() >= invocation.resident_memory_bytes() - 2**20
    assert invocation.resident_memory_bytes() > ballast.nbytes


def test_a_small_child_of_a_large_parent_reports_its_own_peak() -> None:
    ballast = np.ones(40_000_000)
    program = "from handlers import invocation; print(invocation.peak_memory_bytes())"

    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert int(child.stdout) < ballast.nbytes


def test_the_queue_is_the_time_since_the_state_was_entered(caplog: pytest.LogCaptureFixture) -> None:
    entered = datetime(2026, 1, 1, tzinfo=UTC)

    assert invocation.queue_s("2026-01-01T00:00:00.000Z", entered.timestamp() + 1.5) == 1.5
    assert invocation.queue_s(None, entered.timestamp()) == 0.0
    assert invocation.queue_s("2026-01-01T00:00:00.000Z", entered.timestamp() - 1.5) == 0.0
    assert invocation.queue_s("yesterday" * 20, entered.timestamp()) == 0.0
    (line,) = caplog.records
    assert (line.levelno, vars(line)["entered_at"]) == (logging.WARNING, ("yesterday" * 20)[:100])


def test_starting_takes_from_the_start_of_the_process_to_the_import() -> None:
    program = (
        "import time; began_s = time.monotonic()\n"
        "while time.monotonic() < began_s + 0.25: pass\n"
        "from handlers import invocation; print(invocation.init_s(), invocation.count())"
    )
    began_s = time.monotonic()

    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    # The kernel notes starts to 10 ms.
    init_s, num_before = child.stdout.split()
    assert num_before == "0"
    assert 0.24 < float(init_s) < time.monotonic() - began_s + 0.01
