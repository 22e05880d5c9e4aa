"""From a training on the sample, and on further surveys, to a model's folder: whatever the training, it looks alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor

from inference import engines
from inference.block import Block
from inference.checksum import file_sha256
from inference.intervals import Interval, bootstrap, nmads
from inference.model.astromae import AstroMAE
from inference.model.weights import save_weights
from inference.models import Model, read_model, shipped
from inference.models.card import Knowledge, ModelCard
from inference.predict import predict_values
from scripts.models.card_text import write_card
from scripts.models.numbers import number_of
from scripts.models.training import calibrate, knowledge
from scripts.models.training.controls import Array, Predict, with_colours
from scripts.models.training.goals import SAMPLE
from scripts.models.training.magnitudes import MagnitudesNetwork, predict_magnitudes
from scripts.models.training.recipe import FULL, Recipe
from scripts.models.training.rows import borrowed_structure_rows
from scripts.models.training.surveys import Survey
from scripts.simulation.sdss import load_sources

BRIGHT_R = 17.8
HIGH_REDSHIFT = 0.25
FIRST = "the weights it began with"
MAGNITUDES = "magnitudes alone: the model for galaxies without images"
TREES = "boosted trees of magnitudes and colours, the same real training galaxies"


@dataclass(frozen=True)
class Trained:
    """The outcome of a training on the sample."""

    network: AstroMAE

    known: Knowledge
    """What its card says in words; controls that are measured already."""

    methods: Mapping[str, Predict]
    """Controls to measure on the same galaxies."""

    rivals: tuple[str, ...]
    """Of these, the ones that it is compared with galaxy by galaxy."""


def write_model(
    folder: Path,
    name: str,
    trained: Trained,
    export: Callable[[Path], object],
    *,
    surveys: Sequence[Survey] = (),
    recipe: Recipe = FULL,
) -> ModelCard:
    """Fill the folder of a model: weights, numbers, calibration, engines and card.

    Parameters
    ----------
    folder : Path
    name : str
        Of the model.
    trained : Trained
    export : callable
        Makes the graphs of the weights file it is given, and raises where an engine differs.
    surveys : sequence of Survey
        What it was trained on, next to the sample.
    recipe : Recipe
        Numbers and seed of the galaxies to calibrate and to test on.
    """
    like = shipped()
    weights = folder / like.weights.name
    save_weights(trained.network, weights)
    samples = calibrate.gather(recipe, surveys)
    known = _measured(weights, trained, samples.tests, recipe)
    card = msgspec.structs.replace(like.card, name=name, weights_sha256=file_sha256(weights), knowledge=known)
    write_card(folder, card)
    calibrate.write(weights, surveys, samples)
    export(weights)
    return read_model(folder).card


def of_surveys(network: AstroMAE, start: Model, networks: MagnitudesNetwork, surveys: Sequence[Survey]) -> Trained:
    """Describe what was trained on further surveys, and what it must beat: all that it began with, and trees."""
    methods: dict[str, Predict] = {
        FIRST: _engine(start.weights),
        MAGNITUDES: lambda block: _of_magnitudes(networks, block),
        TREES: boosted_trees(surveys),
    }
    return Trained(network, knowledge.of_surveys(start, surveys), methods, (FIRST, MAGNITUDES))


def _measured(weights: Path, trained: Trained, tests: dict[str, Block], recipe: Recipe) -> Knowledge:
    """Measure the network and the methods it must beat on galaxies that no training saw."""
    methods = {"": _engine(weights), **trained.methods}
    numbers, controls, pairs = [], [*trained.known.controls], []
    for name, block in _all_tests(tests, recipe).items():
        truth = block.redshifts
        found = {method: predict(block) for method, predict in methods.items()}
        measured = [number_of(z_phot, truth, name, method) for method, z_phot in found.items()]
        numbers.append(measured[0])
        controls += measured[1:]
        if name in tests:
            intervals = {rival: paired_nmad(found[""], found[rival], truth) for rival in trained.rivals}
            words = (f"{one.low:+.4f} to {one.high:+.4f} against {rival}" for rival, one in intervals.items())
            pairs.append(f"- {name}: {', '.join(words)}")
    return msgspec.structs.replace(
        trained.known,
        description="\n".join((trained.known.description + _PAIRED, *pairs)),
        numbers=tuple(numbers),
        controls=tuple(controls),
    )


_PAIRED = " Difference of the NMAD on the same galaxies, 95 % interval of the paired bootstrap:\n"


def _all_tests(tests: dict[str, Block], recipe: Recipe) -> dict[str, Block]:
    """Add the parts of the tests that are looked at by themselves."""
    real = tests[SAMPLE]
    found = dict(tests)
    found["real, structure of other galaxies"] = borrowed_structure_rows(at_most=recipe.num_test_real).to_block()
    if (is_far := real.redshifts > HIGH_REDSHIFT).any():
        found[f"{SAMPLE}, z > {HIGH_REDSHIFT}"] = real[np.flatnonzero(is_far)]
    for name, block in tests.items():
        is_bright = block.magnitudes[:, 2] < BRIGHT_R
        if name != SAMPLE and 100 < is_bright.sum() < 0.8 * len(is_bright):
            found[f"{name}, r < {BRIGHT_R}"] = block[np.flatnonzero(is_bright)]
    return found


def _engine(weights: Path) -> Predict:
    engine = engines.load("auto", weights, num_threads=1)
    return lambda block: predict_values(engine, block.images, block.magnitudes).astype(np.float64)


def _of_magnitudes(networks: MagnitudesNetwork, block: Block) -> Array:
    return predict_magnitudes(networks, torch.from_numpy(block.magnitudes).float()).double().numpy()


def boosted_trees(surveys: Sequence[Survey]) -> Predict:
    """Fit gradient-boosted trees to the real training galaxies (Friedman 2001, Annals of Statistics 29, 1189)."""
    sample = load_sources().of("train")
    magnitudes = [sample.photometry.magnitudes, *(one.magnitudes[one.part == "train"] for one in surveys)]
    redshifts = [sample.redshift, *(one.redshift[one.part == "train"] for one in surveys)]
    trees = HistGradientBoostingRegressor(learning_rate=0.05, max_iter=400, early_stopping=True, random_state=1)
    trees.fit(with_colours(np.concatenate(magnitudes)), np.concatenate(redshifts))
    return lambda block: np.asarray(trees.predict(with_colours(block.magnitudes)), dtype=np.float64)


def paired_nmad(z_phot: Array, other: Array, z_spec: Array) -> Interval:
    """Return the 95 % interval of the NMAD minus that of another method under resampling of the same galaxies."""
    residuals = [(one - z_spec) / (1 + z_spec) for one in (z_phot, other)]

    def difference(drawn: Array) -> Array:
        rows = drawn.astype(np.int64)
        first, second = (nmads(one[rows]) for one in residuals)
        return np.asarray(first - second)

    return bootstrap(np.arange(len(z_spec), dtype=np.float64), difference)
