"""The whole of a training: pretraining, the supervised stages with their repeats, the controls, and the model card."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from inference.checksum import file_sha256
from inference.model.astromae import AstroMAE
from inference.model.weights import load_astromae, save_weights
from scripts.models.training.controls import NUM_NEIGHBOURS, boosted_trees, neighbours
from scripts.models.training.curves import draw_curves
from scripts.models.training.fast_blocks import fast_blocks
from scripts.models.training.journal import Journal
from scripts.models.training.limit import limits
from scripts.models.training.model_card import model_card, tables
from scripts.models.training.pretrain import initialise_encoder, pooled_features, pretrain, settle_batch_norms
from scripts.models.training.recipe import Recipe
from scripts.models.training.regress import STAGES, CachedRows, add_inception, blind_predictor, score, train_stage
from scripts.models.training.report import Predictor, compare, measure, network
from scripts.models.training.rows import TrainingRows, selection_rows, training_rows
from scripts.models.training.scalings import set_scalings
from scripts.models.training.whitening import prepare


@dataclass(frozen=True)
class Trained:
    """The outcome of training: every method with its repeats, in evaluation mode."""

    networks: list[AstroMAE]
    """The networks, the best on the selection rows first; it is the one that is shipped."""

    predictors: dict[str, list[Predictor]]
    """The same and the controls, ready to be measured."""


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
    """
    torch.manual_seed(recipe.seed)
    model = AstroMAE()
    with journal.timed("rows"):
        taught, chosen = training_rows(recipe), selection_rows(recipe)
    journal.say(f"{len(taught):,} training rows ({taught.num_real:,} of real galaxies), {len(chosen)} to choose by")
    set_scalings(model, taught)
    untaught = deepcopy(model)
    initialise_encoder(untaught.encoder)
    with journal.timed("pretrain"), fast_blocks():
        pretrain(model, taught.images, recipe, journal)
    sides = _frozen(model, taught, chosen, journal, "pretrained")
    networks = _regress(model, sides, ("heads", "joint"), recipe, journal)
    networks.sort(key=lambda one: score(one, sides[1], STAGES["joint"], recipe))
    blind = _regress(model, sides, ("magnitudes",), recipe, journal)
    untaught_sides = _frozen(untaught, taught, chosen, journal, "random")
    random = _regress(untaught, untaught_sides, ("random heads", "random joint"), recipe, journal)
    return Trained(
        networks,
        {
            "AstroMAE": [network(one) for one in networks],
            "the same, transformer never trained": [network(one) for one in random],
            "the same, magnitudes only": [blind_predictor(one) for one in blind],
            "boosted trees, magnitudes and colours": [
                boosted_trees(taught, recipe, seed) for seed in range(recipe.num_repeats)
            ],
            f"{NUM_NEIGHBOURS} nearest neighbours, the same": [neighbours(taught, recipe, 0)],
        },
    )


def publish(trained: Trained, recipe: Recipe, journal: Journal, path: Path) -> list[str]:
    """Write weights, model card and training curves into the folder of `path`; return the card's tables."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(trained.networks[0], path)
    journal.say("measuring on the test set")
    measurements = measure(network(load_astromae(path)), recipe)
    with fast_blocks():
        comparisons = compare(trained.predictors, recipe)
    card = model_card(
        recipe, measurements, comparisons, limits(recipe), journal.seconds(), path=path, sha256=file_sha256(path)
    )
    (path.parent / "CARD.md").write_text(card, encoding="utf-8")
    draw_curves(journal.folder / "log.csv", path.parent / "training_curves.png")
    return [*tables(measurements, comparisons)]


def _frozen(
    model: AstroMAE, taught: TrainingRows, chosen: TrainingRows, journal: Journal, name: str
) -> tuple[CachedRows, CachedRows]:
    """Settle the transformer of a model and compute its features of all rows once."""

    def compute(rows: TrainingRows, side: str) -> CachedRows:
        def features() -> Tensor:
            return pooled_features(model, rows.images, journal.stage(f"features {name} {side}", -(-len(rows) // 256)))

        return CachedRows(rows, journal.keep(f"features {name} {side}", features))

    with journal.timed("features"), fast_blocks():
        settle_batch_norms(model, taught.images)
        return compute(taught, "train"), compute(chosen, "selection")


def _regress(
    model: AstroMAE, sides: tuple[CachedRows, CachedRows], stages: Sequence[str], recipe: Recipe, journal: Journal
) -> list[AstroMAE]:
    """Train what stands behind the frozen transformer, stage after stage, each repeat from start values of its own."""
    taught, chosen = sides
    repeats = []
    for seed in range(recipe.seed, recipe.seed + recipe.num_repeats):
        one = _with_new_heads(model, taught, seed)
        for stage in stages:
            if stage.endswith("joint"):
                add_inception(one)
            with journal.timed(stage):
                train_stage(stage.split()[-1], one, taught, chosen, recipe, journal, name=f"{stage} {seed}", seed=seed)
        repeats.append(one)
    return repeats


def _with_new_heads(model: AstroMAE, train_rows: CachedRows, seed: int) -> AstroMAE:
    torch.manual_seed(seed)
    one = AstroMAE()
    one.load_state_dict({**one.state_dict(), **_scalings(model)})
    one.encoder.load_state_dict({**model.encoder.state_dict(), **_head(one)})
    prepare(one, train_rows.pooled, train_rows.rows.magnitudes)
    return one


def _scalings(model: AstroMAE) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.named_buffers() if "." not in name}


def _head(model: AstroMAE) -> dict[str, Tensor]:
    return {f"head.{name}": tensor for name, tensor in model.encoder.head.state_dict().items()}
