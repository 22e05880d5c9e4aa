"""The manifest, read in pieces: of a run of 100,000 ranks it is 90 MB, which no one needs at once."""

import hashlib
from collections.abc import Callable, Iterator

from handlers.storage import ObjectStore
from inference import contract, summary
from inference.contract import RankTask, RunPlan
from inference.errors import ManifestError

PIECE_BYTES = 2**21
"""Read at once: some thousand ranks."""


class Manifest:
    """The tasks of a run as they were planned; every iteration reads them anew.

    Raises
    ------
    ManifestError
        While it is iterated, if it is not the planned one.
    InvalidRequestError
        While it is iterated, if something in it is no task.
    """

    def __init__(self, store: ObjectStore, plan: RunPlan) -> None:
        self._store = store
        self._plan = plan

    def __iter__(self) -> Iterator[RankTask]:
        sha256 = hashlib.sha256()
        yield from summary.as_planned(self._plan, self._tasks(sha256.update))
        # Last, because the others say what is different.
        if self._plan.manifest_sha256 not in (None, sha256.hexdigest()):
            raise ManifestError(
                f"{self._plan.manifest_key} has another checksum than planned: it was changed since. Run again."
            )

    def _tasks(self, count: Callable[[bytes], None]) -> Iterator[RankTask]:
        key = self._plan.manifest_key
        text, between = b"", b""
        for piece in self._pieces():
            count(piece)
            text += piece
            between = between or _between(text)
            stop = text.rfind(between) if between else -1
            if stop > 0:
                yield from contract.decode(text[:stop] + b"]", list[RankTask], where=key)
                text = b"[" + text[stop + 1 :]
        yield from contract.decode(text, list[RankTask], where=key)

    def _pieces(self) -> Iterator[bytes]:
        start, is_over = 0, False
        while not is_over:
            again = min(start, 1)  # S3 refuses a range that begins where the object ends
            piece = self._store.read_range(self._plan.manifest_key, start - again, start + PIECE_BYTES)[again:]
            yield bytes(piece)
            start += PIECE_BYTES
            is_over = len(piece) < PIECE_BYTES


def _between(text: bytes) -> bytes:
    """Return what is between two tasks, from the comma on, where each begins a line; nothing where they do not."""
    begin = text.find(b"{")
    indent = text[2:begin]
    return b",\n" + indent + b"{" if text[:2] == b"[\n" and not indent.strip(b" ") else b""
