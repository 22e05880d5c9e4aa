"""Measures one way after the other: two processes without any service, then a run of each target."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from inference.run_folder import COMBINED_KEY, RunFolder
from scripts.benchmarks.comparison.agreement import Redshifts
from scripts.benchmarks.comparison.baseline import Answered, Asked
from scripts.benchmarks.comparison.contender import Contender, Place, of_process, of_run
from scripts.command.errors import CommandError
from scripts.command.repository import REPOSITORY
from scripts.data.location import LocalDataset
from scripts.pricing.prices import LOCAL_REGION, bill_of
from scripts.runs import journal
from scripts.runs.perform import RunStoppedError, run_in
from scripts.runs.request import Draft, make_run_id
from scripts.runs.target import Target
from scripts.sweeps.backend import rates_of


class BaselineError(CommandError):
    """The plain loop failed; the message holds the end of what it said. Exit status 1."""


@dataclass(frozen=True)
class Measured:
    """One way to predict the rows, and what it predicted."""

    line: Contender
    redshifts: Redshifts


def measure_process(name: str, files: Sequence[Path], *, batch_size: int, profile: bool) -> Measured:
    """Predict the files in a process of their own.

    Raises
    ------
    BaselineError
        If it fails.
    """
    with tempfile.TemporaryDirectory(prefix="baseline-") as folder:
        predictions = Path(folder) / "predictions.npz"
        asked = Asked(
            files=tuple(str(path.resolve()) for path in files),
            batch_size=batch_size,
            profile=profile,
            predictions=str(predictions),
        )
        command = [sys.executable, "-m", "scripts.benchmarks.comparison.baseline", msgspec.json.encode(asked).decode()]
        began_s = time.perf_counter()
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        wall_s = time.perf_counter() - began_s
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise BaselineError(f"The {name} ended with status {done.returncode}: {last}")
        answered = msgspec.json.decode(done.stdout.splitlines()[-1], type=Answered)
        with np.load(predictions) as arrays:
            redshifts = Redshifts(arrays["object_id"], arrays["z_phot"])
    return Measured(of_process(name, answered, wall_s=wall_s), redshifts)


def carry_out(
    open_target: Callable[[Path], AbstractContextManager[Target]],
    draft: Draft,
    dataset: LocalDataset,
    root: Path,
    console: Console,
) -> Path:
    """Run once in a target; return the run's folder.

    Parameters
    ----------
    open_target : callable
        Makes the target from the folder for its logs.
    draft, dataset, root, console
        See `run_in`.

    Raises
    ------
    RunStoppedError
        If the run fails.
    """
    run_id = make_run_id(datetime.now(UTC))
    folder = root / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "logs").mkdir()
    with open_target(folder / "logs") as target:
        ending = run_in(target, run_id, draft, dataset, folder, console)
    if not ending.succeeded:
        raise RunStoppedError(f"{run_id} failed: {ending.error}: {ending.message} What is there lies in {folder}/.")
    return folder


def measure_run(folder: Path) -> tuple[Measured, float]:
    """Return what a run measured and predicted, and the median of its ranks' rates [galaxies/s].

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
    place: Place = "aws" if entry and entry.target == "aws" else "local"
    rates = rates_of(stack, summary.function_memory_mb)
    line = of_run(
        summary,
        place=place,
        num_threads=max(record.num_threads for record in run.records),
        list_price_usd=bill_of(summary, rates, stack.region if stack else LOCAL_REGION).usd,
    )
    median_rate = float(np.median([record.sample_persec for record in run.records]))
    return Measured(line, Redshifts(found.object_id, found.z_phot.astype(np.float32))), median_rate
