"""A network of magnitudes learns redshifts from colours, and is the mean of networks trained on other galaxies."""

import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from scripts.models.export.graph import magnitudes_graph
from scripts.models.training.magnitudes import (
    MagnitudesNetwork,
    Pace,
    predict_magnitudes,
    set_axes,
    train_network,
)

QUICK = Pace(num_steps=150, batch_size=128)


def make_galaxies(num: int = 2_000) -> tuple[Tensor, Tensor]:
    """Bright and faint galaxies whose g - r grows with redshift, among magnitudes that are nearly one number."""
    generator = torch.Generator().manual_seed(0)
    redshifts = 0.02 + 0.3 * torch.rand(num, generator=generator)
    magnitudes = 17 + torch.randn(num, 1, generator=generator) + 0.01 * torch.randn(num, 5, generator=generator)
    magnitudes[:, 1] += 2 * redshifts
    return magnitudes, redshifts


@pytest.fixture(scope="module")
def trained() -> MagnitudesNetwork:
    magnitudes, redshifts = make_galaxies()
    network = MagnitudesNetwork(2)
    set_axes(network, magnitudes, redshifts)
    for index in (0, 1):
        rows = [torch.arange(index, 2_000, 2)]
        train_network(network, index, magnitudes, redshifts, rows, [1.0], QUICK, seed=index)
    return network.requires_grad_(False)


def test_redshifts_are_learned_from_colours(trained: MagnitudesNetwork) -> None:
    magnitudes, redshifts = make_galaxies()

    error = predict_magnitudes(trained, magnitudes) - redshifts

    assert error.std() < 0.2 * redshifts.std()


def test_redshift_is_the_mean_of_the_networks(trained: MagnitudesNetwork) -> None:
    magnitudes, _ = make_galaxies(50)

    one, other = (trained.predict_one(index, magnitudes) for index in (0, 1))

    assert not torch.equal(one, other)
    torch.testing.assert_close(trained(magnitudes), (one + other) / 2, atol=1e-6, rtol=0)


def test_inputs_are_independent_and_none_is_far(trained: MagnitudesNetwork) -> None:
    magnitudes, _ = make_galaxies()

    torch.testing.assert_close(torch.cov(trained.whiten(magnitudes).T), torch.eye(5), atol=0.05, rtol=0)
    assert trained.whiten(magnitudes + 100).abs().max() == 6


def test_the_loss_of_every_step_is_told_and_falls() -> None:
    magnitudes, redshifts = make_galaxies()
    network = MagnitudesNetwork(1)
    set_axes(network, magnitudes, redshifts)
    losses: list[float] = []

    train_network(network, 0, magnitudes, redshifts, [torch.arange(2_000)], [1.0], QUICK, seed=0, tick=losses.append)

    assert len(losses) == QUICK.num_steps
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])


def test_a_batch_has_its_share_of_every_group() -> None:
    """Of two groups of one galaxy each, which look alike: the redshift that is learned is that of the larger share."""
    generator = torch.Generator().manual_seed(0)
    magnitudes, redshifts = 17 + torch.randn(200, 5, generator=generator), torch.tensor([0.1, 0.3]).repeat(100)
    groups = [torch.tensor([0]), torch.tensor([1])]
    network = MagnitudesNetwork(2)
    set_axes(network, magnitudes, redshifts)
    flat = torch.full_like(magnitudes, 17.0)

    for index, shares in enumerate(([1.0, 9.0], [9.0, 1.0])):
        train_network(network, index, flat, redshifts, groups, shares, QUICK, seed=index)

    with torch.no_grad():
        mostly_second, mostly_first = (network.predict_one(index, flat[:1]).item() for index in (0, 1))
    assert mostly_first < 0.17
    assert mostly_second > 0.23


def test_the_same_seed_gives_the_same_weights_and_leaves_the_other_networks_alone(trained: MagnitudesNetwork) -> None:
    magnitudes, redshifts = make_galaxies()
    again = MagnitudesNetwork(2)
    again.load_state_dict(trained.state_dict())

    train_network(again, 1, magnitudes, redshifts, [torch.arange(1, 2_000, 2)], [1.0], QUICK, seed=1)

    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_exported_graph_predicts_the_same_for_any_number_of_galaxies(
    trained: MagnitudesNetwork, tmp_path: Path
) -> None:
    path = tmp_path / "magnitudes.onnx"
    path.write_bytes(magnitudes_graph(trained))
    session = onnxruntime.InferenceSession(path)

    for num in (1, 33):
        magnitudes, _ = make_galaxies(num)
        (found,) = session.run(None, {"magnitudes": magnitudes.numpy()})

        np.testing.assert_allclose(found, trained(magnitudes).numpy(), atol=2e-6)


def test_the_steps_of_one_network_follow_from_its_seed() -> None:
    """Written out: batches of two groups, AdamW along a line and half a cosine, and the moving average."""
    magnitudes, redshifts = make_galaxies(60)
    groups = [torch.arange(20), torch.arange(20, 60)]
    pace = Pace(num_steps=12, batch_size=10, learning_rate=0.01, weight_decay=0.3, ema_decay=0.5, loss_unit=0.05)
    network = MagnitudesNetwork(2)
    set_axes(network, magnitudes, redshifts)
    torch.manual_seed(3)
    sizes = [(5, 256), (256, 256), (256, 256)]
    layers = [part for size in sizes for part in (torch.nn.Linear(*size), torch.nn.ReLU())]
    expected = torch.nn.Sequential(*layers, torch.nn.Linear(256, 1))
    average = [parameter.detach().clone() for parameter in expected.parameters()]
    optimizer = torch.optim.AdamW(expected.parameters(), weight_decay=0.3)
    generator, losses, told = torch.Generator().manual_seed(3), list[float](), list[float]()
    for step in range(12):
        drawn = [
            group[torch.randint(0, len(group), (num,), generator=generator)]
            for group, num in zip(groups, (3, 7), strict=True)
        ]
        rows = torch.cat(drawn)
        predicted = expected(network.whiten(magnitudes[rows])).squeeze(1) * redshifts.std() + redshifts.mean()
        dz = ((predicted - redshifts[rows]) / (1 + redshifts[rows]) / 0.05).abs()
        loss = torch.where(dz < 1, dz**2 / 2, dz - 0.5).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.param_groups[0]["lr"] = 0.01 * (0.5 * (1 + math.cos(math.pi * (step - 1) / 11)) if step else 1)
        optimizer.step()
        losses.append(loss.item())
        for kept, parameter in zip(average, expected.parameters(), strict=True):
            kept += (1 - min(0.5, (step + 1) / (step + 10))) * (parameter.detach() - kept)
    random = torch.get_rng_state()

    train_network(network, 1, magnitudes, redshifts, groups, [0.3, 0.7], pace, seed=3, tick=told.append)

    assert told == pytest.approx(losses, rel=1e-3)
    for found, kept in zip(network.networks[1].parameters(), average, strict=True):
        torch.testing.assert_close(found.detach(), kept, atol=1e-4, rtol=1e-3)
    assert torch.equal(torch.get_rng_state(), random)


def test_an_axis_that_is_narrower_than_noise_is_not_blown_up() -> None:
    magnitudes = 17 + torch.randn(500, 1, generator=torch.Generator().manual_seed(0)).expand(-1, 5)
    network = MagnitudesNetwork(1)

    set_axes(network, magnitudes, torch.rand(500))

    torch.testing.assert_close(network.axes.norm(dim=0)[:4], torch.full((4,), 1e-5**-0.5), rtol=1e-4, atol=0)


def test_the_pace_of_the_networks_that_are_shipped() -> None:
    assert Pace() == Pace(4_000, 512, 1e-3, 0.1, 0.998, 0.02, 1.0)
