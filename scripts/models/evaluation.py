"""Predictions for the test set."""

import numpy as np

from inference import engines
from inference.calibration import calibration_path, load_calibration
from inference.models import Model
from inference.pipeline import predict_block
from inference.uncertainty import R_BAND
from scripts.models.training.recipe import FULL
from scripts.models.training.rows import real_test_rows, synthetic_test_rows
from scripts.reports.evaluated import Evaluated


def predict_test_set(model: Model) -> list[Evaluated]:
    """Predict the test set, to which no weight and no interval was fitted, as a worker would.

    Raises
    ------
    WeightsError
        If the weights cannot be read or have no calibration.
    """
    engine = engines.load_model("auto", model, num_threads=1)
    calibration = load_calibration(calibration_path(model.weights), engine.weights_sha256)
    rows = {"real, test set": real_test_rows(), "simulated, test sources": synthetic_test_rows(FULL)}
    return [
        Evaluated(
            name=name,
            predictions=predict_block(galaxies.to_block(), engine, calibration, model.card),
            r=magnitudes[:, R_BAND],
            g_r=magnitudes[:, R_BAND - 1] - magnitudes[:, R_BAND],
            ratio_95=calibration.errors.ratio_95,
            weights_sha256=(engine.weights_sha256,),
            engines=(engine.name,),
        )
        for name, galaxies in rows.items()
        for magnitudes in [galaxies.magnitudes.numpy().astype(np.float64)]
    ]
