"""Rows to train, to choose and to test on; the split by source galaxy happens here and nowhere else."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inference.block import Block
from scripts.models.training.recipe import Recipe
from scripts.simulation.cutouts import real_images, synthetic_rows
from scripts.simulation.population import Population
from scripts.simulation.sdss import SourceCatalog, load_sources

SYNTHETIC_BLOCK = 1_000


@dataclass(frozen=True)
class TrainingRows:
    """N galaxies as tensors."""

    images: Tensor
    """Shape (N, 5, 32, 32), float32 [nanomaggy / pixel]."""

    magnitudes: Tensor
    """Shape (N, 5), float32 [mag]."""

    redshifts: Tensor
    """Shape (N,), float32."""

    num_real: int
    """The first rows are real galaxies, the others synthetic."""

    def __len__(self) -> int:
        return len(self.redshifts)

    def to_block(self) -> Block:
        """Return them as a worker reads them, numbered from 0."""
        return Block(
            images=self.images.numpy(),
            magnitudes=self.magnitudes.numpy().astype(np.float64),
            redshifts=self.redshifts.numpy().astype(np.float64),
            object_id=np.arange(len(self), dtype=np.int64),
        )


def training_rows(recipe: Recipe) -> TrainingRows:
    """Real training galaxies, each rendered several times, then synthetic ones made from them."""
    real = load_sources().of("train").first(recipe.num_real)
    # Offsets keep the random streams of training apart from those of the datasets, which use small seeds.
    views = [rendered(real, seed=1_000 * recipe.seed + view + 1) for view in range(recipe.renderings)]
    synthetic = simulated(real, recipe.num_synthetic, 1_000 * recipe.seed, recipe.informative_share)
    return _join(*views, synthetic, num_real=len(real.redshift) * recipe.renderings)


def selection_rows(recipe: Recipe) -> TrainingRows:
    """Real galaxies of the training side that no weight is fitted to: they choose, they never teach."""
    return rendered(load_sources().of("selection"), seed=1_000 * recipe.seed)


def real_test_rows(seed: int = 0, *, at_most: int = 10_000) -> TrainingRows:
    """Real galaxies no training uses; with seed 0, those of the sample dataset."""
    return rendered(load_sources().of("held_out").first(at_most), seed)


def borrowed_structure_rows(seed: int = 0, *, at_most: int = 10_000) -> TrainingRows:
    """Real galaxies of the test set with their own light and the sizes and shapes of others, drawn at random.

    An image's structure then says nothing about its galaxy; what is lost is what the network had taken from it.
    """
    sources = load_sources().of("held_out").first(at_most)
    donors = np.random.default_rng((seed, 1)).permutation(len(sources.redshift))
    images = real_images(sources.photometry, seed, structure_of=sources.photometry[donors])
    return _rows(images, sources.photometry.magnitudes, sources.redshift, num_real=len(sources.redshift))


def synthetic_test_rows(recipe: Recipe, informative_share: float = 1.0) -> TrainingRows:
    """Synthetic galaxies made from the sources of the test set, with chances no training row had."""
    seed = 1_000 * recipe.seed + 999
    return simulated(load_sources().of("held_out"), recipe.num_test_synthetic, seed, informative_share)


def rendered(sources: SourceCatalog, seed: int) -> TrainingRows:
    """Render real galaxies from their photometry."""
    images = real_images(sources.photometry, seed)
    return _rows(images, sources.photometry.magnitudes, sources.redshift, num_real=len(sources.redshift))


def simulated(sources: SourceCatalog, num_rows: int, seed: int, informative_share: float) -> TrainingRows:
    """Draw galaxies from the population of some real ones, and render them."""
    population = Population(sources)
    blocks = [
        synthetic_rows(
            population,
            np.arange(start + 1, min(start + SYNTHETIC_BLOCK, num_rows) + 1),
            seed,
            informative_share=informative_share,
        )
        for start in range(0, num_rows, SYNTHETIC_BLOCK)
    ]
    return _join(*(_rows(block.images, block.magnitudes, block.redshifts, num_real=0) for block in blocks), num_real=0)


def _rows(images: np.ndarray, magnitudes: np.ndarray, redshifts: np.ndarray, num_real: int) -> TrainingRows:
    return TrainingRows(
        torch.from_numpy(images),
        torch.from_numpy(magnitudes.astype(np.float32)),
        torch.from_numpy(redshifts.astype(np.float32)),
        num_real,
    )


def _join(*parts: TrainingRows, num_real: int) -> TrainingRows:
    return TrainingRows(
        torch.cat([part.images for part in parts]),
        torch.cat([part.magnitudes for part in parts]),
        torch.cat([part.redshifts for part in parts]),
        num_real,
    )
