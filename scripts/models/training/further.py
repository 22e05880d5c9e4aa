"""A second training of the shipped weights, on further surveys: what reads the images stays, the rest begins anew.

The magnitude branch becomes the networks of `magnitudes.py` side by side, and the final layers begin as their mean: so
the network is at first exactly the model that serves galaxies without images, and its final layers learn from there
what images add. All branches are frozen, so what they make of a galaxy is computed once.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from inference.model.astromae import IMAGE_FEATURES, INCEPTION_FEATURES, MAGNITUDE_FEATURES, WIDTH, AstroMAE
from scripts.models.training import magnitudes as small
from scripts.models.training.fast_blocks import fast_blocks
from scripts.models.training.journal import Journal
from scripts.models.training.network import Sample, image_features, predict_rows, with_joined
from scripts.models.training.supervised import Rows, Stage, redshift_loss, train_stage
from scripts.models.training.surveys import PARTS, Catalogue, Survey, catalogues

LIFT = 4.0
"""Added to the scaled redshift of each network where it passes a ReLU: no redshift above -.3 is cut."""


@dataclass(frozen=True)
class FurtherRecipe:
    """Settings of the second training: checkpoints of others are ignored."""

    start: str
    """Checksum of the weights whose image branches stay."""

    networks: str
    """Checksum of the networks of magnitudes."""

    surveys: tuple[str, ...]
    """Checksums of the tables."""

    seed: int = 1
    sample_share: float = 0.4
    """Of the sample in a batch; the surveys share the rest by the root of their numbers of galaxies."""
    boost: float = 4.0
    """Factor of the start values that read the images, whose features are smaller than those of the magnitudes."""
    num_repeats: int = 4
    """Trainings with other batches; as all begin alike, the mean of their weights is a network, and a better one."""
    num_steps: int = 240
    batch_size: int = 512
    learning_rate: float = 1e-3
    check_every: int = 40
    ema_decay: float = 0.99


WAYS = (0.25, 0.5, 0.75, 1.0)
"""Shares of the way from the first weights of the final layers to the trained ones."""
MAX_HARM = 0.005
"""The longest way is gone on which the loss of no catalogue's selection part grows by more than this share: rendered
images say something where the profile was measured, and nothing but noise where it was not."""


def begin(start: AstroMAE, networks: small.MagnitudesNetwork, seed: int) -> AstroMAE:
    """Put networks of magnitudes into the magnitude branch: the result predicts their mean, whatever the image.

    Parameters
    ----------
    start : AstroMAE
        Its image branches and their scalings are kept.
    networks : small.MagnitudesNetwork
        Four of them fill the branch. Their limit on magnitudes far outside is left out.
    seed : int
        Decides the weights that do nothing yet.
    """
    torch.manual_seed(seed)
    fresh = AstroMAE().final
    model = deepcopy(start)
    model.final.load_state_dict(fresh.state_dict())
    with torch.no_grad():
        for name in ("redshift_center", "redshift_scale"):
            getattr(model, name).copy_(getattr(networks, name))
        model.magnitude_center.copy_(networks.center)
        model.magnitude_scale.fill_(1)
        _fill_branch(_linear(model.magnitude_branch), networks)
        joint, last = _linear(model.final)
        _fill_final(joint, last, networks)
    return model


def _fill_branch(layers: list[nn.Linear], networks: small.MagnitudesNetwork) -> None:
    """Write the hidden layers of each network as a block on the diagonal; further layers pass on what they get."""
    parts = [_linear(one) for one in networks.networks]
    hidden = len(parts[0]) - 1
    assert len(parts) * small.WIDTH == MAGNITUDE_FEATURES, "the networks fill the branch"
    for depth, layer in enumerate(layers):
        layer.weight.zero_()
        layer.bias.zero_()
        if depth >= hidden:
            layer.weight.copy_(torch.eye(MAGNITUDE_FEATURES))
            continue
        for number, part in enumerate(parts):
            rows = slice(number * small.WIDTH, (number + 1) * small.WIDTH)
            layer.bias[rows] = part[depth].bias
            if depth:
                layer.weight[rows, rows] = part[depth].weight
            else:
                layer.weight[rows] = part[depth].weight @ networks.axes.T


def _fill_final(joint: nn.Linear, last: nn.Linear, networks: small.MagnitudesNetwork) -> None:
    """Let one unit per network carry its redshift; the others keep their start values and do nothing yet."""
    last.weight.zero_()
    last.bias.fill_(-LIFT)
    num_networks = len(networks.networks)
    for number, part in enumerate(map(_linear, networks.networks)):
        first = 2 * IMAGE_FEATURES + number * small.WIDTH
        joint.weight[number] = 0
        joint.weight[number, first : first + small.WIDTH] = part[-1].weight[0]
        joint.bias[number] = part[-1].bias[0] + LIFT
        last.weight[0, number] = 1 / num_networks


def _linear(layers: nn.Module) -> list[nn.Linear]:
    return [layer for layer in layers.modules() if isinstance(layer, nn.Linear)]


def train_further(
    start: AstroMAE,
    networks: small.MagnitudesNetwork,
    surveys: Sequence[Survey],
    recipe: FurtherRecipe,
    journal: Journal,
) -> AstroMAE:
    """Train the final layers on the training parts of the sample and of surveys; the selection parts choose.

    Returns
    -------
    AstroMAE
        In evaluation mode, without gradients.
    """
    model = begin(start, networks, recipe.seed)
    with torch.no_grad():
        _linear(model.final)[0].weight[len(networks.networks) :, : 2 * IMAGE_FEATURES] *= recipe.boost
    begun = deepcopy(model.final.state_dict())
    with journal.timed("features"):
        taught, chosen = (
            [
                _with_branches(model, galaxies, f"{part} {number}", journal)
                for number, galaxies in enumerate(catalogues(part, surveys, recipe.seed))
            ]
            for part in PARTS
        )
    sample, groups = _together([*taught, *chosen])
    judged = torch.cat(groups[len(taught) :])
    roots = [float((survey.part == "train").sum()) ** 0.5 for survey in surveys]
    shares = [recipe.sample_share, *((1 - recipe.sample_share) * root / sum(roots) for root in roots)]
    stage = Stage(
        "final",
        recipe.num_steps,
        recipe.batch_size,
        recipe.learning_rate,
        check_every=recipe.check_every,
        ema_decay=recipe.ema_decay,
        seed=recipe.seed,
    )
    rows = Rows(groups[: len(taught)], shares, judged, sample.redshifts[judged])
    trained = []
    for seed in range(recipe.seed, recipe.seed + recipe.num_repeats):
        model.final.load_state_dict(begun)
        with journal.timed("final layers"):
            train_stage(model, sample, rows, replace(stage, seed=seed), journal, f"final layers {seed}")
        trained.append(deepcopy(model.final.state_dict()))
    mean = {name: torch.stack([one[name] for one in trained]).mean(dim=0) for name in begun}

    def losses(way: float) -> Tensor:
        """Return the loss on the selection part of each catalogue."""
        model.final.load_state_dict(_between(begun, mean, way))
        found = torch.tensor(
            [
                redshift_loss(predict_rows(model, sample, one, "final"), sample.redshifts[one], stage)
                for one in groups[len(taught) :]
            ]
        )
        journal.say(f"{way:.1f} of the way: losses {found.tolist()} on the selection parts")
        return found

    model.final.load_state_dict(_between(begun, mean, harmless_way(losses)))
    return model.eval().requires_grad_(False)


def harmless_way(losses: Callable[[float], Tensor]) -> float:
    """Return the largest part of the way at which no catalogue loses more than `MAX_HARM`; 0 where there is none.

    Parameters
    ----------
    losses : callable
        Gives the loss of each catalogue at a part of the way, shape (n,).
    """
    worst = losses(0.0) * (1 + MAX_HARM)
    return max((way for way in WAYS if (losses(way) <= worst).all()), default=0.0)


def _between(begun: dict[str, Tensor], trained: dict[str, Tensor], way: float) -> dict[str, Tensor]:
    return {name: torch.lerp(begun[name], trained[name], way) for name in begun}


def _with_branches(model: AstroMAE, galaxies: Catalogue, name: str, journal: Journal) -> Sample:
    """Return galaxies with what all branches make of them."""
    sample = Sample(
        torch.from_numpy(galaxies.magnitudes.astype(np.float32)),
        torch.from_numpy(galaxies.redshift.astype(np.float32)),
    )

    def features() -> Tensor:
        rows = galaxies.render()
        tick = journal.stage(f"features {name}", -(-len(sample) // 256))
        with fast_blocks():
            seen = image_features(model, replace(sample, images=rows.images.__getitem__), tick)
        assert seen.pooled is not None, "it was computed"
        assert seen.inception is not None, "it was computed"
        return torch.cat([seen.pooled, seen.inception], dim=1)

    kept = journal.keep(f"features {name}", features)
    pooled, inception = torch.split(kept, [WIDTH, INCEPTION_FEATURES], dim=1)
    return with_joined(model, replace(sample, pooled=pooled, inception=inception))


def _together(parts: Sequence[Sample]) -> tuple[Sample, list[Tensor]]:
    """Join galaxies, and return the rows of each part."""
    magnitudes, redshifts, joined = (
        torch.cat([getattr(one, name) for one in parts]) for name in ("magnitudes", "redshifts", "joined")
    )
    sample = Sample(magnitudes, redshifts, joined=joined)
    return sample, list(torch.split(torch.arange(len(sample)), [len(one) for one in parts]))
