"""What one method took and what it predicted: a process of its own without any service, or a run."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from inference.contract import COMBINED_KEY
from inference.models import Model
from inference.run_folder import RunFolder
from scripts.benchmarks.comparison.agreement import Redshifts
from scripts.benchmarks.comparison.baseline import BaselineResult, BaselineTask
from scripts.benchmarks.comparison.method import Method
from scripts.command.errors import CommandError
from scripts.command.repository import REPOSITORY
from scripts.pricing.prices import LOCAL_REGION, bill_of
from scripts.runs import journal
from scripts.sweeps.backend import rates_of


@dataclass(frozen=True)
class Measured:
    """One way to predict the rows, and what it predicted."""

    method: Method
    redshifts: Redshifts


def measure_process(name: str, files: Sequence[Path], model: Model, *, batch_size: int, profile: bool) -> Measured:
    """Predict the files in a process of their own.

    Raises
    ------
    CommandError
        If it fails; the message holds the end of what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="baseline-") as folder:
        predictions = Path(folder) / "predictions.npz"
        task = BaselineTask(
            files=tuple(str(path.resolve()) for path in files),
            batch_size=batch_size,
            profile=profile,
            predictions=str(predictions),
            model=str(model.folder.resolve()),
        )
        command = [sys.executable, "-m", "scripts.benchmarks.comparison.baseline", msgspec.json.encode(task).decode()]
        began_s = time.perf_counter()
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        wall_s = time.perf_counter() - began_s
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise CommandError(f"The {name} ended with status {done.returncode}: {last}")
        result = msgspec.json.decode(done.stdout.splitlines()[-1], type=BaselineResult)
        with np.load(predictions) as arrays:
            redshifts = Redshifts(arrays["object_id"], arrays["z_phot"])
    return Measured(of_process(name, result, wall_s=wall_s), redshifts)


def measure_run(folder: Path) -> Measured:
    """Read what a run measured and predicted.

    Raises
    ------
    RunFolderError, CommandError
        If its folder is not whole; the message names what is missing.
    """
    run = RunFolder(folder)
    summary, found = run.summary, run.all_predictions()
    if not run.records:
        raise CommandError(f"{folder}/ has no {COMBINED_KEY}: `make status RUN={folder.name}` says why.")
    if found is None or len(found.z_phot) != summary.num_samples:
        raise CommandError(f"{folder}/predictions/ does not hold the {summary.num_samples:,} galaxies of the summary.")
    entry = journal.read(folder)
    stack = entry.stack if entry else None
    is_aws = entry is not None and entry.target == "aws"
    rates = rates_of(stack, summary.function_memory_mb)
    method = Method(
        name="AWS" if is_aws else "local AWS",
        place="aws" if is_aws else "local",
        run_id=summary.run_id,
        engine=", ".join(summary.engines),
        num_workers=max(1, summary.clock.num_concurrent_ranks),
        num_threads=max(record.num_threads for record in run.records),
        num_samples=summary.num_samples,
        loop_s=summary.clock.ranks.inference,
        map_s=summary.clock.map,
        end_to_end_s=summary.clock.end_to_end,
        rank_rate_per_s=float(np.median([record.sample_persec for record in run.records])),
        sum_of_rank_rates_per_s=summary.throughput.sum_of_rank_rates,
        map_wall_per_s=summary.throughput.map_wall,
        end_to_end_per_s=summary.throughput.end_to_end,
        peak_memory_bytes=summary.peak_memory_bytes,
        list_price_usd=bill_of(summary, rates, stack.region if stack else LOCAL_REGION).usd,
    )
    return Measured(method, Redshifts(found.object_id, found.z_phot.astype(np.float32)))


def of_process(name: str, result: BaselineResult, *, wall_s: float) -> Method:
    """Return one process as a method.

    Parameters
    ----------
    name : str
        What it is called.
    result : BaselineResult
        What it printed.
    wall_s : float
        From its start to its end, as its parent saw it [s].
    """
    map_s = result.model_load_s + result.read_s + result.loop_s
    rate_per_s = result.num_samples / result.loop_s
    return Method(
        name=name,
        engine=result.engine,
        num_threads=result.num_threads,
        num_samples=result.num_samples,
        loop_s=result.loop_s,
        map_s=map_s,
        end_to_end_s=wall_s,
        rank_rate_per_s=rate_per_s,
        sum_of_rank_rates_per_s=rate_per_s,
        map_wall_per_s=result.num_samples / map_s,
        end_to_end_per_s=result.num_samples / wall_s,
        peak_memory_bytes=result.peak_memory_bytes,
    )
