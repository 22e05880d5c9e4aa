"""Whether an engine may replace torch, and a reduced precision fp32."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from inference import metrics
from inference.engines.exported import Accuracy, Agreement, Difference
from inference.predict import Engine, predict_values
from scripts.command.errors import CommandError
from scripts.models.export.equivalence import measure_difference

NUM_COMPARED = 512
"""Real galaxies on which every engine is compared with torch. They give int8 its ranges, so they judge no precision."""

MAX_ABS = 1e-4
MEAN_ABS = 1e-6
Arrays = dict[str, NDArray[np.generic]]
"""The arrays of shards by name: images, magnitudes, and redshifts where they are known."""

Predicted = NDArray[np.float32] | NDArray[np.float64]
Sigma = Callable[[NDArray[np.float64], NDArray[np.float32]], NDArray[np.float32]]


def predict(engine: Engine, galaxies: Arrays) -> NDArray[np.float32]:
    """Return the redshifts that an engine gives some galaxies, shape (N,)."""
    images = galaxies["images"].astype(np.float32, copy=False)
    return predict_values(engine, images, galaxies["magnitudes"].astype(np.float64, copy=False))


def compare(engine: Engine, galaxies: Arrays, reference: NDArray[np.float32]) -> Agreement:
    """Measure how far an engine is from torch.

    Parameters
    ----------
    engine : Engine
    galaxies : dict
        N galaxies.
    reference : array, shape (N,), float32
        The redshifts torch gives them.

    Raises
    ------
    CommandError
        If it differs by more than `MAX_ABS` or, on average, `MEAN_ABS`.
    """
    difference = np.abs(predict(engine, galaxies).astype(np.float64) - reference)
    name, _, version = engine.name.partition(" ")
    agreement = Agreement(
        version=version,
        num_rows=len(reference),
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
    )
    if not (agreement.max_abs <= MAX_ABS and agreement.mean_abs <= MEAN_ABS):
        raise CommandError(
            f"{name} {version} differs from torch by up to {agreement.max_abs:.1e} and {agreement.mean_abs:.1e} on "
            f"average; {MAX_ABS:.0e} and {MEAN_ABS:.0e} are allowed. No graph was left behind."
        )
    return agreement


def accuracy_of(name: str, z_phot: Predicted, z_spec: Predicted) -> Accuracy:
    """Return the accuracy of redshifts that an engine of some name gave."""
    found = metrics.redshift_accuracy(z_phot, z_spec)
    assert found is not None, "the galaxies are labelled"
    return Accuracy(engine=name, nmad=found.nmad, bias=found.bias, outlier_005=found.outlier_005)


def judge(
    full: Engine, reduced: Mapping[str, Engine], galaxies: Iterable[Arrays], sigma: Sigma, num_threads: int = 1
) -> tuple[Accuracy, dict[str, tuple[Accuracy, Difference]]]:
    """Compare engines of reduced precision with one of fp32 on the same labelled galaxies.

    Parameters
    ----------
    full : Engine
        In fp32.
    reduced : mapping
        Any name to the engine to judge.
    galaxies : iterable
        Blocks of them: so many that their images would not fit into memory.
    sigma : callable
        Gives the errors of redshifts from their magnitudes.
    num_threads : int
        Engines that compute at the same time.

    Returns
    -------
    tuple
        Accuracy of fp32; and for each name its accuracy and its difference from fp32.
    """
    engines = {"": full, **reduced}
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in engines}
    magnitudes, z_spec = [], []
    with ThreadPoolExecutor(num_threads) as pool:
        for block in galaxies:
            predicted = pool.map(lambda name, block=block: predict(engines[name], block), engines)
            for name, values in zip(engines, predicted, strict=True):
                found[name].append(values)
            magnitudes.append(block["magnitudes"].astype(np.float64))
            z_spec.append(block["redshifts"].astype(np.float64))
    redshifts = {name: np.concatenate(parts) for name, parts in found.items()}
    truth = np.concatenate(z_spec)
    errors = sigma(np.concatenate(magnitudes), redshifts[""]).astype(np.float64)
    before = redshifts[""].astype(np.float64)
    return accuracy_of(full.name.partition(" ")[0], redshifts[""], truth), {
        name: (
            accuracy_of(engine.name.partition(" ")[0], redshifts[name], truth),
            measure_difference(before, redshifts[name].astype(np.float64), errors, truth),
        )
        for name, engine in reduced.items()
    }
