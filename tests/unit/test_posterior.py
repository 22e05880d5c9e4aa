"""A p(z) holds what it says, is small, belongs to its weights, and depends on its own galaxy alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from inference.distributions import distributions
from inference.errors import WeightsError
from inference.posterior import NUM_NUMBERS, PosteriorModel, load_posterior_model, mixture
from inference.pz_metrics import LIMITS_68, LIMITS_95, kolmogorov_smirnov, pit, share_inside
from scripts.models.training import error_model, posterior_model
from scripts.models.training.error_model import Predicted
from scripts.models.training.posterior_model import fit_posterior_model, rescaled, steps_for

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


def test_the_surprise_is_that_of_a_mixture_of_gaussians_cut_off_at_redshift_zero() -> None:
    said = np.random.default_rng(0).normal(0, 1, (3, NUM_NUMBERS))
    said[0, 8:10] = -50, 50  # widths have limits
    dz, lowest = np.array([0.01, -0.02, 0.03]), np.array([-0.1, -0.03, -0.01])

    found = posterior_model._surprise(*(torch.from_numpy(array) for array in (said, dz, lowest)))

    weight = np.exp(said[:, :4]) / np.exp(said[:, :4]).sum(axis=1, keepdims=True)
    gaussians = stats.norm(0.02 * said[:, 4:8], np.clip(0.02 * np.exp(said[:, 8:]), 0.001, 0.5))
    density = (weight * gaussians.pdf(dz[:, None])).sum(axis=1)
    inside = 1 - (weight * gaussians.cdf(lowest[:, None])).sum(axis=1)
    np.testing.assert_allclose(found.numpy(), -np.log(density / inside), rtol=1e-9)


def test_what_lies_below_redshift_zero_almost_wholly_is_not_divided_by_nothing() -> None:
    said = torch.zeros(1, NUM_NUMBERS, dtype=torch.float64)

    (found,) = posterior_model._surprise(said, torch.zeros(1), torch.full((1,), 1.0)).tolist()

    assert found == pytest.approx(np.log(1e-3) - np.log(stats.norm(0, 0.02).pdf(0)))


@pytest.mark.parametrize(
    ("num_galaxies", "num_steps"), [(1, 150), (906, 151), (6_000, 1_000), (24_000, 4_000), (10**6, 4_000)]
)
def test_more_galaxies_teach_distributions_longer(num_galaxies: int, num_steps: int) -> None:
    assert steps_for(num_galaxies) == num_steps


def test_all_distributions_begin_alike() -> None:
    galaxies = draw(50, 9)

    found = fit_posterior_model(galaxies, SHA256, num_steps=0)

    assert found.weights_sha256 == SHA256
    assert [layer.weight.shape for layer in found.layers] == [(6, 32), (32, 32), (32, NUM_NUMBERS)]
    # The start values of the last layer are a tenth of torch's, 1 / sqrt(32) at most.
    assert 0.015 < np.abs(found.layers[-1].weight).max() <= 0.1 / 32**0.5
    assert found.layers[-1].bias.tolist() == [0, 0, 0, 0, 0, -0.5, 0.5, 1, -0.5, 0, 0, 1]
    np.testing.assert_allclose(found.center[0], galaxies.magnitudes[:, 2].mean(), rtol=1e-6)
    np.testing.assert_allclose(found.scale[0], galaxies.magnitudes[:, 2].std(), rtol=1e-6)


def test_a_network_of_distributions_takes_these_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two, written out; batches are drawn with the seed 0, as the start values are."""
    monkeypatch.setattr(posterior_model, "BATCH", 20)
    galaxies, importance = draw(50, 9), np.linspace(0, 3, 50)
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        *(torch.nn.Linear(6, 32), torch.nn.Tanh(), torch.nn.Linear(32, 32), torch.nn.Tanh(), torch.nn.Linear(32, 12))
    )
    begun = fit_posterior_model(galaxies, SHA256, importance=importance, num_steps=0)
    torch.testing.assert_close(network[0].weight, torch.from_numpy(begun.layers[0].weight.T).float())
    for part, layer in zip(network[::2], begun.layers, strict=True):
        part.load_state_dict({"weight": torch.from_numpy(layer.weight.T), "bias": torch.from_numpy(layer.bias)})
    features = posterior_model.error_features(galaxies.magnitudes, galaxies.z_phot)
    x = torch.from_numpy(begun.standardise(features).T).float()
    dz, lowest = ((truth - galaxies.z_phot) / (1 + galaxies.z_phot) for truth in (galaxies.z_spec, 0.0))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(0)

    for rate in (3e-3, 3e-3):
        rows = torch.randint(0, 50, (20,), generator=generator)
        weight = torch.from_numpy(importance).float()[rows]
        told = (torch.from_numpy(array[rows.numpy()]).float() for array in (dz, lowest))
        loss = (weight * posterior_model._surprise(network(x[rows]), *told)).sum() / weight.sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()

    found = fit_posterior_model(galaxies, SHA256, importance=importance, num_steps=2)
    for part, layer in zip(network[::2], found.layers, strict=True):
        np.testing.assert_allclose(layer.weight, part.weight.detach().T, atol=2e-5)
        np.testing.assert_allclose(layer.bias, part.bias.detach(), atol=2e-5)


def test_galaxies_count_by_their_importance_when_all_are_moved(fitted: PosteriorModel) -> None:
    some = draw(300, 7)
    moved = some._replace(z_spec=some.z_spec + 0.02)
    both = Predicted(*(np.concatenate(pair) for pair in zip(some, moved, strict=True)))

    found = rescaled(fitted, both, np.repeat([1.0, 0.0], 300))

    alone = rescaled(fitted, some)
    np.testing.assert_allclose(found.layers[-1].bias, alone.layers[-1].bias, atol=0.02)
    assert found.layers[:-1] == fitted.layers[:-1]
    # One stretch and one shift for all: centres and widths change, weights of the components do not.
    np.testing.assert_array_equal(found.layers[-1].bias[:4], fitted.layers[-1].bias[:4])
    stretch = np.exp(np.unique(np.round(found.layers[-1].bias[8:] - fitted.layers[-1].bias[8:], 5)))
    assert len(stretch) == 1
    np.testing.assert_allclose(
        found.layers[-1].weight, fitted.layers[-1].weight * np.repeat([1, stretch[0], 1], 4), rtol=1e-4
    )
    assert len(np.unique(np.round(found.layers[-1].bias[4:8] - stretch * fitted.layers[-1].bias[4:8], 4))) == 1


def test_sums_are_in_the_order_of_one_thread_and_the_number_of_threads_is_what_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    for module, name in ((posterior_model, "_surprise"), (error_model, "_laplace_loss")):
        original = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *given, original=original: seen.append(torch.get_num_threads()) or original(*given)
        )
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        fit_posterior_model(draw(20, 9), SHA256, num_steps=1)
        assert (seen, torch.get_num_threads()) == ([1], 3)
        monkeypatch.setattr(error_model, "NUM_EPOCHS", 1)
        error_model.fit_error_model(draw(20, 9), draw(20, 9))
        assert (seen, torch.get_num_threads()) == ([1, 1], 3)
    finally:
        torch.set_num_threads(before)
