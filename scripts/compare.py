"""`make compare`: the same rows by the plain library, by the local AWS and by AWS, and the published rates."""

from pathlib import Path

from rich.console import Console

from scripts.benchmarks.comparison.comparison import compare
from scripts.benchmarks.comparison.present import print_comparison
from scripts.benchmarks.comparison.runs import CompareVariables
from scripts.command.errors import CommandError, UsageError
from scripts.command.program import start


def main(variables: CompareVariables) -> None:
    """Measure every way to predict the same rows, compare their redshifts, and leave comparison.json in the runs.

    RUN compares a run that has ended instead of new ones.
    """
    try:
        found, paths = compare(variables, root=Path(), console=Console(stderr=True, highlight=False))
    except UsageError:
        raise
    except CommandError as error:
        raise CommandError(f"The comparison stopped: {error}") from error
    print_comparison(Console(highlight=False), found, str(paths[0]))


if __name__ == "__main__":
    start(main)
