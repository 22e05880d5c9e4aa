"""Which galaxies are evaluated: real test and simulated ones, or those of a run."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from inference.block import SDSS
from inference.contract import RowRange
from inference.pipeline import Predictions
from inference.uncertainty import R_BAND
from scripts.runs.run_folder import Run


@dataclass(frozen=True)
class Evaluated:
    """Galaxies of one kind with what was predicted for them."""

    name: str
    """What they are, in words."""

    predictions: Predictions
    """Redshifts, sigma, flags and labels."""

    r: NDArray[np.float64]
    """Dereddened r, shape (N,) [mag]; NaN where the dataset is not on this machine."""

    g_r: NDArray[np.float64]
    """Dereddened g - r, shape (N,) [mag]; NaN likewise."""

    ratio_95: float
    """Half-width of the 95 % interval in units of sigma; NaN where no sigma is known."""

    weights_sha256: tuple[str, ...]
    """Checksums of the weights that predicted."""

    engines: tuple[str, ...]
    """Libraries that computed."""


def of_run(run: Run, root: Path) -> Evaluated:
    """Read what a run predicted.

    Parameters
    ----------
    run : Run
        Its files on this machine.
    root : Path
        Folder with the shards under their keys, where they are on this machine.

    Raises
    ------
    RunFolderError
        If a file is missing or cannot be read.
    """
    found = run.inventory()
    tasks = [task for task in found.tasks if task.rank not in found.lost]
    ratio_95 = run.summary.ratio_95 if run.has_summary else None
    magnitudes = np.concatenate([_read_magnitudes(root, rows) for task in tasks for rows in task.rows])
    return Evaluated(
        name=run.run_id,
        predictions=Predictions.joined([run.predictions(task) for task in tasks]),
        r=magnitudes[:, R_BAND],
        g_r=magnitudes[:, R_BAND - 1] - magnitudes[:, R_BAND],
        ratio_95=math.nan if ratio_95 is None else ratio_95,
        weights_sha256=found.facts["weights_sha256"],
        engines=found.facts["engine"],
    )


def _read_magnitudes(root: Path, rows: RowRange) -> NDArray[np.float64]:
    """Return magnitudes in u, g, r, i, z, (N, 5); NaN where they are not at hand, or of other bands."""
    path, unknown = root / rows.key, np.full((rows.num_rows, len(SDSS.bands)), np.nan)
    if path.suffix != ".safetensors" or not path.exists():
        return unknown
    with safe_open(path, framework="numpy") as shard:
        magnitudes = shard.get_slice("magnitudes")
        if magnitudes.get_shape()[1:] != [len(SDSS.bands)] or magnitudes.get_shape()[0] < rows.stop_row:
            return unknown
        found: NDArray[np.float64] = magnitudes[rows.start_row : rows.stop_row]
        return found
