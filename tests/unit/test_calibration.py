"""A sigma covers what it says, galaxies out of domain are found, and neither is ever taken from other weights."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture

from inference.block import Block, join
from inference.calibration import calibration_path, find_calibration, load_calibration
from inference.checksum import file_sha256
from inference.contract import PzAccuracy
from inference.domain import DomainModel, domain_features
from inference.errors import WeightsError
from inference.models import read_model, shipped
from inference.models.card import DomainLimits
from inference.models.card import Measured as Number
from inference.pipeline import Predictions
from inference.uncertainty import MAX_FEATURE, ErrorModel, FeatureNetwork, Layer, conformal_factor, error_features
from scripts.models.card_text import card_text, pz_table, write_card
from scripts.models.training import broken_rows, error_model
from scripts.models.training import calibrate as calibrate_module
from scripts.models.training.broken_rows import STAR_COLORS, STAR_SCATTER, broken
from scripts.models.training.calibrate import Measured, Samples, _add_to_card, _parts, _weights, calibrate, measure
from scripts.models.training.domain_model import fit_domain_model
from scripts.models.training.error_model import Predicted, fit_error_model, fit_error_model_by_folds
from scripts.models.training.recipe import FULL
from scripts.models.training.rows import TrainingRows
from scripts.simulation.conditions import PIXEL_ARCSEC
from scripts.simulation.render import SEEING_ARCSEC, SKY_NOISE
from tests.factories import FakeEngine, make_arrays, make_calibration, make_posterior


def draw_predicted(num_rows: int, seed: int) -> Predicted:
    """Redshifts whose Gaussian error grows tenfold from r = 14 to r = 20."""
    generator = np.random.default_rng(seed)
    r = generator.uniform(14, 20, num_rows)
    z_spec = generator.uniform(0.05, 0.3, num_rows)
    z_phot = z_spec + 0.003 * 10 ** ((r - 14) / 6) * generator.standard_normal(num_rows)
    return Predicted(
        r[:, None] + generator.normal(size=(num_rows, 5)) * [1, 1, 0, 1, 1], z_phot.astype(np.float32), z_spec
    )


# ------------------------------------------------------------------------------------------------- sigma


def test_the_conformal_factor_is_the_score_of_the_published_rank() -> None:
    scores = np.arange(9.0, 0.0, -1.0)

    # ceil(10 · .68) = 7, ceil(10 · .95) = 10: more than there are.
    assert conformal_factor(scores, 0.68) == 7.0
    assert conformal_factor(scores, 0.95) == 9.0


def test_sigma_is_the_expected_dz_times_one_plus_z_and_the_factor() -> None:
    layers = (Layer(np.zeros((6, 1)), np.log([0.02])),)
    model = ErrorModel(np.zeros(6), np.ones(6), layers, factor_68=1.5, factor_95=4.5)
    z_phot = np.array([0.0, 0.25], np.float32)

    assert model.sigma(np.full((2, 5), 17.0), z_phot).tolist() == pytest.approx([0.03, 0.0375])
    assert model.sigma(np.full((2, 5), 17.0), z_phot).dtype == np.float32
    assert model.ratio_95 == 3.0


def test_an_error_depends_on_r_the_colours_and_the_redshift_each_within_4_of_its_scatters() -> None:
    features = error_features(np.array([[20.0, 18.5, 17.5, 17.0, 16.75]]), np.array([0.25]))
    assert features[:, 0].tolist() == [17.5, 1.5, 1.0, 0.5, 0.25, 0.25]

    network = FeatureNetwork(np.array([17.0, 1.0]), np.array([0.5, 2.0]), ())
    given = np.array([[17.0, 18.9, 99.0, 10.0], [1.0, 8.9, 9.1, -99.0]])
    np.testing.assert_allclose(network.standardise(given), [[0, 3.8, 4, -4], [0, 3.95, 4, -4]])


def test_intervals_cover_new_galaxies_bright_and_faint() -> None:
    model = fit_error_model(draw_predicted(1_500, seed=1), draw_predicted(1_000, seed=2))

    new = draw_predicted(4_000, seed=3)
    error, sigma = np.abs(new.z_phot - new.z_spec), model.sigma(new.magnitudes, new.z_phot)

    # 1,000 calibrating galaxies leave 1.5 % of scatter.
    assert np.mean(error <= sigma) == pytest.approx(0.68, abs=0.04)
    assert np.mean(error <= model.ratio_95 * sigma) == pytest.approx(0.95, abs=0.02)
    is_bright = new.magnitudes[:, 2] < 16
    assert np.mean((error <= sigma)[is_bright]) == pytest.approx(0.68, abs=0.08)
    assert np.mean((error <= sigma)[~is_bright]) == pytest.approx(0.68, abs=0.08)
    assert np.median(sigma[~is_bright]) > 2 * np.median(sigma[is_bright])


def test_intervals_cover_new_galaxies_where_all_have_been_used() -> None:
    galaxies = draw_predicted(600, seed=4)
    model = fit_error_model_by_folds(galaxies, np.arange(600) % 4)

    new = draw_predicted(4_000, seed=5)
    error, sigma = np.abs(new.z_phot - new.z_spec), model.sigma(new.magnitudes, new.z_phot)

    # 600 calibrating galaxies leave 2 % of scatter.
    assert np.mean(error <= sigma) == pytest.approx(0.68, abs=0.05)
    assert np.mean(error <= model.ratio_95 * sigma) == pytest.approx(0.95, abs=0.025)


def test_the_shape_of_the_errors_begins_as_their_mean_and_takes_these_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of two batches of a Laplace likelihood, written out."""
    monkeypatch.setattr(error_model, "NUM_EPOCHS", 1)
    monkeypatch.setattr(error_model, "BATCH", 20)
    galaxies = draw_predicted(50, 1)
    features = error_features(galaxies.magnitudes, galaxies.z_phot)
    error = np.abs(galaxies.z_phot - galaxies.z_spec) / (1 + galaxies.z_phot)
    center, scale = features.mean(axis=1), features.std(axis=1)
    x = torch.from_numpy(FeatureNetwork(center, scale, ()).standardise(features).T).float()
    y = torch.from_numpy(error).float()
    torch.manual_seed(0)
    layers = [torch.nn.Linear(6, 32), torch.nn.Tanh(), torch.nn.Linear(32, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1)]
    network = torch.nn.Sequential(*layers)
    with torch.no_grad():
        network[4].weight *= 0.1
        network[4].bias.fill_(np.log(error.mean()))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    for rows in torch.randperm(50).chunk(2):
        said = network(x[rows]).squeeze(1)
        optimizer.zero_grad()
        (said + y[rows] / said.exp()).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    found = fit_error_model(galaxies, galaxies)

    for part, layer in zip(network[::2], found.layers, strict=True):
        np.testing.assert_allclose(layer.weight, part.weight.detach().T, atol=2e-5)
        np.testing.assert_allclose(layer.bias, part.bias.detach(), atol=2e-5)
    np.testing.assert_allclose(found.center, center, rtol=1e-6)
    np.testing.assert_allclose(found.scale, scale, rtol=1e-6)
    scores = np.abs(galaxies.z_phot - galaxies.z_spec) / found.expected_error(galaxies.magnitudes, galaxies.z_phot)
    assert (found.factor_68, found.factor_95) == (conformal_factor(scores, 0.68), conformal_factor(scores, 0.95))


def test_far_outside_its_features_the_error_model_does_not_extrapolate() -> None:
    errors = make_calibration().errors
    far, farther = (np.array([[m, m, m, m, m]]) + 0.5 * np.arange(2, -3, -1) for m in (17 + MAX_FEATURE, 29.0))

    np.testing.assert_array_equal(
        errors.sigma(far, np.array([0.1], dtype=np.float32)), errors.sigma(farther, np.array([0.1], dtype=np.float32))
    )


# ------------------------------------------------------------------------------------------------ domain


def galaxies(num_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Round galaxies whose images hold the light that their magnitudes imply."""
    generator = np.random.default_rng(seed)
    magnitudes = generator.uniform(15, 18, num_rows)[:, None] + np.array([1.6, 0.7, 0.0, -0.3, -0.5])
    magnitudes = magnitudes + 0.05 * generator.standard_normal(magnitudes.shape)
    squares = np.add.outer(*[(np.arange(32) - 15.5) ** 2] * 2)
    profile = np.exp(-squares / (2 * generator.uniform(2, 3, num_rows)[:, None, None, None] ** 2))
    light = 10 ** (0.4 * (22.5 - magnitudes))[:, :, None, None] * profile / profile.sum(axis=(2, 3), keepdims=True)
    return light.astype(np.float32), magnitudes


def test_the_domain_is_a_mixture_of_eight_gaussians_of_the_standardised_features() -> None:
    taught, untouched = (domain_features(*galaxies(300, seed)) for seed in (1, 2))

    model = fit_domain_model(taught, untouched)

    np.testing.assert_allclose(model.center, taught.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(model.scale, taught.std(axis=1), rtol=1e-6)
    expected = GaussianMixture(8, reg_covar=1e-3, max_iter=200, random_state=0)
    expected.fit(((taught - model.center[:, None]) / model.scale[:, None]).T)
    standardised = ((untouched - model.center[:, None]) / model.scale[:, None]).T
    # Up to the constant of eleven dimensions.
    density = expected.score_samples(standardised) + 5.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(model.log_density(untouched), density, rtol=1e-4, atol=1e-3)
    assert model.threshold == np.quantile(model.log_density(untouched), 0.01)


def test_few_untouched_galaxies_are_outside_and_broken_ones_are() -> None:
    model = fit_domain_model(domain_features(*galaxies(500, 1)), domain_features(*galaxies(500, 2)))

    images, magnitudes = galaxies(200, 3)
    outside = {what: model.is_outside(*rows).mean() for what, *rows in broken(images, magnitudes)}

    assert model.is_outside(images, magnitudes).mean() < 0.05
    assert model.is_outside(*galaxies(500, 2)).sum() == pytest.approx(5, abs=1), "1 % of those that set the threshold"
    for what in ("one band off by 1 mag", "image of noise alone", "image in other units (x 1/1000)", "stars"):
        assert outside[what] > 0.95, what


@pytest.mark.parametrize(
    ("row", "column", "is_light", "is_core"),
    [(8, 23, True, False), (7, 15, False, False), (15, 24, False, False), (12, 19, True, True), (20, 15, True, False)],
)
def test_the_features_compare_the_central_light_with_the_magnitudes(
    row: int, column: int, is_light: bool, is_core: bool
) -> None:
    images = np.zeros((1, 5, 32, 32), dtype=np.float32)
    images[0, :, row, column] = 1000.0
    magnitudes = np.array([[19.0, 17.5, 17.0, 16.5, 16.25]])
    light, core = 1000.0 * is_light, 1000.0 * is_core

    features = domain_features(images, magnitudes)[:, 0]

    noise = np.array([0.045, 0.017, 0.028, 0.042, 0.176])
    expected = 10 ** ((22.5 - magnitudes[0]) / 2.5)
    excess = np.arcsinh(light / (32 * noise)) - np.arcsinh(expected / (32 * noise))
    concentration = np.arcsinh(core / (16 * noise[2])) - np.arcsinh(light / (16 * noise[2]))
    np.testing.assert_allclose(features, [17.0, 1.5, 0.5, 0.5, 0.25, *excess, concentration], rtol=1e-12)


def test_the_square_and_the_core_in_which_light_is_measured_are_those_of_the_model() -> None:
    images = np.zeros((1, 5, 32, 32), dtype=np.float32)
    images[0, :, 13, 13] = images[0, :, 16, 16] = 1000.0
    magnitudes = np.full((1, 5), 17.0)
    limits = DomainLimits(aperture_px=4, core_px=2, sky_noise=(1.0, 2.0, 3.0, 4.0, 5.0))

    features = domain_features(images, magnitudes, limits)[:, 0]

    noise = np.arange(1.0, 6)
    excess = np.arcsinh(1000 / (8 * noise)) - np.arcsinh(10**2.2 / (8 * noise))
    np.testing.assert_allclose(features, [17, 0, 0, 0, 0, *excess, 0], rtol=1e-6, atol=1e-9)
    assert len(domain_features(images[:, :, :0, :0], magnitudes)) == 5


def test_the_density_is_that_of_the_mixture_of_gaussians_up_to_a_constant() -> None:
    generator = np.random.default_rng(0)
    weight, mean, features = np.array([0.3, 0.7]), generator.normal(size=(2, 11)), generator.normal(size=(11, 6))
    whitening = np.triu(0.3 * generator.normal(size=(2, 11, 11))) + np.eye(11)
    center, scale = generator.normal(size=11), generator.uniform(1, 2, 11)
    log_weight = np.log(weight) + np.linalg.slogdet(whitening)[1]

    model = DomainModel(center, scale, log_weight, mean, whitening, threshold=0.0)

    standardised = (features.T - center) / scale
    gaussians = [
        stats.multivariate_normal(one, np.linalg.inv(white @ white.T))
        for one, white in zip(mean, whitening, strict=True)
    ]
    density = sum(w * gaussian.pdf(standardised) for w, gaussian in zip(weight, gaussians, strict=True))
    np.testing.assert_allclose(model.log_density(features), np.log(density) + 5.5 * np.log(2 * np.pi))


def test_galaxies_are_broken_as_the_table_says() -> None:
    images, magnitudes = galaxies(200, 3)
    done = {what: (changed.copy(), photometry.copy()) for what, changed, photometry in broken(images, magnitudes)}

    for shift in (1, 2, 3):
        moved = done[f"one band off by {shift} mag"][1] - magnitudes
        assert ((moved != 0).sum(axis=1) == 1).all()
        np.testing.assert_allclose(np.abs(moved[moved != 0]), shift)
        assert 0.2 < (moved[moved != 0] > 0).mean() < 0.8
    swapped = done["two neighbouring magnitudes swapped"][1]
    assert ((swapped != magnitudes).sum(axis=1) == 2).all()
    np.testing.assert_array_equal(np.sort(swapped), np.sort(magnitudes))
    np.testing.assert_array_equal(done["image bands in reverse order"][0][:, 0], images[:, 4])
    np.testing.assert_array_equal(done["image of another galaxy"][0][1], images[0])
    # 200,000 pixels per band.
    np.testing.assert_allclose(done["image of noise alone"][0].std(axis=(0, 2, 3)), SKY_NOISE, rtol=0.02)


def test_stars_have_the_colours_and_the_light_of_stars() -> None:
    done = {what: changed for what, *changed in broken(*galaxies(200, 3))}
    images, magnitudes = done["stars"]

    g_minus_r, r = magnitudes[:, 1] - magnitudes[:, 2], magnitudes[:, 2]
    assert ((r >= 15) & (r <= 17.7)).all()
    assert ((magnitudes[:, 0] - magnitudes[:, 1] > 0.8) & (g_minus_r > 0.05) & (g_minus_r < 1.6)).all()
    from_locus = magnitudes[:, 0] - magnitudes[:, 1] - np.interp(g_minus_r, STAR_COLORS[:, 1], STAR_COLORS[:, 0])
    assert 0.5 * STAR_SCATTER < from_locus.std() < 5 * STAR_SCATTER
    light = images[:, 2].sum(axis=(1, 2))
    np.testing.assert_allclose(light, 10 ** (0.4 * (22.5 - r)), rtol=0.1)
    # Most of it within the seeing.
    assert (images[:, 2, 12:20, 12:20].sum(axis=(1, 2)) > 0.9 * light).all()
    np.testing.assert_array_equal(done["stars' colours on galaxies"][1], magnitudes)
    recoloured = done["stars' colours on galaxies"][0].sum(axis=(2, 3))
    np.testing.assert_allclose(recoloured, 10 ** (0.4 * (22.5 - magnitudes)), rtol=1e-3)


def test_broken_galaxies_are_the_same_in_every_calibration() -> None:
    """Of the seed 0; the arithmetic of what was done, written out."""
    images, magnitudes = galaxies(50, 3)
    done = {what: changed for what, *changed in broken(images, magnitudes)}

    assert list(done) == [
        *(f"one band off by {shift} mag" for shift in (1, 2, 3)),
        *("two neighbouring magnitudes swapped", "magnitudes in reverse order", "image bands in reverse order"),
        *("image in other units (x 1/1000)", "image of noise alone", "image of another galaxy"),
        *("stars", "stars' colours on galaxies"),
    ]
    np.testing.assert_array_equal(done["magnitudes in reverse order"][1], magnitudes[:, [4, 3, 2, 1, 0]])
    np.testing.assert_allclose(done["image in other units (x 1/1000)"][0], images / 1000, rtol=1e-6)
    generator = np.random.default_rng(0)
    bands, signs = generator.integers(0, 5, 50), generator.choice([-1, 1], 50)
    np.testing.assert_allclose(done["one band off by 1 mag"][1], magnitudes + np.eye(5)[bands] * signs[:, None])
    # The profile of a star is a Gaussian of the seeing, 1.4 arcsec across at half of its height, in pixels of .396.
    bright = np.full((1, 5), 10.0)
    star = broken_rows._points(bright, np.random.default_rng(1))[0, 2]
    half_width = SEEING_ARCSEC / 2 / PIXEL_ARCSEC
    squares = np.add.outer(*[(np.arange(32) - 15.5) ** 2] * 2)
    expected = 0.5 ** (squares / half_width**2)
    np.testing.assert_allclose(star / star.sum(), expected / expected.sum(), atol=1e-4)
    assert star.sum() == pytest.approx(1e5, rel=1e-3)


def test_the_colours_of_stars_run_along_the_main_sequence() -> None:
    stars = broken_rows._stars(20_000, np.random.default_rng(0))

    u_g, g_r, r_i, i_z = (stars[:, :-1] - stars[:, 1:]).T
    r = stars[:, 2]
    assert (r.min(), r.max()) == (pytest.approx(15.0, abs=0.01), pytest.approx(17.7, abs=0.01))
    # Covey et al. 2007, AJ 134, 2398: the bluest and the reddest ends, and the mean of a line between six points.
    for color, column in zip((u_g, g_r, r_i, i_z), STAR_COLORS.T, strict=True):
        assert color.mean() == pytest.approx((column.sum() - (column[0] + column[-1]) / 2) / 6, abs=0.01)
        assert color.min() > column.min() - 5 * STAR_SCATTER
        assert color.max() < column.max() + 5 * STAR_SCATTER
    assert STAR_COLORS.round(2).tolist() == [
        [1.0, 0.2, 0.05, 0.0],
        [1.1, 0.35, 0.11, 0.02],
        [1.4, 0.5, 0.17, 0.05],
        [2.0, 0.8, 0.29, 0.15],
        [2.5, 1.2, 0.5, 0.27],
        [2.6, 1.4, 0.8, 0.45],
        [2.7, 1.45, 1.3, 0.72],
    ]


def test_a_density_that_is_no_number_is_outside() -> None:
    images, magnitudes = galaxies(3, 0)
    images[1] = np.float32(3e38)

    with np.errstate(all="ignore"):
        assert make_calibration(threshold=-np.inf).domain.is_outside(images, magnitudes)[1]


def test_a_galaxy_as_likely_as_the_threshold_is_inside() -> None:
    arrays = make_arrays(5)
    likely = make_calibration().domain.log_density(domain_features(arrays["images"], arrays["magnitudes"]))

    domain = make_calibration(threshold=float(likely[2])).domain

    assert domain.is_outside(arrays["images"], arrays["magnitudes"]).tolist() == (likely < likely[2]).tolist()


def test_one_galaxy_alone_gets_the_bits_it_gets_among_others() -> None:
    arrays = make_arrays(65)
    calibration = make_calibration()
    z_phot = arrays["redshifts"].astype(np.float32)

    sigma = calibration.errors.sigma(arrays["magnitudes"], z_phot)
    density = calibration.domain.log_density(domain_features(arrays["images"], arrays["magnitudes"]))

    for row in range(65):
        one = slice(row, row + 1)
        alone = domain_features(arrays["images"][one], arrays["magnitudes"][one])
        assert calibration.errors.sigma(arrays["magnitudes"][one], z_phot[one])[0] == sigma[row]
        assert calibration.domain.log_density(alone)[0] == density[row]


# -------------------------------------------------------------------------------------------------- file


def test_a_calibration_survives_its_file_as_float32_and_gives_the_same_bytes_again(tmp_path: Path) -> None:
    path = tmp_path / "calibration.safetensors"
    path.write_bytes(make_calibration().to_bytes())

    found = load_calibration(path, "0" * 64)

    assert found.to_bytes() == make_calibration().to_bytes() == path.read_bytes()
    assert found.errors.factor_95 == make_calibration().errors.factor_95
    np.testing.assert_allclose(found.domain.whitening, make_calibration().domain.whitening, rtol=1e-7)
    assert len(found.errors.layers) == 2


def test_the_calibration_of_other_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calibration.safetensors"
    path.write_bytes(make_calibration(weights_sha256="a" * 64).to_bytes())

    with pytest.raises(WeightsError, match="made for the weights aaaaaaaaaaaa and these are bbbbbbbbbbbb; `make cal"):
        load_calibration(path, "b" * 64)


@pytest.mark.parametrize("content", [None, b"", b"hello", make_calibration().to_bytes()[:-1]])
def test_a_file_that_is_missing_or_none_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "calibration.safetensors"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(WeightsError, match=r"calibration.safetensors (does not exist|is not a calib).*make calib"):
        load_calibration(path, "0" * 64)


def test_only_a_network_without_a_sigma_of_its_own_lacks_a_calibration(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"

    found, why = find_calibration(weights, "0" * 64)
    assert found is None
    assert str(why).startswith("No sigma, no p(z) and no OUT_OF_DOMAIN flags: calibration.safetensors does not exist")
    assert find_calibration(weights, "0" * 64, needs_one=False) == (None, None)
    calibration_path(weights).write_bytes(make_calibration().to_bytes())
    for needs_one in (True, False):
        found, why = find_calibration(weights, "0" * 64, needs_one=needs_one)
        assert (found is not None, why) == (True, None)
        found, why = find_calibration(weights, "b" * 64, needs_one=needs_one)
        assert (found, "made for the weights 000000000000" in str(why)) == (None, True)


def test_p_z_comes_with_the_calibration_where_its_file_is_there(tmp_path: Path) -> None:
    path = tmp_path / "calibration.safetensors"
    path.write_bytes(make_calibration().to_bytes())
    without = load_calibration(path, "0" * 64)
    (tmp_path / "posterior.safetensors").write_bytes(make_posterior().to_bytes())

    found = load_calibration(path, "0" * 64)

    assert without.posterior is None
    assert found.posterior is not None
    assert found.posterior.to_bytes() == make_posterior().to_bytes()


def test_the_p_z_of_other_weights_is_refused_and_said(tmp_path: Path) -> None:
    path = tmp_path / "calibration.safetensors"
    path.write_bytes(make_calibration().to_bytes())
    (tmp_path / "posterior.safetensors").write_bytes(make_posterior(weights_sha256="b" * 64).to_bytes())

    calibration, note = find_calibration(path, "0" * 64)

    assert calibration is None
    assert note == (
        "No sigma, no p(z) and no OUT_OF_DOMAIN flags: posterior.safetensors was made for the weights bbbbbbbbbbbb and "
        "these are 000000000000."
    )


def test_the_shipped_calibration_belongs_to_the_shipped_weights() -> None:
    calibration = load_calibration(calibration_path(shipped().weights), file_sha256(shipped().weights))

    assert calibration.errors.ratio_95 > 1
    assert calibration.posterior is not None


def test_the_shipped_card_and_calibration_say_the_same_of_p_z() -> None:
    report = (shipped().folder / "CALIBRATION.md").read_text()

    measured = {one.rows: one.pz for one in shipped().card.knowledge.numbers if one.pz}

    assert {"real, test set", "simulated, test sources"} < set(measured)
    for row in pz_table(measured).splitlines():
        assert row in report
        assert row in card_text(shipped().card)


# ----------------------------------------------------------------------------------------------- command


class RoughEngine(FakeEngine):
    """Knows the redshift that `make_block` hides in the r magnitude, but for an error that u tells."""

    def predict(self, images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
        return (magnitudes[:, 2] / 100 + 0.01 * np.sin(1e4 * magnitudes[:, 0])).astype(np.float32)


def make_block(num_rows: int, seed: int) -> Block:
    images, magnitudes = galaxies(num_rows, seed)
    return Block(images, magnitudes, magnitudes[:, 2] / 100, np.arange(num_rows))


def test_catalogues_count_alike_but_no_galaxy_for_more_than_three() -> None:
    def rows(num_real: int, num_all: int) -> TrainingRows:
        return TrainingRows(torch.zeros(num_all, 0), torch.zeros(num_all, 5), torch.zeros(num_all), num_real)

    weights = _weights([rows(40, 50), rows(80, 80), rows(4, 4)])

    assert weights.tolist() == [2.0] * 40 + [1.0] * 10 + [1.0] * 80 + [3.0] * 4


def test_calibrating_twice_gives_the_same_file_and_measures_held_out_galaxies() -> None:
    samples = Samples(make_block(200, 1), make_block(150, 2), {"real": make_block(150, 3)})

    calibration, again = (calibrate(RoughEngine(), samples) for _ in range(2))
    measured = measure(calibration, RoughEngine(), samples.tests)

    assert calibration.to_bytes() == again.to_bytes()
    assert calibration.posterior is not None
    assert again.posterior is not None
    assert calibration.posterior.to_bytes() == again.posterior.to_bytes()
    assert calibration.posterior.weights_sha256 == RoughEngine.weights_sha256
    assert measured.pz["real"].num_galaxies == 150
    # r tells the redshift and the engine's error of .006 with it: p(z) gets as narrow as it may.
    assert measured.pz["real"].crps < 1e-3
    assert "| real | 150 |" in measured.to_table()
    assert calibration.weights_sha256 == RoughEngine.weights_sha256
    assert measured.coverage["real"][0] == 150
    assert measured.coverage["real"][1] == pytest.approx(0.68, abs=0.2)
    assert sum(count for name, (count, *_) in measured.coverage.items() if "< r <" in name) == 150
    assert measured.coverage["real, 0.1 < z_phot < 0.2"][0] > 100
    assert (measured.numbers["real"].num_rows, measured.numbers["real"].nmad_95 is not None) == (150, True)
    assert "| one band off by 3 mag | 100.0 | 100.0 |" in measured.to_table()


PZ = PzAccuracy(
    num_galaxies=9, ks=0.01, cvm=0.1, ad=0.1, crps=0.1, cde_loss=0.1, coverage_68=0.1, coverage_95=0.1, pit_counts=(1,)
)


def test_shares_are_in_percent_with_their_standard_errors() -> None:
    measured = Measured(
        pz={"real": PZ},
        coverage={"real": (10_000, 0.68, 0.95, 0.0123), "few": (100, 0.5, 1.0, 0.0)},
        numbers={},
        flagged={"nothing": (0.0123, 0.0456)},
    )

    assert measured.to_table().splitlines() == [
        *pz_table({"real": PZ}).splitlines(),
        "",
        "| rows | N | within ± sigma [%] | within the 95 % interval [%] | out of domain [%] |",
        "|---|---|---|---|---|",
        "| real | 10,000 | 68.0 ± 0.5 | 95.0 ± 0.2 | 1.2 ± 0.1 |",
        "| few | 100 | 50.0 ± 5.0 | 100.0 ± 0.0 | 0.0 ± 0.0 |",
        "",
        "| real galaxies of the test set after | out of domain [%] | any flag [%] |",
        "|---|---|---|",
        "| nothing | 1.2 | 4.6 |",
    ]


def test_thirds_by_r_and_ranges_of_redshift_are_measured_where_they_have_enough_galaxies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calibrate_module, "FEWEST", 3)
    num = 9
    z_phot = np.array([0.0, 0.05, 0.0999, 0.1, 0.15, 0.3, 0.3, 0.3, 0.5], np.float32)
    magnitudes = np.zeros((num, 5))
    magnitudes[:, 2] = [17, 16, 15, 18, 19, 20, 21, 22, 23]
    found = Predictions(np.arange(num), z_phot, z_phot, np.zeros(num, np.uint8), z_phot.astype(float))
    block = Block(np.zeros((num, 5, 1, 1), np.float32), magnitudes, z_phot.astype(float), np.arange(num))

    parts = [(name, part.object_id.tolist()) for name, part in _parts(found, block)]

    assert parts == [
        ("15.0 < r < 17.7", [0, 1, 2]),
        ("17.7 < r < 20.3", [3, 4, 5]),
        ("20.3 < r < 23.0", [6, 7, 8]),
        ("0 < z_phot < 0.1", [0, 1, 2]),
        ("0.3 < z_phot < 0.5", [5, 6, 7]),
    ]


def test_what_is_measured_comes_into_the_card_next_to_what_it_said(tmp_path: Path) -> None:
    card = shipped().card
    before = Number(rows="real", num_rows=9, nmad=0.5, coverage_68=0.1, coverage_95=0.2)
    other = Number(rows="elsewhere", num_rows=9, nmad=0.25, coverage_68=0.3, pz=PZ)
    knowledge = msgspec.structs.replace(card.knowledge, numbers=(before, other), missed=("all",))
    write_card(tmp_path, msgspec.structs.replace(card, knowledge=knowledge))
    (tmp_path / card.weights_name).touch()
    new = Number(rows="new", num_rows=9, nmad=0.1)

    _add_to_card(
        tmp_path,
        Measured(
            pz={"real": PZ},
            coverage={"real": (1_000, 0.68, 0.9, 0.0), "new, bright": (9, 0.6, 0.9, 0.0)},
            numbers={"real": msgspec.structs.replace(before, nmad=0.9), "new": new},
            flagged={},
        ),
    )

    known = read_model(tmp_path).card.knowledge
    replaced = msgspec.structs.replace(before, pz=PZ, coverage_68=0.68, coverage_95=0.9)
    assert known.numbers == (replaced, other, new)
    assert known.missed == ("real: 90.0 ± 0.7 % inside the interval of 95 %, the goal is within 3",)


def test_the_galaxies_of_a_calibration_are_those_that_may_be_used_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def rows_of(value: float, num: int = 2, num_real: int = 1) -> TrainingRows:
        return TrainingRows(torch.zeros(num, 5, 1, 1), torch.zeros(num, 5), torch.full((num,), value), num_real)

    for name, value in {
        "training_rows": lambda recipe: asked.update(fresh=recipe) or rows_of(1),
        "selection_rows": lambda recipe: asked.update(chosen=recipe) or rows_of(2),
        "real_test_rows": lambda at_most: asked.update(at_most=at_most) or rows_of(3),
        "synthetic_test_rows": lambda recipe: rows_of(4),
        "catalogues": lambda part, surveys, seed: [
            SimpleNamespace(render=lambda: rows_of(5 if part == "train" else 6, 3, 3)),
            SimpleNamespace(render=lambda: rows_of(seed, 6, 6)),
        ],
    }.items():
        monkeypatch.setattr(calibrate_module, name, value)
    recipe = replace(FULL, seed=9, renderings=4, num_synthetic=7_000, num_test_real=11)

    of_sample = calibrate_module.gather(recipe)

    assert asked["fresh"] == replace(recipe, seed=509, renderings=1, num_synthetic=6_000)
    assert (asked["chosen"], asked["at_most"], of_sample.domain) == (recipe, 11, None)
    assert (of_sample.taught.redshifts.tolist(), of_sample.untouched.redshifts.tolist()) == ([1, 1], [2, 2])
    assert {name: block.redshifts[0] for name, block in of_sample.tests.items()} == {
        "real, test set": 3,
        "simulated, test sources": 4,
    }
    calibrate_module.gather(replace(recipe, num_synthetic=5))
    assert asked["fresh"].num_synthetic == 5

    survey: Any = SimpleNamespace(
        tests="their tests", rendered=lambda part, seed: rows_of({"held_out": 7}[part] + seed)
    )
    of_all = calibrate_module.gather(recipe, [survey])

    assert of_all.taught.redshifts.tolist() == [5, 5, 5, 9, 9, 9, 9, 9, 9]
    assert of_all.untouched.redshifts.tolist() == [6, 6, 6, 9, 9, 9, 9, 9, 9]
    assert of_all.taught.object_id.tolist() == list(range(9))
    assert of_all.taught_weight is not None
    assert of_all.taught_weight.tolist() == [2] * 3 + [1] * 6
    assert of_all.domain is not None
    assert [block.redshifts.tolist() for block in of_all.domain] == [[1, 1], [2, 2]]
    assert list(of_all.tests) == ["real, test set", "their tests", "simulated, test sources"]
    assert of_all.tests["their tests"].redshifts.tolist() == [7, 7]


def test_the_domain_is_that_of_the_sample_whatever_else_was_learned_from() -> None:
    sample = make_block(200, 1), make_block(200, 2)
    survey = make_block(100, 4)
    far = replace(survey, images=survey.images * 50)
    taught, untouched = (replace(join([one, far]), object_id=np.arange(300)) for one in sample)

    both = calibrate(RoughEngine(), Samples(taught, untouched, {}, domain=sample))

    assert both.domain.is_outside(far.images, far.magnitudes).all()
    assert not both.domain.is_outside(sample[0].images, sample[0].magnitudes).all()


def test_factors_come_from_galaxies_that_nothing_was_fitted_to() -> None:
    fitted, untouched = draw_predicted(500, 1), draw_predicted(500, 2)
    honest = fit_error_model(fitted, untouched)

    worse = fit_error_model(
        fitted, untouched._replace(z_phot=untouched.z_spec + 3 * (untouched.z_phot - untouched.z_spec))
    )

    assert worse.factor_68 > 2 * honest.factor_68
    assert replace(worse, factor_68=0.0, factor_95=0.0).layers[0].bias == pytest.approx(honest.layers[0].bias)


@pytest.mark.parametrize("has_surveys", [False, True])
def test_the_report_of_a_calibration_states_its_numbers(
    has_surveys: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched = make_block(3, 2)
    samples = Samples(make_block(2, 1), replace(untouched, redshifts=np.zeros(1_234)), {})
    made = replace(make_calibration(), posterior=make_posterior())
    given: list[Any] = []
    measured = Measured({}, {"real": (100, 0.68, 0.95, 0.0)}, {}, {})
    weights = tmp_path / "astromae.safetensors"
    surveys: list[Any] = [SimpleNamespace()] * has_surveys
    engine = SimpleNamespace(weights_sha256="0" * 64)
    monkeypatch.setattr(calibrate_module.engines, "load", lambda *asked, num_threads: given.append(asked) or engine)
    monkeypatch.setattr(
        calibrate_module, "gather", lambda recipe, found: {(FULL, len(found)): samples}[recipe, len(surveys)]
    )
    monkeypatch.setattr(calibrate_module, "calibrate", lambda *asked: given.append(asked) or made)
    monkeypatch.setattr(calibrate_module, "measure", lambda *asked: given.append(asked[1:]) or measured)
    monkeypatch.setattr(calibrate_module, "_add_to_card", lambda *asked: given.append(asked))

    calibration, found = calibrate_module.write(weights, surveys)

    assert given == [("auto", weights), (engine, samples), (engine, {}), (tmp_path, measured)]
    assert found is measured
    assert calibration.to_bytes() == made.to_bytes()
    assert calibration.posterior is not None
    assert calibration.posterior.to_bytes() == make_posterior().to_bytes()
    report = (tmp_path / "CALIBRATION.md").read_text(encoding="utf-8")
    shapes = calibrate_module.SHAPES_OF_SURVEYS if has_surveys else calibrate_module.SHAPES
    assert "`" + "0" * 64 + "`" in report
    assert "scaled on 1,234 real galaxies" in report
    assert f"z_phot ± {calibration.errors.ratio_95:.3f} sigma 95 %" in report
    assert f"{shapes} so that the 1,234 galaxies are most likely" in report
    assert report.endswith(f"{measured.to_table()}\n")


def test_a_galaxy_that_is_no_good_has_a_flag_though_it_is_like_the_others() -> None:
    images, magnitudes = galaxies(4, 0)
    images[0, 2, 3, 3] = np.nan
    inside, outside = (make_calibration(threshold=value) for value in (-np.inf, np.inf))

    assert calibrate_module._flagged(inside, images, magnitudes) == (0.0, 0.25)
    assert calibrate_module._flagged(outside, images, magnitudes) == (1.0, 1.0)
