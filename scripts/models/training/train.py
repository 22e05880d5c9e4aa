"""A training from nothing: pretraining, the supervised stages with their repeats, and the controls."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from msgspec.structs import replace
from torch import Tensor

from inference.block import Block
from inference.model.astromae import AstroMAE
from scripts.models.training.controls import NUM_NEIGHBOURS, Array, Predict, boosted_trees, neighbours
from scripts.models.training.fast_blocks import fast_blocks
from scripts.models.training.journal import Journal
from scripts.models.training.knowledge import of_sample
from scripts.models.training.limit import limits
from scripts.models.training.pretrain import initialise_encoder, pooled_features, pretrain, settle_batch_norms
from scripts.models.training.recipe import Recipe
from scripts.models.training.regress import STAGES, CachedRows, add_inception, blind_predictor, score, train_stage
from scripts.models.training.rows import TrainingRows, selection_rows, training_rows
from scripts.models.training.sample_model import Trained
from scripts.models.training.scalings import set_scalings
from scripts.models.training.whitening import prepare

BLIND = "the same, magnitudes only"


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
        The network that does best on the selection rows, and the controls.
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
    known = of_sample(recipe, taught.num_real // recipe.renderings, journal.seconds())
    methods = {
        **_numbered("the same, trained again", networks[1:], _network),
        **_numbered("the same, transformer never trained", random, _network),
        **_numbered(BLIND, blind, blind_predictor),
        "boosted trees, magnitudes and colours": boosted_trees(taught, recipe, recipe.seed),
        f"{NUM_NEIGHBOURS} nearest neighbours, the same": neighbours(taught, recipe, recipe.seed),
    }
    return Trained(networks[0], replace(known, controls=tuple(limits(recipe))), methods, (BLIND,))


def _numbered(name: str, models: Sequence[AstroMAE], predictor: Callable[[AstroMAE], Predict]) -> dict[str, Predict]:
    """Name the trainings of one method."""
    return {f"{name} ({number})" if number > 1 else name: predictor(one) for number, one in enumerate(models, 1)}


def _network(model: AstroMAE) -> Predict:
    """Predict with the whole network, as inference does."""

    @torch.inference_mode()
    def predict(block: Block) -> Array:
        parts = (torch.split(torch.from_numpy(part).float(), 256) for part in (block.images, block.magnitudes))
        return torch.cat([model(*pair) for pair in zip(*parts, strict=True)]).double().numpy()

    return predict


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
