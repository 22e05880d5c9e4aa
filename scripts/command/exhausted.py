"""What this machine has no more of, and what helps: one sentence after any error that says so."""

import re
import tempfile

OUT_OF_MEMORY = "The memory of this machine, or what `ulimit -v` leaves of it, is used up"
REMEDIES = {
    r"No space left on device|Disk quota exceeded|os error (28|122)\b": (
        "Free some space, or use another disk: datasets/ and runs/ may be links to it, and temporary files are in "
        "{folder}, which TMPDIR changes."
    ),
    r"File too large|os error 27\b": "A limit on the size of files is set here: `ulimit -f unlimited` lifts it.",
    r"Too many open files|os error 24\b": "A limit on open files is set here: `ulimit -n 4096` raises it.",
    r"Cannot allocate memory|MemoryError|Unable to allocate|bad_alloc|is used up": (
        "End other programs, or ask for less at a time: a smaller BATCH, fewer ROWS, one core (`taskset -c 0`)."
    ),
}
"""What an error says, by whichever library, and what to do."""


def with_remedy(said: str) -> str:
    """Return what an error says, and what helps where something is used up."""
    for pattern, remedy in REMEDIES.items():
        if re.search(pattern, said):
            end = "" if said.endswith((".", "!", "?")) else "."
            return f"{said}{end} {remedy.format(folder=tempfile.gettempdir() if _can_write() else 'TMPDIR')}"
    return said


def out_of_memory(error: MemoryError, given: dict[str, object]) -> str:
    """Say that there was no memory, and for what."""
    asked = ", ".join(f"{name}={value}" for name, value in given.items())
    return with_remedy(f"{OUT_OF_MEMORY}{f' with {asked}' if asked else ''}{f' ({error})' if str(error) else ''}.")


def _can_write() -> bool:
    """Return whether there is a folder for temporary files: to find one, Python writes a file."""
    try:
        tempfile.gettempdir()
    except OSError:
        return False
    return True
