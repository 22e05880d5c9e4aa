"""A p(z) holds what it says, is small, belongs to its weights, and depends on its own galaxy alone."""

from pathlib import Path

import numpy as np
import pytest

from inference.errors import WeightsError
from inference.posterior import (
    NUM_NUMBERS,
    PosteriorModel,
    crps,
    cumulative,
    density,
    load_posterior_model,
    quantile,
    radius,
)
from scripts.models.training.error_model import Predicted
from scripts.models.training.posterior_model import fit_posterior_model

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
    return fit_posterior_model(draw(6_000, 1), SHA256, num_steps=1_500)


@pytest.fixture(scope="module")
def single() -> np.ndarray:
    """One Gaussian far from 0, in four equal parts."""
    return np.tile(np.repeat([0.25, 0.3, 0.02], 4), (3, 1)).astype(np.float32)


def test_true_redshifts_are_evenly_spread_over_the_percentiles(fitted: PosteriorModel) -> None:
    new = draw(5_000, 2)

    transform = np.sort(cumulative(fitted.posteriors(new.magnitudes, new.z_phot), new.z_spec))

    distance = np.abs(transform - (np.arange(5_000) + 0.5) / 5_000).max()
    # A uniform sample of this size has .019 in one of twenty cases.
    assert distance < 0.03


@pytest.mark.parametrize("is_bright", [True, False])
def test_intervals_cover_bright_and_faint(fitted: PosteriorModel, is_bright: bool) -> None:
    new = draw(8_000, 3)
    rows = (new.magnitudes[:, 2] < 17) == is_bright
    z_phot, z_spec = new.z_phot[rows].astype(float), new.z_spec[rows]
    posteriors = fitted.posteriors(new.magnitudes[rows], new.z_phot[rows])

    for share in (0.68, 0.95):
        inside = np.abs(z_spec - z_phot) <= radius(posteriors, z_phot, share)

        assert inside.mean() == pytest.approx(share, abs=0.025)


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


def test_a_gaussian_is_read_as_one(single: np.ndarray) -> None:
    assert quantile(single, 0.5) == pytest.approx(np.full(3, 0.3), abs=1e-6)
    assert quantile(single, 0.8413447) == pytest.approx(np.full(3, 0.32), abs=1e-5)
    assert radius(single, np.full(3, 0.3), 0.6826895) == pytest.approx(np.full(3, 0.02), abs=1e-5)
    # Of a normal distribution seen at its middle: (sqrt(2) - 1) / sqrt(pi) widths.
    assert crps(single, np.full(3, 0.3)) == pytest.approx(np.full(3, 0.02 * 0.233695), rel=1e-3)
    assert cumulative(single, np.array([0.26, 0.3, 0.34])) == pytest.approx([0.02275, 0.5, 0.97725], abs=1e-5)


def test_no_probability_is_at_negative_redshift() -> None:
    near = np.repeat([0.25, 0.01, 0.02], 4)[None].astype(np.float32)
    z = np.linspace(-0.05, 0.2, 2_001)[None]

    assert (density(near, z)[z < 0] == 0).all()
    assert np.trapezoid(density(near, z), z)[0] == pytest.approx(1, abs=1e-2)
    assert cumulative(near, np.array([0.0]))[0] == 0
    assert quantile(near, 0.01)[0] > 0


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
