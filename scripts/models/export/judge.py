"""Whether an engine may replace torch, and a reduced precision fp32."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference import metrics
from inference.engines.exported import Accuracy, Agreement
from inference.predict import Engine, predict_values
from scripts.command.errors import CommandError

NUM_COMPARED = 512
"""Real galaxies on which every engine is compared with torch. They give int8 its ranges, so they judge no precision."""

MAX_ABS = 1e-4
MEAN_ABS = 1e-6
RELATIVE_TOLERANCE = 0.01
"""By how much a reduced precision may change NMAD, bias and outlier fraction."""

Arrays = dict[str, NDArray[np.generic]]
"""The arrays of shards by name: images, magnitudes, and redshifts where they are known."""


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


def measure_accuracy(name: str, engine: Engine, galaxies: Arrays, full: Accuracy | None = None) -> Accuracy:
    """Return the accuracy of an engine on labelled galaxies, and why it is rejected compared with fp32.

    Parameters
    ----------
    name : str
        Of the library that computes.
    engine : Engine
        In the precision to be judged.
    galaxies : dict
        With their redshifts.
    full : Accuracy, optional
        That of fp32; None for fp32 itself.
    """
    found = metrics.redshift_accuracy(predict(engine, galaxies), galaxies["redshifts"].astype(np.float64))
    assert found is not None, "the galaxies are labelled"
    accuracy = Accuracy(engine=name, nmad=found.nmad, bias=found.bias, outlier_005=found.outlier_005)
    return accuracy if full is None else msgspec.structs.replace(accuracy, rejected=why_rejected(full, accuracy))


def why_rejected(full: Accuracy, reduced: Accuracy) -> str:
    """Say which figure moved by more than `RELATIVE_TOLERANCE`; empty when none did."""
    moved = []
    for name in ("nmad", "bias", "outlier_005"):
        before, after = getattr(full, name), getattr(reduced, name)
        if abs(after - before) > RELATIVE_TOLERANCE * abs(before):
            moved.append(f"{name} {after:.6f} instead of {before:.6f}")
    if not moved:
        return ""
    return f"on galaxies that training never saw it changes {', '.join(moved)}, more than {RELATIVE_TOLERANCE:.0%}"
