"""Images hold the right light, depend on the seed alone, and never on a real galaxy's redshift."""

from dataclasses import fields, replace

import numpy as np
import pytest

from scripts.simulation import cutouts, render, sed, structure
from scripts.simulation.cutouts import draw_chances, real_images, real_rows, synthetic_rows
from scripts.simulation.photometry import Photometry
from scripts.simulation.population import Population
from scripts.simulation.render import gaussian_mixture
from scripts.simulation.sdss import SourceCatalog, load_sources
from scripts.simulation.structure import Structure


@pytest.fixture(scope="module")
def sources() -> SourceCatalog:
    return load_sources().of("held_out")


@pytest.fixture(scope="module")
def population(sources: SourceCatalog) -> Population:
    return Population(sources)


def make_photometry(*, num: int = 1, flux: float = 100.0) -> Photometry:
    fluxes = np.full((num, 5), flux)
    return Photometry(np.arange(1, num + 1), fluxes, fluxes * 0.01, fluxes, np.zeros((num, 5)))


def make_structure(*, radius: float = 1.0, ratio: float = 1.0, bulge: float = 0.5) -> Structure:
    return Structure(*(np.array([value]) for value in (radius, radius, ratio, 0.0, bulge)))


def render_without_noise(photometry: Photometry, shape: Structure) -> np.ndarray:
    return render.render(photometry, shape, np.zeros((1, 3)), np.zeros((1, 5, 32, 32), dtype=np.float32))


def test_redshift_of_real_galaxies_never_reaches_the_pixels(sources: SourceCatalog) -> None:
    shuffled = replace(sources, redshift=np.random.default_rng(1).permutation(sources.redshift))

    honest, blind = real_rows(sources, slice(0, 40), seed=0), real_rows(shuffled, slice(0, 40), seed=0)

    assert not np.array_equal(honest.redshifts, blind.redshifts)
    assert np.array_equal(honest.images, blind.images)
    assert np.array_equal(honest.magnitudes, blind.magnitudes)


def test_photometry_has_no_redshift() -> None:
    assert not [field.name for field in fields(Photometry) if "z" in field.name or "redshift" in field.name]


def test_real_image_is_a_function_of_galaxy_and_seed(sources: SourceCatalog) -> None:
    together = real_images(sources.photometry[:5], seed=0)
    alone = real_images(sources.photometry[3:4], seed=0)

    # Blocks of other sizes round their matrix products differently.
    np.testing.assert_allclose(together[3:4], alone, rtol=1e-4, atol=1e-4)


def test_another_seed_gives_another_image(sources: SourceCatalog) -> None:
    photometry = sources.photometry[:1]

    assert not np.array_equal(real_images(photometry, seed=0), real_images(photometry, seed=1))


def test_synthetic_galaxy_is_a_function_of_identifier_and_seed(population: Population) -> None:
    together = synthetic_rows(population, np.arange(1, 9), seed=4)
    alone = synthetic_rows(population, np.array([6]), seed=4)

    assert together.redshifts[5] == alone.redshifts[0]
    np.testing.assert_allclose(together.magnitudes[5], alone.magnitudes[0], atol=1e-9)
    np.testing.assert_allclose(together.images[5], alone.images[0], rtol=1e-4, atol=1e-4)


def test_synthetic_galaxies_look_like_a_survey(population: Population) -> None:
    rows = synthetic_rows(population, np.arange(1, 2_001), seed=0)

    assert np.isfinite(rows.images).all()
    assert np.all(rows.redshifts > 0)
    assert 0.10 < np.median(rows.redshifts) < 0.16
    assert 0.07 < rows.redshifts.std() < 0.14
    assert 16.5 < np.median(rows.magnitudes[:, 2]) < 17.8


def test_uninformative_structure_changes_only_the_image(population: Population) -> None:
    identifiers = np.arange(1, 30)
    physical = synthetic_rows(population, identifiers, seed=0)
    blind = synthetic_rows(population, identifiers, seed=0, informative_share=0.0)

    assert np.array_equal(physical.magnitudes, blind.magnitudes)
    assert np.array_equal(physical.redshifts, blind.redshifts)
    assert not np.allclose(physical.images, blind.images)


def test_image_holds_the_flux_of_the_galaxy() -> None:
    image = render_without_noise(make_photometry(flux=100.0), make_structure(radius=0.8, bulge=0.01))

    # A disc of 0.8 arcsec is inside the cutout of 12.7 arcsec but for the wings of the seeing.
    assert image.sum(axis=(2, 3)) == pytest.approx(np.full((1, 5), 100.0), rel=0.02)


def test_petrosian_flux_is_the_light_in_the_image() -> None:
    photometry = make_photometry(flux=100.0)
    fainter = replace(photometry, petrosian_flux=photometry.model_flux * 0.8)
    shape = make_structure()

    ratio = render_without_noise(fainter, shape).sum() / render_without_noise(photometry, shape).sum()

    assert ratio == pytest.approx(0.8, rel=1e-3)


def test_flat_galaxy_is_flat() -> None:
    image = render_without_noise(make_photometry(), make_structure(radius=2.5, ratio=0.3, bulge=0.01))[0, 2]
    offset = np.arange(32) - 15.5
    along_x, along_y = (image.sum(axis=axis) @ offset**2 for axis in (0, 1))

    assert along_x > 2 * along_y


def test_noise_of_an_empty_cutout_is_the_sky() -> None:
    photometry = make_photometry(num=4, flux=1e-3)
    shape = Structure(*(np.full(4, value) for value in (1.0, 1.0, 0.7, 0.0, 0.5)))
    noise = np.random.default_rng(0).standard_normal((4, 5, 32, 32), dtype=np.float32)

    images = render.render(photometry, shape, np.zeros((4, 3)), noise)

    assert images.std(axis=(0, 2, 3)) == pytest.approx(render.SKY_NOISE, rel=0.05)


@pytest.mark.parametrize("sersic_index", [1.0, 4.0])
def test_gaussian_mixture_has_its_half_light_radius(sersic_index: float) -> None:
    variances, weights = gaussian_mixture(sersic_index)

    inside = np.sum(weights * (1 - np.exp(-0.5 / variances)))

    assert weights.sum() == pytest.approx(1)
    # The mixture ends at about eight half-light radii, as images do.
    assert inside == pytest.approx(0.5, abs=0.03)


def test_apparent_structure_follows_the_measured_profile() -> None:
    photometry = make_photometry(num=1)
    concentrated = replace(photometry, petrosian_flux=photometry.model_flux * 0.85)
    chances = np.zeros((1, structure.NUM_CHANCES))

    exponential = structure.apparent_structure(photometry, chances)
    de_vaucouleurs = structure.apparent_structure(concentrated, chances)

    assert de_vaucouleurs.bulge_fraction > exponential.bulge_fraction


def test_farther_galaxy_of_the_same_kind_is_smaller() -> None:
    photometry, chances = make_photometry(num=2), np.zeros((2, structure.NUM_CHANCES))
    same = np.array([-21.5, -21.5]), np.array([0.65, 0.65])

    shape = structure.physical_structure(photometry, *same, np.array([0.05, 0.2]), chances)

    assert shape.disc_radius_arcsec[0] > 2 * shape.disc_radius_arcsec[1]


def test_chances_of_a_galaxy_do_not_depend_on_its_neighbours() -> None:
    several, single = draw_chances(3, np.array([7, 8, 9])), draw_chances(3, np.array([8]))

    assert all(
        np.array_equal(getattr(several, field.name)[1], getattr(single, field.name)[0])
        for field in fields(cutouts.Chances)
    )


def test_templates_reach_to_the_highest_redshift_and_from_the_lowest() -> None:
    coefficients = np.ones((4, 5))
    step = sed.MAX_REDSHIFT / (sed.NUM_REDSHIFTS - 1)

    first, second, before, last = sed.fluxes(
        np.array([0, step, sed.MAX_REDSHIFT - step, sed.MAX_REDSHIFT]), coefficients
    )
    between = sed.fluxes(np.array([step / 2, sed.MAX_REDSHIFT - step / 2]), coefficients[:2])

    assert between == pytest.approx(np.array([(first + second) / 2, (before + last) / 2]))
