"""The run that a killed sweep left going: on AWS it ends with nobody waiting for it, unless it is stopped."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from botocore.exceptions import ClientError

from scripts.runs import execution
from scripts.runs import journal as run_journal
from scripts.runs.target import connect_aws

NOTE = "running"
"""Names the run that is being carried out."""


@contextmanager
def noted(folder: Path, run_id: str) -> Iterator[None]:
    """Note which run of a sweep goes on; only a kill leaves the note behind."""
    (folder / NOTE).write_text(run_id, encoding="utf-8")
    try:
        yield
    finally:
        (folder / NOTE).unlink(missing_ok=True)


def stop_left(folder: Path, root: Path) -> str | None:
    """Stop the run that was noted and never ended; return its name when one was stopped.

    Parameters
    ----------
    folder : Path
        The sweep's folder.
    root : Path
        Folder in which ``runs/`` lies.

    Notes
    -----
    It would cost, and disturb what is measured now. A local one has ended with the terminal of its sweep.
    """
    note = folder / NOTE
    if not note.exists():
        return None
    run_id = note.read_text(encoding="utf-8").strip()
    entry = run_journal.read(root / "runs" / run_id) if run_id else None
    is_stopped = False
    if entry is not None and entry.stack is not None:
        states = connect_aws(entry.stack).states
        try:
            is_stopped = states.describe_execution(executionArn=entry.execution_arn)["status"] == "RUNNING"
            if is_stopped:
                execution.stop(states, entry.execution_arn)
        except ClientError:
            # It is not there any more, or not ours to ask: the next run will say what is wrong.
            is_stopped = False
    note.unlink(missing_ok=True)
    return run_id if is_stopped else None
