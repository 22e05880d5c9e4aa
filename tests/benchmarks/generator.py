"""Part 4: how fast galaxies are read, cleaned and rendered. Run as a program."""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scripts.dataset import synthetic_plan
from scripts.galaxies.sdss import load_sources


def main(num_rows: int) -> list[dict[str, Any]]:
    """Measure cleaning of the real catalogue and rendering of synthetic galaxies, one process each."""
    start = time.process_time()
    sources = load_sources()
    cleaned_s = time.process_time() - start
    num_read = len(sources.redshift) + sum(sources.removed.values())
    with tempfile.TemporaryDirectory() as folder:
        plan = synthetic_plan(Path(folder), name="bench", num_rows=num_rows, shard_mb=10, seed=0)
        start = time.process_time()
        plan.galaxies.rows(0, num_rows)
        rendered_s = time.process_time() - start
    return [
        {"program": "catalogue read and cleaned", "num_rows": num_read, "rows_per_cpu_s": num_read / cleaned_s},
        {"program": "synthetic galaxies rendered", "num_rows": num_rows, "rows_per_cpu_s": num_rows / rendered_s},
    ]


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
