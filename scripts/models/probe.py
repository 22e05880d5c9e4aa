"""Tries a network on galaxies: ``python -m scripts.models.probe FOLDER``, a process of its own that it may end.

Prints one line of JSON: a problem in words, or how fast it is and how much memory it takes.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlers.invocation import peak_memory_bytes
from inference import engines
from inference.block import Block
from inference.errors import RunError
from inference.models import read_model
from inference.models.card import BinnedPz, Inputs, ModelCard, Quantiles
from inference.predict import MICRO_BATCH, Engine, predict_values
from inference.pz import num_values

NUM_ROWS = 2 * MICRO_BATCH + 5
NUM_REPEATS = 5
MAX_DIFFERENCE = 1e-3
"""Of a number between a galaxy alone and among others: rounding is a hundred times smaller."""

MAX_SUM_ERROR = 0.05
PLAUSIBLE = (-0.5, 20.0)
"""Redshifts; what is outside is in other units."""


def galaxies(inputs: Inputs, num_rows: int = NUM_ROWS) -> Block:
    """Make galaxies of 15 to 21 mag with round profiles on noisy sky, as far as the model reads them."""
    rng = np.random.default_rng(0)
    num_bands, side = len(inputs.bands), inputs.side_px
    slope, scatter = np.linspace(0, 2, num_bands), rng.normal(0, 0.1, (num_rows, num_bands))
    magnitudes = rng.uniform(15, 21, (num_rows, 1)) - slope + scatter
    offset = np.arange(side) - (side - 1) / 2
    profile = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * max(side / 12, 1) ** 2))
    flux = 10 ** (0.4 * (22.5 - magnitudes))
    sky = rng.normal(0, 0.05, (num_rows, num_bands, side, side))
    return Block(
        images=(flux[:, :, None, None] * profile / max(profile.sum(), 1) + sky).astype(np.float32),
        magnitudes=magnitudes,
        redshifts=np.full(num_rows, np.nan),
        object_id=np.arange(num_rows),
        columns=rng.uniform(0, 0.1, (num_rows, len(inputs.columns))) if inputs.columns else None,
    )


def problem(card: ModelCard, engine: Engine, probe: Block) -> str:
    """Say what is wrong with what a network gives; nothing where nothing is."""
    try:
        together, alone = _predict(card, engine, probe), _predict(card, engine, probe[:8], micro_batch=1)
    except RunError as error:
        return str(error)
    if np.abs(together[:8] - alone).max() > MAX_DIFFERENCE * max(1.0, float(np.abs(alone).max())):
        return "a galaxy's answer changes with its neighbours in the batch. Export the network in evaluation mode."
    if isinstance(card.output, BinnedPz):
        return _bins(card.output, together)
    if isinstance(card.output, Quantiles) and np.mean(np.diff(together, axis=1) < 0) > 0.5:
        return "its quantiles descend. Say the levels in the order of the output."
    low, high = PLAUSIBLE
    if together.min() < low or together.max() > high:
        return f"its redshifts are from {together.min():.3g} to {together.max():.3g}: is the output in other units?"
    return ""


def _predict(card: ModelCard, engine: Engine, rows: Block, micro_batch: int = MICRO_BATCH) -> NDArray[np.float32]:
    size = num_values(card.output)
    return predict_values(engine, rows.images, rows.magnitudes, rows.columns, num_values=size, micro_batch=micro_batch)


def _bins(output: BinnedPz, values: NDArray[np.float32]) -> str:
    if output.values == "logit":
        return ""
    sums = values.sum(axis=1)
    if values.min() < -MAX_SUM_ERROR or np.abs(sums - 1).max() > MAX_SUM_ERROR:
        return (
            f"its bins add up to {sums.min():.3g} to {sums.max():.3g}, the lowest is {values.min():.3g}: these are no "
            'probabilities. Logits are said with values = "logit".'
        )
    return ""


def speed(card: ModelCard, engine: Engine, probe: Block) -> float:
    """Return galaxies per second, the best of some batches."""
    taken_s = []
    for _ in range(NUM_REPEATS):
        began_s = time.perf_counter()
        _predict(card, engine, probe)
        taken_s.append(time.perf_counter() - began_s)
    return NUM_ROWS / min(taken_s)


def main(folder: Path) -> dict[str, Any]:
    """Try the model in a folder."""
    model = read_model(folder)
    probe = galaxies(model.card.inputs)
    try:
        engine = engines.load_model("auto", model, num_threads=1)
    except RunError as error:
        return {"problem": str(error)}
    if found := problem(model.card, engine, probe):
        return {"problem": found}
    rows_per_s = float(f"{speed(model.card, engine, probe):.3g}")
    return {"rows_per_s": rows_per_s, "process_memory_mb": -(-peak_memory_bytes() // 2**20)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
