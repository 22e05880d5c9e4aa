"""What trained networks are worth on galaxies they never saw, with intervals, and the controls beside them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
import torch
from torch import Tensor

from inference.contract import Accuracy
from inference.intervals import Interval, accuracy_intervals
from inference.metrics import redshift_accuracy
from inference.model.astromae import AstroMAE
from scripts.models.training.recipe import Recipe
from scripts.models.training.rows import TrainingRows, borrowed_structure_rows, real_test_rows, synthetic_test_rows

HIGH_REDSHIFT = 0.25

Predictor = Callable[[TrainingRows], Tensor]


@dataclass(frozen=True)
class Measurement:
    """Accuracy of the shipped network on one set of rows."""

    rows: str
    accuracy: Accuracy
    nmad_interval: Interval
    """95 % interval of the NMAD under resampling of the galaxies."""
    r2_interval: Interval
    """The same of R²."""

    def table_row(self) -> str:
        """Format one line of a Markdown table."""
        a = self.accuracy
        return (
            f"| {self.rows} | {a.num_labelled:,} | {a.std_z_spec:.3f} "
            f"| {a.nmad:.4f} ({self.nmad_interval.low:.4f}-{self.nmad_interval.high:.4f}) "
            f"| {a.bias:+.4f} | {100 * a.outlier_005:.2f} | {100 * a.outlier_015:.2f} "
            f"| {a.r2 or 0:.3f} ({self.r2_interval.low:.3f}-{self.r2_interval.high:.3f}) |"
        )


TABLE_HEAD = (
    "| rows | N | std(z) | NMAD (95 %) | bias | dz > .05 [%] | dz > .15 [%] | R² (95 %) |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Comparison:
    """A method on several sets of rows, trained several times."""

    predictor: str
    accuracies: Mapping[str, Sequence[Accuracy]]
    """Set of rows to the accuracy of each repeat."""

    def table_row(self) -> str:
        """Format one line of a Markdown table: mean ± standard deviation of the repeats."""
        cells = [
            _spread([getattr(one, field) or 0.0 for one in repeats], digits)
            for repeats in self.accuracies.values()
            for field, digits in (("nmad", 5), ("r2", 4))
        ]
        return f"| {self.predictor} | {max(map(len, self.accuracies.values()))} | {' | '.join(cells)} |"


def comparison_head(comparison: Comparison) -> str:
    """Head of the table whose lines `Comparison.table_row` formats."""
    columns = [f"{rows}: {metric}" for rows in comparison.accuracies for metric in ("NMAD", "R²")]
    return f"| predictor | repeats | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}"


def measure(predict: Predictor, recipe: Recipe) -> list[Measurement]:
    """Measure the network that is shipped on the test set.

    Parameters
    ----------
    predict : callable
        The network with its stored weights.
    recipe : Recipe
        Sizes and seed of the synthetic test rows.
    """
    return [_measurement(name, rows, predict) for name, rows in _all_test_rows(recipe)]


def compare(predictors: Mapping[str, Sequence[Predictor]], recipe: Recipe) -> list[Comparison]:
    """Measure networks and controls, each trained several times, on the same test set.

    Parameters
    ----------
    predictors : mapping
        Method to its repeats.
    recipe : Recipe
        Sizes and seed of the synthetic test rows.
    """
    tests = {
        "real": real_test_rows(at_most=recipe.num_test_real),
        "real, structure of others": borrowed_structure_rows(at_most=recipe.num_test_real),
        "simulated": synthetic_test_rows(recipe),
    }
    return [
        Comparison(name, {rows: [_accuracy(tests[rows], predict) for predict in repeats] for rows in tests})
        for name, repeats in predictors.items()
    ]


def network(model: AstroMAE) -> Predictor:
    """Predict with the whole network, as inference does."""

    @torch.inference_mode()
    def predict(rows: TrainingRows) -> Tensor:
        batches = zip(torch.split(rows.images, 256), torch.split(rows.magnitudes, 256), strict=True)
        return torch.cat([model(images, magnitudes) for images, magnitudes in batches])

    return predict


def _all_test_rows(recipe: Recipe) -> Iterator[tuple[str, TrainingRows]]:
    real = real_test_rows(at_most=recipe.num_test_real)
    high = real.redshifts > HIGH_REDSHIFT
    yield "real, test set", real
    yield "real, other plausible structure", real_test_rows(12_345, at_most=recipe.num_test_real)
    yield "real, structure of other galaxies", borrowed_structure_rows(at_most=recipe.num_test_real)
    yield (
        f"real, test set, z > {HIGH_REDSHIFT}",
        TrainingRows(real.images[high], real.magnitudes[high], real.redshifts[high], int(high.sum())),
    )
    yield "simulated, test sources", synthetic_test_rows(recipe)
    yield "simulated, structure without information", synthetic_test_rows(recipe, 0.0)


def _measurement(name: str, rows: TrainingRows, predict: Predictor) -> Measurement:
    z_phot, z_spec = predict(rows).numpy().astype(np.float64), rows.redshifts.numpy().astype(np.float64)
    accuracy = redshift_accuracy(z_phot, z_spec)
    assert accuracy is not None, "every row here has a redshift"
    intervals = accuracy_intervals(z_phot, z_spec)
    return Measurement(name, accuracy, intervals["nmad"], intervals["r2"])


def _accuracy(rows: TrainingRows, predict: Predictor) -> Accuracy:
    accuracy = redshift_accuracy(predict(rows).numpy().astype(np.float64), rows.redshifts.numpy().astype(np.float64))
    assert accuracy is not None, "every row here has a redshift"
    return accuracy


def _spread(values: Sequence[float], digits: int) -> str:
    middle = f"{mean(values):.{digits}f}"
    return f"{middle} ± {stdev(values):.{digits}f}" if len(values) > 1 else middle
