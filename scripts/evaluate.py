"""`make evaluate`: how good the weights are on galaxies nothing was fitted to, or how good a run's predictions are."""

import sys
from pathlib import Path

from scripts.command.errors import CommandError
from scripts.command.model import ModelName, astromae
from scripts.command.program import start
from scripts.command.whole_file import write_whole
from scripts.reports.evaluated import Evaluated, of_run
from scripts.reports.numbers import evaluate, table, to_json
from scripts.reports.plots import write_plots
from scripts.runs.run_folder import open_run
from scripts.runs.variables import RunName, StackVariables

FOLDER = "evaluation"
NUMBERS = "numbers.json"


class EvaluateVariables(StackVariables, frozen=True, kw_only=True):
    """The variables of `make evaluate`."""

    run: RunName = ""
    model: ModelName = ""


def main(variables: EvaluateVariables) -> None:
    """Print a table, write plots and numbers. Exit status: 0 done, 1 nothing to evaluate, 2 there is no such run."""
    if variables.run:
        found = open_run(variables.run, variables, root=Path(), model=variables.model)
        if lost := found.incomplete_in_words:
            print(f"{found.run_id} is incomplete, {lost}: these are the others.\n")
        write([of_run(found, Path())], found.path / FOLDER)
    else:
        print("predicting the test set: about a minute", file=sys.stderr)
        # Imported here: it takes torch three seconds, and a run has its predictions.
        from scripts.models.evaluation import predict_test_set

        write(predict_test_set(astromae(variables.model, root=Path())), Path(FOLDER) / variables.model)


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
    write_whole(folder / NUMBERS, to_json([rows for rows, _ in pairs], labelled))
    names = [NUMBERS]
    for rows, _ in pairs:
        names += write_plots(rows, folder, prefix="" if len(pairs) == 1 else f"{_prefix(rows)}-")
    print(table(labelled))
    print(f"\n{folder}/: {', '.join(names)}")


def _prefix(galaxies: Evaluated) -> str:
    return galaxies.name.partition(",")[0]


if __name__ == "__main__":
    start(main)
