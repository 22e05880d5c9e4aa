"""`make train`: train the weights that the repository ships, or rehearse every step with QUICK=1."""

import os
from typing import Annotated

import torch
from msgspec import Meta

from inference.models import shipped
from scripts.command.program import start
from scripts.command.repository import REPOSITORY
from scripts.command.variables import Flag, Variables
from scripts.models.training.journal import Journal
from scripts.models.training.recipe import FULL, QUICK
from scripts.models.training.train import publish, train


class TrainVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make train`."""

    quick: Flag = False
    threads: Annotated[int, Meta(ge=1, description="a number of CPU threads")] = max(1, (os.cpu_count() or 2) - 1)


def main(variables: TrainVariables) -> None:
    """Train AstroMAE. Replaces the shipped weights; with QUICK=1, writes to training/quick/ instead.

    A run that was killed continues from its last checkpoint.
    """
    torch.set_num_threads(variables.threads)
    recipe = QUICK if variables.quick else FULL
    journal = Journal(REPOSITORY / "training" / ("quick" if variables.quick else "full"), recipe)
    path = journal.folder / shipped().weights.name if variables.quick else shipped().weights
    with journal:
        tables = publish(train(recipe, journal), recipe, journal, path)
    print(path, *tables, sep="\n")


if __name__ == "__main__":
    start(main)
