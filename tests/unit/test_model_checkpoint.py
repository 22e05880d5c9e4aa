"""The shipped weights give the predictions they gave when they were made, and are good enough on galaxies unseen."""

import numpy as np
import pytest
import torch

from inference.block import Block
from inference.checksum import file_sha256
from inference.metrics import redshift_accuracy
from inference.model.astromae import AstroMAE
from inference.model.weights import load_astromae
from inference.models import shipped
from scripts.simulation.cutouts import real_rows
from scripts.simulation.sdss import load_sources

NUM_ROWS = 64
"""Rows of the sample rendered here; all of it takes longer than a unit test may."""

GOLDEN_SHA256 = "808183bdec8968d4ca907e53f8258823439484c467da641ae22675d321e6c980"
GOLDEN_REDSHIFTS = [0.15009, 0.11253, 0.1345, 0.06606, 0.07244, 0.07739, 0.0402, 0.19344]
"""Predictions of those weights for the first galaxies of the sample."""


@pytest.fixture(scope="module")
def model() -> AstroMAE:
    return load_astromae(shipped().weights)


@pytest.fixture(scope="module")
def rows() -> Block:
    return real_rows(load_sources().of("held_out"), slice(0, NUM_ROWS), seed=0)


@pytest.fixture(scope="module")
def z_phot(model: AstroMAE, rows: Block) -> np.ndarray:
    with torch.inference_mode():
        predicted = model(torch.from_numpy(rows.images), torch.from_numpy(rows.magnitudes).float())
    return predicted.numpy().astype(np.float64)


def test_golden_predictions_belong_to_the_shipped_weights() -> None:
    assert file_sha256(shipped().weights) == GOLDEN_SHA256


def test_predictions_are_the_golden_ones(z_phot: np.ndarray) -> None:
    # Another CPU rounds float32 sums differently, in the images and in the network; the model's error is 0.013.
    np.testing.assert_allclose(z_phot[: len(GOLDEN_REDSHIFTS)], GOLDEN_REDSHIFTS, atol=5e-4)


def test_predictions_are_redshifts(z_phot: np.ndarray, rows: Block) -> None:
    accuracy = redshift_accuracy(z_phot, rows.redshifts)

    # Loose: the NMAD of 64 galaxies scatters by a fifth. A network fed in wrong units is off by ten times.
    assert accuracy is not None
    assert accuracy.nmad < 0.025
    assert abs(accuracy.bias) < 0.02


def test_checkpoint_is_small_enough_to_ship() -> None:
    assert shipped().weights.stat().st_size <= 32 * 2**20


def test_model_card_is_that_of_the_checkpoint() -> None:
    assert file_sha256(shipped().weights) in (shipped().weights.parent / "CARD.md").read_text(encoding="utf-8")


def test_calibration_report_is_that_of_the_checkpoint() -> None:
    assert file_sha256(shipped().weights) in (shipped().weights.parent / "CALIBRATION.md").read_text(encoding="utf-8")
