"""Summarize's merge for many ranks, without S3: `python -m scripts.benchmarks.merging 100000 50`."""

import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import msgspec

from handlers.manifest import Manifest
from handlers.merging import merge
from handlers.storage import Folder, ObjectInfo
from inference import contract
from inference.contract import RankRecord, RankTask, RunPlan, RunRequest
from scripts.benchmarks.records import make_predictions, make_task, record_of


class MadeUpStore:
    """What the ranks of a run would have left, made when it is read: nothing of it takes memory."""

    def __init__(self, manifest: BinaryIO, num_ranks: int, rank_rows: int) -> None:
        self._manifest = manifest
        self._num_ranks, self._rank_rows = num_ranks, rank_rows
        self._one = record_of(self.task(0), make_predictions(rank_rows))
        self._size_bytes = len(contract.encode_compact(self._one))
        self._write_manifest()

    def task(self, rank: int) -> RankTask:
        """Return the task of one rank."""
        return make_task("run-bench", rank, world_size=self._num_ranks, rank_rows=self._rank_rows)

    def list_folder(self, prefix: str) -> Folder:
        """Return the keys of a folder."""
        bound = self._one.predictions
        assert bound is not None, "record_of binds it"
        keys = (contract.rank_keys("runs/run-bench/", rank) for rank in range(self._num_ranks))
        if prefix.endswith("ranks/"):
            return Folder([ObjectInfo(key["record_key"], self._size_bytes, "e") for key in keys], [])
        if prefix.endswith("predictions/"):
            # As from S3: every entity tag is a text of its own.
            etags = (bytes(bound.etag, "ascii").decode() for _ in range(self._num_ranks))
            found = zip(keys, etags, strict=True)
            return Folder([ObjectInfo(key["predictions_key"], bound.size_bytes, etag) for key, etag in found], [])
        return Folder([], [])

    def read_range(self, key: str, start: int, stop: int) -> memoryview:  # noqa: ARG002
        """Return a part of the manifest."""
        self._manifest.seek(start)
        return memoryview(self._manifest.read(stop - start))

    def read_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the records of these keys."""
        return {
            key: contract.encode_compact(self._record(int(key[key.rfind("/") + 1 : key.rfind(".")]))) for key in keys
        }

    def read_at_most(self, keys: Mapping[str, int]) -> dict[str, bytes | None]:
        """Return nothing: nothing is doubtful."""
        return dict.fromkeys(keys)

    def _record(self, rank: int) -> RankRecord:
        task = self.task(rank)
        return msgspec.structs.replace(
            self._one,
            rank=rank,
            inputs=task.rows,
            predictions_key=task.predictions_key,
            started_at_s=1e9 + 0.01 * rank,
        )

    def _write_manifest(self) -> None:
        for rank in range(self._num_ranks):
            text = contract.encode([self.task(rank)]).removesuffix(b"\n]")
            self._manifest.write(text if rank == 0 else b"," + text[1:])
        self._manifest.write(b"\n]")


def main(num_ranks: int, rank_rows: int) -> None:
    """Print how long it takes to prove and merge so many records, and how much memory."""
    with tempfile.TemporaryFile() as manifest:
        store = MadeUpStore(manifest, num_ranks, rank_rows)
        plan = _plan(store.task(0), num_ranks * rank_rows)
        before_mb, begin_s = _peak_mb(), time.perf_counter()
        merged = merge(store, plan.run_prefix, Manifest(store, plan))  # type: ignore[arg-type]
        size_bytes = sum(map(len, merged.combined))
        taken_s = time.perf_counter() - begin_s
    print(
        f"{len(merged.whole.ranks):,} records of {num_ranks * rank_rows:,} galaxies in {taken_s:.1f} s; memory "
        f"{before_mb:.0f} MB before, {_peak_mb():.0f} MB at most; combined_data.json {size_bytes / 1e6:.0f} MB"
    )


def _plan(task: RankTask, num_samples: int) -> RunPlan:
    request = RunRequest(bucket=task.bucket, data_prefix="d/", world_size=task.world_size)
    return RunPlan(
        run_id=task.run_id,
        bucket=task.bucket,
        run_prefix=task.run_prefix,
        manifest_key=task.run_prefix + contract.MANIFEST_KEY,
        items_key=task.run_prefix + contract.MANIFEST_KEY,
        request=request,
        notes=(),
        num_samples=num_samples,
        max_concurrency=1,
        started_at_s=0.0,
        planned_at_s=0.0,
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
