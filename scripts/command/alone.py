"""One program at a time where two would undo each other's work: the second waits."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold an existing folder for the block; a program that wants the same one waits until the block ends.

    Notes
    -----
    The lock is the system's: it goes with the program, however that ends, and leaves no file. On a file system without
    locks, no program waits.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
