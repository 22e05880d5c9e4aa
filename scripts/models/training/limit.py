"""How well simulated redshifts can be predicted at all: trees that are given what no image shows exactly."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from inference.models.card import Measured
from scripts.models.numbers import number_of
from scripts.models.training.recipe import Recipe
from scripts.simulation.cutouts import draw_chances
from scripts.simulation.population import Population, SyntheticGalaxies
from scripts.simulation.sdss import SourceCatalog, load_sources
from scripts.simulation.structure import Structure, physical_structure

Array = NDArray[np.float64]


NUM_TREES = 400
STRUCTURE = " and true sizes and shapes"

ROWS = "simulated, test sources, all of physical structure"
"""The noise of the magnitudes sets the limit there, not the network: true sizes, which no image shows exactly, hardly
help; noise-free magnitudes do."""


def limits(recipe: Recipe) -> list[Measured]:
    """Train boosted trees on measured and on true light, without and with the true sizes and shapes.

    Parameters
    ----------
    recipe : Recipe
        Numbers of galaxies; all of them have physical structure.
    """
    sources = load_sources()
    train = _Known.drawn(sources.of("train"), recipe.num_synthetic, 1_000 * recipe.seed)
    test = _Known.drawn(sources.of("held_out"), recipe.num_test_synthetic, 1_000 * recipe.seed + 999)
    return [
        _measured(train, test, light == "noise-free", f"boosted trees of {light} magnitudes{more}")
        for light in ("measured", "noise-free")
        for more in ("", STRUCTURE)
    ]


@dataclass(frozen=True)
class _Known:
    """Simulated galaxies with everything the generator knows of them."""

    galaxies: SyntheticGalaxies
    structure: Structure

    @classmethod
    def drawn(cls, sources: SourceCatalog, num_rows: int, seed: int) -> "_Known":
        identifiers = np.arange(1, num_rows + 1)
        chances = draw_chances(seed, identifiers)
        drawn = Population(sources).draw(identifiers, chances.uniform, chances.flux)
        light = drawn.true_photometry
        shape = physical_structure(light, drawn.absolute_r, drawn.rest_g_minus_r, drawn.redshift, chances.structure)
        return cls(drawn, shape)

    def features(self, *, noise_free: bool, with_structure: bool) -> Array:
        photometry = self.galaxies.true_photometry if noise_free else self.galaxies.photometry
        magnitudes = photometry.magnitudes
        columns = [magnitudes, magnitudes[:, :-1] - magnitudes[:, 1:]]
        if with_structure:
            shape = self.structure
            seen = (np.log(shape.disc_radius_arcsec), np.log(shape.bulge_radius_arcsec), shape.axis_ratio)
            columns += [np.stack([*seen, shape.bulge_fraction], axis=1), photometry.petrosian_minus_model]
        return np.concatenate(columns, axis=1)


def _measured(train: _Known, test: _Known, noise_free: bool, method: str) -> Measured:
    known = {"noise_free": noise_free, "with_structure": method.endswith(STRUCTURE)}
    trees = HistGradientBoostingRegressor(learning_rate=0.05, max_iter=NUM_TREES, random_state=0)
    trees.fit(train.features(**known), train.galaxies.redshift)
    return number_of(trees.predict(test.features(**known)), test.galaxies.redshift, ROWS, method)
