"""Everything that ranks left under a run's prefix, proved and merged wave by wave."""

import io
import zlib
from collections import Counter
from collections.abc import Sequence
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

    combined: bytes
    """``combined_data.json``."""

    notes: tuple[str, ...]
    """Objects that belong to no rank, in sentences."""

    talking: tuple[RankRecord, ...]
    """The valid records of ranks that were to meet, in rank order."""


def merge(store: ObjectStore, tasks: Sequence[RankTask]) -> Merged:
    """Read, prove and merge the records of a run."""
    parts: dict[int, bytes] = {}
    talking: dict[int, tuple[RankRecord, ...]] = {}
    unread: set[str] = set()
    with evidence.listed(store, tasks[0].run_prefix) as listing:

        def read(wave: Sequence[RankTask], claims: Counter[int]) -> tuple[Branch, Counter[int]]:
            found = evidence.gather(store, wave, listing)
            proof = summary.prove(wave, found.records, found.failures, found.predictions, claims=claims)
            unread.update(found.unread)
            first = wave[0].rank
            # A run of 100,000 ranks combines to 240 MB, which are a tenth of that meanwhile.
            parts[first] = zlib.compress(summary.combine(proof.records)[1:-1].rstrip(), level=1)
            talking[first] = proof.records if any(task.comm for task in wave) else ()
            return branch.branch_of(wave, proof.records, proof.lost), summary.claims_beyond(wave, found.records)

        whole = branch.in_waves(tasks, read)
        strangers = sorted(listing.strangers(tasks) | unread)
    return Merged(
        whole,
        _one_list([parts[first] for first in sorted(parts)]),
        tuple(summary.name_strangers(strangers)),
        tuple(record for records in talking.values() for record in records),
    )


def _one_list(parts: Sequence[bytes]) -> bytes:
    """Return compressed parts of a list in JSON as the list, never twice in memory."""
    whole = io.BytesIO()
    for part in parts:
        if content := zlib.decompress(part):
            whole.write(b"," if whole.tell() else b"[")
            whole.write(content)
    whole.write(b"\n]" if whole.tell() else b"[]")
    return whole.getvalue()
