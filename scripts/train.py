"""Train the weights that the repository ships: `make train`, or `make train QUICK=1` for a rehearsal of every step."""

import os
import sys
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from inference.checkpoints import CHECKPOINT
from inference.checksum import file_sha256
from inference.model.astromae import AstroMAE
from inference.model.weights import load_astromae, save_weights
from scripts.galaxies.sdss import SourceCatalogError
from scripts.training.fast_blocks import fast_blocks
from scripts.training.journal import Journal
from scripts.training.model_card import model_card
from scripts.training.pretrain import pooled_features, pretrain, settle_batch_norms
from scripts.training.recipe import FULL, QUICK, Recipe
from scripts.training.regress import CachedRows, blind_predictor, train_stage
from scripts.training.report import TABLE_HEAD, Measurement, measure
from scripts.training.rows import TrainingRows, selection_rows, training_rows
from scripts.training.scalings import set_scalings

ROOT = Path(__file__).parent.parent
WRONG_USAGE, FAILED = 2, 1


@dataclass(frozen=True)
class Trained:
    """The outcome of training."""

    model: AstroMAE
    control: AstroMAE
    """The same network trained without its images."""


def train(recipe: Recipe, journal: Journal) -> Trained:
    """Run every stage, going on where a killed run left off.

    Parameters
    ----------
    recipe : Recipe
        Settings; the same recipe gives the same weights on the same machine.
    journal : Journal
        Log and checkpoints.

    Returns
    -------
    Trained
        Both in evaluation mode.
    """
    torch.manual_seed(recipe.seed)
    model = AstroMAE()
    with journal.timed("rows"):
        taught, chosen = training_rows(recipe), selection_rows(recipe)
    journal.say(f"{len(taught):,} training rows ({taught.num_real:,} of real galaxies), {len(chosen)} to choose by")
    set_scalings(model, taught)
    with fast_blocks():
        with journal.timed("pretrain"):
            pretrain(model, taught.images, recipe, journal)
            settle_batch_norms(model, taught.images)
        with journal.timed("features"):
            train_rows, choice_rows = _cache(model, taught, journal), _cache(model, chosen, journal)
    control = deepcopy(model)
    for stage in ("heads", "joint"):
        with journal.timed(stage):
            train_stage(stage, model, train_rows, choice_rows, recipe, journal)
    train_stage("magnitudes", control, train_rows, choice_rows, recipe, journal)
    return Trained(model.eval(), control.eval())


def _cache(model: AstroMAE, rows: TrainingRows, journal: Journal) -> CachedRows:
    tick = journal.stage("features", -(-len(rows) // 256))
    return CachedRows(rows, pooled_features(model, rows.images, tick))


def publish(trained: Trained, recipe: Recipe, journal: Journal, path: Path) -> list[Measurement]:
    """Write the weights and their model card into the folder of `path`, and return what the card says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(trained.model, path)
    journal.say("measuring on held-out galaxies")
    measurements = measure(load_astromae(path), blind_predictor(trained.control), recipe)
    card = model_card(recipe, measurements, journal.seconds(), path=path, sha256=file_sha256(path))
    (path.parent / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    return measurements


def main(
    quick: Annotated[str, typer.Option(envvar="QUICK", help="1 rehearses every step; the result is poor.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = max(1, (os.cpu_count() or 2) - 1),
) -> None:
    """Train AstroMAE. Replaces inference/checkpoints/; with QUICK, writes to training/quick/ instead.

    A run that was killed goes on from its last checkpoint. Exit status: 0 trained, 1 failed, 2 wrong usage.
    """
    if quick not in ("", "0", "1"):
        print(f"QUICK={quick} is not valid: QUICK is 1 or 0.", file=sys.stderr)
        raise typer.Exit(WRONG_USAGE)
    torch.set_num_threads(threads)
    is_quick = quick == "1"
    recipe = QUICK if is_quick else FULL
    journal = Journal(ROOT / "training" / ("quick" if is_quick else "full"), recipe)
    path = journal.folder / CHECKPOINT.name if is_quick else CHECKPOINT
    try:
        measurements = publish(train(recipe, journal), recipe, journal, path)
    except SourceCatalogError as error:
        print(f"Training could not start: {error}", file=sys.stderr)
        raise typer.Exit(FAILED) from error
    print(path, TABLE_HEAD, *(measurement.table_row() for measurement in measurements), sep="\n")


if __name__ == "__main__":
    typer.run(main)
