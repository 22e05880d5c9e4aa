"""Training on one's own galaxies: ways to train compete, the best one is cross-validated and then given all of them."""

import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from torch import Tensor

from inference.contract import Accuracy
from inference.metrics import redshift_accuracy
from inference.model.astromae import AstroMAE
from scripts.models.training.controls import with_colours
from scripts.models.training.fast_blocks import fast_blocks
from scripts.models.training.journal import Journal
from scripts.models.training.network import (
    EVALUATION_ROWS,
    Sample,
    image_features,
    predict_rows,
    silence_images,
    with_joined,
)
from scripts.models.training.pretrain import Images, initialise_encoder, pooled_features, pretrain, settle_batch_norms
from scripts.models.training.recipe import Recipe
from scripts.models.training.scalings import set_scalings_of
from scripts.models.training.split import folds
from scripts.models.training.supervised import Rows, Stage, train_stage
from scripts.models.training.whitening import prepare
from scripts.models.training.zero_points import add_to_magnitudes, fit_zero_points

Array = NDArray[np.float64]

NUM_FOLDS = 4
SCRATCH_MIN_GALAXIES = 30_000
"""Fewer cutouts do not teach a transformer to see."""
IMAGES_MIN_GALAXIES = 5_000
"""With fewer, what reads the images learned only chance: of 2,000 and of 300 galaxies all such ways were worse."""
MANY_GALAXIES = 20_000
"""From here on batches are as large as those of the shipped weights, and none is seen a hundred times."""


class Galaxies(Images, Protocol):
    """N labelled galaxies: their cutouts by row, and what is known of them."""

    @property
    def magnitudes(self) -> Array:
        """Dereddened magnitudes, shape (N, 5) [mag]."""
        ...

    @property
    def redshift(self) -> Array:
        """Spectroscopic redshifts, shape (N,)."""
        ...


@dataclass(frozen=True)
class FitRecipe:
    """What a training on one's own galaxies depends on: checkpoints of another one are ignored."""

    galaxies: str
    """Checksum of the galaxies."""

    start: str
    """Checksum of the weights to begin with; empty to begin with none."""

    seed: int = 1

    pace: float = 1.0
    """Factor of the number of steps; small for a rehearsal."""


@dataclass(frozen=True)
class Candidate:
    """A way to train."""

    name: str
    stage: Stage
    begins: str = "start"
    """`start` with the given weights and the zero points of these galaxies, `new` with a network that knows nothing,
    `scratch` with its own transformer."""
    is_last_resort: bool = False
    """Tried only where the first way is not as good as one that changes more."""


def candidates(num_galaxies: int, *, has_start: bool, recipe: FitRecipe) -> list[Candidate]:
    """List the ways to train that so many galaxies allow, those that promise the most and risk the least first.

    All that begin with weights find the zero points of the survey first: these are what differs most, and five numbers
    learn nothing by heart. The final layers then add a percent, gently, with 2,000 galaxies, and harm nothing with 300;
    boldly they do harm. What reads the images is for many.
    """

    def stage(share: float, rate: float) -> Stage:
        # As the root of the number: twice the galaxies want more steps, each of which they fill better.
        steps = recipe.pace * share * 160 * math.sqrt(num_galaxies / 2_000)
        num_steps = max(2, round(min(steps, recipe.pace * share * 3_000)))
        size = min(512 if num_galaxies >= MANY_GALAXIES else 256, num_galaxies)
        return Stage("last", num_steps, size, rate, check_every=num_steps, ema_decay=0.99, seed=recipe.seed)

    def small(size: int) -> int:
        return min(size, num_galaxies)

    found = []
    if has_start:
        found += [
            Candidate("zero points, then the final layers, gently", replace(stage(0.5, 2e-4), learning="final")),
            Candidate("zero points alone", replace(stage(0.0, 0.0), learning="final", num_steps=0)),
            Candidate("zero points, then the final layers, boldly", replace(stage(1.0, 1e-3), learning="final")),
            Candidate(
                "zero points, then the magnitude branch too",
                stage(1.0, 1e-3),
                is_last_resort=num_galaxies < IMAGES_MIN_GALAXIES,
            ),
        ]
    if has_start and num_galaxies >= IMAGES_MIN_GALAXIES:
        found += [
            Candidate(
                "zero points, then dense layers behind the images too", replace(stage(1.0, 5e-4), learning="heads")
            ),
            Candidate(
                "zero points, then all behind the transformer",
                replace(stage(0.5, 4e-4), learning="behind", batch_size=small(128)),
            ),
            Candidate("zero points, then everything", replace(stage(0.25, 1e-4), learning="all", batch_size=small(64))),
        ]
    found.append(Candidate("magnitudes only, from nothing", replace(stage(1.0, 1e-3), learning="magnitudes"), "new"))
    if num_galaxies >= SCRATCH_MIN_GALAXIES:
        fresh = replace(stage(2.0, 5e-4), learning="behind", moves_norms=True)
        found.append(Candidate("everything, from nothing", fresh, "scratch"))
    return found


@dataclass(frozen=True)
class Entry:
    """How a way to train did on the selection part, which it did not learn from."""

    name: str
    loss: float
    accuracy: Accuracy


@dataclass(frozen=True)
class Fitted:
    """The outcome of training on one's own galaxies."""

    model: AstroMAE
    """The winner, trained on all of them, on the CPU."""

    winner: Candidate

    entries: list[Entry]
    """All competitors and controls on the selection part, the best first."""

    z_phot: NDArray[np.float32]
    """Redshift of each galaxy from a network that had not learned from it, shape (N,)."""

    fold: NDArray[np.int64]
    """Fold of each galaxy; the selection part is fold 0."""

    accuracy: Accuracy
    """Of those redshifts: what the model may be expected to do on galaxies like these."""

    zero_points: tuple[float, ...] = ()
    """What the model adds to the magnitudes before it reads them [mag]; none where it began with nothing."""


@dataclass
class _Contest:
    """What the candidates share."""

    galaxies: Galaxies
    group: NDArray[np.str_]
    start: AstroMAE | None
    recipe: FitRecipe
    journal: Journal
    device: torch.device
    selection: NDArray[np.bool_] | None = None
    _scratch: AstroMAE | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.selection is None:
            self.fold = folds(self.group, NUM_FOLDS, seed=self.recipe.seed)
        else:
            others = 1 + folds(self.group, NUM_FOLDS - 1, seed=self.recipe.seed)
            self.fold = np.where(self.selection, 0, others)
        self.plain = Sample(
            torch.from_numpy(self.galaxies.magnitudes.astype(np.float32)).to(self.device),
            torch.from_numpy(self.galaxies.redshift.astype(np.float32)).to(self.device),
            self.galaxies.__getitem__,
        )
        self._seen: dict[str, Sample] = {}
        self._zero_points: dict[int | None, Tensor] = {}

    def predicted(self, candidate: Candidate, fold: int) -> Tensor:
        """Redshifts of one fold from a candidate that learned from the others."""
        model, sample = self.trained(candidate, fold)
        return predict_rows(model, sample, self.rows(fold), candidate.stage.learning)

    def trained(self, candidate: Candidate, fold: int | None = None) -> tuple[AstroMAE, Sample]:
        """Train on all folds but one, or on all; and return what it read as well."""
        sample, model, stage = self.sample(candidate), self.begin(candidate), candidate.stage
        with self.journal.timed(candidate.name), fast_blocks():
            if candidate.begins == "start":
                add_to_magnitudes(model, self.zero_points(fold))
            if stage.learning in ("final", "last") and len(sample) <= MANY_GALAXIES:
                sample = with_joined(model, sample)
            if stage.num_steps:
                # One look, at the end: steps are not chosen by the rows that judge, of which none are left in the end.
                judged = self.rows(fold) if fold is not None else self.taught()[:EVALUATION_ROWS]
                rows = Rows([self.taught(fold)], [1.0], judged, sample.redshifts[judged.to(self.device)].cpu())
                name = f"{candidate.name} {'all' if fold is None else fold}"
                train_stage(model, sample, rows, stage, self.journal, name)
        return model, sample

    def rows(self, fold: int) -> Tensor:
        return torch.from_numpy(np.flatnonzero(self.fold == fold))

    def taught(self, fold: int | None = None) -> Tensor:
        return torch.from_numpy(np.flatnonzero(self.fold != (-1 if fold is None else fold)))

    def zero_points(self, fold: int | None = None) -> Tensor:
        """Return what all folds but one, or all, say is to be added to their magnitudes: (5,) [mag]."""
        if fold not in self._zero_points:
            asked = Candidate("zero points", Stage("last", 0))
            model, sample = self.begin(asked), self.sample(asked)
            with self.journal.timed(asked.name), fast_blocks():
                found = self._zero_points[fold] = fit_zero_points(model, sample, self.taught(fold))
            added = " ".join(f"{value:+.3f}" for value in found.tolist())
            self.journal.say(f"zero points {'of all' if fold is None else f'without fold {fold}'}: {added} mag")
        return self._zero_points[fold]

    def begin(self, candidate: Candidate) -> AstroMAE:
        if candidate.begins == "start":
            assert self.start is not None, "candidates that begin with weights are listed where there are some"
            return deepcopy(self.start).to(self.device)
        if candidate.begins == "scratch":
            return deepcopy(self.scratch()).to(self.device)
        return self.new()

    def sample(self, candidate: Candidate) -> Sample:
        """Return the galaxies with what the frozen parts make of their images."""
        if candidate.stage.learning == "magnitudes":
            return self.plain
        if candidate.begins not in self._seen:
            model = self.begin(candidate)
            tick = self.journal.stage(f"features {candidate.begins}", -(-len(self.plain) // 256))
            with self.journal.timed("features"), fast_blocks():
                self._seen[candidate.begins] = image_features(model, self.plain, tick)
        return self._seen[candidate.begins]

    def new(self) -> AstroMAE:
        torch.manual_seed(self.recipe.seed)
        model = AstroMAE().to(self.device)
        set_scalings_of(model, self.galaxies, self.plain.magnitudes, self.plain.redshifts)
        initialise_encoder(model.encoder)
        prepare(model, torch.randn(512, 192, device=self.device), self.plain.magnitudes)
        return model.requires_grad_(False)

    def scratch(self) -> AstroMAE:
        if self._scratch is None:
            model = self.new().requires_grad_(True)
            settings = Recipe(seed=self.recipe.seed, pretrain_epochs=max(1, round(6 * self.recipe.pace)))
            with self.journal.timed("pretrain"), fast_blocks():
                pretrain(model, self.galaxies, settings, self.journal)
                settle_batch_norms(model, self.galaxies)
            some = torch.linspace(0, len(self.plain) - 1, 4_000).long()
            prepare(model, pooled_features(model, self.galaxies[some].to(self.device)), self.plain.magnitudes)
            self._scratch = model.requires_grad_(False)
        return self._scratch


def fit(
    galaxies: Galaxies,
    group: NDArray[np.str_],
    start: AstroMAE | None,
    recipe: FitRecipe,
    journal: Journal,
    device: torch.device,
    selection: NDArray[np.bool_] | None = None,
) -> Fitted:
    """Find out how these galaxies train a network best, and train it so.

    Every candidate learns from three folds and is judged on the fourth, the selection part; see `modest`. The winner is
    trained on the other folds' complements as well, so that every galaxy has a redshift from a network that had not
    learned from it: what calibrates sigma and p(z), and what the card says. The model itself learns from all galaxies.

    Parameters
    ----------
    galaxies : Galaxies
        Clean labelled ones.
    group : array, shape (N,), str
        Galaxies of one name, as one object or one patch of sky, are in one fold; see `split.groups`.
    start : AstroMAE, optional
        Weights to begin with; without them the network begins with nothing.
    recipe : FitRecipe
        Seed, and what the checkpoints belong to.
    journal : Journal
        A run that was killed goes on to the same weights.
    device : torch.device
        Computes.
    selection : array, shape (N,), bool, optional
        The selection part, where the user names one; a fourth of the groups when absent.

    Returns
    -------
    Fitted
    """
    contest = _Contest(galaxies, group, start, recipe, journal, device, selection)
    chosen = np.flatnonzero(contest.fold == 0)
    ways = {one.name: one for one in candidates(len(galaxies), has_start=start is not None, recipe=recipe)}
    first: dict[str, Tensor] = {}
    errors: dict[str, Array] = {}
    for name, candidate in ways.items():
        if candidate.is_last_resort and modest(errors) == next(iter(errors)):
            journal.say(f"{name}: not tried, since {next(iter(errors))} is as good as what changes more")
            continue
        first[name] = contest.predicted(candidate, 0)
        errors[name] = _errors(first[name], contest, chosen)
    winner = ways[modest(errors)]
    entries = [_entry(name, predicted, contest, chosen) for name, predicted in first.items()]
    entries += _controls(contest, chosen)
    z_phot = np.empty(len(galaxies), dtype=np.float32)
    for fold in range(NUM_FOLDS):
        z_phot[contest.fold == fold] = (first[winner.name] if fold == 0 else contest.predicted(winner, fold)).numpy()
    model = contest.trained(winner)[0].cpu()
    if winner.stage.learning == "magnitudes":
        silence_images(model)
    return Fitted(
        model,
        winner,
        sorted(entries, key=lambda entry: entry.loss),
        z_phot,
        contest.fold,
        _accuracy(z_phot, galaxies.redshift),
        tuple(contest.zero_points().tolist()) if winner.begins == "start" else (),
    )


def modest(errors: Mapping[str, Array]) -> str:
    """Choose the first way to train that is as good as the best, within one standard error.

    Parameters
    ----------
    errors : mapping of str to array, shape (n,)
        What risks the least first: the absolute errors of the same galaxies.

    References
    ----------
    Breiman et al. 1984, Classification and Regression Trees, section 3.4.3.
    """
    best = min(errors.values(), key=np.mean)
    for name, one in errors.items():
        excess = one - best
        if excess.mean() <= excess.std() / math.sqrt(len(excess)):
            return name
    raise AssertionError("the best is as good as itself")


def _controls(contest: _Contest, chosen: NDArray[np.int64]) -> Iterator[Entry]:
    """Yield what the network must beat on the selection part: itself untouched, and boosted trees."""
    rows = torch.from_numpy(chosen)
    if contest.start is not None:
        untouched = Candidate("the weights it began with", Stage("last", 0))
        predicted = predict_rows(contest.begin(untouched), contest.sample(untouched), rows, "last")
        yield _entry(untouched.name, predicted, contest, chosen)
    trees = boosted_trees(contest.galaxies, np.flatnonzero(contest.fold != 0), contest.recipe.seed)
    yield _entry("boosted trees, magnitudes and colours", trees(chosen), contest, chosen)


def boosted_trees(galaxies: Galaxies, taught: NDArray[np.int64], seed: int) -> Callable[[NDArray[np.int64]], Tensor]:
    """Fit gradient-boosted trees to magnitudes and colours.

    References
    ----------
    Friedman 2001, Annals of Statistics 29, 1189.
    """
    magnitudes = galaxies.magnitudes
    features = with_colours(magnitudes)
    trees = HistGradientBoostingRegressor(
        learning_rate=0.05, max_iter=400, early_stopping=True, validation_fraction=0.1, random_state=seed
    ).fit(features[taught], galaxies.redshift[taught])
    return lambda rows: torch.from_numpy(trees.predict(features[rows])).float()


def _entry(name: str, predicted: Tensor, contest: _Contest, chosen: NDArray[np.int64]) -> Entry:
    # The mean error judges as the loss does, and knows no unit.
    loss = float(_errors(predicted, contest, chosen).mean())
    return Entry(name, loss, _accuracy(predicted.numpy(), contest.galaxies.redshift[chosen]))


def _errors(predicted: Tensor, contest: _Contest, chosen: NDArray[np.int64]) -> Array:
    truth = contest.galaxies.redshift[chosen]
    found: Array = np.abs(predicted.double().numpy() - truth) / (1 + truth)
    return found


def _accuracy(z_phot: NDArray[np.float32], z_spec: Array) -> Accuracy:
    accuracy = redshift_accuracy(z_phot.astype(np.float64), z_spec)
    assert accuracy is not None, "labelled galaxies have redshifts"
    return accuracy
