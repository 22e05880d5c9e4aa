"""Training steps do what they say on a handful of galaxies; the whole of it is `make train QUICK=1`."""

import math
import shutil
import string
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from inference.model.astromae import AstroMAE
from inference.models import Model, shipped, without_images
from inference.models.card import Measured
from scripts.models.card_text import card_text
from scripts.models.training import controls, knowledge, limit, pretrain, regress, rows, scalings
from scripts.models.training import train as training
from scripts.models.training.calibrate import _REPORT
from scripts.models.training.curves import _curves, draw_curves
from scripts.models.training.fast_blocks import fast_blocks
from scripts.models.training.further import MAX_HARM, FurtherRecipe
from scripts.models.training.journal import Journal
from scripts.models.training.recipe import FULL, QUICK, Recipe
from scripts.models.training.regress import STAGES, CachedRows, redshift_loss, train_stage, trainable_parameters
from scripts.models.training.rows import TrainingRows
from scripts.models.training.scalings import set_scalings
from scripts.models.training.schedule import warm_cosine
from scripts.models.training.whitening import prepare, principal_axes, whitened_magnitudes
from scripts.simulation.render import SKY_NOISE
from scripts.simulation.sdss import SourceCatalog, load_sources
from tests.networks import build_small

TINY = replace(QUICK, pretrain_batch=4, head_batch=4, joint_batch=4, head_steps=3, joint_steps=2)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """What training does to the parts of a network is the same at every size."""
    with pytest.MonkeyPatch.context() as patch:
        build_small(patch)
        yield


@pytest.fixture(scope="module")
def model() -> AstroMAE:
    torch.manual_seed(0)
    model = AstroMAE()
    pretrain.initialise_encoder(model.encoder)
    return model


class Stage(NamedTuple):
    """The stage `heads`, trained without a stop."""

    start: AstroMAE
    trained: AstroMAE
    folder: Path


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Train it once, looking at the selection rows after every step; checkpoints of 200 MB take longest."""
    folder = tmp_path_factory.mktemp("stage")
    torch.manual_seed(0)
    start = AstroMAE()
    trained = deepcopy(start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regress, "CHECK_EVERY", 1)
        train_stage("heads", trained, make_cached(), make_cached(6), TINY, Journal(folder, TINY))
    yield Stage(start, trained, folder)
    shutil.rmtree(folder)


def make_rows(num: int = 12) -> TrainingRows:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(num, 5, 32, 32, generator=generator)
    magnitudes = 18 + torch.randn(num, 5, generator=generator)
    return TrainingRows(images, magnitudes, 0.1 + 0.05 * torch.rand(num, generator=generator), num_real=num // 2)


def make_cached(num: int = 12) -> CachedRows:
    return CachedRows(make_rows(num), torch.randn(num, 192, generator=torch.Generator().manual_seed(1)))


def test_fast_blocks_compute_the_same(model: AstroMAE) -> None:
    images = make_rows(3).images
    model.eval()
    with torch.no_grad():
        plain = model.encoder(images)
        with fast_blocks():
            fast = model.encoder(images)

    # The same sums in another order, in float32.
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-4)


def test_cached_features_give_the_prediction_of_the_whole_network(model: AstroMAE) -> None:
    data = make_rows(3)
    model.eval()
    with torch.no_grad():
        cached = CachedRows(data, model.encoder.pool(model.scale_images(data.images)))
        from_cache = regress.predict_cached(model, cached, STAGES["joint"])
        whole = model(data.images, data.magnitudes)

    torch.testing.assert_close(from_cache, whole, atol=1e-5, rtol=0)


def test_control_cannot_see_images(model: AstroMAE) -> None:
    data = make_rows(3)
    blank = replace(data, images=torch.zeros_like(data.images))
    predict = regress.blind_predictor(model)

    assert (predict(data.to_block()) == predict(blank.to_block())).all()


def test_scaled_inputs_have_unit_variance() -> None:
    model, data = AstroMAE(), make_rows(40)
    set_scalings(model, data)

    stretched = model.scale_images(data.images)
    magnitudes = (data.magnitudes - model.magnitude_center) / model.magnitude_scale

    assert stretched.std(dim=(0, 2, 3)).tolist() == pytest.approx([1] * 5, abs=1e-3)
    assert magnitudes.mean(dim=0).tolist() == pytest.approx([0] * 5, abs=1e-4)


def test_frozen_transformer_is_not_trainable(model: AstroMAE) -> None:
    trainable = {id(parameter) for parameter in trainable_parameters(model, STAGES["joint"])}

    assert not trainable & {id(parameter) for parameter in model.encoder.blocks.parameters()}
    assert {id(parameter) for parameter in model.final.parameters()} <= trainable


def test_stage_changes_only_its_own_parts(stage: Stage) -> None:
    before = stage.start.state_dict()

    changed = {
        name.split(".")[0]
        for name, tensor in stage.trained.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert changed == {"encoder", "encoder_projection", "magnitude_branch", "final"}
    assert torch.equal(stage.trained.encoder.patch_embed.weight, before["encoder.patch_embed.weight"])


def test_batch_is_half_real() -> None:
    data = make_rows(12)

    picked = regress._balanced(data, 8, torch.Generator().manual_seed(3))

    assert (picked < data.num_real).sum() == 4


def test_loss_is_zero_for_perfect_predictions() -> None:
    redshifts = torch.tensor([0.1, 0.4])

    assert redshift_loss(redshifts, redshifts, Recipe()) == 0
    assert redshift_loss(redshifts + 0.01, redshifts, Recipe()) > 0


def test_patches_come_in_the_order_of_the_encoder() -> None:
    images = torch.zeros(1, 5, 32, 32)
    images[0, :, 8:16, 24:32] = 1

    bright = pretrain.patchify(images)[0].sum(dim=1).nonzero().flatten().tolist()

    assert bright == [1 * 4 + 3]


def test_masked_patches_do_not_reach_the_encoder(model: AstroMAE) -> None:
    autoencoder = pretrain.MaskedAutoencoder(model.encoder).eval()
    images = make_rows(2).images
    order = torch.arange(16).expand(2, -1)
    hidden_changed = images.clone()
    hidden_changed[:, :, 8:] += 100  # patches 4 to 15
    seen: list[torch.Tensor] = []
    hook = model.encoder.norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))

    with torch.no_grad():
        autoencoder(images, order, 4)
        autoencoder(hidden_changed, order, 4)
    hook.remove()

    assert torch.equal(seen[0], seen[1])


def test_pretraining_learns_and_resumes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, images = AstroMAE(), make_rows(8).images
    recipe = replace(TINY, pretrain_epochs=1)
    pretrain.pretrain(model, images, recipe, Journal(tmp_path, recipe))
    again = AstroMAE()

    pretrain.pretrain(again, images, recipe, Journal(tmp_path, recipe))

    assert torch.equal(again.encoder.position, model.encoder.position)


def batch_norms(model: AstroMAE) -> list[torch.nn.BatchNorm2d]:
    return [module for module in model.encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]


def test_batch_norms_are_measured_anew_and_then_left_alone(model: AstroMAE) -> None:
    images = make_rows(8).images
    first, second = deepcopy(model), deepcopy(model)
    for norm in batch_norms(second):
        norm.running_mean.fill_(99.0)

    for one in (first, second):
        pretrain.settle_batch_norms(one, images)

    assert not first.encoder.training
    for norm, again, before in zip(*map(batch_norms, (first, second, model)), strict=True):
        assert torch.equal(norm.running_mean, again.running_mean)
        assert not torch.equal(norm.running_mean, before.running_mean)
        assert norm.num_batches_tracked == 1
    # A galaxy among others is what it is alone; sums in another order.
    together = pretrain.pooled_features(first, images)
    torch.testing.assert_close(together[:1], pretrain.pooled_features(first, images[:1]), atol=1e-5, rtol=1e-4)


def test_so_many_batches_settle_batch_norms_and_no_more(model: AstroMAE) -> None:
    images = make_rows(260).images
    some, all_of_them = deepcopy(model), deepcopy(model)

    pretrain.settle_batch_norms(some, images, batches=1)
    pretrain.settle_batch_norms(all_of_them, images[:256])

    for one, other in zip(batch_norms(some), batch_norms(all_of_them), strict=True):
        assert torch.equal(one.running_mean, other.running_mean)


def test_images_are_turned_by_quarters_and_mirrored_half_of_the_time() -> None:
    image = torch.arange(4.0).reshape(1, 1, 2, 2)
    ways = {tuple(torch.rot90(one, k, (2, 3)).flatten().tolist()) for one in (image, image.flip(3)) for k in range(4)}
    generator = torch.Generator().manual_seed(0)

    seen = [tuple(pretrain.turn(image, generator).flatten().tolist()) for _ in range(400)]

    assert set(seen) == ways
    # 50 of each, give or take 7.
    assert all(25 < seen.count(way) < 75 for way in ways)


def test_checkpoint_of_another_recipe_is_ignored(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    Journal(tmp_path, TINY).checkpoint("heads", 3, layer=layer)

    assert Journal(tmp_path, TINY).resume("heads", layer=layer) == 3
    assert Journal(tmp_path, replace(TINY, seed=9)).resume("heads", layer=layer) == 0


def test_log_has_one_line_per_report(tmp_path: Path) -> None:
    journal = Journal(tmp_path, TINY)
    after_step = journal.stage("heads", 2)
    after_step(1.0)
    after_step(0.5)

    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "seconds,stage,step,loss,values"
    assert len(lines) == 2


def test_wall_time_adds_up_over_attempts(tmp_path: Path) -> None:
    journal = Journal(tmp_path, TINY)
    for _ in range(2):
        with journal.timed("rows"):
            pass

    assert [phase for phase, _ in journal.seconds()] == ["rows"]


def test_learning_rate_rises_then_falls() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warm_cosine(optimizer, 10, 100)
    rates = []
    for _ in range(100):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()

    assert rates[0] < rates[5] < rates[9] == pytest.approx(1.0)
    assert rates[9] > rates[50] > rates[99] >= 0


def test_training_rows_come_from_training_sources_only(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[str] = []

    def record(sources: SourceCatalog, *_args: object, **_settings: object) -> TrainingRows:
        parts.extend(sources.part.tolist())
        return make_rows(2)

    monkeypatch.setattr(rows, "rendered", record)
    monkeypatch.setattr(rows, "simulated", record)

    rows.training_rows(TINY)

    assert set(parts) == {"train"}


def test_renderings_of_a_galaxy_differ_in_the_image_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "simulated", lambda *_: make_rows(1))
    recipe = replace(TINY, renderings=3, num_real=2)

    found = rows.training_rows(recipe)

    views = found.images[:6].view(3, 2, 5, 32, 32)
    assert (found.num_real, len(found)) == (6, 7)
    assert all(not torch.equal(views[a], views[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert torch.equal(found.magnitudes[:2], found.magnitudes[2:4])
    assert torch.equal(found.redshifts[:2], found.redshifts[4:6])


def test_rows_to_choose_and_to_test_by_come_from_their_own_sources() -> None:
    sources = load_sources()
    tests = rows.real_test_rows(at_most=3)

    assert torch.equal(tests.redshifts, torch.from_numpy(sources.of("held_out").redshift[:3]).float())
    assert not torch.equal(rows.real_test_rows(1, at_most=3).images, tests.images)
    assert torch.equal(rows.borrowed_structure_rows(at_most=3).redshifts, tests.redshifts)
    assert not torch.equal(rows.borrowed_structure_rows(at_most=3).images, tests.images)


def test_the_card_of_a_training_from_nothing_has_its_recipe_and_what_holds_for_all() -> None:
    known = knowledge.of_sample(TINY, 1_500, [("rows", 60.0), ("pretrain", 120.0)])

    assert [one.num_rows for one in known.training] == [1_500, TINY.num_synthetic]
    assert "batch 4" in known.recipe
    assert "3 minutes, with\ncontrols and repeats (rows 60 s, pretrain 120 s)" in known.recipe
    assert shipped().card.knowledge.recipe.split("\n\n")[-4:] == known.recipe.split("\n\n")[-4:]
    assert shipped().card.knowledge.licence == known.licence
    assert shipped().card.knowledge.not_for == known.not_for


def test_the_card_of_weights_that_learned_from_surveys_says_once_what_holds_for_all() -> None:
    before = shipped().card.knowledge

    known = knowledge.of_surveys(shipped(), [])

    assert known.training == before.training[:2]
    assert (known.recipe, known.split) == (before.recipe, before.split)
    assert (known.not_for, known.licence) == (before.not_for, before.licence)
    assert shipped().in_words in known.description


@pytest.mark.parametrize("model", [shipped(), without_images()], ids=lambda model: model.card.name)
def test_the_card_for_people_says_what_the_other_says(model: Model) -> None:
    assert (model.folder / "CARD.md").read_text(encoding="utf-8") == card_text(model.card)


def test_the_calibration_that_is_shipped_is_worded_as_the_code_would_write_it() -> None:
    stated = shipped().weights.with_name("CALIBRATION.md").read_text(encoding="utf-8")

    assert [text for text, *_ in string.Formatter().parse(_REPORT) if text not in stated] == []


def test_whitening_changes_no_prediction_and_leaves_a_plain_layer(model: AstroMAE) -> None:
    data = make_cached()
    before = regress.predict_rows(model, data, STAGES["magnitudes"])

    with whitened_magnitudes(model, data.rows.magnitudes):
        during = regress.predict_rows(model, data, STAGES["magnitudes"])
    after = regress.predict_rows(model, data, STAGES["magnitudes"])

    # The matrix is applied and taken back in float32.
    torch.testing.assert_close(during, before, atol=1e-5, rtol=0)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    assert set(model.magnitude_branch[0].state_dict()) == {"weight", "bias"}


def test_a_prepared_network_begins_with_inputs_of_unit_variance_without_correlation(model: AstroMAE) -> None:
    prepared, generator = deepcopy(model), torch.Generator().manual_seed(4)
    pooled = 3 + torch.randn(400, 192, generator=generator) * torch.linspace(0.5, 2, 192)
    magnitudes = 18 + torch.randn(400, 1, generator=generator) + 0.03 * torch.randn(400, 5, generator=generator)

    prepare(prepared, pooled, magnitudes)

    with torch.no_grad():
        normed = prepared.encoder.norm(pooled)
        scaled = (magnitudes - model.magnitude_center) / model.magnitude_scale
        first = scaled @ prepared.magnitude_branch[0].weight.T
        of_uncorrelated = (scaled @ principal_axes(model, magnitudes)) @ model.magnitude_branch[0].weight.T
    torch.testing.assert_close(normed.mean(dim=0), torch.zeros(192), atol=1e-4, rtol=0)
    torch.testing.assert_close(normed.std(dim=0), torch.ones(192), atol=1e-3, rtol=0)
    torch.testing.assert_close(first, of_uncorrelated, atol=1e-2, rtol=1e-3)


def test_principal_axes_make_colours_count_as_much_as_brightness(model: AstroMAE) -> None:
    generator = torch.Generator().manual_seed(2)
    brightness = torch.randn(500, 1, generator=generator)
    magnitudes = 18 + brightness + 0.03 * torch.randn(500, 5, generator=generator)

    scaled = (magnitudes - model.magnitude_center) / model.magnitude_scale
    whitened = scaled @ principal_axes(model, magnitudes)

    torch.testing.assert_close(torch.cov(whitened.T), torch.eye(5), atol=1e-3, rtol=0)


def test_added_inception_branch_begins_silent() -> None:
    torch.manual_seed(3)
    model, data = AstroMAE(), make_cached(4)

    regress.add_inception(model)

    heads, joint = (regress.predict_rows(model, data, STAGES[stage]) for stage in ("heads", "joint"))
    assert torch.equal(heads, joint)


def test_finished_stage_is_loaded_and_not_trained_again(stage: Stage) -> None:
    second = deepcopy(stage.start)
    lines = (stage.folder / "log.csv").read_text()

    train_stage("heads", second, make_cached(), make_cached(6), TINY, Journal(stage.folder, TINY))

    assert torch.equal(second.final[0].weight, stage.trained.final[0].weight)
    assert (stage.folder / "log.csv").read_text() == lines


def test_killed_stage_goes_on_to_the_same_weights(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regress, "CHECK_EVERY", 1)
    killed, resumed = deepcopy(stage.start), deepcopy(stage.start)
    journal = Journal(tmp_path, TINY)
    monkeypatch.setattr(journal, "log", kill_at("heads selection", 2))
    with pytest.raises(KeyboardInterrupt):
        train_stage("heads", killed, make_cached(), make_cached(6), TINY, journal)
    assert journal.progress("heads") == 1

    train_stage("heads", resumed, make_cached(), make_cached(6), TINY, Journal(tmp_path, TINY))

    assert all(torch.equal(a, b) for a, b in zip(stage.trained.parameters(), resumed.parameters(), strict=True))


def kill_at(stage: str, step: int) -> Callable[..., None]:
    """A log during which the process ends at a step."""

    def log(told: str, at: int, loss: float, **values: float) -> None:
        if (told, at) == (stage, step):
            raise KeyboardInterrupt

    return log


def test_encoder_outlives_a_change_of_the_later_stages(tmp_path: Path) -> None:
    Journal(tmp_path, TINY).keep("features train", lambda: torch.ones(2))

    kept = Journal(tmp_path, replace(TINY, head_steps=99)).keep("features train", lambda: torch.zeros(2))
    other = Journal(tmp_path, replace(TINY, pretrain_epochs=99)).keep("features train", lambda: torch.zeros(2))

    assert kept.tolist() == [1, 1]
    assert other.tolist() == [0, 0]


def test_controls_see_each_real_galaxy_once() -> None:
    data = make_rows(60)
    recipe = replace(TINY, renderings=3)
    taught = controls._teach(data, recipe)

    assert len(taught[1]) == 10 + 30
    assert taught[2].sum() == 10


def test_neighbours_recall_the_galaxies_they_were_taught() -> None:
    data = make_rows(60)

    predicted = controls.neighbours(data, replace(TINY, renderings=1), seed=0)(data.to_block())

    torch.testing.assert_close(torch.from_numpy(predicted).float(), data.redshifts)


def test_limit_falls_with_the_noise_of_the_magnitudes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "NUM_TREES", 40)
    found = {
        one.method: one.r2 or 0.0 for one in limit.limits(replace(TINY, num_synthetic=600, num_test_synthetic=300))
    }

    assert len(found) == 4
    assert found["boosted trees of noise-free magnitudes"] > found["boosted trees of measured magnitudes"]


def test_curves_show_the_stages_of_the_log(tmp_path: Path) -> None:
    journal = Journal(tmp_path, TINY)
    for stage in ("pretrain", "heads 1", "heads 1 selection", "joint 1"):
        for step, loss in ((1, 0.5), (2, 0.4), (2, 0.3)):
            journal.log(stage, step, loss)

    curves = _curves(tmp_path / "log.csv")
    draw_curves(tmp_path / "log.csv", tmp_path / "curves.png")

    assert curves["heads 1"] == [(1, 0.5), (2, 0.3)]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_recipe_of_a_training_from_nothing_is_told_number_by_number() -> None:
    known = knowledge.of_sample(FULL, 6_197, [("rows", 60.4), ("pretrain", 119.6)])

    assert " ".join(known.recipe.split("\n\n")[0].split()) == (
        "First (`make train`): masked-autoencoder pretraining of the transformer (75% of the patches masked, decoder "
        "96 x 2, epochs: 6, renderings of each real galaxy: 4, batch 256, AdamW 0.0015, warm-up 100 steps, cosine). "
        "Then the transformer is frozen: 600 steps train its head, the magnitude branch and the final layers (batch "
        "512, AdamW 0.0005), 400 steps the inception branch as well (batch 256, AdamW 0.0003). The loss is the smooth "
        "absolute error of dz, linear beyond 0.020; half of each batch is real; sizes follow from luminosity, colour "
        "and distance in 50% of the simulated galaxies. The weights are a moving average, taken at the step that does "
        "best on the selection galaxies, of the best of trainings with other start values and batches (number: 3, "
        "seeds from 1). `training_curves.png` shows the losses. 3 minutes, with controls and repeats (rows 60 s, "
        "pretrain 120 s)."
    )
    # The weights that are shipped began with this training.
    assert known.training == shipped().card.knowledge.training[:2]
    sizes = {one.rows: one.num_rows for one in shipped().card.knowledge.numbers}
    assert FULL.num_test_synthetic == sizes["simulated, test sources"]
    assert FULL.num_real == FULL.num_test_real == 10_000
    assert (FULL.pretrain_weight_decay, FULL.weight_decay, FULL.ema_decay, FULL.loss_beta) == (0.05, 0.1, 0.998, 1.0)
    assert (pretrain.DECODER_WIDTH, pretrain.DECODER_DEPTH) == (96, 2)


def test_a_rehearsal_is_short() -> None:
    sizes = ("num_real", "num_synthetic", "num_test_real", "num_test_synthetic", "head_steps", "joint_steps")

    assert (QUICK.num_repeats, QUICK.renderings, QUICK.pretrain_epochs) == (1, 1, 1)
    assert all(6 * getattr(QUICK, name) < getattr(FULL, name) for name in sizes)


def test_the_second_training_is_told_number_by_number() -> None:
    recipe, told = FurtherRecipe("", "", ()), " ".join(shipped().card.knowledge.recipe.split())

    rate, share = f"{recipe.learning_rate:g}".lstrip("0"), f"{100 * recipe.sample_share:.0f} %"
    assert f"{recipe.num_steps} steps train the final layers (batch {recipe.batch_size}, AdamW {rate}, {share}" in told
    assert f"{['one', 'two', 'three', 'four'][recipe.num_repeats - 1]} times with other batches" in told
    assert (MAX_HARM, recipe.seed) == (0.005, 1)
    assert recipe.num_steps % recipe.check_every == 0


@pytest.mark.parametrize(
    ("warmup", "num_steps", "rates"),
    [
        (2, 30, {0: 0.5, 1: 1.0, 2: 1.0, 9: 0.5 * (1 + math.cos(math.pi / 4)), 16: 0.5, 30: 0.0, 40: 0.0}),
        (5, 20, {0: 0.5, 1: 1.0, 2: 1.0, 11: 0.5, 20: 0.0}),
        (5, 3, {0: 1.0, 1: 1.0, 2: 0.5, 3: 0.0}),
        (5, 1, {0: 1.0, 1: 1.0, 2: 0.0}),
    ],
)
def test_the_learning_rate_is_a_line_then_half_a_cosine(warmup: int, num_steps: int, rates: dict[int, float]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)

    (factor,) = warm_cosine(optimizer, warmup, num_steps).lr_lambdas

    assert {step: factor(step) for step in rates} == pytest.approx(rates)


def test_scalings_are_those_of_galaxies_from_first_to_last(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = AstroMAE(), make_rows(9)
    monkeypatch.setattr(scalings, "NUM_IMAGES", 3)

    set_scalings(model, data)

    softening = 2 * SKY_NOISE
    stretched = np.arcsinh(data.images[[0, 4, 8]].numpy() / softening[:, None, None])
    np.testing.assert_allclose(model.image_softening.flatten(), softening, rtol=1e-6)
    np.testing.assert_allclose(model.image_center.flatten(), stretched.mean(axis=(0, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(model.image_scale.flatten(), stretched.std(axis=(0, 2, 3)), rtol=1e-3)
    torch.testing.assert_close(model.magnitude_scale.flatten(), data.magnitudes.std(dim=0))
    torch.testing.assert_close(model.redshift_center.flatten(), data.redshifts.mean()[None])
    torch.testing.assert_close(model.redshift_scale.flatten(), data.redshifts.std()[None])


def test_an_axis_that_is_narrower_than_noise_is_not_blown_up(model: AstroMAE) -> None:
    magnitudes = 18 + torch.randn(500, 1, generator=torch.Generator().manual_seed(2)).expand(-1, 5)

    axes = principal_axes(model, magnitudes)

    # Four axes without any spread, of the length 1 / sqrt(1e-5).
    torch.testing.assert_close(axes.norm(dim=0)[:4], torch.full((4,), 1e-5**-0.5), rtol=1e-4, atol=0)
    prepared = deepcopy(model)
    prepare(prepared, torch.ones(4, 192), 18 + torch.randn(40, 5))
    torch.testing.assert_close(prepared.encoder.norm.weight, torch.full((192,), 1e3))


def test_patches_are_told_apart_by_waves_of_rows_and_columns() -> None:
    (waves,) = pretrain.grid_waves(8)

    row, column = 2, 3
    expected = [f(place * rate) for place in (row, column) for f in (math.sin, math.cos) for rate in (1.0, 0.01)]
    assert waves[4 * row + column].tolist() == pytest.approx(expected, abs=1e-6)
    assert waves.shape == (16, 8)


def test_start_values_are_those_of_he(model: AstroMAE) -> None:
    encoder = deepcopy(model.encoder)
    for parameter in encoder.parameters():
        torch.nn.init.constant_(parameter, 7.0)

    pretrain.initialise_encoder(encoder)

    linears = [module for module in encoder.modules() if isinstance(module, torch.nn.Linear)]
    for layer in linears:
        limit_of_xavier = (6 / (layer.in_features + layer.out_features)) ** 0.5
        assert 0.9 * limit_of_xavier < layer.weight.abs().max() <= limit_of_xavier
        assert layer.bias is None or not layer.bias.any()
    assert 0.9 < encoder.patch_embed.weight.abs().max() / (6 / (192 + 320)) ** 0.5 <= 1
    assert encoder.cls_token.detach().std() == pytest.approx(0.02, rel=0.2)
    assert torch.equal(encoder.position[:, 1:], pretrain.grid_waves(192))


@pytest.mark.parametrize(("stage", "batch", "rate", "steps"), [("heads", 6, 0.01, 12), ("joint", 4, 0.02, 3)])
def test_a_step_of_the_first_training_is_of_its_stage(
    stage: str, batch: int, rate: float, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches follow from the seed and the number of the step, gradients are clipped, the average follows."""
    recipe = replace(
        TINY,
        ema_decay=0.5,
        weight_decay=0.3,
        head_steps=12,
        head_batch=6,
        head_learning_rate=0.01,
        joint_steps=3,
        joint_batch=4,
        joint_learning_rate=0.02,
    )
    monkeypatch.setattr(regress, "mixed_precision", lambda _: nullcontext())
    taken: list[tuple[float, float, float, int]] = []
    decays: list[float] = []
    seeds: list[int] = []
    balanced, follow, train_step = regress._balanced, regress._follow, regress._step

    def step(model, train, branches, size, optimizer, *args: object, seed: int) -> float:  # type: ignore[no-untyped-def]
        loss = train_step(model, train, branches, size, optimizer, *args, seed=seed)
        group = optimizer.param_groups[0]
        gradients = [one.grad.flatten() for one in group["params"] if one.grad is not None]
        assert torch.cat(gradients).norm() < 5.01
        taken.append((group["initial_lr"], group["lr"], group["weight_decay"], size))
        seeds.append(seed)
        return loss

    monkeypatch.setattr(regress, "_step", step)
    monkeypatch.setattr(
        regress, "_follow", lambda average, model, decay: (decays.append(decay), follow(average, model, decay))
    )
    drawn: list[torch.Tensor] = []
    monkeypatch.setattr(regress, "_balanced", lambda *given: drawn.append(balanced(*given)) or drawn[-1])
    torch.manual_seed(0)
    journal = Journal(tmp_path, recipe)
    journal.checkpoint = lambda *_, **__: None  # type: ignore[method-assign]
    looks: list[tuple[str, int]] = []
    journal.log = lambda name, at, loss, **_: looks.append((name, at))  # type: ignore[method-assign]
    monkeypatch.setattr(regress, "CHECK_EVERY", 2)
    model = AstroMAE()

    train_stage(stage, model, make_cached(), make_cached(6), recipe, journal, name="mine", seed=2)

    lrs = [rate * (0.5 * (1 + math.cos(math.pi * (at - 1) / (steps - 1))) if at else 1) for at in range(steps)]
    assert [one[1] for one in taken] == pytest.approx(lrs)
    assert {(*one[:1], *one[2:]) for one in taken} == {(rate, 0.3, batch)}
    assert decays == pytest.approx([min(0.5, (at + 1) / (at + 10)) for at in range(steps)])
    assert seeds == [2 * 1_000_003 + at for at in range(steps)]
    for seed, rows_of_step in zip(seeds, drawn, strict=True):
        assert torch.equal(rows_of_step, balanced(make_rows(), batch, torch.Generator().manual_seed(seed)))
    checks = [at for at in range(1, steps + 1) if at % 2 == 0 or at == steps]
    assert [at for name, at in looks if name == "mine selection"] == checks
    assert not model.training


def test_hidden_patches_alone_are_drawn_each_in_its_place(model: AstroMAE) -> None:
    torch.manual_seed(0)
    autoencoder, images = pretrain.MaskedAutoencoder(deepcopy(model.encoder)).eval(), make_rows(3).images
    order = torch.rand(3, 16).argsort(dim=1)
    swapped = order.clone()
    swapped[:, [0, 1]], swapped[:, [4, 15]] = order[:, [1, 0]], order[:, [15, 4]]

    with torch.no_grad():
        loss, again = autoencoder(images, order, 4), autoencoder(images, swapped, 4)
        autoencoder.draw.weight.zero_()
        autoencoder.draw.bias.fill_(0.5)
        blank = autoencoder(images, order, 4)

    torch.testing.assert_close(again, loss, atol=1e-5, rtol=1e-5)
    patches = images.view(3, 5, 4, 8, 4, 8).permute(0, 2, 4, 1, 3, 5).reshape(3, 16, 320)
    hidden = torch.stack([patches[row, order[row, 4:]] for row in range(3)])
    torch.testing.assert_close(blank, (hidden - 0.5).square().mean())
    assert torch.equal(autoencoder.position, pretrain.grid_waves(96))
    layer = autoencoder.decoder[0]
    assert (len(autoencoder.decoder), layer.self_attn.num_heads, layer.linear1.out_features) == (2, 3, 384)


def test_an_epoch_shows_every_image_once_and_a_killed_pretraining_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    images, recipe = make_rows(9).images, replace(TINY, pretrain_epochs=2, seed=5, pretrain_weight_decay=0.3)
    shown: list[torch.Tensor] = []
    visible: list[int] = []
    forward, turn = pretrain.MaskedAutoencoder.forward, pretrain.turn
    monkeypatch.setattr(pretrain, "turn", lambda batch, generator: shown.append(batch) or turn(batch, generator))
    monkeypatch.setattr(
        pretrain.MaskedAutoencoder, "forward", lambda self, *given: visible.append(given[2]) or forward(self, *given)
    )
    whole = AstroMAE()
    killed, resumed = deepcopy(whole), deepcopy(whole)
    pretrain.pretrain(whole, images, recipe, Journal(tmp_path / "whole", recipe))
    journal = Journal(tmp_path / "killed", recipe)
    checkpoint = journal.checkpoint
    settings: list[dict[str, object]] = []

    def once(stage: str, progress: int, **parts: torch.nn.Module) -> None:
        settings.append(parts["optimizer"].state_dict()["param_groups"][0])
        checkpoint(stage, progress, **parts)
        raise KeyboardInterrupt

    journal.checkpoint = once  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(killed, images, recipe, journal)
    pretrain.pretrain(resumed, images, recipe, Journal(tmp_path / "killed", recipe))

    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert visible == [4] * 8
    for epoch in (0, 1):
        dealt = torch.randperm(9, generator=torch.Generator().manual_seed(5_000 + epoch))[:8]
        assert torch.equal(torch.cat(shown[2 * epoch : 2 * epoch + 2]), images[dealt])
    (group,) = settings
    assert (group["initial_lr"], group["betas"], group["weight_decay"]) == (1.5e-3, (0.9, 0.95), 0.3)


def test_a_training_from_nothing_has_its_repeats_and_its_controls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every stage is replaced by a note of it; a network does the better the later it was trained."""
    taught, chosen, recipe = make_rows(12), make_rows(5), replace(TINY, num_repeats=2, seed=3, renderings=2)
    noted: list[str] = []
    stages: list[tuple[str, str, int]] = []
    trained: list[AstroMAE] = []

    def train_stage(stage: str, model: AstroMAE, one: CachedRows, other: CachedRows, *_: object, **said: Any) -> None:
        assert (len(one), len(other)) == (12, 5)
        stages.append((stage, said["name"], said["seed"]))
        model.eval()
        if not any(model is before for before in trained):
            trained.append(model)

    monkeypatch.setattr(training, "training_rows", lambda _: taught)
    monkeypatch.setattr(training, "selection_rows", lambda _: chosen)
    monkeypatch.setattr(training, "pretrain", lambda *_: noted.append("pretrain"))
    monkeypatch.setattr(training, "settle_batch_norms", lambda *_: noted.append("settle"))
    monkeypatch.setattr(training, "pooled_features", lambda model, images, tick: torch.ones(len(images), 192))
    monkeypatch.setattr(training, "add_inception", lambda model: noted.append("inception"))
    monkeypatch.setattr(training, "train_stage", train_stage)
    monkeypatch.setattr(
        training, "score", lambda model, *_: -next(at for at, one in enumerate(trained) if one is model)
    )
    limit_found = Measured(method="limit", rows="simulated", num_rows=1, nmad=0.1)
    monkeypatch.setattr(training, "limits", lambda _: [limit_found])
    monkeypatch.setattr(training, "boosted_trees", lambda rows, recipe, seed: ("trees", rows, seed))
    monkeypatch.setattr(training, "neighbours", lambda rows, recipe, seed: ("neighbours", rows, seed))

    found = training.train(recipe, Journal(tmp_path, recipe))

    assert stages == [
        *(("heads", "heads 3", 3), ("joint", "joint 3", 3), ("heads", "heads 4", 4), ("joint", "joint 4", 4)),
        *(("magnitudes", "magnitudes 3", 3), ("magnitudes", "magnitudes 4", 4)),
        *(("heads", "random heads 3", 3), ("joint", "random joint 3", 3)),
        *(("heads", "random heads 4", 4), ("joint", "random joint 4", 4)),
    ]
    assert noted == ["pretrain", "settle", *["inception"] * 2, "settle", *["inception"] * 2]
    assert found.network is trained[1]
    assert list(found.methods) == [
        "the same, trained again",
        "the same, transformer never trained",
        "the same, transformer never trained (2)",
        "the same, magnitudes only",
        "the same, magnitudes only (2)",
        "boosted trees, magnitudes and colours",
        "20 nearest neighbours, the same",
    ]
    assert found.rivals == ("the same, magnitudes only",)
    assert found.methods["boosted trees, magnitudes and colours"] == ("trees", taught, 3)
    assert found.methods["20 nearest neighbours, the same"] == ("neighbours", taught, 3)
    assert found.known.controls == (limit_found,)
    assert found.known.training[0].num_rows == taught.num_real // 2
    # Repeats differ in what is trained; transformer and scalings are those that were pretrained.
    one, other, blind, _, untaught, _ = trained
    assert torch.equal(one.encoder.patch_embed.weight, other.encoder.patch_embed.weight)
    assert not torch.equal(one.encoder.patch_embed.weight, untaught.encoder.patch_embed.weight)
    assert not torch.equal(one.final[0].weight, other.final[0].weight)
    assert not torch.equal(one.encoder.head.weight, other.encoder.head.weight)
    assert torch.equal(one.final[0].weight, blind.final[0].weight)
    for model in trained:
        torch.testing.assert_close(model.magnitude_center.flatten(), taught.magnitudes.mean(dim=0))
        torch.testing.assert_close(model.redshift_center, taught.redshifts.mean())
    block = make_rows(300).to_block()
    again = found.methods["the same, trained again"](block)
    with torch.no_grad():
        images, magnitudes = (torch.from_numpy(part[-3:]).float() for part in (block.images, block.magnitudes))
        torch.testing.assert_close(torch.from_numpy(again[-3:]).float(), one(images, magnitudes), atol=1e-4, rtol=0)
    assert again.shape == (300,)


def test_repeats_begin_with_normed_features(model: AstroMAE) -> None:
    data = make_cached(12)

    one = training._with_new_heads(model, data, 4)

    normed = one.encoder.norm(data.pooled)
    torch.testing.assert_close(normed.std(dim=0), torch.ones(192), atol=1e-2, rtol=0)


def test_the_picture_has_pretraining_beside_the_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, figures = Journal(tmp_path, TINY), []
    for stage, step, loss in [
        *(("pretrain", 20, 0.9), ("pretrain", 40, 0.8), ("heads 1", 20, 0.5), ("heads 1", 30, 0.45)),
        *(("heads 1 selection", 30, 0.6), ("joint 1", 20, 0.4), ("joint 1 selection", 25, 0.55)),
        *(("heads 2", 20, 0.3), ("magnitudes 1", 20, 0.7), ("random heads 1", 20, 0.7)),
    ]:
        journal.log(stage, step, loss)
    monkeypatch.setattr(Figure, "savefig", lambda figure, target, dpi: figures.append((figure, target, dpi)))

    draw_curves(tmp_path / "log.csv", tmp_path / "curves.png")

    ((figure, target, dpi),) = figures
    assert (target, dpi, figure.get_size_inches().tolist()) == (tmp_path / "curves.png", 120, [11, 4.2])
    assert figure.get_layout_engine() is not None
    left, right = figure.axes
    titles = [(axes.get_title(), axes.get_ylabel()) for axes in figure.axes]
    assert titles == [
        ("Masked-autoencoder pretraining", "mean squared error of the hidden patches"),
        ("Supervised training of the repeats", "loss (dots: on the selection galaxies)"),
    ]
    assert [line.get_xydata().tolist() for line in left.lines] == [[[20, 0.9], [40, 0.8]]]
    drawn = [(line.get_xydata().tolist(), line.get_marker(), line.get_color()) for line in right.lines]
    # Joint stages go on where the longest of the heads ended; a stage and its selection have one colour.
    assert drawn == [
        ([[20, 0.5], [30, 0.45]], "None", "C0"),
        ([[30, 0.6]], "o", "C0"),
        ([[20, 0.3]], "None", "C1"),
        ([[50, 0.4]], "None", "C2"),
        ([[55, 0.55]], "o", "C2"),
    ]
    assert left.get_legend() is None
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["heads 1", "heads 2", "joint 1"]
    for axes in figure.axes:
        assert (axes.get_xlabel(), axes.get_yscale()) == ("step", "log")
        assert {type(axes.yaxis.get_major_formatter()), type(axes.yaxis.get_minor_formatter())} == {ScalarFormatter}
        assert axes.get_ygridlines()[0].get_visible()


def test_controls_weigh_real_and_simulated_galaxies_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of galaxies that look alike, the mean of two kinds of redshifts is half way, whatever their numbers."""
    data = make_rows(460)
    data = replace(data, magnitudes=torch.full((460, 5), 18.0), num_real=60)
    data = replace(data, redshifts=torch.where(torch.arange(460) < 60, 0.3, 0.1))
    recipe = replace(TINY, renderings=1)

    found = controls.boosted_trees(data, recipe, 1)(data.to_block())

    # A tenth of the rows, drawn by chance, says when it is enough.
    assert found == pytest.approx(np.full(460, 0.2), abs=0.02)


def test_neighbours_are_twenty_and_the_closer_count_the_more() -> None:
    data = make_rows(60)
    recipe = replace(TINY, renderings=1)
    asked = make_rows(70).to_block()[np.arange(60, 70)]

    found = controls.neighbours(data, recipe, 0)(asked)

    def features(magnitudes: np.ndarray) -> np.ndarray:
        return np.column_stack([magnitudes, -np.diff(magnitudes, axis=1)])

    known = features(data.magnitudes.double().numpy())
    distance = np.linalg.norm((features(asked.magnitudes)[:, None] - known) / known.std(axis=0), axis=2)
    nearest = np.argsort(distance, axis=1)[:, :20]
    weight = 1 / np.take_along_axis(distance, nearest, axis=1)
    expected = (weight * data.redshifts.double().numpy()[nearest]).sum(axis=1) / weight.sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_limit_is_asked_of_what_no_image_shows_exactly() -> None:
    def light(offset: float) -> SimpleNamespace:
        magnitudes = offset + np.arange(10.0).reshape(2, 5) ** 2
        return SimpleNamespace(magnitudes=magnitudes, petrosian_minus_model=np.full((2, 5), offset))

    shape = SimpleNamespace(
        disc_radius_arcsec=np.exp([1.0, 2.0]),
        bulge_radius_arcsec=np.exp([3.0, 4.0]),
        axis_ratio=np.array([0.5, 0.6]),
        bulge_fraction=np.array([0.7, 0.8]),
    )
    measured, true = light(1.0), light(2.0)
    known = limit._Known(SimpleNamespace(photometry=measured, true_photometry=true), shape)  # type: ignore[arg-type]

    for is_true, photometry in ((False, measured), (True, true)):
        plain = known.features(noise_free=is_true, with_structure=False)
        whole = known.features(noise_free=is_true, with_structure=True)
        expected = np.column_stack([photometry.magnitudes, -np.diff(photometry.magnitudes, axis=1)])
        np.testing.assert_array_equal(plain, expected)
        structure = [[1, 3, 0.5, 0.7], [2, 4, 0.6, 0.8]]
        np.testing.assert_allclose(whole, np.column_stack([expected, structure, photometry.petrosian_minus_model]))


def test_the_limit_is_measured_on_sources_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, int, int]] = []
    monkeypatch.setattr(limit, "load_sources", lambda: SimpleNamespace(of=lambda part: part))
    monkeypatch.setattr(limit._Known, "drawn", lambda sources, num, seed: asked.append((sources, num, seed)) or sources)
    monkeypatch.setattr(limit, "_measured", lambda *given: given)

    found = limit.limits(replace(TINY, seed=3, num_synthetic=8, num_test_synthetic=4))

    assert asked == [("train", 8, 3_000), ("held_out", 4, 3_999)]
    assert found == [
        ("train", "held_out", is_true, f"boosted trees of {light} magnitudes{more}")
        for is_true, light in ((False, "measured"), (True, "noise-free"))
        for more in ("", " and true sizes and shapes")
    ]


def test_the_average_follows_weights_and_copies_counts(model: AstroMAE) -> None:
    average, fast = deepcopy(model), deepcopy(model)
    for tensor in fast.state_dict().values():
        tensor.add_(8)

    regress._follow(average, fast, 0.75)

    for name, tensor in model.state_dict().items():
        moved = average.state_dict()[name] - tensor
        expected = 2.0 if tensor.dtype.is_floating_point else 8
        torch.testing.assert_close(moved, torch.full_like(moved, expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_of_the_first_training_has_its_branches(stage: str, model: AstroMAE) -> None:
    data, branches = make_cached(5), STAGES[stage]

    found = {id(parameter) for parameter in trainable_parameters(model, branches)}

    prefixes = {
        "magnitudes": ("magnitude_branch.", "final."),
        "heads": ("magnitude_branch.", "final.", "encoder.norm.", "encoder.head.", "encoder_projection."),
    }
    prefixes["joint"] = (*prefixes["heads"], "inception.", "inception_projection.")
    assert found == {id(one) for name, one in model.named_parameters() if name.startswith(prefixes[stage])}
    # Chosen by the loss of all rows in evaluation mode.
    predicted = regress.predict_rows(model, data, branches)
    assert regress.score(model, data, branches, TINY) == redshift_loss(predicted, data.rows.redshifts, TINY).item()
    some = regress.predict_rows(model, data[torch.tensor([3, 1])], branches)
    torch.testing.assert_close(some, predicted[[3, 1]], atol=1e-5, rtol=0)
    if stage == "magnitudes":
        blind = regress.blind_predictor(model)(data.rows.to_block())
        np.testing.assert_allclose(blind, predicted, atol=1e-6)
        assert blind.dtype == np.float64


@pytest.mark.parametrize(
    ("z_phot", "unit", "beta", "loss"), [(0.122, 0.02, 1.0, 0.5), (0.166, 0.02, 1.0, 2.5), (0.122, 0.02, 0.5, 0.75)]
)
def test_the_loss_of_the_first_training_is_that_of_the_others(
    z_phot: float, unit: float, beta: float, loss: float
) -> None:
    recipe = replace(TINY, loss_unit=unit, loss_beta=beta)

    assert redshift_loss(torch.tensor([z_phot]), torch.tensor([0.1]), recipe).item() == pytest.approx(loss, abs=1e-4)


def test_turned_rows_keep_all_but_their_images() -> None:
    data = make_cached(3)

    turned = data.turned(torch.Generator().manual_seed(5))

    assert torch.equal(turned.rows.images, pretrain.turn(data.rows.images, torch.Generator().manual_seed(5)))
    assert torch.equal(turned.pooled, data.pooled)
    assert torch.equal(turned.rows.magnitudes, data.rows.magnitudes)
    assert len(turned) == 3


@pytest.mark.parametrize(("size", "num_real"), [(8, 4), (7, 3)])
def test_the_other_half_of_a_batch_is_simulated(size: int, num_real: int) -> None:
    data = make_rows(12)

    picked = regress._balanced(data, size, torch.Generator().manual_seed(3))

    assert len(picked) == size
    assert (picked < 6).sum() == num_real
    assert picked.max() < 12
