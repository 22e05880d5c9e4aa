"""How a file is written: whole under its name, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield the file to write; it takes the name `path` when the block ends, and goes when the block fails.

    Parameters
    ----------
    path : Path
        Replaced if it exists; its folder exists.

    Raises
    ------
    OSError
        Naming `path` where the system named nothing, as for a full disk, or the file that was written instead.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(partial), partial):
            raise
        # In the system's words: libraries add lines of theirs.
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes, *, is_secret: bool = False) -> None:
    """Write bytes that are at hand; see `written_whole`. Only the user may read a secret."""
    with written_whole(path) as partial:
        if is_secret:
            partial.unlink(missing_ok=True)
            partial.touch(mode=0o600, exist_ok=False)
        partial.write_bytes(content)


def leaves(relative: str) -> bool:
    """Return whether a path that a stranger wrote, seen from a folder, names a place outside it."""
    path = PurePosixPath(relative)
    return path.is_absolute() or ".." in path.parts or "\0" in relative
