"""A tiny process that outlives the server just long enough to kill its workers, even after kill -9.

It reads ``+PID`` and ``-PID`` lines from stdin. The operating system closes that pipe when the server ends, however it
ends; the workers still listed are killed then.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ANNOUNCE = '(echo "+$$" >&0) 2>/dev/null; exec "$@" </dev/null'
"""What a process does before it becomes the program: it sends the guardian its pid.

It holds the guardian's pipe until then, so that a server killed right after starting it leaves nothing behind. The
parentheses: a dead guardian costs the protection, not the worker.
"""


class Guardian:
    """The server's side: starts the workers, which the guardian process then knows."""

    def __init__(self) -> None:
        # -S -E: needs only the standard library, starts in 20 ms. A session of its own: Ctrl-C must not reach it.
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(Path(__file__).resolve())], stdin=subprocess.PIPE, start_new_session=True
        )
        self._lock = threading.Lock()
        self._is_closed = False
        self._lifelines: dict[int, int] = {}
        """Process to our end of a pipe that it holds too."""

    def start(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a process that ends with this one and reads no input.

        Raises
        ------
        OSError
            If the guardian is closed, and what started now would outlive the server; or as Popen.
        """
        with self._lock:
            if self._is_closed:
                raise BrokenPipeError("The local AWS is ending.")
            theirs, ours = os.pipe()
            try:
                process = self._spawn(command, theirs, **options)
                _kill_at_the_end_of(theirs, process.pid)
            except BaseException:
                os.close(ours)
                raise
            finally:
                os.close(theirs)
            self._lifelines[process.pid] = ours
            return process

    def _spawn(self, command: list[str], lifeline: int, **options: Any) -> "subprocess.Popen[bytes]":
        announced = ["/bin/sh", "-c", ANNOUNCE, "sh", *command]
        return subprocess.Popen(announced, stdin=self._process.stdin, pass_fds=(lifeline,), **options)

    def forget(self, pid: int) -> None:
        """Leave `pid` alone: it has ended and its number may be given to another process."""
        assert self._process.stdin is not None
        # A guardian that was itself killed costs the protection, not the run.
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):
            if (ours := self._lifelines.pop(pid, None)) is not None:
                os.close(ours)
            self._process.stdin.write(f"-{pid}\n".encode())
            self._process.stdin.flush()

    def close(self) -> None:
        """Let nothing start any more and kill what is left."""
        assert self._process.stdin is not None
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._is_closed = True
            self._process.stdin.close()
        self._process.wait()


def _kill_at_the_end_of(pipe: int, pid: int) -> None:
    """Let the kernel kill a process, which holds the pipe too, when its other end closes.

    That end is ours, and closes with this process: the guardian may have been killed before it. Only Linux can.
    """
    if sys.platform == "linux":
        fcntl.fcntl(pipe, fcntl.F_SETOWN, pid)
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)


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
