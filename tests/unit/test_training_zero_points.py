"""Zero points that are off are found, and correcting them gives the redshifts that there were without them."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from inference.model.astromae import AstroMAE
from inference.model.weights import load_astromae
from inference.models import shipped
from scripts.models.training import zero_points
from scripts.models.training.network import Sample, predict_rows
from scripts.models.training.zero_points import add_to_magnitudes, fit_zero_points
from scripts.simulation.sdss import load_sources

NUM = 150
ALL = torch.arange(NUM)
OFF = torch.tensor([0.1, 0.0, 0.1, 0.0, -0.05])


@pytest.fixture(scope="module")
def model() -> AstroMAE:
    return load_astromae(shipped().weights)


@pytest.fixture(scope="module")
def found(model: AstroMAE) -> torch.Tensor:
    return fit_zero_points(model, make_sample(OFF), ALL)


def make_sample(off: torch.Tensor) -> Sample:
    """Real galaxies, whose images say the same, of a survey whose zero points are off."""
    sources = load_sources().of("train").first(NUM)
    magnitudes = torch.from_numpy(sources.photometry.magnitudes).float() + off
    redshifts = torch.from_numpy(sources.redshift).float()
    return Sample(magnitudes, redshifts, pooled=torch.zeros(NUM, 192), inception=torch.zeros(NUM, 192))


def test_zero_points_that_are_off_are_found(found: torch.Tensor) -> None:
    # Brightness says little of what all bands share; 150 redshifts tell their differences to about .01 mag.
    torch.testing.assert_close(found.mean() - found, OFF - OFF.mean(), atol=0.02, rtol=0)


def test_correcting_them_gives_the_accuracy_without_them(model: AstroMAE, found: torch.Tensor) -> None:
    right, shifted = make_sample(torch.zeros(5)), make_sample(OFF)
    corrected = deepcopy(model)

    add_to_magnitudes(corrected, found)

    before, off, after = (
        (predict_rows(one, sample, ALL, "last") - sample.redshifts).abs().mean()
        for one, sample in ((model, right), (model, shifted), (corrected, shifted))
    )
    assert off > 1.5 * before
    assert after < 1.02 * before


def test_they_are_part_of_the_weights(model: AstroMAE) -> None:
    sample, corrected = make_sample(torch.zeros(5)), deepcopy(model)

    add_to_magnitudes(corrected, OFF)

    expected = predict_rows(model, make_sample(OFF), ALL, "last")
    torch.testing.assert_close(predict_rows(corrected, sample, ALL, "last"), expected, atol=2e-5, rtol=0)
    assert (predict_rows(model, sample, ALL, "last") - expected).abs().max() > 0.01


def test_nothing_near_explains_the_redshifts_better(model: AstroMAE, found: torch.Tensor) -> None:
    """Of the loss of Huber 1964 in units of dz = .02, and a usual error of .1 mag in each band."""
    sample = make_sample(OFF)

    def chi_square(shift: torch.Tensor) -> float:
        moved = replace(sample, magnitudes=sample.magnitudes + shift)
        dz = (predict_rows(model, moved, ALL, "last") - sample.redshifts).double() / (1 + sample.redshifts) / 0.02
        loss = torch.where(dz.abs() < 1, dz**2 / 2, dz.abs() - 0.5).sum()
        return float(loss + (shift.double() / 0.1).square().sum() / 2)

    lowest = chi_square(found)

    steps = torch.cat([0.02 * torch.eye(5), 0.04 * torch.ones(1, 5)])
    assert all(chi_square(found + sign * step) > lowest for step in steps for sign in (-1, 1))
    assert lowest < chi_square(torch.zeros(5)) - 10


def test_few_galaxies_are_looked_at_first_and_then_many_from_first_to_last(
    model: AstroMAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[list[int]] = []
    monkeypatch.setattr(zero_points, "FEW", 3)
    monkeypatch.setattr(zero_points, "MANY", 5)
    monkeypatch.setattr(zero_points, "_Linearised", lambda model, sample, rows: looked_at.append(rows.tolist()))
    monkeypatch.setattr(zero_points, "_descend", lambda shift, galaxies: shift + 1)

    found = fit_zero_points(model, make_sample(OFF), torch.arange(0, 100, 2))

    assert looked_at == [[0, 48, 98], [0, 24, 48, 72, 98]]
    assert (found.tolist(), found.dtype) == ([2.0] * 5, torch.float32)
