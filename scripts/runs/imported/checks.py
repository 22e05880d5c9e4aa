"""What is wrong or doubtful about a set of published records, in sentences."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from inference.contract import BITS_PER_ROW
from scripts.runs.imported.file import Record

LISTING_PAGE = 1000
"""Keys in one answer of S3: published tools read the first only and drop the rest without a word."""

RATE_TOLERANCE = 0.01
MAX_NAMED = 10


def check(records: Sequence[Record], *, expected: int | None) -> Iterator[str]:
    """Yield a sentence for everything a reader of the records should know.

    Parameters
    ----------
    records : sequence of dict
        As `read_published` returns them.
    expected : int or None
        Ranks of the run; None when unknown.
    """
    num = len(records)
    expected = expected or expected_ranks(records)
    if expected is not None and num < expected:
        yield f"Only {num:,} of {expected:,} ranks have a record; nothing here says why the others have none."
    if expected is not None and num > expected:
        yield f"{num:,} records of {expected:,} ranks: {num - expected:,} too many, of another run or twice."
    if num == LISTING_PAGE and expected != LISTING_PAGE:
        yield (
            f"Exactly {LISTING_PAGE:,} records: the run may have had more ranks. Published tools read one page of a "
            "listing and drop the rest."
        )
    yield from _duplicates(records)
    yield from _mixtures(records)
    yield from _disagreements(records)


def expected_ranks(records: Sequence[Record]) -> int | None:
    """Return the ranks of the run as our own records state them; None where they do not."""
    sizes = {record["world_size"] for record in records if isinstance(record.get("world_size"), int)}
    return sizes.pop() if len(sizes) == 1 else None


def _duplicates(records: Sequence[Record]) -> Iterator[str]:
    same = Counter(json.dumps(record, sort_keys=True) for record in records)
    if twice := sum(count - 1 for count in same.values()):
        yield f"{_records(twice)} the same as another one, in every key."
    ranks = Counter(record["rank"] for record in records if isinstance(record.get("rank"), int))
    if several := sorted(rank for rank, count in ranks.items() if count > 1):
        yield f"More than one record of rank {_named(several)}."
    world_size = expected_ranks(records)
    num_absent = (world_size or 0) - sum(0 <= rank < (world_size or 0) for rank in ranks)
    if ranks and world_size and num_absent:
        # Counted, not listed: a world_size is only a number in a file.
        first = list(itertools.islice((rank for rank in range(world_size) if rank not in ranks), MAX_NAMED))
        more = f" and {num_absent - len(first):,} more" if num_absent > len(first) else ""
        yield f"No record of rank {', '.join(map(str, first))}{more}."


def _mixtures(records: Sequence[Record]) -> Iterator[str]:
    for key, words in (("run_id", "runs"), ("result_path", "result paths"), ("batch_size", "batch sizes")):
        values = sorted({str(record[key]) for record in records if record.get(key) is not None})
        if len(values) > 1:
            yield f"The records are of {len(values)} {words}: {_named(values)}."


def _disagreements(records: Sequence[Record]) -> Iterator[str]:
    def is_off(record: Record) -> bool:
        rate, bits = record.get("sample_persec") or 0.0, record.get("throughput_bps") or 0.0
        return bool(rate and bits) and abs(bits / BITS_PER_ROW - rate) > RATE_TOLERANCE * rate

    if off := sum(is_off(record) for record in records):
        yield f"{_records(off)} at odds with themselves: throughput_bps is not 164,160 bits times sample_persec."


def _records(num: int) -> str:
    return "1 record is" if num == 1 else f"{num:,} records are"


def _named(values: Sequence[Any]) -> str:
    more = f" and {len(values) - MAX_NAMED} more" if len(values) > MAX_NAMED else ""
    return ", ".join(map(str, values[:MAX_NAMED])) + more
