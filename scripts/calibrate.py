"""`make calibrate`: measure the errors of the trained weights, write their calibration and how well it covers."""

import sys
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from inference.calibration import calibration_path
from inference.checkpoints import CHECKPOINT
from scripts.command.program import start
from scripts.command.variables import Variables
from scripts.models.training.calibrate import write


class CalibrateVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make calibrate`."""

    checkpoint: Annotated[Path, Meta(description="a file of weights")] = CHECKPOINT


def main(variables: CalibrateVariables) -> None:
    """Write calibration.safetensors and CALIBRATION.md into the folder of the weights."""
    print("predicting galaxies to calibrate on: a few minutes", file=sys.stderr)
    calibration, measured = write(variables.checkpoint)
    path = calibration_path(variables.checkpoint)
    print(f"{path}: {path.stat().st_size:,} bytes for the weights {calibration.weights_sha256[:12]}; CALIBRATION.md")
    print(f"95 % interval: z_phot ± {calibration.errors.ratio_95:.3f} sigma\n")
    print(measured.to_table())


if __name__ == "__main__":
    start(main)
