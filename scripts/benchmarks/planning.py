"""Initialize's plan of many ranks, without S3: `python -m scripts.benchmarks.planning 100000`."""

import resource
import sys
import time

from inference.contract import RunRequest
from inference.manifest_text import ManifestText
from inference.plan import Limits, Shard, plan_tasks

RANK_ROWS = 50_000
"""A gigabyte for each rank, in a shard of its own."""

NUM_PARTS = 100
"""Of a shard, each with a checksum of four bytes."""


def main(num_ranks: int) -> None:
    """Print how long it takes to deal, encode and prove so many ranks, and how much memory."""
    shards = [
        Shard(
            key=f"datasets/large/{number}.safetensors",
            num_rows=RANK_ROWS,
            size_bytes=RANK_ROWS * 20_520,
            etag=f"{number:032x}",
            sha256=f"{number:064x}",
            crc32=number.to_bytes(4, "little") * NUM_PARTS,
        )
        for number in range(num_ranks)
    ]
    request = RunRequest(bucket="bench", data_prefix="datasets/large/", world_size=num_ranks, result_path="runs/bench/")
    before_mb, begin_s = _peak_mb(), time.process_time()
    manifest = ManifestText(plan_tasks(request, shards, Limits(memory_mb=1769, timeout_s=900), run_id="run-bench"))
    num_bytes = sum(map(len, manifest))
    manifest.prove(num_ranks * RANK_ROWS)
    taken_s = time.process_time() - begin_s
    print(
        f"{num_ranks:,} ranks planned in {taken_s:.1f} s of CPU, {num_bytes / 1e6:,.0f} MB of JSON; "
        f"memory {before_mb:.0f} MB before, with the list of shards, {_peak_mb():.0f} MB at most"
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(int(sys.argv[1]))
