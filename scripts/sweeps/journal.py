"""``journal.jsonl``: one line per run that ended, appended whole; what a sweep continues from after a kill."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import yaml
from botocore.exceptions import ClientError

from scripts.command.errors import UsageError
from scripts.command.whole_file import write_whole
from scripts.runs import execution
from scripts.runs import journal as run_journal
from scripts.runs.target import connect_aws
from scripts.sweeps.plan import PlannedRun, Setting, SweepPlan
from scripts.sweeps.rows import RankRow, RunRow

JOURNAL_KEY = "journal.jsonl"
PLAN_KEY = "sweep.yaml"
NOTE_KEY = "running"
"""Names the run that is being carried out."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One run that ended."""

    planned: Setting
    """The setting it ran."""

    repeat: int
    """Number among its repeats."""

    elapsed_s: float
    """Upload, run and download: for the time that is left [s]."""

    is_of_backend: bool = msgspec.field(default=False, name="is_of_place")
    """True when the local AWS or the account did not answer: the run is repeated when the sweep continues."""

    run: RunRow
    """Its row."""

    ranks: tuple[RankRow, ...]
    """The rows of its ranks."""


@dataclass(frozen=True)
class Journal:
    """A sweep's folder and the runs in it that ended."""

    folder: Path
    plan: SweepPlan
    entries: tuple[Entry, ...]

    def newest(self) -> dict[tuple[Setting, int], Entry]:
        """Return the last entry of every run: one that failed may have been tried again."""
        return {(entry.planned, entry.repeat): entry for entry in self.entries}

    def remaining(self, *, retry: bool) -> list[PlannedRun]:
        """Return the runs that have no entry, in order; with `retry` those too that failed."""
        found = self.newest()

        def is_done(planned: PlannedRun) -> bool:
            entry = found.get((planned.setting, planned.repeat))
            return entry is not None and not entry.is_of_backend and not (retry and entry.run.state == "failed")

        return [planned for planned in self.plan.runs() if not is_done(planned)]

    def rows(self) -> tuple[list[RunRow], list[RankRow]]:
        """Return the rows of both tables, in the order of the sweep."""
        entries = sorted(self.newest().values(), key=lambda entry: entry.run.position)
        return [entry.run for entry in entries], [rank for entry in entries for rank in entry.ranks]


def read_journal(folder: Path, plan: SweepPlan | None) -> Journal:
    """Return the sweep in `folder`, or `plan` where there is none yet.

    Parameters
    ----------
    folder : Path
        ``sweeps/<name>``; nothing is written.
    plan : SweepPlan or None
        None takes the plan that is there.

    Raises
    ------
    UsageError
        If another sweep is there, none is and no plan is given, or a file there is damaged.
    """
    there = _read_plan(folder)
    if there is None and plan is None:
        raise UsageError(f"NAME={folder.name}: there is no such sweep to continue; give it lists, such as WORLD=1,2.")
    if there is None and (folder / JOURNAL_KEY).exists():
        raise UsageError(f"{folder} has a journal and no {PLAN_KEY}: it is not whole. Move it away.")
    if plan is not None and there is not None and plan != there:
        raise UsageError(f"{folder} holds another sweep ({folder / PLAN_KEY}): choose another NAME, or move it away.")
    plan = plan or there
    assert plan is not None, "one of the two is there"
    return Journal(folder, plan, tuple(_read_entries(folder / JOURNAL_KEY)))


@contextmanager
def held(folder: Path, plan: SweepPlan) -> Iterator[None]:
    """Make the sweep's folder where it is not there, and keep a second terminal from carrying out the same sweep.

    Raises
    ------
    UsageError
        If another one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The lock goes with the process, however that ends.
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"{folder} is being carried out by another terminal.") from error
        if not (folder / PLAN_KEY).exists():
            _write_plan(folder, plan)
        yield


@contextmanager
def noted(folder: Path, run_id: str) -> Iterator[None]:
    """Note which run of a sweep is running; only a kill leaves the note behind."""
    (folder / NOTE_KEY).write_text(run_id, encoding="utf-8")
    try:
        yield
    finally:
        (folder / NOTE_KEY).unlink(missing_ok=True)


def stop_left(folder: Path, root: Path) -> str | None:
    """Stop the run that a killed sweep left going; return its name when one was stopped.

    Parameters
    ----------
    folder : Path
        The sweep's folder.
    root : Path
        Folder of ``runs/``.

    Notes
    -----
    On AWS it would run on, cost, and disturb what is measured now. A local one ended with the terminal of its sweep.
    """
    note = folder / NOTE_KEY
    run_id = note.read_text(encoding="utf-8").strip() if note.exists() else ""
    entry = run_journal.read(root / "runs" / run_id) if run_id else None
    note.unlink(missing_ok=True)
    if entry is None or entry.stack is None:
        return None
    states = connect_aws(entry.stack).states
    try:
        if states.describe_execution(executionArn=entry.execution_arn)["status"] != "RUNNING":
            return None
        execution.stop(states, entry.execution_arn)
    except ClientError:
        # It is not there any more, or not ours to ask: the next run will say what is wrong.
        return None
    return run_id


def append(folder: Path, entry: Entry) -> None:
    """Add one run to the journal; when this returns, no kill undoes it."""
    with (folder / JOURNAL_KEY).open("ab+") as journal:
        # What a kill left of a line ends here and is a line of its own.
        journal.seek(max(0, journal.tell() - 1))
        torn = b"" if journal.read(1) in (b"", b"\n") else b"\n"
        journal.write(torn + msgspec.json.encode(entry) + b"\n")
        journal.flush()
        os.fsync(journal.fileno())


def _read_entries(path: Path) -> Iterator[Entry]:
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            yield msgspec.json.decode(line, type=Entry)
        except msgspec.ValidationError as error:
            raise UsageError(f"{path}, line {number}, is of another version ({error}): choose another NAME.") from error
        except msgspec.DecodeError:
            # The end of the file, or a kill in the middle of the line: the run that it was about runs again.
            continue


def _read_plan(folder: Path) -> SweepPlan | None:
    try:
        document = yaml.safe_load((folder / PLAN_KEY).read_text(encoding="utf-8"))
        return msgspec.convert(document, SweepPlan)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError) as error:
        why = " ".join(str(error).split())
        raise UsageError(f"{folder / PLAN_KEY} cannot be read ({why}): choose another NAME.") from error


def _write_plan(folder: Path, plan: SweepPlan) -> None:
    # By way of JSON, which has no tuples: YAML would write them as Python's.
    document = msgspec.json.decode(msgspec.json.encode(plan))
    write_whole(folder / PLAN_KEY, yaml.safe_dump(document, sort_keys=False, default_flow_style=None).encode())
