"""The generator draws the galaxies it drew before: weights and published datasets were made with these very numbers.

The numbers are those of the generator at version 1 (`scripts.data.sample.GENERATOR`) for seed 0: the first eight
real galaxies of the test set, and the synthetic ones 1 to 8. They were the same, to the four decimals written here,
under three settings of OPENBLAS_CORETYPE; the tolerance leaves room for other libraries. Whoever changes the
generator on purpose changes `GENERATOR` and these numbers.
"""

from collections.abc import Iterable

import numpy as np
import pytest

from inference.block import Block
from scripts.simulation.conditions import draw_conditions
from scripts.simulation.cutouts import draw_chances, real_rows, synthetic_rows
from scripts.simulation.population import Population
from scripts.simulation.render import gaussian_mixture, render
from scripts.simulation.sdss import SourceCatalog, load_sources
from scripts.simulation.structure import Structure, apparent_structure, physical_structure

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

# What follows are weighted sums over many galaxies, in which those at the limits of every law are, too.
CONDITIONS = {
    "core_sigma_arcsec": 0.0069825,
    "centre_arcsec": -1.5926,
    "sky_noise": -0.559158,
    "correlation": -0.132406,
    "is_masked": -17.4869,
}
NEIGHBOURS = {
    "row": -1059.86,
    "flux": -553.75,
    "centre_arcsec": -9.10811,
    "disc_radius_arcsec": -7.37159,
    "bulge_radius_arcsec": -7.37159,
    "axis_ratio": 8.51382,
    "angle_rad": -20.1297,
    "bulge_fraction": -0.153987,
}
"""Of 1,000 galaxies."""
PHYSICAL = {
    "disc_radius_arcsec": -186.794,
    "bulge_radius_arcsec": -268.471,
    "axis_ratio": 9.47119,
    "angle_rad": 15.3909,
    "bulge_fraction": 7.20908,
}
APPARENT = {
    "disc_radius_arcsec": 164.543,
    "bulge_radius_arcsec": 259.425,
    "axis_ratio": 5.26797,
    "angle_rad": 13.2723,
    "bulge_fraction": 2.4239,
}
"""With chances three times as wide."""
POPULATION = {
    "redshift": -0.221826,
    "absolute_r": -28.5897,
    "rest_g_minus_r": 9.26777,
    "model_flux": 50321.0,
    "model_flux_error": 12.6146,
    "petrosian_flux": 34976.0,
    "extinction": -4.32071,
    "true model_flux": 50306.0,
    "true model_flux_error": 12.6146,
    "true petrosian_flux": 34920.6,
    "true extinction": -4.32071,
}
"""Of 5,000 synthetic galaxies, measured and true."""
LIGHT_ALIKE = [
    2.35301,
    1.88894,
    0.0243105,
    8.51885,
    0.881848,
    10.4308,
    2.71697,
    1.40244,
    -0.615298,
    1.38153,
    4.8034,
    37.1284,
    0.277444,
    1.02451,
    1.31364,
    -0.606451,
]
LIGHT_VARIED = [
    4.49677,
    3.92854,
    0.125102,
    0.55089,
    2.18397,
    -0.831481,
    -1.07954,
    5.31838,
    13.6899,
    6.83577,
    -0.0538043,
    0.848412,
    6.58032,
    12.811,
    7.14125,
    28.9219,
]
"""Of sixteen real galaxies, without noise; two neighbours and a gap are among the varied ones."""
VARIED = [
    33.2469,
    7.04331,
    16.1649,
    55.2665,
    8.62371,
    -0.625903,
    8.73689,
    -2.73932,
    13.704,
    13.2152,
    27.4153,
    1.89056,
    -2.47489,
    -2.70748,
    8.42885,
    4.26551,
]
"""Of sixteen synthetic galaxies under varied conditions, half of them with the structure of real ones."""


def weighted_sum(values: np.ndarray) -> float:
    """One number in which every value has a weight of its own."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    return float(np.cos(np.arange(flat.size)) @ flat)


def sums(of: object, names: Iterable[str]) -> dict[str, float]:
    return {name: weighted_sum(getattr(of, name)) for name in names}


@pytest.fixture(scope="module")
def sources() -> SourceCatalog:
    return load_sources().of("held_out")


@pytest.fixture(scope="module")
def population(sources: SourceCatalog) -> Population:
    return Population(sources)


def fingerprints(rows: Block) -> np.ndarray:
    """One number per galaxy and band [nanomaggy]."""
    return np.einsum("nbyx,byx->nb", rows.images.astype(np.float64), PATTERN)


def test_real_galaxies_are_drawn_as_before(sources: SourceCatalog) -> None:
    rows = real_rows(sources, slice(0, 8), seed=0)

    assert fingerprints(rows) == pytest.approx(np.array(REAL), abs=2e-3)


def test_structure_of_real_galaxies_is_drawn_as_before(sources: SourceCatalog) -> None:
    photometry = sources.photometry[:8]

    drawn = apparent_structure(photometry, draw_chances(0, photometry.object_id).structure)

    for name, expected in STRUCTURE.items():
        assert getattr(drawn, name) == pytest.approx(expected, abs=2e-5), name


def test_synthetic_galaxies_are_drawn_as_before(population: Population) -> None:
    rows = synthetic_rows(population, np.arange(1, 9), seed=0)

    assert rows.redshifts == pytest.approx(SYNTHETIC_REDSHIFTS, abs=2e-5)
    assert rows.magnitudes[:5, [0, 2]] == pytest.approx(np.array(SYNTHETIC_U_R), abs=2e-4)
    assert fingerprints(rows) == pytest.approx(np.array(SYNTHETIC), abs=2e-3)


def test_conditions_are_drawn_as_before() -> None:
    found = draw_conditions(0, np.arange(1000))

    assert sums(found, CONDITIONS) == pytest.approx(CONDITIONS, rel=1e-4)
    places = sums(found.neighbours, ("row", "flux", "centre_arcsec"))
    assert places | sums(found.neighbours.structure, Structure._fields) == pytest.approx(NEIGHBOURS, rel=1e-4)


def test_the_population_is_drawn_as_before(population: Population) -> None:
    rng = np.random.default_rng(0)

    found = population.draw(np.arange(1, 5001), rng.random((5000, 3)), rng.standard_normal((5000, 5)))

    measured = ("model_flux", "model_flux_error", "petrosian_flux", "extinction")
    true = {f"true {name}": value for name, value in sums(found.true_photometry, measured).items()}
    whole = sums(found, ("redshift", "absolute_r", "rest_g_minus_r")) | sums(found.photometry, measured) | true
    assert whole == pytest.approx(POPULATION, rel=1e-4)


def test_physical_structure_is_drawn_as_before(population: Population) -> None:
    object_id = np.arange(1, 401)
    chances = draw_chances(0, object_id)
    found = population.draw(object_id, chances.uniform, chances.flux)

    shape = physical_structure(
        found.true_photometry, found.absolute_r, found.rest_g_minus_r, found.redshift, 3 * chances.structure
    )
    assert sums(shape, Structure._fields) == pytest.approx(PHYSICAL, rel=1e-4)


def test_the_structure_of_many_real_galaxies_is_drawn_as_before(sources: SourceCatalog) -> None:
    photometry = sources.photometry[:600]

    found = apparent_structure(photometry, 3 * draw_chances(0, photometry.object_id).structure)

    assert sums(found, Structure._fields) == pytest.approx(APPARENT, rel=1e-4)


@pytest.mark.parametrize(("sersic_index", "expected"), [(1.0, (-0.425457, -0.242276)), (4.0, (14.7961, 0.104601))])
def test_a_profile_is_the_same_sum_of_gaussians_as_before(sersic_index: float, expected: tuple[float, float]) -> None:
    variances, weights = gaussian_mixture(sersic_index)

    assert (weighted_sum(variances), weighted_sum(weights)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("is_varied", "expected"), [(False, LIGHT_ALIKE), (True, LIGHT_VARIED)])
def test_the_light_of_real_galaxies_is_as_before(
    is_varied: bool, expected: list[float], sources: SourceCatalog
) -> None:
    few = sources.photometry[:16]
    chances = draw_chances(0, few.object_id)
    conditions = draw_conditions(5, few.object_id) if is_varied else None
    no_noise = np.zeros((16, 5, 32, 32), dtype=np.float32)

    images = render(few, apparent_structure(few, chances.structure), chances.view, no_noise, conditions)

    assert [weighted_sum(image) for image in images] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_varied_galaxies_are_drawn_as_before(population: Population) -> None:
    rows = synthetic_rows(population, np.arange(1, 17), 0, informative_share=0.5, is_varied=True)

    assert [weighted_sum(image) for image in rows.images] == pytest.approx(VARIED, abs=5e-3)
