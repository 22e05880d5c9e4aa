"""How well simulated redshifts can be predicted at all: trees that are given what no image shows exactly."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from inference.contract import Accuracy
from inference.metrics import redshift_accuracy
from scripts.models.training.recipe import Recipe
from scripts.simulation.cutouts import draw_chances
from scripts.simulation.population import Population, SyntheticGalaxies
from scripts.simulation.sdss import SourceCatalog, load_sources
from scripts.simulation.structure import Structure, physical_structure

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Limit:
    """Accuracy of boosted trees on simulated galaxies from the sources of the test set."""

    given: str
    """What the trees know of each galaxy."""

    accuracy: Accuracy

    def table_row(self) -> str:
        """Format one line of a Markdown table."""
        return f"| {self.given} | {self.accuracy.nmad:.4f} | {self.accuracy.r2 or 0:.3f} |"


NUM_TREES = 400

LIMIT_HEAD = "| given | NMAD | R² |\n|---|---|---|"


def limits(recipe: Recipe) -> list[Limit]:
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
        Limit(f"{light} magnitudes{more}", _accuracy(train, test, light == "noise-free", bool(more)))
        for light in ("measured", "noise-free")
        for more in ("", ", true structure")
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


def _accuracy(train: _Known, test: _Known, noise_free: bool, with_structure: bool) -> Accuracy:
    trees = HistGradientBoostingRegressor(learning_rate=0.05, max_iter=NUM_TREES, random_state=0).fit(
        train.features(noise_free=noise_free, with_structure=with_structure), train.galaxies.redshift
    )
    predicted = trees.predict(test.features(noise_free=noise_free, with_structure=with_structure))
    accuracy = redshift_accuracy(predicted, test.galaxies.redshift)
    assert accuracy is not None, "simulated galaxies have redshifts"
    return accuracy
