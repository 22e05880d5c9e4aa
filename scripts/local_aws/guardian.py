"""A tiny process that outlives the server just long enough to kill its workers, even after kill -9.

It reads ``+PID`` and ``-PID`` lines from stdin. The operating system closes that pipe when the server ends, however it
ends; the emulators still listed are killed then, and each runtime follows its emulator.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path


class Guardian:
    """The server's side: tells the guardian process which workers live."""

    def __init__(self) -> None:
        # -S -E: needs only the standard library, starts in 20 ms. A session of its own: Ctrl-C must not reach it.
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(Path(__file__).resolve())], stdin=subprocess.PIPE, start_new_session=True
        )
        self._lock = threading.Lock()

    def watch(self, pid: int) -> None:
        """Kill `pid` when this process ends."""
        self._tell(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        """Leave `pid` alone: it has ended and its number may be given to another process."""
        self._tell(f"-{pid}\n")

    def close(self) -> None:
        """End the guardian, which kills what is still listed."""
        assert self._process.stdin is not None
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        # A guardian that was itself killed costs the protection, not the run.
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


def main() -> None:
    """Read pids until the server is gone, then kill those left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pids: set[int] = set()
    for line in sys.stdin:
        pid = int(line[1:])
        pids.add(pid) if line[0] == "+" else pids.discard(pid)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
