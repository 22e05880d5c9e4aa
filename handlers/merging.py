"""Everything that ranks left under a run's prefix, proved and merged wave by wave."""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from handlers import evidence
from handlers.storage import ObjectStore
from inference import branch, summary
from inference.branch import Branch
from inference.contract import RankRecord, RankTask


@dataclass(frozen=True)
class Merged:
    """A run, as its ranks reported it."""

    whole: Branch
    """Of all ranks."""

    combined: "Combined"
    """``combined_data.json``."""

    notes: tuple[str, ...]
    """Objects that belong to no rank, in sentences."""

    talking: tuple[RankRecord, ...] | None
    """The valid records of ranks that were to meet, in rank order; None where none was to."""


class Combined:
    """``combined_data.json`` of any number of ranks, compressed until it is written: of 100,000 it is 240 MB."""

    def __init__(self) -> None:
        self._parts: dict[int, bytes] = {}
        self._sizes_bytes: dict[int, int] = {}

    def put(self, first_rank: int, records: Sequence[RankRecord]) -> None:
        """Keep what begins with a rank, in place of what was kept of it."""
        content = summary.combine(records)[1:-1].rstrip()
        self._parts[first_rank] = zlib.compress(content, level=1)
        self._sizes_bytes[first_rank] = len(content)

    @property
    def size_bytes(self) -> int:
        """Size of the file, but for what encloses it [bytes]."""
        return sum(self._sizes_bytes.values())

    def __iter__(self) -> Iterator[bytes]:
        """Yield the file in parts."""
        before = b"["
        for first in sorted(self._parts):
            if self._sizes_bytes[first]:
                yield before
                yield zlib.decompress(self._parts[first])
                before = b","
        yield b"[]" if before == b"[" else b"\n]"


def merge(store: ObjectStore, run_prefix: str, tasks: Iterable[RankTask]) -> Merged:
    """Read, prove and merge the records of a run, in memory that hardly depends on how many there are."""
    combined = Combined()
    talking: dict[int, tuple[RankRecord, ...]] = {}
    unread: set[str] = set()
    with evidence.listed(store, run_prefix) as listing:

        def read(wave: Sequence[RankTask], claims: Counter[int]) -> tuple[Branch, Counter[int]]:
            found = evidence.gather(store, wave, listing)
            proof = summary.prove(wave, found.records, found.failures, found.predictions, claims=claims)
            unread.update(found.unread)
            combined.put(wave[0].rank, proof.records)
            if any(task.comm for task in wave):
                talking[wave[0].rank] = proof.records
            return branch.branch_of(wave, proof.records, proof.lost), summary.claims_beyond(wave, found.records)

        whole = branch.in_waves(tasks, read)
        strangers = sorted(listing.strangers(run_prefix, whole.stop_rank) | unread)
    return Merged(
        whole,
        combined,
        tuple(summary.name_strangers(strangers)),
        tuple(record for first in sorted(talking) for record in talking[first]) if talking else None,
    )
