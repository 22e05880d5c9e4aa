"""Summarize's merge for many ranks, without S3: `python -m scripts.benchmarks.merging 100000 50`."""

import resource
import sys
import time
from collections.abc import Mapping, Sequence

import msgspec

from handlers.merging import merge
from handlers.storage import Folder, ObjectInfo
from inference import contract
from inference.contract import RankRecord, RankTask
from scripts.benchmarks.records import make_predictions, make_tasks, record_of


class MadeUpStore:
    """What the ranks of a run would have left, made when it is read: nothing of it takes memory."""

    def __init__(self, tasks: Sequence[RankTask]) -> None:
        self._tasks = {task.record_key: task for task in tasks}
        self._prefix = tasks[0].run_prefix
        self._one = record_of(tasks[0], make_predictions(tasks[0].num_samples))
        self._size_bytes = len(contract.encode_compact(self._one))

    def list_folder(self, prefix: str) -> Folder:
        """Return the keys of a folder."""
        bound = self._one.predictions
        assert bound is not None, "record_of binds it"
        if prefix.endswith("ranks/"):
            return Folder([ObjectInfo(key, self._size_bytes, "e") for key in self._tasks], [])
        if prefix.endswith("predictions/"):
            keys = (task.predictions_key for task in self._tasks.values())
            return Folder([ObjectInfo(key, bound.size_bytes, bound.etag) for key in keys], [])
        return Folder([], [])

    def read_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the records of these keys."""
        return {key: contract.encode_compact(self._record(self._tasks[key])) for key in keys}

    def read_at_most(self, keys: Mapping[str, int]) -> dict[str, bytes | None]:
        """Return nothing: nothing is doubtful."""
        return dict.fromkeys(keys)

    def _record(self, task: RankTask) -> RankRecord:
        return msgspec.structs.replace(
            self._one,
            rank=task.rank,
            inputs=task.rows,
            predictions_key=task.predictions_key,
            started_at_s=1e9 + 0.01 * task.rank,
        )


def main(num_ranks: int, rank_rows: int) -> None:
    """Print how long it takes to prove and merge so many records, and how much memory."""
    tasks = make_tasks("run-bench", world_size=num_ranks, rank_rows=rank_rows)
    store = MadeUpStore(tasks)
    before_mb, begin_s = _peak_mb(), time.perf_counter()
    merged = merge(store, tasks)  # type: ignore[arg-type]
    taken_s = time.perf_counter() - begin_s
    print(
        f"{len(merged.whole.ranks):,} records of {num_ranks * rank_rows:,} galaxies in {taken_s:.1f} s; memory "
        f"{before_mb:.0f} MB before, with the manifest, {_peak_mb():.0f} MB at most; combined_data.json "
        f"{len(merged.combined) / 1e6:.0f} MB"
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
