"""A stage changes what it should and nothing else, and gives the same weights after a kill."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import Module

from inference.model.astromae import AstroMAE, Variant
from scripts.command.errors import UsageError
from scripts.models.training import network, supervised
from scripts.models.training.device import choose_device, mixed_precision
from scripts.models.training.journal import Journal
from scripts.models.training.network import (
    Learning,
    Sample,
    image_features,
    learning_parameters,
    predict_rows,
    silence_images,
    with_joined,
)
from scripts.models.training.pretrain import initialise_encoder
from scripts.models.training.recipe import QUICK
from scripts.models.training.supervised import Rows, Stage, train_stage
from tests.networks import build_small

NUM = 24
ALL = torch.arange(NUM)
TINY = Stage("last", num_steps=4, batch_size=4, check_every=1)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """What training does to the parts of a network is the same at every size."""
    with pytest.MonkeyPatch.context() as patch:
        build_small(patch)
        yield


@pytest.fixture(scope="module")
def model() -> AstroMAE:
    torch.manual_seed(0)
    model = AstroMAE().eval().requires_grad_(False)
    initialise_encoder(model.encoder)
    return model


def make_sample(device: str = "cpu") -> Sample:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(NUM, 5, 32, 32, generator=generator).to(device)
    magnitudes = 18 + torch.randn(NUM, 5, generator=generator)
    redshifts = 0.1 + 0.05 * torch.rand(NUM, generator=generator)
    return Sample(magnitudes.to(device), redshifts.to(device), images.__getitem__)


@pytest.fixture(scope="module")
def cached(model: AstroMAE) -> Sample:
    return image_features(model, make_sample(), lambda _: None)


def make_rows(sample: Sample) -> Rows:
    return Rows([ALL[:10], ALL[10:18]], [0.5, 0.5], ALL[18:], sample.redshifts[18:].cpu())


def test_cached_features_and_images_give_the_prediction_of_the_whole_network(model: AstroMAE, cached: Sample) -> None:
    assert cached.images is not None
    with torch.no_grad():
        whole = model(cached.images(ALL), cached.magnitudes)

    for learning in ("last", "heads", "behind", "all"):
        torch.testing.assert_close(predict_rows(model, cached, ALL, learning), whole, atol=1e-5, rtol=0)


def test_silent_images_make_the_whole_network_one_of_magnitudes(model: AstroMAE, cached: Sample) -> None:
    silent = deepcopy(model)
    silence_images(silent)
    blind = predict_rows(silent, cached, ALL, "magnitudes")

    with torch.no_grad():
        whole = silent(torch.randn(NUM, 5, 32, 32), cached.magnitudes)

    torch.testing.assert_close(whole, blind, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("learning", "changing"),
    [
        ("last", {"magnitude_branch", "final"}),
        ("magnitudes", {"magnitude_branch", "final"}),
        ("heads", {"magnitude_branch", "final", "encoder", "encoder_projection", "inception_projection"}),
        (
            "behind",
            {"magnitude_branch", "final", "encoder", "encoder_projection", "inception", "inception_projection"},
        ),
        ("all", {"magnitude_branch", "final", "encoder", "encoder_projection", "inception", "inception_projection"}),
    ],
)
def test_a_stage_changes_its_own_parts(
    model: AstroMAE, cached: Sample, tmp_path: Path, learning: Learning, changing: set[str]
) -> None:
    trained = deepcopy(model)

    stage = replace(TINY, learning=learning, num_steps=2, check_every=2)
    train_stage(trained, cached, make_rows(cached), stage, Journal(tmp_path, QUICK), "x", resumes=False)

    before = model.state_dict()
    changed = {name for name, tensor in trained.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[0] for name in changed} == changing
    assert not [name for name in changed if "running" in name]
    is_frozen = not any(name.startswith("encoder.blocks") for name in changed)
    assert is_frozen == (learning != "all")


def test_learning_parts_grow_from_last_to_all(model: AstroMAE) -> None:
    sizes = [
        sum(parameter.numel() for _, parameter in learning_parameters(model, learning))
        for learning in ("last", "heads", "behind", "all")
    ]

    def size_of(*parts: Module) -> int:
        return sum(parameter.numel() for part in parts for parameter in part.parameters())

    encoder = model.encoder
    last = size_of(model.magnitude_branch, model.final)
    dense = size_of(encoder.norm, encoder.head, model.encoder_projection, model.inception_projection)
    assert sizes == [last, last + dense, last + dense + size_of(model.inception), size_of(model)]


def test_killed_stage_goes_on_to_the_same_weights(
    model: AstroMAE, cached: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    whole, killed, resumed = deepcopy(model), deepcopy(model), deepcopy(model)
    train_stage(whole, cached, make_rows(cached), TINY, Journal(tmp_path / "whole", QUICK), "x", resumes=False)
    journal = Journal(tmp_path / "killed", QUICK)

    def log(stage: str, at: int, loss: float, **values: float) -> None:
        if at == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(journal, "log", log)
    with pytest.raises(KeyboardInterrupt):
        train_stage(killed, cached, make_rows(cached), TINY, journal, "x")
    again = Journal(tmp_path / "killed", QUICK)
    assert again.progress("x") == 2

    train_stage(resumed, cached, make_rows(cached), TINY, again, "x")

    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_groups_have_their_shares_of_a_batch() -> None:
    rows = Rows([torch.arange(5), torch.arange(100, 110)], [1, 3], ALL, torch.zeros(NUM))

    drawn = rows.draw(40, torch.Generator().manual_seed(0))

    assert (drawn < 5).sum() == 10
    assert len(drawn) == 40


def test_the_weights_that_chose_best_are_kept(model: AstroMAE, cached: Sample, tmp_path: Path) -> None:
    trained, journal = deepcopy(model), Journal(tmp_path, QUICK)
    stage = replace(TINY, num_steps=6, learning_rate=3e-3)
    scores: list[float] = []
    journal.log = lambda name, step, loss, **values: scores.append(loss)  # type: ignore[method-assign]

    best = train_stage(trained, cached, make_rows(cached), stage, journal, "x", resumes=False)

    assert best == min(scores)
    predicted: Tensor = predict_rows(trained, cached, ALL[18:], "last")
    # Whitening is applied and taken back in float32.
    assert supervised.redshift_loss(predicted, cached.redshifts[18:], stage).item() == pytest.approx(best, rel=1e-4)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert choose_device().type == "cpu"
    with pytest.raises(UsageError, match="DEVICE=cuda: torch finds no GPU"):
        choose_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
def test_a_stage_on_a_gpu_learns_what_it_learns_on_a_cpu(model: AstroMAE, tmp_path: Path) -> None:
    scores = {}
    for device in ("cpu", "cuda"):
        trained, sample = deepcopy(model).to(device), make_sample(device)
        with mixed_precision(torch.device(device)):
            scores[device] = train_stage(
                trained,
                sample,
                make_rows(sample),
                replace(TINY, learning="all"),
                Journal(tmp_path / device, QUICK),
                "x",
            )

    assert scores["cuda"] == pytest.approx(scores["cpu"], rel=0.1)


@pytest.mark.parametrize(
    ("z_phot", "unit", "beta", "loss"),
    [
        (0.1, 0.02, 1.0, 0.0),
        (0.122, 0.02, 1.0, 0.5),
        (0.078, 0.02, 1.0, 0.5),
        (0.166, 0.02, 1.0, 2.5),
        (0.122, 0.01, 1.0, 1.5),
        (0.122, 0.02, 0.5, 0.75),
    ],
)
def test_the_loss_is_square_for_small_errors_and_absolute_for_large_ones(
    z_phot: float, unit: float, beta: float, loss: float
) -> None:
    """Of dz = (z_phot - z_spec) / (1 + z_spec), at z_spec = 0.1, in units."""
    stage = replace(TINY, loss_unit=unit, loss_beta=beta)

    assert supervised.redshift_loss(torch.tensor([z_phot]), torch.tensor([0.1]), stage).item() == pytest.approx(
        loss, abs=1e-4
    )


def test_the_weights_of_the_lowest_loss_are_kept(
    model: AstroMAE, cached: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = supervised._Run.begin(deepcopy(model), TINY)
    name = next(iter(run._slow))
    losses = iter([3.0, 1.0, 1.0, 2.0])
    monkeypatch.setattr(supervised, "redshift_loss", lambda *_: torch.tensor(next(losses)))

    for value in range(4):
        run._slow[name].fill_(value)
        run.judge(cached, make_rows(cached))

    assert run.finish() == 1.0
    assert torch.equal(run.model.state_dict()[name], torch.ones_like(run._slow[name]))


@pytest.mark.parametrize(
    ("learning", "lacking", "given"),
    [
        ("magnitudes", (), set()),
        ("final", (), {"joined"}),
        ("last", (), {"joined"}),
        ("final", ("joined",), {"pooled", "inception"}),
        ("last", ("joined",), {"pooled", "inception"}),
        ("heads", (), {"pooled", "inception"}),
        ("heads", ("pooled",), {"images", "inception"}),
        ("heads", ("inception",), {"images", "pooled"}),
        ("behind", (), {"images", "pooled"}),
        ("all", (), {"images"}),
    ],
)
def test_a_batch_holds_what_its_parts_need_of_its_rows(
    learning: Learning, lacking: tuple[str, ...], given: set[str], model: AstroMAE, cached: Sample
) -> None:
    sample = replace(with_joined(model, cached), **dict.fromkeys(lacking))
    rows = torch.tensor([5, 2, 2])

    batch = sample.batch(rows, learning)

    names = ("images", "pooled", "inception", "joined")
    assert {name for name in names if getattr(batch, name) is not None} == given
    assert torch.equal(batch.magnitudes, sample.magnitudes[rows])
    for name in given:
        source = make_sample().images(ALL) if name == "images" else getattr(sample, name)  # type: ignore[misc]
        assert torch.equal(getattr(batch, name), source[rows])


@pytest.mark.parametrize("has_joint_relus", [True, False])
def test_what_is_joined_once_gives_the_prediction_of_the_whole_network(
    has_joint_relus: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    model = AstroMAE(Variant(has_joint_relus=has_joint_relus)).eval().requires_grad_(False)
    monkeypatch.setattr(network, "EVALUATION_ROWS", 8)
    ticks: list[float] = []
    sample = with_joined(model, image_features(model, make_sample(), ticks.append))
    assert sample.images is not None
    assert sample.joined is not None

    whole = model(sample.images(ALL), sample.magnitudes)

    assert len(ticks) == NUM // 2
    assert sample.joined.shape[1] == model.final[0].in_features
    for learning in ("final", "last"):
        torch.testing.assert_close(predict_rows(model, sample, ALL, learning), whole, atol=1e-5, rtol=0)


def test_a_step_follows_clipped_gradients_and_its_seed_and_the_average_follows_it(
    model: AstroMAE, cached: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same steps, written out for the final layers."""
    monkeypatch.setattr(supervised, "mixed_precision", lambda _: nullcontext())
    stage = Stage("final", 12, batch_size=8, learning_rate=0.01, weight_decay=0.3, ema_decay=0.5, seed=3)
    sample = with_joined(model, cached)
    run, rows, expected = supervised._Run.begin(deepcopy(model), stage), make_rows(sample), deepcopy(model.final)
    parameters = list(expected.requires_grad_(True).parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.3)
    norms = []

    for step in range(12):
        drawn = rows.draw(8, torch.Generator().manual_seed(3 * 1_000_003 + step))
        predicted = expected(sample.joined[drawn]).squeeze(1) * model.redshift_scale + model.redshift_center  # type: ignore[index]
        loss = supervised.redshift_loss(predicted, sample.redshifts[drawn], stage)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None]).norm()
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad *= min(1.0, 5.0 / norm.item())
        # One step of warm-up, then half a cosine.
        optimizer.param_groups[0]["lr"] = 0.01 * (0.5 * (1 + math.cos(math.pi * (step - 1) / 11)) if step else 1)
        optimizer.step()
        for kept, parameter in zip(average, parameters, strict=True):
            kept += (1 - min(0.5, (step + 1) / (step + 10))) * (parameter.detach() - kept)

        assert run.step(sample, rows, step) == pytest.approx(loss.item(), rel=1e-3)
        clipped = [parameter.grad for parameter in run.model.final.parameters() if parameter.grad is not None]
        norms.append((norm.item(), torch.cat([one.flatten() for one in clipped]).norm().item()))

    assert [found for _, found in norms] == pytest.approx([min(5.0, norm) for norm, _ in norms], rel=1e-2)
    assert max(norm for norm, _ in norms) > 7.5
    for found, kept in zip(run.average.final.parameters(), average, strict=True):
        torch.testing.assert_close(found, kept, atol=1e-4, rtol=1e-3)


def test_a_long_stage_warms_up_for_fifty_steps(model: AstroMAE) -> None:
    run = supervised._Run.begin(deepcopy(model), replace(TINY, num_steps=1_000, learning_rate=0.5))

    assert run.schedule.get_last_lr() == [0.01]


def test_images_are_turned_before_they_teach(model: AstroMAE, cached: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "turn", lambda images, _: 0 * images)
    monkeypatch.setattr(supervised, "mixed_precision", lambda _: nullcontext())
    stage, rows = replace(TINY, learning="behind", seed=2), make_rows(cached)
    drawn = rows.draw(4, torch.Generator().manual_seed(2 * 1_000_003 + 1))

    loss = supervised._Run.begin(deepcopy(model), stage).step(cached, rows, 1)

    blank = replace(cached.batch(drawn, "behind"), images=torch.zeros(4, 5, 32, 32))
    expected = supervised.redshift_loss(network.predict(model, blank, "behind"), cached.redshifts[drawn], stage)
    assert loss == pytest.approx(expected.item(), rel=1e-4)


def test_norms_that_move_are_kept_with_the_weights(model: AstroMAE, cached: Sample, tmp_path: Path) -> None:
    trained = deepcopy(model)
    stage = replace(TINY, learning="behind", moves_norms=True, num_steps=2, check_every=2)

    train_stage(trained, cached, make_rows(cached), stage, Journal(tmp_path, QUICK), "x", resumes=False)

    before, after = model.inception.state_dict(), trained.inception.state_dict()
    moved = {name.rpartition(".")[2] for name in before if not torch.equal(before[name], after[name])}
    assert {"running_mean", "running_var"} <= moved
    assert not trained.training
    assert not any(parameter.requires_grad for parameter in trained.parameters())
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.parametrize(("step_s", "kept"), [(25.0, [3, 6, 7]), (60.0, [2, 4, 6, 7]), (61.0, [1, 2, 3, 4, 5, 6, 7])])
def test_checkpoints_are_a_minute_apart_and_one_is_the_last(
    step_s: float, kept: list[int], model: AstroMAE, cached: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, QUICK)
    steps: list[int] = []
    looks: list[int] = []
    journal.checkpoint = lambda name, step, **parts: steps.append(step)  # type: ignore[method-assign]
    journal.log = lambda name, step, loss, **values: looks.append(step)  # type: ignore[method-assign]
    monkeypatch.setattr(supervised, "time", SimpleNamespace(monotonic=lambda: step_s * len(looks)))

    train_stage(deepcopy(model), cached, make_rows(cached), replace(TINY, num_steps=7), journal, "x")

    assert looks[-1] == 7
    assert steps == kept


def test_the_final_layers_take_the_branches_as_they_were_and_the_last_ones_their_own_of_magnitudes(
    model: AstroMAE, cached: Sample
) -> None:
    whole = with_joined(model, cached)
    assert whole.joined is not None
    of_magnitudes = slice(model.final[0].in_features - model.magnitude_branch[-1].out_features, None)
    before = whole.joined.clone()
    before[:, of_magnitudes] += 1.0
    older = replace(whole, joined=before)

    final, last = (predict_rows(model, older, ALL, learning) for learning in ("final", "last"))

    torch.testing.assert_close(last, predict_rows(model, whole, ALL, "last"), atol=1e-6, rtol=0)
    assert (final - last).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("asked", "has_gpu", "found"),
    [
        ("auto", False, "cpu"),
        ("auto", True, "cuda"),
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_a_gpu_computes_where_there_is_one_and_the_cpu_is_not_asked_for(
    asked: str, has_gpu: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)

    assert choose_device(asked).type == found


@pytest.mark.parametrize(
    ("device", "capability", "is_mixed"),
    [("cpu", "AVX2", False), ("cpu", "AVX512", True), ("cpu", "AVX512_VNNI", True), ("cuda", "AVX2", True)],
)
def test_products_are_in_bfloat16_where_that_is_faster(
    device: str, capability: str, is_mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch, "autocast", lambda *given: given)

    found = mixed_precision(torch.device(device))

    assert (found == (device, torch.bfloat16)) == is_mixed
    assert isinstance(found, nullcontext) != is_mixed
