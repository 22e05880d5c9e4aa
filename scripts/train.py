"""`make train`: train a model on one's own galaxies, on the sample and further ones, or on the sample alone."""

import dataclasses
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import torch
from msgspec import Meta
from msgspec.structs import replace

from inference.checksum import file_sha256
from inference.model.astromae import Variant
from inference.model.weights import load_astromae
from inference.models import CARD_TEXT_NAME, Model, shipped, without_images
from scripts.command.errors import UsageError
from scripts.command.model import FOLDER, ModelName, find_model, new_model, refuse_taken
from scripts.command.program import start as start_program
from scripts.command.variables import Flag, Variables, Whole
from scripts.data.location import find_dataset
from scripts.data.sample import ensure_sample
from scripts.models.conversion.convert import OURS, PUBLISHED, convert
from scripts.models.export.engines import export
from scripts.models.training.curves import draw_curves
from scripts.models.training.device import choose_device
from scripts.models.training.further import FurtherRecipe, train_further
from scripts.models.training.journal import Journal
from scripts.models.training.magnitudes import read_network
from scripts.models.training.own import Order, train_own
from scripts.models.training.recipe import FULL, QUICK
from scripts.models.training.sample_model import of_surveys, write_model
from scripts.models.training.surveys import read_surveys
from scripts.models.training.train import train

SCRATCH = "scratch"
ANEW, REHEARSAL = "anew", "rehearsal"
"""Names of models that are given none."""

QUICK_PACE = 0.05
"""Share of the steps of a rehearsal."""


class TrainVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make train`."""

    dataset: str = ""
    model: ModelName = ""
    from_: Annotated[str, Meta(description="the name of a model, a published .pt, or scratch")] = ""
    trust_pickle: Flag = False
    device: Annotated[Literal["auto", "cpu", "cuda"], Meta(description="auto, cpu or cuda")] = "auto"
    seed: Whole = 1
    quick: Flag = False
    tables: str = ""
    threads: Annotated[int, Meta(ge=1, description="a number of CPU threads")] = max(1, (os.cpu_count() or 2) - 1)


def main(variables: TrainVariables) -> None:
    """Train a model on the galaxies of DATASET, and write it to models/MODEL/: `make run MODEL=…` takes it from there.

    It begins with the shipped weights, with those of another model (FROM=name), with published ones (FROM=x.pt) or with
    none (FROM=scratch). With TABLES instead, its final layers learn from the sample and from the galaxies of those
    tables. With neither, all of it is trained anew on the sample, or, with QUICK=1, rehearsed. A run that was killed
    continues from its last checkpoint. Exit status: 0 done, 1 the galaxies cannot teach, 2 a variable is wrong.
    """
    torch.set_num_threads(variables.threads)
    if variables.dataset and variables.tables:
        raise UsageError("DATASET trains on your galaxies, TABLES on the sample and further ones: name one of them.")
    if variables.dataset:
        train_on(variables, Path())
    elif variables.tables:
        train_further_on(variables, Path())
    elif variables.from_ not in ("", SCRATCH):
        raise UsageError(
            'FROM goes with DATASET=name, or TABLES="a.csv b.csv": which galaxies is the model to learn from?'
        )
    else:
        train_on_sample(variables, Path())


def train_on(variables: TrainVariables, root: Path) -> None:
    """Train on a user's galaxies."""
    if not variables.model:
        raise UsageError(f"MODEL is missing: DATASET={variables.dataset} MODEL=name writes models/name/.")
    dataset = find_dataset(variables.dataset, asked=f"DATASET={variables.dataset}", root=root)
    pace = QUICK_PACE if variables.quick else 1.0
    with TemporaryDirectory() as scratch:
        start = find_start(variables.from_, root, Path(scratch), trusted=variables.trust_pickle)
        order = Order(dataset.folder, variables.model, start, variables.seed, pace)
        found = train_own(
            order,
            root=root,
            device=choose_device(variables.device),
            export=lambda weights: export_if_possible(weights, dataset.folder),
        )
    _say_what_there_is(found.folder)


def find_start(name: str, root: Path, scratch: Path, *, trusted: bool) -> Model | None:
    """Find the weights to begin with.

    Parameters
    ----------
    name : str
        Of a model, or of a file: published weights as ``.pt``, ours as ``.safetensors``; `SCRATCH` means none.
    root : Path
        Folder that holds ``models/``.
    scratch : Path
        Where a published file is converted to.
    trusted : bool
        Whether a pickle may be opened.

    Raises
    ------
    UsageError
        If there are none of that name, or they are no weights of AstroMAE.
    """
    if name == SCRATCH:
        return None
    asked, path = f"FROM={name}", Path(name).expanduser()
    if path.suffix not in (OURS, PUBLISHED):
        found = find_model(name, root=root, asked=asked)
        if found.card.kind != "astromae":
            raise UsageError(f"{asked} is a network as ONNX, which cannot be trained here; FROM=scratch begins anew.")
        return found
    if not path.is_file():
        raise UsageError(f"{asked}: there is no such file.")
    weights = path
    if path.suffix == PUBLISHED:
        weights, notes = convert(str(path), str(scratch / f"{path.stem}{OURS}"), "", trusted=trusted, variable="FROM")
        print(*notes, sep="\n", file=sys.stderr)
    like = shipped().card
    card = replace(like, name=path.name, weights_name=weights.name, weights_sha256=file_sha256(weights))
    return Model(weights.parent, card)


def export_if_possible(weights: Path, dataset: Path) -> None:
    """Make the graphs of the faster engines in fp32; the published variant is computed by torch alone."""
    if load_astromae(weights).variant == Variant():
        export(weights, dataset, reduced=False)
    else:
        print("The published variant has no graph for the faster engines: torch computes it.", file=sys.stderr)


def train_further_on(variables: TrainVariables, root: Path) -> None:
    """Train the final layers of the shipped weights, or of others, on the sample and on further tables."""
    if not variables.model:
        raise UsageError('MODEL is missing: TABLES="a.csv b.csv" MODEL=name writes models/name/.')
    refuse_taken(variables.model, root, variable="MODEL")
    with TemporaryDirectory() as scratch:
        start = find_start(variables.from_, root, Path(scratch), trusted=variables.trust_pickle)
        if start is None or load_astromae(start.weights).variant != Variant():
            raise UsageError(
                f"FROM={variables.from_}: TABLES begins with weights of this project, not with published ones or none."
            )
        networks = without_images()
        surveys = read_surveys([Path(name) for name in variables.tables.split()], Path(scratch))
        recipe = FurtherRecipe(
            start.card.weights_sha256,
            networks.card.weights_sha256,
            tuple(survey.sha256 for survey in surveys),
            variables.seed,
        )
        network = read_network(networks.weights)
        with Journal(root / "training" / variables.model, recipe) as journal:
            model = train_further(load_astromae(start.weights), network, surveys, recipe, journal)
            with new_model(variables.model, root) as folder:
                trained = of_surveys(model, start, network, surveys)
                write_model(folder, variables.model, trained, _export_of_sample, surveys=surveys)
    _say_what_there_is(root / FOLDER / variables.model)


def train_on_sample(variables: TrainVariables, root: Path) -> None:
    """Train every layer on the sample and on galaxies simulated from it, or rehearse it."""
    name = variables.model or (REHEARSAL if variables.quick else ANEW)
    refuse_taken(name, root, variable="MODEL")
    recipe = dataclasses.replace(QUICK if variables.quick else FULL, seed=variables.seed)
    with Journal(root / "training" / name, recipe) as journal:
        trained = train(recipe, journal)
        journal.say("measuring on the test set")
        with new_model(name, root) as folder:
            write_model(folder, name, trained, _export_of_sample, recipe=recipe)
            draw_curves(journal.folder / "log.csv", folder / "training_curves.png")
    _say_what_there_is(root / FOLDER / name)


def _export_of_sample(weights: Path) -> None:
    export(weights, ensure_sample())


def _say_what_there_is(folder: Path) -> None:
    print((folder / CARD_TEXT_NAME).read_text(encoding="utf-8"))
    print(f"{folder}/: make run DATASET=… MODEL={folder.name}")


if __name__ == "__main__":
    start_program(main)
