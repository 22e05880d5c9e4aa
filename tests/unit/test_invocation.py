"""What a process says of itself: cold or warm, how long it queued, how much memory it took."""

import subprocess
import sys
import time
from datetime import UTC, datetime

import numpy as np

from handlers import invocation


def test_the_peak_is_at_least_what_is_resident_now() -> None:
    ballast = np.ones(8_000_000)

    assert invocation.peak_memory_bytes() >= invocation.resident_memory_bytes() - 2**20
    assert invocation.resident_memory_bytes() > ballast.nbytes


def test_a_small_child_of_a_large_parent_reports_its_own_peak() -> None:
    ballast = np.ones(40_000_000)
    program = "from handlers import invocation; print(invocation.peak_memory_bytes())"

    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert int(child.stdout) < ballast.nbytes


def test_the_queue_is_the_time_since_the_state_was_entered() -> None:
    entered = datetime(2026, 1, 1, tzinfo=UTC)

    assert invocation.queue_s("2026-01-01T00:00:00.000Z", entered.timestamp() + 1.5) == 1.5
    assert invocation.queue_s(None, entered.timestamp()) == 0.0
    assert invocation.queue_s("yesterday", entered.timestamp()) == 0.0


def test_starting_takes_from_the_start_of_the_process_to_the_import() -> None:
    program = (
        "import time; began_s = time.monotonic()\n"
        "while time.monotonic() < began_s + 0.25: pass\n"
        "from handlers import invocation; print(invocation.init_s())"
    )
    began_s = time.monotonic()

    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    # The kernel notes starts to 10 ms.
    assert 0.24 < float(child.stdout) < time.monotonic() - began_s + 0.01
