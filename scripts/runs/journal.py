"""``runs/<run id>/execution.json``: where a run is running, for `make status` and `make stop` of another terminal."""

import os
from pathlib import Path

import msgspec

from inference import contract
from scripts.command.whole_file import write_whole
from scripts.deployment.stack import Stack
from scripts.runs.ending import Ending

FILE_NAME = "execution.json"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as the terminal that started it knew it."""

    run_id: str
    """Name of the execution."""

    target: str
    """``local`` or ``aws``."""

    execution_arn: str
    """The execution."""

    bucket: str
    """Bucket of the results."""

    run_prefix: str
    """Where in it the run stores its results, ending in ``/``."""

    started_at_s: float
    """When it was started [s since the epoch]."""

    pending_key: str = ""
    """Object key of the ranks that are to be done; empty until the run was resumed."""

    resumed_at_s: float = 0.0
    """When it was resumed, the last time [s since the epoch]."""

    dataset: str = ""
    """Folder of the dataset on this machine; empty where it was in S3 already."""

    status: str = "RUNNING"
    """What is known of its end: ``RUNNING`` until the terminal that started it saw it end."""

    error: str = ""
    """Class name of the error that ended it."""

    message: str = ""
    """What the error said."""

    stack: Stack | None = None
    """The deployment it runs in; None when it is local."""

    endpoint_url: str = ""
    """The local AWS it runs in, which ends with its terminal."""

    key: str = ""
    """Access key of that local AWS, while the run is running."""

    pid: int = 0
    """Process that started it."""

    machine: str = ""
    """The machine that its times belong to, when it is local."""

    @property
    def began_at_s(self) -> float:
        """When its last execution was started [s since the epoch]."""
        return self.resumed_at_s or self.started_at_s

    @property
    def items_key(self) -> str:
        """Object key of what its Map reads."""
        return self.pending_key or self.run_prefix + contract.MANIFEST_KEY

    @property
    def ending(self) -> Ending:
        """How it ended, as far as that terminal knew."""
        return Ending(self.status, self.error, self.message)

    @property
    def is_over(self) -> bool:
        """True when that terminal saw it end."""
        return self.status != "RUNNING"

    @property
    def is_served(self) -> bool:
        """True while the terminal of a local run is there, and its local AWS with it."""
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            return True
        return self.pid > 0


def ended(entry: Entry, ending: Ending) -> Entry:
    """Return the entry of a run that was seen to end."""
    return msgspec.structs.replace(entry, status=ending.status, error=ending.error, message=ending.message, key="")


def write(folder: Path, entry: Entry) -> None:
    """Write the entry into the run's folder, whole or not at all; only the user may read one with a key."""
    content = msgspec.json.format(msgspec.json.encode(entry), indent=2)
    write_whole(folder / FILE_NAME, content, is_secret=bool(entry.key))


def read(folder: Path) -> Entry | None:
    """Return the entry in a run's folder, or None where there is none that can be read."""
    try:
        return msgspec.json.decode((folder / FILE_NAME).read_bytes(), type=Entry)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
