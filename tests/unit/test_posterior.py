"""A p(z) holds what it says, is small, belongs to its weights, and depends on its own galaxy alone."""

from pathlib import Path

import numpy as np
import pytest

from inference.distributions import distributions
from inference.errors import WeightsError
from inference.posterior import NUM_NUMBERS, PosteriorModel, load_posterior_model, mixture
from inference.pz_metrics import LIMITS_68, LIMITS_95, kolmogorov_smirnov, pit, share_inside
from scripts.models.training.error_model import Predicted
from scripts.models.training.posterior_model import fit_posterior_model, rescaled

SHA256 = "a" * 64


def draw(num_rows: int, seed: int) -> Predicted:
    """Redshifts with errors that grow fourfold with r, have a tail on one side, and never reach below 0."""
    generator = np.random.default_rng(seed)
    r = generator.uniform(14, 20, num_rows)
    z_spec = generator.uniform(0.01, 0.4, num_rows)
    width = 0.006 * 10 ** ((r - 14) / 10)
    skewed = generator.standard_normal(num_rows) + np.where(generator.random(num_rows) < 0.15, 3, 0)
    z_phot = z_spec + width * skewed
    magnitudes = r[:, None] + generator.normal(size=(num_rows, 5)) * [1, 1, 0, 1, 1]
    return Predicted(magnitudes, z_phot.astype(np.float32), z_spec)


@pytest.fixture(scope="module")
def fitted() -> PosteriorModel:
    return fit_posterior_model(draw(6_000, 1), SHA256, num_steps=700)


def pit_of(model: PosteriorModel, galaxies: Predicted) -> np.ndarray:
    return pit(distributions(model.posteriors(galaxies.magnitudes, galaxies.z_phot)), galaxies.z_spec)


def test_true_redshifts_are_evenly_spread_over_the_percentiles(fitted: PosteriorModel) -> None:
    # A uniform sample of this size has .019 in one of twenty cases.
    assert kolmogorov_smirnov(pit_of(fitted, draw(5_000, 2))) < 0.03


@pytest.mark.parametrize("is_bright", [True, False])
def test_intervals_cover_bright_and_faint(fitted: PosteriorModel, is_bright: bool) -> None:
    new = draw(8_000, 3)

    transform = pit_of(fitted, new)[(new.magnitudes[:, 2] < 17) == is_bright]

    assert share_inside(transform, LIMITS_68) == pytest.approx(0.68, abs=0.025)
    assert share_inside(transform, LIMITS_95) == pytest.approx(0.95, abs=0.025)


def test_distributions_are_stretched_and_moved_to_galaxies_that_nothing_was_fitted_to(fitted: PosteriorModel) -> None:
    untouched, new = draw(700, 7), draw(4_000, 8)

    def worse(galaxies: Predicted) -> Predicted:
        """Errors 1.4 times as large, and a bias."""
        error = 1.4 * (galaxies.z_spec - galaxies.z_phot) + 0.004
        return galaxies._replace(z_spec=np.maximum(galaxies.z_phot + error, 0.0))

    again = rescaled(fitted, worse(untouched))

    assert kolmogorov_smirnov(pit_of(fitted, worse(new))) > 0.12
    # 700 galaxies settle the two numbers to some percent of the width.
    assert kolmogorov_smirnov(pit_of(again, worse(new))) < 0.05


def test_what_the_network_says_is_in_units_of_the_expected_error() -> None:
    said = np.zeros((12, 3))
    said[0, 0], said[4:8, 1], said[8:10, 2] = np.log(3) + 700, 1.0, (-50.0, 50.0)
    said[1:4, 0] = 700

    found = mixture(said, np.array([0.0, 0.25, 1.0]))

    np.testing.assert_allclose(found[:4], [[0.5, 0.25, 0.25], *[[1 / 6, 0.25, 0.25]] * 3])
    np.testing.assert_allclose(found[4:8], [[0.0, 0.275, 1.0]] * 4)
    np.testing.assert_allclose(found[8:, :2], [[0.02, 0.025]] * 4)
    np.testing.assert_allclose(found[8:, 2], [0.002, 1.0, 0.04, 0.04])


def test_a_galaxy_takes_48_bytes(fitted: PosteriorModel) -> None:
    new = draw(10, 4)

    posteriors = fitted.posteriors(new.magnitudes, new.z_phot)

    assert (posteriors.shape, posteriors.dtype, posteriors[0].nbytes) == ((10, NUM_NUMBERS), np.float32, 48)
    assert posteriors[:, :4].sum(axis=1) == pytest.approx(np.ones(10), abs=1e-6)
    assert (posteriors[:, 8:] > 0).all()


def test_one_galaxy_alone_gets_the_bits_it_gets_among_others(fitted: PosteriorModel) -> None:
    new = draw(65, 5)
    together = fitted.posteriors(new.magnitudes, new.z_phot)

    for row in range(65):
        one = slice(row, row + 1)
        assert fitted.posteriors(new.magnitudes[one], new.z_phot[one]).tobytes() == together[one].tobytes()


def test_file_gives_the_same_bits_again(fitted: PosteriorModel, tmp_path: Path) -> None:
    path = tmp_path / "posterior.safetensors"
    path.write_bytes(fitted.to_bytes())
    new = draw(20, 6)

    found = load_posterior_model(path, SHA256)

    assert found.posteriors(new.magnitudes, new.z_phot).tobytes() == (
        fitted.posteriors(new.magnitudes, new.z_phot).tobytes()
    )


def test_distributions_of_other_weights_are_refused(fitted: PosteriorModel, tmp_path: Path) -> None:
    path = tmp_path / "posterior.safetensors"
    with pytest.raises(WeightsError, match="does not exist"):
        load_posterior_model(path, SHA256)
    path.write_bytes(fitted.to_bytes())

    with pytest.raises(WeightsError, match="made for the weights aaaaaaaaaaaa and these are bbbbbbbbbbbb"):
        load_posterior_model(path, "b" * 64)
    path.write_bytes(b"hello")
    with pytest.raises(WeightsError, match="holds no distributions"):
        load_posterior_model(path, SHA256)
