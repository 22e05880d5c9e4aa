"""Training steps do what they say on a handful of galaxies; the whole of it is `make train QUICK=1`."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inference.contract import Accuracy
from inference.model.astromae import AstroMAE
from scripts.galaxies.sdss import SourceCatalog
from scripts.training import pretrain, regress, rows
from scripts.training.fast_blocks import fast_blocks
from scripts.training.journal import Journal
from scripts.training.model_card import model_card
from scripts.training.recipe import QUICK, Recipe
from scripts.training.regress import STAGES, CachedRows, redshift_loss, train_stage, trainable_parameters
from scripts.training.report import Measurement
from scripts.training.rows import TrainingRows
from scripts.training.scalings import set_scalings
from scripts.training.schedule import warm_cosine

TINY = replace(QUICK, pretrain_batch=4, head_batch=4, joint_batch=4, head_steps=3, joint_steps=2)


@pytest.fixture(scope="module")
def model() -> AstroMAE:
    torch.manual_seed(0)
    model = AstroMAE()
    pretrain.initialise_encoder(model.encoder)
    return model


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

    assert torch.equal(predict(data), predict(blank))


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


def test_stage_changes_only_its_own_parts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AstroMAE()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    train_stage("heads", model, make_cached(), make_cached(6), TINY, Journal(tmp_path, TINY))

    changed = {
        name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {"encoder", "encoder_projection", "magnitude_branch", "final"}
    assert torch.equal(model.encoder.patch_embed.weight, before["encoder.patch_embed.weight"])


def test_batch_is_half_real() -> None:
    data = make_rows(12)

    picked = regress._balanced(data, 8, seed=3)

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

    monkeypatch.setattr(rows, "_real", record)
    monkeypatch.setattr(rows, "_synthetic", record)

    rows.training_rows(TINY)

    assert set(parts) == {"train"}


def test_model_card_names_its_weights(tmp_path: Path) -> None:
    weights = tmp_path / "astromae.safetensors"
    weights.write_bytes(b"x")
    numbers = {"bias": 0.001, "nmad": 0.0131, "outlier_005": 0.01, "outlier_015": 0.0, "mae": 0.01, "mse": 0.001}
    accuracy = Accuracy(num_labelled=7, r2=0.85, std_z_spec=0.057, **numbers)
    measured = Measurement("real, held out", "AstroMAE", accuracy, (0.012, 0.014), (0.8, 0.9))

    card = model_card(Recipe(), [measured], [("rows", 60.0)], path=weights, sha256="abc")

    assert "`abc`" in card
    assert "| real, held out | 7 | 0.057 | AstroMAE | 0.0131 (0.0120-0.0140)" in card
