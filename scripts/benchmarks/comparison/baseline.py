"""The local baseline: the same rows by the plain library, in one process without any service.

Run as a program, since peak memory and start belong to a process:
``python -m scripts.benchmarks.comparison.baseline JSON``.
It reads the shards whole, loops over a DataLoader with the network layer by layer, and keeps everything in memory, as
one would write it down. Profiled, the loop runs as it was published: torch's profiler with memory around everything,
and a garbage collection per batch.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from inference.block import Block


class BaselineTask(msgspec.Struct, frozen=True, kw_only=True):
    """What to predict, and how."""

    files: tuple[str, ...]
    """Shards in dataset order."""

    batch_size: int
    """Galaxies per batch."""

    profile: bool
    """Whether torch's profiler runs."""

    predictions: str
    """Where the redshifts go, ``.npz``."""

    model: str
    """Folder of the model."""


class BaselineResult(msgspec.Struct, frozen=True, kw_only=True):
    """What it took."""

    num_samples: int
    """Galaxies."""

    num_threads: int
    """Threads of torch."""

    engine: str
    """Library with its version."""

    model_load_s: float
    """Building the network and reading its weights [s]."""

    read_s: float
    """Reading and cleaning the rows [s]."""

    loop_s: float
    """The loop over the batches, with what the profiler does after it [s]."""

    profiled_s: float | None
    """The profiler's total, the published ``total_cpu_time (seconds)`` [s]; None without it."""

    peak_memory_bytes: int
    """Highest resident memory of the process [bytes]."""


def predict(task: BaselineTask) -> BaselineResult:
    """Predict every row of the files, write the redshifts, return what it took."""
    import numpy as np
    import torch

    from handlers.invocation import peak_memory_bytes
    from inference.block import join
    from inference.cleaning import clean_cutouts
    from inference.model.weights import load_astromae
    from inference.models import read_model
    from inference.quality import Quality
    from scripts.benchmarks import reference_loop

    began_s = time.perf_counter()
    model = load_astromae(read_model(Path(task.model)).weights)
    loaded_s = time.perf_counter()
    block = join([part for name in task.files for part in read_file(Path(name))])
    cleaned = clean_cutouts(block.images, block.magnitudes)
    rows = torch.tensor(cleaned.images), torch.tensor(cleaned.magnitudes, dtype=torch.float32)
    read_s = time.perf_counter()
    found, profiled_s = reference_loop.predict(model, *rows, batch_size=task.batch_size, profiled=task.profile)
    looped_s = time.perf_counter()
    z_phot = found.numpy()
    z_phot[(cleaned.quality & Quality.REFUSED) != 0] = np.nan
    np.savez(task.predictions, object_id=block.object_id, z_phot=z_phot)
    return BaselineResult(
        num_samples=len(block),
        num_threads=torch.get_num_threads(),
        engine=f"torch {torch.__version__}",
        model_load_s=loaded_s - began_s,
        read_s=read_s - loaded_s,
        loop_s=looped_s - read_s,
        profiled_s=profiled_s,
        peak_memory_bytes=peak_memory_bytes(),
    )


def read_file(path: Path) -> "Iterator[Block]":
    """Yield the galaxies of a shard in any format that a worker reads, in order.

    Raises
    ------
    ShardFormatError
        If the file is not what the model reads.
    """
    from inference.contract import RowRange
    from inference.shard import count_rows, read_blocks
    from scripts.data.reader import FolderReader

    reader = FolderReader(path.parent)
    num_rows = count_rows(reader, path.name, path.stat().st_size, etag="")
    yield from read_blocks(reader, RowRange(key=path.name, start_row=0, stop_row=num_rows))


if __name__ == "__main__":
    print(json.dumps(msgspec.to_builtins(predict(msgspec.json.decode(sys.argv[1], type=BaselineTask)))))
