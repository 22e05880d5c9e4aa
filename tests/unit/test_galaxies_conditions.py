"""Nights differ, neighbours and gaps appear, and none of it knows the galaxy."""

from dataclasses import replace

import numpy as np
import pytest

from scripts.simulation import conditions
from scripts.simulation.conditions import SKY_NOISE, Conditions, draw_conditions
from scripts.simulation.photometry import Photometry
from scripts.simulation.render import render
from scripts.simulation.sdss import load_sources
from scripts.simulation.structure import (
    NUM_CHANCES,
    Structure,
    apparent_structure,
    typical_petrosian_minus_model,
)

NUM = 2_000


@pytest.fixture(scope="module")
def drawn() -> Conditions:
    return draw_conditions(1, np.arange(NUM))


def render_empty(found: Conditions, *, flux: float = 1e-3) -> np.ndarray:
    num = len(found.correlation)
    fluxes = np.full((num, 5), flux)
    photometry = Photometry(np.arange(num), fluxes, 0.01 * fluxes, fluxes, np.zeros((num, 5)))
    shape = Structure(*(np.full(num, value) for value in (1.0, 1.0, 0.7, 0.0, 0.5)))
    noise = np.random.default_rng(0).standard_normal((num, 5, 32, 32), dtype=np.float32)
    return render(photometry, shape, np.zeros((num, 3)), noise, found)


def quiet(found: Conditions) -> Conditions:
    """The same without neighbours and gaps."""
    none = np.zeros(0, dtype=np.intp)
    neighbours = replace(
        found.neighbours,
        row=none,
        flux=found.neighbours.flux[none],
        structure=Structure(*(field[none] for field in found.neighbours.structure)),
        centre_arcsec=found.neighbours.centre_arcsec[none],
    )
    return replace(found, neighbours=neighbours, is_masked=np.zeros_like(found.is_masked))


def test_seeing_is_that_of_survey_nights(drawn: Conditions) -> None:
    fwhm = 2.3548 * drawn.core_sigma_arcsec[:, 0]

    assert 0.9 - 1e-9 <= fwhm.min() < 1.0
    assert 1.75 < fwhm.max() <= 2.0 + 1e-9
    assert np.median(fwhm) == pytest.approx(1.32, abs=0.02)


def test_noise_of_neighbouring_pixels_goes_together_and_keeps_its_variance(drawn: Conditions) -> None:
    found = quiet(replace(drawn, correlation=np.full(NUM, 0.2, dtype=np.float32)))

    images = render_empty(found)[:200]

    scaled = images / found.sky_noise[:200, :, None, None]
    assert scaled.std() == pytest.approx(1, abs=0.01)
    for next_one in (np.roll(scaled, 1, axis=2), np.roll(scaled, 1, axis=3)):
        # One share of the next pixel's noise: 0.2 / (1 + 0.2²).
        assert (scaled * next_one).mean() == pytest.approx(0.192, abs=0.01)


def test_sky_is_darker_on_some_nights(drawn: Conditions) -> None:
    logarithm = np.log(drawn.sky_noise / SKY_NOISE)

    assert logarithm.std() == pytest.approx(conditions.SKY_SCATTER, rel=0.05)
    assert logarithm.mean() == pytest.approx(0, abs=0.01)


def test_neighbours_are_as_many_as_the_sky_has_and_none_hides_the_galaxy(drawn: Conditions) -> None:
    found = drawn.neighbours
    r = 22.5 - 2.5 * np.log10(found.flux[:, 2])

    assert len(found.row) / NUM == pytest.approx(conditions.NEIGHBOURS_PER_CUTOUT, rel=0.1)
    assert np.hypot(*found.centre_arcsec.T).min() >= conditions.NEAREST_NEIGHBOUR_ARCSEC - 1e-9
    # Ten times as many per 2.4 mag.
    assert np.mean(r < 22.5 - 1 / conditions.COUNT_SLOPE) == pytest.approx(0.1, abs=0.03)
    assert (np.diff(found.row) >= 0).all()


def test_neighbour_is_in_the_cutout_of_its_galaxy_and_in_no_other(drawn: Conditions) -> None:
    calm = quiet(drawn)
    bright = replace(drawn, is_masked=calm.is_masked)
    few = slice(0, 300)

    added = (render_empty(bright) - render_empty(calm))[few, 2].sum(axis=(1, 2))

    rows = drawn.neighbours.row
    expected = np.zeros(NUM)
    np.add.at(expected, rows, drawn.neighbours.flux[:, 2])
    has_none = expected[few] == 0
    assert (added[has_none] == 0).all()
    assert np.corrcoef(added[~has_none], expected[few][~has_none])[0, 1] > 0.8


def test_few_cutouts_have_gaps_never_in_the_middle_and_never_too_many_to_be_read(drawn: Conditions) -> None:
    share = drawn.is_masked.mean(axis=(1, 2, 3))

    assert (share > 0).mean() == pytest.approx(conditions.EDGE_SHARE + conditions.TRAIL_SHARE, abs=0.015)
    assert share.max() < 0.1
    assert not drawn.is_masked[:, :, 12:20, 12:20].any()
    assert (render_empty(drawn)[drawn.is_masked] == 0).all()


def test_conditions_of_a_galaxy_depend_on_itself_and_the_seed_alone(drawn: Conditions) -> None:
    alone, other = draw_conditions(1, np.array([7])), draw_conditions(2, np.array([7]))

    for name in ("core_sigma_arcsec", "centre_arcsec", "sky_noise", "correlation", "is_masked"):
        assert np.array_equal(getattr(alone, name)[0], getattr(drawn, name)[7]), name
    assert alone.core_sigma_arcsec != other.core_sigma_arcsec


def test_typical_petrosian_difference_is_that_of_galaxies_it_was_not_fitted_to() -> None:
    photometry = load_sources().of("held_out").photometry
    magnitudes, measured = photometry.magnitudes, photometry.petrosian_minus_model

    left = measured - typical_petrosian_minus_model(magnitudes)

    assert np.median(left, axis=0) == pytest.approx(np.zeros(5), abs=0.01)
    is_blue = magnitudes[:, 1] - magnitudes[:, 2] < 0.7
    assert np.median(left[is_blue], axis=0) == pytest.approx(np.zeros(5), abs=0.02)


def test_typical_petrosian_difference_says_nothing_new_about_the_profile() -> None:
    photometry = load_sources().of("held_out").photometry[:50]
    magnitudes = photometry.magnitudes + np.array([0, 0, 9.0, 0, 0])

    far, farther = (typical_petrosian_minus_model(magnitudes + more) for more in (0, 5))

    # Beyond the galaxies of the fit, the law stays at its limit.
    assert np.array_equal(far, farther)
    shape = apparent_structure(photometry, np.zeros((50, NUM_CHANCES)))
    assert np.isfinite(shape.bulge_fraction).all()
