"""What is known about a run while it goes: ranks done, running, failed, retried, and rows."""

import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from inference import contract
from scripts.local_aws.admission import KEY_HEADER


@dataclass(frozen=True)
class Progress:
    """One look at a run."""

    elapsed_s: float
    """Since the execution was started [s]."""

    world_size: int | None = None
    """Ranks planned; None until the manifest is there."""

    num_rows: int = 0
    """Rows planned."""

    done: int = 0
    """Ranks with a record."""

    failed: int = 0
    """Ranks lost after their last attempt."""

    running: int = 0
    """Ranks being inferred right now."""

    retried: int = 0
    """Attempts that failed and did not lose the rank."""

    rows_done: int = 0
    """Rows of the ranks with a record."""

    rows_per_s: float = 0.0
    """`rows_done` over the time since the manifest was first seen [1/s]."""

    is_talking: bool = False
    """All ranks are done with their rows, and now meet each other."""


@dataclass(frozen=True)
class Invocations:
    """Counts of the Infer function."""

    running: int = 0
    failed: int = 0


class Store(Protocol):
    """The little of S3 that watching a run needs."""

    def list_keys(self, prefix: str) -> list[str]:
        """Return every key under `prefix`."""

    def read(self, key: str) -> bytes | None:
        """Return an object, or None while it does not exist."""


class Watcher(Protocol):
    """What looks at a run."""

    def look(self) -> Progress:
        """Look once."""


@dataclass
class Observer:
    """Looks at a local run from outside: the keys under its prefix, and the Infer function's counts."""

    store: Store
    """The bucket of the results."""

    run_prefix: str
    """Where the run stores its results, ending in ``/``."""

    invocations: Callable[[], Invocations]
    """Counts of the Infer function."""

    now: Callable[[], float]
    """A monotonic clock [s]."""

    elapsed_s: float = 0.0
    """Time since the execution was started [s]."""

    items_key: str = ""
    """Object key of what the Map reads; the manifest when empty."""

    def __post_init__(self) -> None:
        self._started_s = self._planned_s = self.now() - self.elapsed_s
        self._rows_of: dict[str, int] = {}
        self._are_to_talk = False

    def look(self) -> Progress:
        """Look at the run once."""
        elapsed_s = self.now() - self._started_s
        if not self._rows_of:
            self._read_manifest()
        if not self._rows_of:
            return Progress(elapsed_s)
        # Counts first, keys second: a rank that is lost in between is then not taken for a retried one.
        counts = self.invocations()
        failed = len(self.store.list_keys(self.run_prefix + "failures/"))
        done = [key for key in self.store.list_keys(self.run_prefix + "ranks/") if key in self._rows_of]
        rows_done = sum(self._rows_of[key] for key in done)
        mapping_s = self.now() - self._planned_s
        return Progress(
            elapsed_s,
            world_size=len(self._rows_of),
            num_rows=sum(self._rows_of.values()),
            done=len(done),
            failed=failed,
            running=counts.running,
            retried=max(0, counts.failed - failed),
            rows_done=rows_done,
            rows_per_s=rows_done / mapping_s if mapping_s > 0 else 0.0,
            is_talking=self._are_to_talk and len(done) + failed == len(self._rows_of) and counts.running > 0,
        )

    def _read_manifest(self) -> None:
        manifest = self.store.read(self.items_key or self.run_prefix + contract.MANIFEST_KEY)
        if manifest is not None:
            tasks = msgspec.json.decode(manifest)
            self._rows_of = {task["record_key"]: task["num_samples"] for task in tasks}
            self._are_to_talk = any(task.get("comm") for task in tasks)
            self._planned_s = self.now()


def local_invocations(endpoint_url: str, key: str) -> Invocations:
    """Return the counts of the Infer function from the local AWS's own statistics."""
    request = urllib.request.Request(f"{endpoint_url}/_local/functions", headers={KEY_HEADER: key})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        counts: dict[str, Any] = json.load(answer).get("infer", {})
    return Invocations(running=counts.get("running", 0), failed=counts.get("failed", 0))
