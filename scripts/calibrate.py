"""`make calibrate`: measure the errors of the trained weights, write their sigma and p(z), and how well both hold."""

import sys

from inference.calibration import calibration_path
from scripts.command.model import ModelName, astromae
from scripts.command.program import start
from scripts.command.variables import Variables
from scripts.models.training.calibrate import write


class CalibrateVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make calibrate`."""

    model: ModelName = ""


def main(variables: CalibrateVariables) -> None:
    """Write calibration.safetensors, posterior.safetensors and CALIBRATION.md into the folder of the model."""
    weights = astromae(variables.model).weights
    print("predicting the sample's galaxies, to calibrate on: a few minutes", file=sys.stderr)
    calibration, measured = write(weights)
    path = calibration_path(weights)
    print(f"{path}: {path.stat().st_size:,} bytes for the weights {calibration.weights_sha256[:12]}; CALIBRATION.md")
    print(f"95 % interval: z_phot ± {calibration.errors.ratio_95:.3f} sigma\n")
    print(measured.to_table())


if __name__ == "__main__":
    start(main)
