"""What a worker prints, as CloudWatch would show it: between the lines by which Lambda itself begins and ends it."""

import math
import os
from pathlib import Path

TAIL_BYTES = 4096
"""Length of the log that Lambda returns with an invocation when asked to."""


class WorkerLog:
    """The file that a worker's runtime prints to, and to which Lambda's own lines are added.

    Parameters
    ----------
    path : Path
        File to append to.

    Raises
    ------
    OSError
        If it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("ab", buffering=0)
        self._start: int
        self.mark()

    def close(self) -> None:
        """Write nothing any more."""
        self.file.close()

    def mark(self) -> None:
        """Begin the part that `tail` returns here."""
        self._start = os.fstat(self.file.fileno()).st_size

    def tail(self) -> bytes:
        """Return the end of what was printed since the last mark."""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._start, size - TAIL_BYTES))
            return file.read()

    def start(self, request_id: str, version: str) -> None:
        """Begin the log of an invocation."""
        self.mark()
        self._write(f"START RequestId: {request_id} Version: {version}")

    def end(
        self,
        request_id: str,
        *,
        duration_s: float,
        init_s: float,
        memory_mb: int,
        peak_mb: int | None,
        lost: str = "",
        status: str = "",
    ) -> None:
        """Write the lines that end an invocation.

        Parameters
        ----------
        duration_s, init_s : float
            Of the handler, and of the init before it [s]; 0 if it was none.
        memory_mb, peak_mb : int
            Configured memory, and the most that the runtime held [MB]; None where the system does not say.
        lost, status : str
            Why the runtime gave no answer, in words and as Lambda reports it: ``timeout`` or ``error``.
        """
        fields = [
            f"REPORT RequestId: {request_id}",
            f"Duration: {duration_s * 1000:.2f} ms",
            # Init and duration of an image are billed, rounded up together.
            f"Billed Duration: {math.ceil((duration_s + init_s) * 1000)} ms",
            f"Memory Size: {memory_mb} MB",
            *([f"Max Memory Used: {peak_mb} MB"] if peak_mb is not None else []),
            *([f"Init Duration: {init_s * 1000:.2f} ms"] if init_s else []),
            *([f"Status: {status}"] if status else []),
        ]
        lines = [f"RequestId: {request_id} Error: {lost}"] if lost else []
        self._write("\n".join([*lines, f"END RequestId: {request_id}", "\t".join(fields)]))

    def _write(self, text: str) -> None:
        self.file.write(f"{text}\n".encode())
