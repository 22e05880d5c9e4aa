"""The generator draws the galaxies it drew before: weights and published datasets were made with these very numbers.

The numbers are those of the generator at version 1 (`scripts.data.sample.GENERATOR`) for seed 0: the first eight
real galaxies of the test set, and the synthetic ones 1 to 8. They were the same, to the four decimals written here,
under three settings of OPENBLAS_CORETYPE; the tolerance leaves room for other libraries. Whoever changes the
generator on purpose changes `GENERATOR` and these numbers.
"""

import numpy as np
import pytest

from inference.block import Block
from scripts.simulation.cutouts import draw_chances, real_rows, synthetic_rows
from scripts.simulation.population import Population
from scripts.simulation.sdss import load_sources
from scripts.simulation.structure import apparent_structure

PATTERN = np.cos(np.arange(5 * 32 * 32)).reshape(5, 32, 32)
"""Every pixel counts in the sum over an image weighted with this."""

REAL = [
    [1.5436, 0.8868, -0.1519, 2.9288, 0.8895],
    [0.0006, 0.1451, 0.9953, 0.3143, -1.1796],
    [-0.5929, -0.4784, 0.4008, -0.5746, 0.0152],
    [0.6077, 1.265, 2.0852, 2.3072, 1.483],
    [0.3879, -0.2068, 1.6042, -0.935, -3.6267],
    [0.9568, 0.9544, 1.7732, 3.502, 0.2333],
    [2.2798, 0.6842, -0.0755, 2.2248, 7.7942],
    [-0.1066, -0.6149, 0.547, 0.6445, -1.937],
]
SYNTHETIC = [
    [-0.0022, 3.2405, 5.6301, 5.6494, 11.1072],
    [0.3236, -0.5857, 1.898, 1.5589, 3.2193],
    [1.1118, 1.1951, 3.7897, -0.156, 0.2307],
    [-0.0108, 0.4188, 1.1371, -1.2102, -1.9116],
    [-0.2032, 3.5483, 9.0474, 13.1313, 7.7986],
    [1.1663, 0.342, 1.1468, -1.3482, -2.4618],
    [0.4589, -0.1671, 0.4916, -0.2419, 6.4372],
    [1.0803, 3.933, 6.0397, 5.3224, 8.1852],
]
SYNTHETIC_REDSHIFTS = [0.13409, 0.46548, 0.11329, 0.13174, 0.1242, 0.09827, 0.39525, 0.0959]
SYNTHETIC_U_R = [[19.7777, 17.5638], [21.7912, 18.7687], [19.5293, 16.7781], [20.131, 16.927], [20.09, 16.9889]]
STRUCTURE = {
    "disc_radius_arcsec": [2.52344, 1.91125, 4.49895, 1.40629, 4.77768, 3.76975, 4.87413, 2.02289],
    "bulge_radius_arcsec": [2.83221, 3.48699, 8.17812, 1.94829, 10.64674, 6.72189, 9.14458, 4.41708],
    "axis_ratio": [0.3638, 0.60438, 0.75324, 0.93928, 0.31202, 0.82325, 0.93934, 0.71477],
    "angle_rad": [1.11575, 1.01512, 0.56193, 2.86636, 1.10894, 0.12186, 2.45513, 0.37741],
    "bulge_fraction": [0.20587, 0.03985, 0.75409, 0.30615, 0.93292, 0.81071, 0.41, 0.1861],
}
"""Of the eight real galaxies."""


def fingerprints(rows: Block) -> np.ndarray:
    """One number per galaxy and band [nanomaggy]."""
    return np.einsum("nbyx,byx->nb", rows.images.astype(np.float64), PATTERN)


def test_real_galaxies_are_drawn_as_before() -> None:
    rows = real_rows(load_sources().of("held_out"), slice(0, 8), seed=0)

    assert fingerprints(rows) == pytest.approx(np.array(REAL), abs=2e-3)


def test_structure_of_real_galaxies_is_drawn_as_before() -> None:
    photometry = load_sources().of("held_out").photometry[:8]

    drawn = apparent_structure(photometry, draw_chances(0, photometry.object_id).structure)

    for name, expected in STRUCTURE.items():
        assert getattr(drawn, name) == pytest.approx(expected, abs=2e-5), name


def test_synthetic_galaxies_are_drawn_as_before() -> None:
    rows = synthetic_rows(Population(load_sources().of("held_out")), np.arange(1, 9), seed=0)

    assert rows.redshifts == pytest.approx(SYNTHETIC_REDSHIFTS, abs=2e-5)
    assert rows.magnitudes[:5, [0, 2]] == pytest.approx(np.array(SYNTHETIC_U_R), abs=2e-4)
    assert fingerprints(rows) == pytest.approx(np.array(SYNTHETIC), abs=2e-3)
