"""Blocks of galaxies: photometry in, images, magnitudes and redshifts out, each galaxy a function of its seed alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.block import Block
from scripts.simulation import population, render, structure
from scripts.simulation.conditions import SIZE, Conditions, draw_conditions
from scripts.simulation.photometry import Photometry
from scripts.simulation.population import Population
from scripts.simulation.sdss import SourceCatalog
from scripts.simulation.structure import Structure, apparent_structure, physical_structure


@dataclass(frozen=True)
class Chances:
    """Random numbers of N galaxies, each galaxy's drawn from a generator of its own.

    So the same galaxy comes out whatever block, shard or process it is made in.
    """

    uniform: NDArray[np.float64]
    flux: NDArray[np.float64]
    structure: NDArray[np.float64]
    view: NDArray[np.float64]
    pixels: NDArray[np.float32]


def draw_chances(seed: int, object_id: NDArray[np.int64]) -> Chances:
    """Draw every random number of some galaxies from the pairs (seed, object_id)."""
    n = len(object_id)
    chances = Chances(
        uniform=np.empty((n, population.NUM_UNIFORM)),
        flux=np.empty((n, population.NUM_NORMAL)),
        structure=np.empty((n, structure.NUM_CHANCES)),
        view=np.empty((n, render.NUM_CHANCES)),
        pixels=np.empty((n, 5, SIZE, SIZE), dtype=np.float32),
    )
    for row, identifier in enumerate(object_id.tolist()):
        generator = np.random.default_rng((seed, identifier))
        generator.random(out=chances.uniform[row])
        for normal in (chances.flux, chances.structure, chances.view):
            generator.standard_normal(out=normal[row])
        generator.standard_normal(out=chances.pixels[row], dtype=np.float32)
    return chances


def real_images(
    photometry: Photometry, seed: int, *, structure_of: Photometry | None = None, is_varied: bool = False
) -> NDArray[np.float32]:
    """Render real galaxies from their photometry and chance; no redshift comes in, so none can come out.

    Parameters
    ----------
    photometry : Photometry
        N real galaxies.
    seed : int
        Another seed gives the same galaxies another plausible structure and other noise.
    structure_of : Photometry, optional
        N galaxies whose structure is borrowed, for a test of what structure is worth.
    is_varied : bool
        Observe each galaxy under conditions of its own (`conditions.py`).

    Returns
    -------
    array, shape (N, 5, 32, 32), float32
        Cutouts [nanomaggy / pixel].
    """
    chances = draw_chances(seed, photometry.object_id)
    shape = apparent_structure(photometry if structure_of is None else structure_of, chances.structure)
    return render.render(photometry, shape, chances.view, chances.pixels, _conditions(seed, photometry, is_varied))


def _conditions(seed: int, photometry: Photometry, is_varied: bool) -> Conditions | None:
    return draw_conditions(seed, photometry.object_id) if is_varied else None


def real_rows(sources: SourceCatalog, rows: slice, seed: int) -> Block:
    """Render real galaxies and put their measured magnitudes and redshifts next to the images."""
    photometry = sources.photometry[rows]
    return Block(
        images=real_images(photometry, seed),
        magnitudes=photometry.magnitudes,
        redshifts=sources.redshift[rows],
        object_id=photometry.object_id,
    )


def synthetic_rows(
    source: Population,
    object_id: NDArray[np.int64],
    seed: int,
    *,
    informative_share: float = 1.0,
    is_varied: bool = False,
) -> Block:
    """Make synthetic galaxies whose size follows from their luminosity and distance.

    Parameters
    ----------
    source : Population
        Where they come from.
    object_id : array, shape (N,), int64
        Their identifiers; together with the seed they decide everything.
    seed : int
        Seed of the dataset.
    informative_share : float
        Share of the galaxies with physical structure; the rest get the structure of a real row, made from photometry
        and chance. Training uses less than 1, so that the network does not rely on structure where it says nothing.
    is_varied : bool
        Observe each galaxy under conditions of its own (`conditions.py`).
    """
    chances = draw_chances(seed, object_id)
    galaxies = source.draw(object_id, chances.uniform, chances.flux)
    physical = physical_structure(
        galaxies.true_photometry, galaxies.absolute_r, galaxies.rest_g_minus_r, galaxies.redshift, chances.structure
    )
    apparent = apparent_structure(galaxies.photometry, chances.structure)
    # The fractional part of a number that decides nothing else here serves as one more uniform number.
    is_physical = chances.uniform[:, 2] * 1e6 % 1 < informative_share
    shape = Structure(*(np.where(is_physical, a, b) for a, b in zip(physical, apparent, strict=True)))
    return Block(
        images=render.render(
            galaxies.true_photometry,
            shape,
            chances.view,
            chances.pixels,
            _conditions(seed, galaxies.true_photometry, is_varied),
        ),
        magnitudes=galaxies.photometry.magnitudes,
        redshifts=galaxies.redshift,
        object_id=object_id,
    )
