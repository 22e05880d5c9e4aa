"""What a run left under its prefix: only the keys that its manifest names, and none larger than it can be."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from handlers.storage import ObjectInfo, ObjectStore
from inference import contract, summary
from inference.contract import RankFailure, RankRecord, RankTask
from inference.errors import InvalidRequestError
from inference.summary import StoredObject

logger = logging.getLogger(__name__)

FOLDERS = ("ranks/", "failures/", "predictions/")
FAILURE_LIMIT_BYTES = 2**19
"""A note of the state machine, whose states carry at most 256 KiB, escaped as JSON."""


@dataclass(frozen=True)
class Listing:
    """What is under the folders of a run: key to size and entity tag, each listed while others are read."""

    _folders: Mapping[str, Future[dict[str, ObjectInfo]]]

    def under(self, folder: str) -> dict[str, ObjectInfo]:
        """Return what is in one of `FOLDERS`, once it is listed."""
        return self._folders[folder].result()

    def strangers(self, run_prefix: str, world_size: int) -> set[str]:
        """Return the keys that none of so many ranks writes."""
        return {
            key
            for folder in FOLDERS
            for key in self.under(folder)
            if not contract.is_rank_key(key, run_prefix, world_size)
        }


@contextmanager
def listed(store: ObjectStore, run_prefix: str) -> Iterator[Listing]:
    """List the folders of a run, all at the same time."""
    with ThreadPoolExecutor(len(FOLDERS)) as pool:
        yield Listing({name: pool.submit(_list, store, run_prefix + name) for name in FOLDERS})


@dataclass(frozen=True)
class Evidence:
    """What `inference.summary.prove` judges."""

    records: dict[str, RankRecord | str]
    """Key to record, or to why it is none."""

    failures: tuple[RankFailure, ...]
    """What the state machine noted."""

    predictions: dict[str, StoredObject]
    """Key to what is known of the predictions."""

    unread: tuple[str, ...]
    """Keys of notes that cannot be read."""


def gather(store: ObjectStore, tasks: Sequence[RankTask], listing: Listing) -> Evidence:
    """Read records and notes of some ranks, judge their predictions; what the listing lacks is asked for by name."""
    ranks, failures = listing.under("ranks/"), listing.under("failures/")
    limits = {task.record_key: summary.record_limit_bytes(task) for task in tasks}
    notes = dict.fromkeys((task.failure_key for task in tasks), FAILURE_LIMIT_BYTES)
    noted, unread = _decode_failures(_read(store, notes, failures))
    found = _read(store, limits, ranks)
    unlisted = [one.record_key for one in tasks if one.record_key not in ranks and one.failure_key not in failures]
    found |= _ask(store, {key: limits[key] for key in unlisted})
    records = summary.decode_records(found)
    predictions = listing.under("predictions/")
    there = {task.predictions_key: predictions.get(task.predictions_key) for task in tasks}
    stored = {key: StoredObject(info.size_bytes, info.etag) for key, info in there.items() if info}
    doubtful = summary.doubtful_predictions(tasks, records, stored)
    for key, content in _ask(store, doubtful).items():
        stored[key] = StoredObject(len(content), sha256=hashlib.sha256(content).hexdigest())
    return Evidence(records, noted, stored, tuple(unread))


def _list(store: ObjectStore, prefix: str) -> dict[str, ObjectInfo]:
    return {info.key: info for info in store.list_folder(prefix).objects}


def _read(store: ObjectStore, limits: Mapping[str, int], listed: Mapping[str, ObjectInfo]) -> dict[str, bytes]:
    """Read what is expected and listed; of what is too large, as little as shows that it is nothing of ours."""
    there = [key for key in limits if key in listed]
    large = {key for key in there if listed[key].size_bytes > limits[key]}
    found = store.read_many([key for key in there if key not in large])
    for key in large:
        logger.warning("object larger than it can be", extra={"key": key, "size_bytes": listed[key].size_bytes})
        found[key] = b""
    return found


def _ask(store: ObjectStore, limits: Mapping[str, int]) -> dict[str, bytes]:
    """Read what may be there although no listing proves it."""
    found = {key: content for key, content in store.read_at_most(limits).items() if content is not None}
    if found:
        logger.info("asked for by name", extra={"num_objects": len(found)})
    return found


def _decode_failures(found: Mapping[str, bytes]) -> tuple[tuple[RankFailure, ...], list[str]]:
    """Decode the notes one by one; return also the keys of those that cannot be read."""
    failures, unread = [], []
    for key, content in found.items():
        try:
            failures.append(contract.decode(content, RankFailure))
        except InvalidRequestError:
            unread.append(key)
    return tuple(failures), unread
