"""What a worker prints, as CloudWatch would show it: the emulator's own lines out, honest REPORT lines in."""

import collections
import math
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

TAIL_BYTES = 4096
"""Length of the log that Lambda returns with an invocation when asked to."""

EMULATOR_LINE = re.compile(rb"^\d\d \w{3} \d{4} [\d:,]+ \[\w+\] \(rapid\)")


class WorkerLog:
    """Reads one worker's output, appends it to a file and keeps the last invocation's lines.

    Parameters
    ----------
    path : Path
        File to append to.
    memory_mb : int
        Configured memory of the function [MB].
    peak_mb : callable
        Returns the highest memory the worker held [MB], or None where the system does not tell.
    """

    def __init__(self, path: Path, *, memory_mb: int, peak_mb: Callable[[], int | None]) -> None:
        self.path = path
        self.request_id = ""
        self.init_s: float | None = None
        self._memory_mb = memory_mb
        self._peak_mb = peak_mb
        self._lines: collections.deque[bytes] = collections.deque(maxlen=500)
        self._changed = threading.Condition()
        self._num_reports = 0
        self._thread: threading.Thread | None = None

    def follow(self, stream: IO[bytes]) -> None:
        """Read `stream` in the background until it ends."""
        self._num_reports = 0
        self._thread = threading.Thread(target=self._follow, args=(stream,), daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until the output of an ended worker is read."""
        if self._thread is not None:
            self._thread.join(timeout=2)

    def tail(self, num_reports: int) -> bytes:
        """Return the end of the last invocation's log once `num_reports` invocations are reported."""
        with self._changed:
            self._changed.wait_for(lambda: self._num_reports >= num_reports, timeout=1)
            return b"".join(self._lines)[-TAIL_BYTES:]

    def report_lost(self, began: float, *, message: str, status: str) -> None:
        """Write the lines of an invocation that the emulator could not finish."""
        duration_ms = (time.monotonic() - began) * 1000
        with self.path.open("ab", buffering=0) as file:
            self._write(file, f"RequestId: {self.request_id} Error: {message}\n".encode())
            self._write(file, f"END RequestId: {self.request_id}\n".encode())
            self._write(file, self._report(duration_ms, f"\tStatus: {status}"))

    def _follow(self, stream: IO[bytes]) -> None:
        with stream, self.path.open("ab", buffering=0) as file:
            for line in stream:
                if not EMULATOR_LINE.match(line):
                    self._take(line, file)

    def _take(self, line: bytes, file: IO[bytes]) -> None:
        # The first call is the warm-up: its START, END and REPORT are nobody's invocation.
        is_platform_line = line.startswith((b"START RequestId", b"END RequestId", b"REPORT RequestId"))
        if line.startswith(b"REPORT RequestId"):
            line = self._report(_duration_ms(line))
        if self._num_reports == 0 and is_platform_line:
            self._count_report(line)
            return
        if line.startswith(b"START RequestId"):
            self.request_id = line.split()[2].decode()
            with self._changed:
                self._lines.clear()
        self._write(file, line)

    def _write(self, file: IO[bytes], line: bytes) -> None:
        file.write(line)
        with self._changed:
            self._lines.append(line)
        self._count_report(line)

    def _count_report(self, line: bytes) -> None:
        if line.startswith(b"REPORT RequestId"):
            with self._changed:
                self._num_reports += 1
                self._changed.notify_all()

    def _report(self, duration_ms: float, ending: str = "") -> bytes:
        # The emulator prints the configured memory as the used one and an init time of its own start only, and bills
        # the duration alone; Lambda bills an image's init and duration, rounded up together.
        init_ms = self.init_s * 1000 if self._num_reports > 0 and self.init_s is not None else 0.0
        fields = [
            f"REPORT RequestId: {self.request_id}",
            f"Duration: {duration_ms:.2f} ms",
            f"Billed Duration: {math.ceil(duration_ms + init_ms)} ms",
            f"Memory Size: {self._memory_mb} MB",
        ]
        peak_mb = self._peak_mb()
        if peak_mb is not None:
            fields.append(f"Max Memory Used: {peak_mb} MB")
        if init_ms:
            fields.append(f"Init Duration: {init_ms:.2f} ms")
            self.init_s = None
        return ("\t".join(fields) + ending + "\n").encode()


def _duration_ms(report: bytes) -> float:
    found = re.search(rb"\tDuration: ([\d.]+) ms", report)
    return float(found[1]) if found else 0.0
