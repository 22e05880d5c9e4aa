"""How fast a catalog is written, and in how much memory: `python -m scripts.benchmarks.catalog 10000000`."""

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inference import contract
from inference.pipeline import Predictions
from scripts.catalog import catalog
from scripts.runs.variables import StackVariables
from tests.factories import RUN, make_record_for, make_task

RANK_ROWS = 20_000


def write_run(root: Path, num_rows: int) -> None:
    """Leave the folder of a finished run, and its dataset's table, one rank at a time."""
    folder = root / "runs" / RUN
    for name in ("ranks", "predictions"):
        (folder / name).mkdir(parents=True)
    (root / "d").mkdir()
    world_size = num_rows // RANK_ROWS
    record = make_record_for(make_task(num_samples=RANK_ROWS))
    tasks = [make_task(rank=rank, world_size=world_size, num_samples=RANK_ROWS) for rank in range(world_size)]
    (folder / "manifest.json").write_bytes(contract.encode(tasks))
    columns = {"object_id": pa.int64(), **dict.fromkeys(("ra_deg", "dec_deg", "mag_r"), pa.float64())}
    with pq.ParquetWriter(root / "d" / "table.parquet", pa.schema(columns)) as table:
        for task in tasks:
            rng = np.random.default_rng(task.rank)
            ids = np.arange(RANK_ROWS, dtype=np.int64) + 10**18 + task.rank * RANK_ROWS
            z_spec = rng.uniform(0.01, 0.4, RANK_ROWS)
            table.write_table(pa.table({name: ids if name == "object_id" else z_spec * 300 for name in columns}))
            z_phot = (z_spec + rng.normal(0, 0.01, RANK_ROWS)).astype(np.float32)
            quality = (ids % 7 == 0).astype(np.uint8)
            predictions = Predictions(
                object_id=ids, z_phot=z_phot, sigma=z_phot / np.float32(10), quality=quality, z_spec=z_spec
            )
            (folder / "predictions" / f"{task.rank:05d}.npz").write_bytes(predictions.to_npz())
            mine = msgspec.structs.replace(record, rank=task.rank, world_size=world_size)
            (folder / "ranks" / f"{task.rank:05d}.json").write_bytes(contract.encode(mine))


def main() -> None:
    """Write the run in another process, whose memory is not counted, and its catalog in this one."""
    num_rows = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        writer = multiprocessing.get_context("spawn").Process(target=write_run, args=(root, num_rows))
        writer.start()
        writer.join()
        before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        began_s = time.monotonic()
        catalog(RUN, StackVariables(), root=root)
        took_s = time.monotonic() - began_s
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{num_rows:,} rows: {took_s:.1f} s, {num_rows / took_s:,.0f} rows/s, {before_mb:.0f} to {peak_mb:.0f} MB")


if __name__ == "__main__":
    main()
