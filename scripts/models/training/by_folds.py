"""A calibration from one's own galaxies, none of which taught the network that predicted it."""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference.calibration import FILE_NAME as CALIBRATION_NAME
from inference.calibration import Calibration
from inference.models.card import Measured
from inference.posterior import FILE_NAME as POSTERIOR_NAME
from inference.pz_metrics import pz_accuracy
from inference.uncertainty import Array
from scripts.command.whole_file import write_whole
from scripts.models.numbers import number_of
from scripts.models.training.domain_model import fit_domain_model
from scripts.models.training.error_model import Predicted, fit_error_model_by_folds
from scripts.models.training.posterior_model import fit_posterior_model, steps_for


def calibrate_by_folds(
    predicted: Predicted, fold: NDArray[np.int64], features: tuple[Array, Array], sha256: str
) -> Calibration:
    """Fit error model, distributions and domain.

    Parameters
    ----------
    predicted : Predicted
        N galaxies.
    fold : array, shape (N,), int64
        Of each; what is set on one was learned from the others.
    features : pair of arrays, shape (11, n) or (5, n)
        Of `inference.domain.domain_features`: of galaxies to learn from, and of others to set the threshold on.
    sha256 : str
        Checksum of the weights.
    """
    return Calibration(
        weights_sha256=sha256,
        errors=fit_error_model_by_folds(predicted, fold),
        posterior=fit_posterior_model(predicted, sha256, num_steps=steps_for(len(fold))),
        domain=fit_domain_model(*features),
    )


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write ``calibration.safetensors`` and ``posterior.safetensors``."""
    assert calibration.posterior is not None, "it was fitted"
    write_whole(folder / CALIBRATION_NAME, calibration.to_bytes())
    write_whole(folder / POSTERIOR_NAME, calibration.posterior.to_bytes())


def number_with_errors(calibration: Calibration, predicted: Predicted, rows: str) -> Measured:
    """Measure redshifts with the sigma and the p(z) that a calibration gives them."""
    magnitudes, z_phot, z_spec = predicted
    assert calibration.posterior is not None, "it was fitted"
    sigma = calibration.errors.sigma(magnitudes, z_phot)
    found = number_of(z_phot, z_spec, rows, sigma=sigma, ratio_95=calibration.errors.ratio_95)
    return msgspec.structs.replace(found, pz=pz_accuracy(calibration.posterior.posteriors(magnitudes, z_phot), z_spec))
