"""What goes wrong with photometry and images in practice, done to good galaxies, to see how much of it is noticed."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from scripts.simulation.conditions import PIXEL_ARCSEC
from scripts.simulation.render import SEEING_ARCSEC, SKY_NOISE

Images = NDArray[np.float32]
Magnitudes = NDArray[np.float64]

STAR_COLORS = np.array(
    [
        [1.00, 0.20, 0.05, 0.00],
        [1.10, 0.35, 0.11, 0.02],
        [1.40, 0.50, 0.17, 0.05],
        [2.00, 0.80, 0.29, 0.15],
        [2.50, 1.20, 0.50, 0.27],
        [2.60, 1.40, 0.80, 0.45],
        [2.70, 1.45, 1.30, 0.72],
    ]
)
"""u-g, g-r, r-i, i-z along the main sequence from F to M, to about .1 mag (compare Covey et al. 2007, AJ 134, 2398)."""
STAR_SCATTER = 0.03
STAR_R = (15.0, 17.7)


def broken(images: Images, magnitudes: Magnitudes, seed: int = 0) -> Iterator[tuple[str, Images, Magnitudes]]:
    """Yield what was done, and the galaxies after it.

    Parameters
    ----------
    images : array, shape (N, 5, 32, 32), float32
        Good cutouts [nanomaggy / pixel].
    magnitudes : array, shape (N, 5), float64
        Their magnitudes [mag].
    seed : int
        Chooses bands and noise.
    """
    generator = np.random.default_rng(seed)
    for shift in (1, 2, 3):
        yield f"one band off by {shift} mag", images, _shifted(magnitudes, shift, generator)
    yield "two neighbouring magnitudes swapped", images, _swapped(magnitudes, generator)
    yield "magnitudes in reverse order", images, magnitudes[:, ::-1]
    yield "image bands in reverse order", images[:, ::-1], magnitudes
    yield "image in other units (x 1/1000)", images / np.float32(1000), magnitudes
    yield "image of noise alone", _sky(len(images), generator), magnitudes
    yield "image of another galaxy", np.roll(images, 1, axis=0), magnitudes
    stars = _stars(len(images), generator)
    yield "stars", _points(stars, generator), stars
    yield "stars' colours on galaxies", _recoloured(images, magnitudes, stars), stars


def _shifted(magnitudes: Magnitudes, shift: float, generator: np.random.Generator) -> Magnitudes:
    rows, bands = np.arange(len(magnitudes)), generator.integers(0, 5, len(magnitudes))
    shifted = magnitudes.copy()
    shifted[rows, bands] += shift * generator.choice([-1, 1], len(magnitudes))
    return shifted


def _swapped(magnitudes: Magnitudes, generator: np.random.Generator) -> Magnitudes:
    rows, bands = np.arange(len(magnitudes)), generator.integers(0, 4, len(magnitudes))
    swapped = magnitudes.copy()
    swapped[rows, bands], swapped[rows, bands + 1] = magnitudes[rows, bands + 1], magnitudes[rows, bands]
    return swapped


def _sky(num_rows: int, generator: np.random.Generator) -> Images:
    noise: Images = generator.standard_normal((num_rows, 5, 32, 32), dtype=np.float32)
    noise *= SKY_NOISE[:, None, None]
    return noise


def _stars(num_rows: int, generator: np.random.Generator) -> Magnitudes:
    place, types = generator.uniform(0, len(STAR_COLORS) - 1, num_rows), np.arange(len(STAR_COLORS))
    colors = np.stack([np.interp(place, types, column) for column in STAR_COLORS.T], axis=1)
    colors += STAR_SCATTER * generator.standard_normal(colors.shape)
    r = generator.uniform(*STAR_R, num_rows)
    g, i = r + colors[:, 1], r - colors[:, 2]
    return np.stack([g + colors[:, 0], g, r, i, i - colors[:, 3]], axis=1)


def _points(magnitudes: Magnitudes, generator: np.random.Generator) -> Images:
    """Draw point sources under the seeing of the generator of galaxies."""
    width = SEEING_ARCSEC / 2.3548 / PIXEL_ARCSEC
    squares = np.add.outer(*[(np.arange(32) - 15.5) ** 2] * 2)
    profile = np.exp(-squares / (2 * width**2))
    light = 10 ** (0.4 * (22.5 - magnitudes))[:, :, None, None] * (profile / profile.sum())
    points: Images = light.astype(np.float32) + _sky(len(magnitudes), generator)
    return points


def _recoloured(images: Images, magnitudes: Magnitudes, wanted: Magnitudes) -> Images:
    scale = 10 ** (0.4 * (magnitudes - wanted))
    return (images * scale[:, :, None, None]).astype(np.float32)
