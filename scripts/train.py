"""`make train`: train a model on one's own galaxies, or the weights that the repository ships."""

import os
from pathlib import Path
from typing import Annotated, Literal

import torch
from msgspec import Meta

from inference.models import CARD_TEXT_NAME, shipped
from scripts.command.errors import UsageError
from scripts.command.model import ModelName, find_model
from scripts.command.program import start as start_program
from scripts.command.repository import REPOSITORY
from scripts.command.variables import Flag, Variables, Whole
from scripts.data.location import find_dataset
from scripts.models.export.engines import export
from scripts.models.training.device import choose_device
from scripts.models.training.journal import Journal
from scripts.models.training.own import Order, train_own
from scripts.models.training.recipe import FULL, QUICK
from scripts.models.training.train import publish, train

QUICK_PACE = 0.05
"""Share of the steps of a rehearsal."""


class TrainVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make train`."""

    dataset: str = ""
    model: ModelName = ""
    begin: Annotated[str, Meta(description="the name of a model, or scratch")] = ""
    device: Annotated[Literal["auto", "cpu", "cuda"], Meta(description="auto, cpu or cuda")] = "auto"
    seed: Whole = 1
    quick: Flag = False
    threads: Annotated[int, Meta(ge=1, description="a number of CPU threads")] = max(1, (os.cpu_count() or 2) - 1)


def main(variables: TrainVariables) -> None:
    """Train a model on the galaxies of DATASET, and write it to models/MODEL/: `make run MODEL=…` takes it from there.

    It begins with the shipped weights, with those of another model (BEGIN=name) or with none (BEGIN=scratch). Without
    DATASET, the weights that the repository ships are trained anew and replaced, or, with QUICK=1, only rehearsed.
    A run that was killed continues from its last checkpoint. Exit status: 0 done, 1 the galaxies cannot teach, 2 a
    variable is wrong.
    """
    torch.set_num_threads(variables.threads)
    if variables.dataset:
        train_on(variables, Path())
    elif variables.model or variables.begin:
        raise UsageError("MODEL and BEGIN go with DATASET=name: which galaxies is the model to be trained on?")
    else:
        train_shipped(quick=variables.quick)


def train_on(variables: TrainVariables, root: Path) -> None:
    """Train on a user's galaxies."""
    if not variables.model:
        raise UsageError(f"MODEL is missing: DATASET={variables.dataset} MODEL=name writes models/name/.")
    asked = f"BEGIN={variables.begin}"
    start = None if variables.begin == "scratch" else find_model(variables.begin, root=root, asked=asked)
    if start is not None and start.card.kind != "astromae":
        raise UsageError(f"{asked} is a network as ONNX, which cannot be trained here; BEGIN=scratch begins with none.")
    dataset = find_dataset(variables.dataset, asked=f"DATASET={variables.dataset}", root=root)
    pace = QUICK_PACE if variables.quick else 1.0
    order = Order(dataset.folder, variables.model, start, variables.seed, pace)
    found = train_own(
        order,
        root=root,
        device=choose_device(variables.device),
        export=lambda weights: export(weights, dataset.folder),
    )
    print((found.folder / CARD_TEXT_NAME).read_text(encoding="utf-8"))
    print(f"{found.folder}/: make run DATASET=… MODEL={variables.model}")


def train_shipped(*, quick: bool) -> None:
    """Train the shipped weights, or rehearse it."""
    recipe = QUICK if quick else FULL
    journal = Journal(REPOSITORY / "training" / ("quick" if quick else "full"), recipe)
    path = journal.folder / shipped().weights.name if quick else shipped().weights
    with journal:
        tables = publish(train(recipe, journal), recipe, journal, path)
    print(path, *tables, sep="\n")


if __name__ == "__main__":
    start_program(main)
