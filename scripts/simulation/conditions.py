"""What the night, the detector and the neighbourhood do to a cutout, drawn for each galaxy from chance alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.simulation.structure import Structure

PIXEL_ARCSEC = 0.396
SIZE = 32
"""Side of a cutout [pixel]."""
FWHM_OVER_SIGMA = 2.3548

SEEING_ARCSEC = 1.32
"""Median full width at half maximum of the point-spread function in r."""
SEEING_SCATTER = 0.17
"""Of its logarithm: nine of ten SDSS fields are within 1.0 and 1.75 arcsec."""
SEEING_LIMITS_ARCSEC = (0.9, 2.0)

CENTRE_SCATTER_ARCSEC = 0.1
"""Of each coordinate, added to the half pixel that cutting leaves."""
MAX_OFFSET_ARCSEC = 0.6
SKY_NOISE = np.array([0.045, 0.017, 0.028, 0.042, 0.176])
"""Standard deviation of a pixel of SDSS sky in u, g, r, i, z [nanomaggy]."""
SKY_SCATTER = 0.15
"""Of the logarithm of the sky noise in a band: moonlight, airmass, camera column."""
MAX_CORRELATION = 0.2
"""Largest share of the next pixel's noise in a pixel; splines onto a common grid leave a correlation of .1 to .2."""

NEIGHBOURS_PER_CUTOUT = 0.3
"""Galaxies and stars within 12.7 arcsec of a galaxy, to r = 22.5."""
MAX_NEIGHBOURS = 3
FAINTEST_NEIGHBOUR_R = 22.5
BRIGHTEST_NEIGHBOUR_R = 15.5
COUNT_SLOPE = 0.42
"""Numbers grow as 10 to the power of this times the magnitude (Yasuda et al. 2001, AJ 122, 1104)."""
STAR_SHARE = 0.4
NEAREST_NEIGHBOUR_ARCSEC = 2.5
"""Closer ones are one object to the survey's deblender."""
NEIGHBOUR_COLORS = np.array([1.4, 0.7, 0.35, 0.2])
"""Mean u-g, g-r, r-i, i-z [mag]."""
NEIGHBOUR_COLOR_SCATTER = np.array([0.5, 0.35, 0.15, 0.12])

EDGE_SHARE = 0.02
"""Cutouts with a row or column beyond the edge of a field, in all bands."""
TRAIL_SHARE = 0.03
"""Cutouts of which one band lacks up to eight rows or columns at a side."""


@dataclass(frozen=True)
class Neighbours:
    """M objects that are in the cutouts of others."""

    row: NDArray[np.intp]
    """Galaxy in whose cutout each is, ascending, shape (M,)."""

    flux: NDArray[np.float64]
    """Shape (M, 5) [nanomaggy]."""

    structure: Structure

    centre_arcsec: NDArray[np.float64]
    """Place from the middle of the cutout, shape (M, 2)."""


@dataclass(frozen=True)
class Conditions:
    """How N galaxies were observed."""

    core_sigma_arcsec: NDArray[np.float64]
    """Standard deviation of the core of the point-spread function, shape (N, 1)."""

    centre_arcsec: NDArray[np.float64]
    """Place of the galaxy from the middle of the cutout, shape (N, 2)."""

    sky_noise: NDArray[np.float32]
    """Standard deviation of the sky in one pixel, shape (N, 5) [nanomaggy]."""

    correlation: NDArray[np.float32]
    """Share of the noise of the next pixel in each, shape (N,)."""

    neighbours: Neighbours

    is_masked: NDArray[np.bool_]
    """Pixels without a measurement, shape (N, 5, 32, 32)."""

    def correlate(self, noise: NDArray[np.float32], rows: slice) -> NDArray[np.float32]:
        """Smear white noise of unit variance over neighbouring pixels; the variance stays: (n, 5, 32, 32)."""
        share = self.correlation[rows, None, None, None]
        for axis in (2, 3):
            noise = noise + share * np.roll(noise, 1, axis=axis)
        return noise / (1 + share**2)


def draw_conditions(seed: int, object_id: NDArray[np.int64]) -> Conditions:
    """Draw how galaxies were observed from the pairs (seed, object_id) alone: no galaxy's light or redshift enters.

    Parameters
    ----------
    seed : int
        Another seed is another night.
    object_id : array, shape (N,), int64
        Identifiers of the galaxies.
    """
    n = len(object_id)
    normal, uniform = np.empty((n, _NUM_NORMAL)), np.empty((n, _NUM_UNIFORM))
    for row, identifier in enumerate(object_id.tolist()):
        # A stream of its own: the numbers of `draw_chances` stay what they are without conditions.
        generator = np.random.default_rng((seed, identifier, _STREAM))
        generator.standard_normal(out=normal[row])
        generator.random(out=uniform[row])
    seeing = np.clip(SEEING_ARCSEC * np.exp(SEEING_SCATTER * normal[:, :1]), *SEEING_LIMITS_ARCSEC)
    offset = np.clip(CENTRE_SCATTER_ARCSEC * normal[:, 1:3], -MAX_OFFSET_ARCSEC, MAX_OFFSET_ARCSEC)
    return Conditions(
        core_sigma_arcsec=seeing / FWHM_OVER_SIGMA,
        centre_arcsec=(uniform[:, :2] - 0.5) * PIXEL_ARCSEC + offset,
        sky_noise=(SKY_NOISE * np.exp(SKY_SCATTER * normal[:, 3:8])).astype(np.float32),
        correlation=(MAX_CORRELATION * uniform[:, 2]).astype(np.float32),
        neighbours=_neighbours(uniform[:, 3:15], normal[:, 8:]),
        is_masked=_masks(uniform[:, 15:]),
    )


_STREAM = 2
_NUM_NORMAL = 8 + 4 * MAX_NEIGHBOURS
_NUM_UNIFORM = 15 + 4 + 3


def _neighbours(uniform: NDArray[np.float64], normal: NDArray[np.float64]) -> Neighbours:
    """Place faint objects at random: (N, 12) and (N, 12) chance numbers, four of each for every possible one."""
    chances = uniform.reshape(-1, MAX_NEIGHBOURS, 4)
    is_there = chances[:, :, 0] < NEIGHBOURS_PER_CUTOUT / MAX_NEIGHBOURS
    row, slot = np.nonzero(is_there)
    place, brightness, kind = chances[row, slot, 1], chances[row, slot, 2], chances[row, slot, 3]
    # The number that said yes is uniform below its limit: it says where along x.
    x = chances[row, slot, 0] / (NEIGHBOURS_PER_CUTOUT / MAX_NEIGHBOURS)
    centre = (np.stack([x, place], axis=1) - 0.5) * SIZE * PIXEL_ARCSEC
    distance = np.linalg.norm(centre, axis=1, keepdims=True)
    centre *= np.maximum(1, NEAREST_NEIGHBOUR_ARCSEC / np.maximum(distance, 1e-6))
    r = np.maximum(FAINTEST_NEIGHBOUR_R + np.log10(brightness + 1e-9) / COUNT_SLOPE, BRIGHTEST_NEIGHBOUR_R)
    is_star = kind < STAR_SHARE
    shape = (kind - STAR_SHARE) / (1 - STAR_SHARE)
    colors = NEIGHBOUR_COLORS + NEIGHBOUR_COLOR_SCATTER * normal.reshape(-1, MAX_NEIGHBOURS, 4)[row, slot]
    g, i = r + colors[:, 1], r - colors[:, 2]
    magnitudes = np.stack([g + colors[:, 0], g, r, i, i - colors[:, 3]], axis=1)
    radius = np.where(is_star, 0.02, 10 ** (0.25 - 0.13 * (r - 18)))
    return Neighbours(
        row=row,
        flux=10 ** (0.4 * (22.5 - magnitudes)),
        structure=Structure(
            disc_radius_arcsec=radius,
            bulge_radius_arcsec=radius,
            axis_ratio=np.where(is_star, 1.0, 0.3 + 0.7 * np.abs(shape)),
            angle_rad=shape * 1e3 % np.pi,
            bulge_fraction=np.full(len(row), 0.3),
        ),
        centre_arcsec=centre,
    )


def _masks(uniform: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Take pixels away at a side: (N, 7) chance numbers to (N, 5, 32, 32)."""
    is_masked = np.zeros((len(uniform), 5, SIZE, SIZE), dtype=bool)
    edge, edge_side, trail, trail_side, band, width, _ = uniform.T
    for row in np.flatnonzero(edge < EDGE_SHARE):
        _strip(is_masked[row], edge_side[row], 1)
    for row in np.flatnonzero(trail < TRAIL_SHARE):
        _strip(is_masked[row, int(5 * band[row])][None], trail_side[row], 1 + int(7 * width[row]))
    return is_masked


def _strip(is_masked: NDArray[np.bool_], side: float, width: int) -> None:
    strip = slice(0, width) if side % 0.5 < 0.25 else slice(SIZE - width, SIZE)
    if side < 0.5:
        is_masked[:, strip] = True
    else:
        is_masked[:, :, strip] = True
