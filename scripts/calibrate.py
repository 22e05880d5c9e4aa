"""`make calibrate`: measure the errors of the trained weights, write their sigma and p(z), and how well both hold."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from inference.calibration import calibration_path
from scripts.command.model import ModelName, astromae
from scripts.command.program import start
from scripts.command.variables import Variables
from scripts.models.training.calibrate import write
from scripts.models.training.surveys import read_surveys


class CalibrateVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make calibrate`."""

    model: ModelName = ""
    tables: str = ""


def main(variables: CalibrateVariables) -> None:
    """Write calibration.safetensors, posterior.safetensors and CALIBRATION.md into the folder of the model.

    TABLES names tables of galaxies with redshifts and positions, to calibrate on next to the sample.
    """
    weights = astromae(variables.model).weights
    print("predicting the galaxies to calibrate on: some minutes", file=sys.stderr)
    with TemporaryDirectory() as scratch:
        surveys = read_surveys([Path(name) for name in variables.tables.split()], Path(scratch))
        calibration, measured = write(weights, surveys)
    path = calibration_path(weights)
    print(f"{path}: {path.stat().st_size:,} bytes for the weights {calibration.weights_sha256[:12]}; CALIBRATION.md")
    print(f"95 % interval: z_phot ± {calibration.errors.ratio_95:.3f} sigma\n")
    print(measured.to_table())


if __name__ == "__main__":
    start(main)
