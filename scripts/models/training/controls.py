"""What the network must beat: methods that see the magnitudes and colours of the same training rows, no images."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.neighbors import KNeighborsRegressor

from inference.block import Block
from scripts.models.training.recipe import Recipe
from scripts.models.training.rows import TrainingRows

Array = NDArray[np.float64]
Predict = Callable[[Block], Array]
"""From N galaxies to their redshifts, (N,)."""

NUM_NEIGHBOURS = 20


def boosted_trees(rows: TrainingRows, recipe: Recipe, seed: int) -> Predict:
    """Fit gradient-boosted trees on magnitudes and colours; real and synthetic rows weigh the same in sum.

    References
    ----------
    Friedman 2001, Annals of Statistics 29, 1189; as histograms: Ke et al. 2017 (LightGBM).
    """
    features, redshifts, is_real = _teach(rows, recipe)
    weights = np.where(is_real, 1 / max(is_real.sum(), 1), 1 / max((~is_real).sum(), 1))
    trees = HistGradientBoostingRegressor(
        learning_rate=0.05, max_iter=400, early_stopping=True, validation_fraction=0.1, random_state=seed
    ).fit(features, redshifts, sample_weight=weights * len(weights))
    return lambda block: np.asarray(trees.predict(with_colours(block.magnitudes)), dtype=np.float64)


def neighbours(rows: TrainingRows, recipe: Recipe, seed: int) -> Predict:  # noqa: ARG001
    """Average the redshifts of the nearest rows in magnitudes and colours of unit variance, the closer the heavier.

    References
    ----------
    Cover & Hart 1967, IEEE Transactions on Information Theory 13, 21.
    """
    features, redshifts, _ = _teach(rows, recipe)
    center, spread = features.mean(axis=0), features.std(axis=0)
    fitted = KNeighborsRegressor(NUM_NEIGHBOURS, weights="distance").fit((features - center) / spread, redshifts)

    def predict(block: Block) -> Array:
        return np.asarray(fitted.predict((with_colours(block.magnitudes) - center) / spread), dtype=np.float64)

    return predict


def _teach(rows: TrainingRows, recipe: Recipe) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return each training galaxy once: renderings of a real one differ in the image alone."""
    num_galaxies = rows.num_real // recipe.renderings
    once = torch.cat([torch.arange(num_galaxies), torch.arange(rows.num_real, len(rows))])
    is_real = np.arange(len(once)) < num_galaxies
    features = with_colours(rows.magnitudes.double().numpy())
    return features[once.numpy()], rows.redshifts[once].double().numpy(), is_real


def with_colours(magnitudes: Array) -> Array:
    """Return magnitudes, shape (N, M), and the colours of neighbouring bands behind them, (N, 2 M - 1) [mag]."""
    return np.concatenate([magnitudes, magnitudes[:, :-1] - magnitudes[:, 1:]], axis=1)
