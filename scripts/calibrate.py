"""`make calibrate`: measure the errors of a model, write its sigma, p(z) and flag, and how well they hold."""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from inference.models import Model
from scripts.command.errors import UsageError
from scripts.command.model import ModelName, find_model
from scripts.command.program import start
from scripts.command.variables import Variables
from scripts.data.location import find_dataset
from scripts.models.card_text import pz_table
from scripts.models.training.calibrate import write
from scripts.models.training.own_calibration import calibrate_on
from scripts.models.training.surveys import Survey, read_surveys
from scripts.simulation.sdss import SHA256


class CalibrateVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make calibrate`."""

    model: ModelName = ""
    dataset: str = ""
    tables: str = ""


def main(variables: CalibrateVariables) -> None:
    """Write calibration.safetensors and posterior.safetensors into the folder of the model.

    With DATASET a model of the user's is calibrated on galaxies that it did not learn from. Without it, weights that
    learned from the sample, and from TABLES if they did, are calibrated on those; CALIBRATION.md is written, too.
    """
    model = find_model(variables.model)
    if variables.dataset and variables.tables:
        raise UsageError("DATASET is for a model of yours, TABLES for weights that learned from the sample: name one.")
    print("predicting the galaxies to calibrate on: some minutes", file=sys.stderr)
    if variables.dataset:
        dataset = find_dataset(variables.dataset, asked=f"DATASET={variables.dataset}", root=Path())
        found = calibrate_on(model, dataset.folder)
        assert found.pz is not None, "it was calibrated"
        print(f"{model.folder}/: within sigma {100 * (found.coverage_68 or 0):.1f} %, NMAD {found.nmad:.4f}\n")
        print(pz_table({found.rows: found.pz}))
        return
    with TemporaryDirectory() as scratch:
        _refuse_other_galaxies(model)
        surveys = read_surveys([Path(name) for name in variables.tables.split()], Path(scratch))
        _refuse_missing_tables(model, surveys)
        calibration, measured = write(model.weights, surveys)
    print(f"{model.folder}/: calibration of the weights {calibration.weights_sha256[:12]}; CALIBRATION.md")
    print(f"95 % interval: z_phot ± {calibration.errors.ratio_95:.3f} sigma\n")
    print(measured.to_table())


def _refuse_other_galaxies(model: Model) -> None:
    """Raise unless the sample, which is calibrated on, is what the weights learned from."""
    known = model.card.knowledge.training
    if model.card.kind != "astromae" or SHA256 not in {one.sha256 for one in known}:
        raise UsageError(
            f"MODEL={model.card.name} is not calibrated on the galaxies of the sample, which are not those that it "
            "was trained on. `make calibrate MODEL=… DATASET=name` takes yours, which it did not learn from."
        )


def _refuse_missing_tables(model: Model, surveys: Sequence[Survey]) -> None:
    """Raise where the weights learned from a table that is not given: their intervals would hold for the others."""
    given = {SHA256, *(survey.sha256 for survey in surveys)}
    lacking = [one.name for one in model.card.knowledge.training if one.sha256 and one.sha256 not in given]
    if lacking:
        raise UsageError(
            f'MODEL={model.card.name} learned from further tables too: TABLES="a.csv b.csv" names them. '
            f"Lacking: {'; '.join(lacking)}."
        )


if __name__ == "__main__":
    start(main)
