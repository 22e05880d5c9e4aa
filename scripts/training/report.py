"""What a trained model is worth: accuracy on galaxies it never saw, with intervals, and the controls beside it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.contract import Accuracy
from inference.metrics import nmad, normalised_residuals, redshift_accuracy
from inference.model.astromae import AstroMAE
from scripts.training.recipe import Recipe
from scripts.training.rows import TrainingRows, real_test_rows, synthetic_test_rows

NUM_BOOTSTRAPS = 1_000
HIGH_REDSHIFT = 0.25

Predictor = Callable[[TrainingRows], Tensor]


@dataclass(frozen=True)
class Measurement:
    """Accuracy of one predictor on one set of rows."""

    rows: str
    predictor: str
    accuracy: Accuracy
    nmad_interval: tuple[float, float]
    """95 % interval of the NMAD under resampling of the galaxies."""
    r2_interval: tuple[float, float]
    """The same of R²."""

    def table_row(self) -> str:
        """Format one line of a Markdown table."""
        a = self.accuracy
        return (
            f"| {self.rows} | {a.num_labelled:,} | {a.std_z_spec:.3f} | {self.predictor} "
            f"| {a.nmad:.4f} ({self.nmad_interval[0]:.4f}-{self.nmad_interval[1]:.4f}) "
            f"| {a.bias:+.4f} | {100 * a.outlier_005:.2f} | {100 * a.outlier_015:.2f} "
            f"| {a.r2 or 0:.3f} ({self.r2_interval[0]:.3f}-{self.r2_interval[1]:.3f}) |"
        )


TABLE_HEAD = (
    "| rows | N | std(z) | predictor | NMAD (95 %) | bias | dz > .05 [%] | dz > .15 [%] | R² (95 %) |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def measure(model: AstroMAE, control: Predictor, recipe: Recipe) -> list[Measurement]:
    """Measure a model and its controls on held-out galaxies.

    Parameters
    ----------
    model : AstroMAE
        As it is shipped.
    control : callable
        The magnitudes-only network.
    recipe : Recipe
        Sizes and seed of the synthetic test rows.
    """
    full = network(model)
    real, simulated = real_test_rows(), synthetic_test_rows(recipe)
    high = real.redshifts > HIGH_REDSHIFT
    distant = TrainingRows(real.images[high], real.magnitudes[high], real.redshifts[high], int(high.sum()))
    return [
        _measurement("real, held out", "AstroMAE", real, full),
        _measurement("real, held out", "magnitudes only", real, control),
        _measurement("real, other plausible structure", "AstroMAE", real_test_rows(seed=12_345), full),
        _measurement(f"real, held out, z > {HIGH_REDSHIFT}", "AstroMAE", distant, full),
        _measurement("simulated, held-out sources", "AstroMAE", simulated, full),
        _measurement("simulated, held-out sources", "magnitudes only", simulated, control),
        _measurement("simulated, structure without information", "AstroMAE", synthetic_test_rows(recipe, 0.0), full),
    ]


def network(model: AstroMAE) -> Predictor:
    """Predict with the whole network, as inference does."""

    @torch.inference_mode()
    def predict(rows: TrainingRows) -> Tensor:
        batches = zip(torch.split(rows.images, 256), torch.split(rows.magnitudes, 256), strict=True)
        return torch.cat([model(images, magnitudes) for images, magnitudes in batches])

    return predict


def _measurement(name: str, predictor: str, rows: TrainingRows, predict: Predictor) -> Measurement:
    z_phot, z_spec = predict(rows).numpy().astype(np.float64), rows.redshifts.numpy().astype(np.float64)
    accuracy = redshift_accuracy(z_phot, z_spec)
    assert accuracy is not None, "every row here has a redshift"
    nmad_interval, r2_interval = _intervals(z_phot, z_spec)
    return Measurement(name, predictor, accuracy, nmad_interval, r2_interval)


def _intervals(
    z_phot: NDArray[np.float64], z_spec: NDArray[np.float64]
) -> tuple[tuple[float, float], tuple[float, float]]:
    generator = np.random.default_rng(0)
    draws = generator.integers(0, len(z_spec), (NUM_BOOTSTRAPS, len(z_spec)))
    nmads = [nmad(normalised_residuals(z_phot[draw], z_spec[draw])) for draw in draws]
    errors, spreads = (z_phot - z_spec) ** 2, [z_spec[draw].var() for draw in draws]
    r2s = [1 - errors[draw].mean() / spread for draw, spread in zip(draws, spreads, strict=True)]
    return _interval(nmads), _interval(r2s)


def _interval(values: list[float]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
