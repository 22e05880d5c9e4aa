"""How fast a catalog is written, and in how much memory: `python -m scripts.benchmarks.catalog 10000000`."""

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RANK_ROWS = 20_000
RUN = "run-bench"


def write_run(root: Path, num_rows: int) -> None:
    """Leave the folder of a finished run, and its dataset's table, one rank at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from inference import contract
    from scripts.benchmarks.records import make_predictions, make_tasks, record_of

    folder = root / "runs" / RUN
    for name in ("ranks", "predictions"):
        (folder / name).mkdir(parents=True)
    (root / "d").mkdir()
    tasks = make_tasks(RUN, world_size=num_rows // RANK_ROWS, rank_rows=RANK_ROWS)
    (folder / "manifest.json").write_bytes(contract.encode(tasks))
    columns = {"object_id": pa.int64(), **dict.fromkeys(("ra_deg", "dec_deg", "mag_r"), pa.float64())}
    with pq.ParquetWriter(root / "d" / "table.parquet", pa.schema(columns)) as table:
        for task in tasks:
            found = make_predictions(RANK_ROWS, first_id=10**18 + task.rank * RANK_ROWS, seed=task.rank)
            rows = {name: found.object_id if name == "object_id" else found.z_spec * 300 for name in columns}
            table.write_table(pa.table(rows))
            (folder / "predictions" / f"{task.rank:05d}.npz").write_bytes(found.to_npz())
            (folder / "ranks" / f"{task.rank:05d}.json").write_bytes(contract.encode(record_of(task, found)))


def main() -> None:
    """Write a run in one process, and its catalog in another, whose memory counts."""
    num_rows = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        writer = multiprocessing.get_context("spawn").Process(target=write_run, args=(root, num_rows))
        writer.start()
        writer.join()
        began_s = time.monotonic()
        command = [sys.executable, "-m", "scripts.catalog"]
        started = subprocess.Popen(command, cwd=root, env={**os.environ, "RUN": RUN, "TARGET": "local"})
        _, status, usage = os.wait4(started.pid, 0)
        took_s = time.monotonic() - began_s
    if status:
        sys.exit(f"the catalog ended with status {os.waitstatus_to_exitcode(status)}")
    # A program starts with the peak of the one that started it, which is why this one imports little.
    floor_mb, peak_mb = (one.ru_maxrss / 1024 for one in (resource.getrusage(resource.RUSAGE_SELF), usage))
    rate = f"{num_rows / took_s:,.0f} rows/s"
    print(f"{num_rows:,} rows: {took_s:.1f} s, {rate}, {peak_mb:.0f} MB (at least {floor_mb:.0f})")


if __name__ == "__main__":
    main()
