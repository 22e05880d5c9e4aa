"""`make evaluate`: how good the weights are on galaxies nothing was fitted to, or how good a run's predictions are."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from inference.checkpoints import CHECKPOINT
from scripts.command.errors import CommandError
from scripts.command.program import start
from scripts.models.held_out import held_out
from scripts.reports.evaluated import Evaluated, of_run
from scripts.reports.figures import calibration_figure, density_figure, redshifts_figure, residuals_figure
from scripts.reports.numbers import evaluate, table, to_json
from scripts.runs.run_folder import open_run
from scripts.runs.variables import RunName, StackVariables

FOLDER = "evaluation"
NUMBERS = "numbers.json"


class EvaluateVariables(StackVariables, frozen=True, kw_only=True):
    """The variables of `make evaluate`."""

    run: RunName = ""


def main(variables: EvaluateVariables) -> None:
    """Print a table, write plots and numbers. Exit status: 0 done, 1 nothing to evaluate, 2 there is no such run."""
    write(*gather(variables.run, variables, root=Path()))


def gather(run: str, where: StackVariables, *, root: Path) -> tuple[list[Evaluated], Path]:
    """Return the galaxies, and the folder for what is said about them."""
    if not run:
        print("predicting held-out galaxies: a minute", file=sys.stderr)
        return held_out(CHECKPOINT), root / FOLDER
    found = open_run(run, where, root=root)
    return [of_run(found, root)], found.path / FOLDER


def write(galaxies: list[Evaluated], folder: Path) -> None:
    """Print the table; write the numbers and the plots into a folder.

    Raises
    ------
    CommandError
        If no galaxy is labelled.
    """
    pairs = [(rows, numbers) for rows in galaxies if (numbers := evaluate(rows)) is not None]
    if not pairs:
        raise CommandError(
            f"No galaxy of {galaxies[0].name} has both a spectroscopic and a predicted redshift: nothing to compare."
        )
    folder.mkdir(parents=True, exist_ok=True)
    labelled = [numbers for _, numbers in pairs]
    (folder / NUMBERS).write_bytes(to_json([rows for rows, _ in pairs], labelled))
    names = [NUMBERS]
    for rows, _ in pairs:
        for name, figure in figures(rows):
            names.append(f"{name}.png" if len(pairs) == 1 else f"{_prefix(rows)}-{name}.png")
            figure.savefig(folder / names[-1])
    print(table(labelled))
    print(f"\n{folder}/: {', '.join(names)}")


def figures(galaxies: Evaluated) -> Iterator[tuple[str, Figure]]:
    """Yield every plot that these galaxies allow, with its name."""
    found, title = galaxies.predictions, galaxies.name
    z_phot, z_spec = found.z_phot.astype(np.float64), found.z_spec
    yield "density", density_figure(z_phot, z_spec, title=title)
    yield "residuals-z", residuals_figure(z_spec, z_phot, z_spec, label="$z_{spec}$", title=title)
    if np.isfinite(galaxies.r).any():
        yield "residuals-r", residuals_figure(galaxies.r, z_phot, z_spec, label="r [mag]", title=title)
    yield "redshifts", redshifts_figure(z_phot, z_spec, title=title)
    if np.isfinite(found.sigma).any():
        sigma = found.sigma.astype(np.float64)
        yield "calibration", calibration_figure(z_phot, z_spec, sigma, ratio_95=galaxies.ratio_95, title=title)


def _prefix(galaxies: Evaluated) -> str:
    return galaxies.name.partition(",")[0]


if __name__ == "__main__":
    start(main)
