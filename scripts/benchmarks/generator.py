"""Part 4: how fast galaxies are read, cleaned and rendered, and what a worker does besides the network. A program."""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from inference.calibration import calibration_path, load_calibration
from inference.checksum import file_sha256
from inference.cleaning import clean_cutouts
from inference.errors import WeightsError
from inference.models import shipped
from inference.shard import BLOCK_ROWS
from scripts.data.generated import synthetic_plan
from scripts.data.sample import ensure_sample
from scripts.simulation.sdss import load_sources


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
    worker = measure_worker(rounds=max(num_rows // BLOCK_ROWS, 1))
    return [
        *worker,
        {"program": "catalogue read and cleaned", "num_rows": num_read, "rows_per_cpu_s": num_read / cleaned_s},
        {"program": "synthetic galaxies rendered", "num_rows": num_rows, "rows_per_cpu_s": num_rows / rendered_s},
    ]


def measure_worker(*, rounds: int) -> list[dict[str, Any]]:
    """Measure cleaning, sigma and domain on blocks as a worker has them, clean and with a tenth of the rows dirty."""
    shard = load_file(ensure_sample() / "0.safetensors")
    images, magnitudes = (np.resize(shard[name], (BLOCK_ROWS, *shard[name].shape[1:])) for name in _INPUTS)
    dirty_images, dirty_magnitudes = images.copy(), magnitudes.copy()
    dirty_images[::10, 0, 0, :3] = np.nan
    dirty_magnitudes[5::10, 4] = -9999.0
    programs: dict[str, Callable[[], object]] = {
        "worker: a clean block cleaned": lambda: clean_cutouts(images, magnitudes),
        "worker: a dirty block cleaned": lambda: clean_cutouts(dirty_images, dirty_magnitudes),
    }
    try:
        calibration = load_calibration(calibration_path(shipped().weights), file_sha256(shipped().weights))
    except WeightsError as error:
        print(error, file=sys.stderr)
    else:
        z_phot = np.full(BLOCK_ROWS, 0.1, dtype=np.float32)
        programs["worker: sigma"] = lambda: calibration.errors.sigma(magnitudes, z_phot)
        programs["worker: out of domain"] = lambda: calibration.domain.is_outside(images, magnitudes)
    return [_rate(name, program, rounds) for name, program in programs.items()]


_INPUTS = ("images", "magnitudes")


def _rate(name: str, program: Callable[[], object], rounds: int) -> dict[str, Any]:
    program()
    start = time.process_time()
    for _ in range(rounds):
        program()
    num_rows = BLOCK_ROWS * rounds
    return {"program": name, "num_rows": num_rows, "rows_per_cpu_s": num_rows / (time.process_time() - start)}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
