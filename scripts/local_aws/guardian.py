"""A tiny process that outlives the server just long enough to kill its workers, even after kill -9.

It reads ``+PID`` and ``-PID`` lines from stdin. The operating system closes that pipe when the server ends, however it
ends; the workers still listed are killed then.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ANNOUNCE = '(echo "+$$" >&0) 2>/dev/null; exec "$@" </dev/null'
"""What a process does before it is itself: it tells the guardian its pid.

It holds the guardian's pipe until it has, so that a server that is killed right after starting it leaves nothing. The
parentheses let a guardian that is gone cost the protection and not the process.
"""


class ClosedError(Exception):
    """Something was to be started while the server is ending."""


class Guardian:
    """The server's side: starts the workers and tells the guardian process which ones live."""

    def __init__(self) -> None:
        # -S -E: needs only the standard library, starts in 20 ms. A session of its own: Ctrl-C must not reach it.
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(Path(__file__).resolve())], stdin=subprocess.PIPE, start_new_session=True
        )
        self._lock = threading.Lock()
        self._is_closed = False

    def start(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a process that ends with this one and reads no input.

        Raises
        ------
        ClosedError
            If the guardian is closed: what started now would outlive the server.
        """
        with self._lock:
            if self._is_closed:
                raise ClosedError
            return subprocess.Popen(["/bin/sh", "-c", ANNOUNCE, "sh", *command], stdin=self._process.stdin, **options)

    def watch(self, pid: int) -> None:
        """Kill `pid` too when this process ends."""
        with self._lock:
            self._tell(f"+{pid}\n")

    def forget(self, pids: Iterable[int]) -> None:
        """Leave `pids` alone: they have ended and their numbers may be given to other processes."""
        with self._lock:
            for pid in pids:
                self._tell(f"-{pid}\n")

    def close(self) -> None:
        """Let nothing start any more and kill what is left."""
        assert self._process.stdin is not None
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._is_closed = True
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        # A guardian that was itself killed costs the protection, not the run.
        with contextlib.suppress(BrokenPipeError, ValueError):
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
