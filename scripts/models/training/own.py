"""From a user's dataset to a model's folder: weights, engines, calibration, p(z) and card, whole or not at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from inference.checksum import file_sha256
from inference.contract import DatasetCard
from inference.domain import domain_features
from inference.model.astromae import AstroMAE
from inference.model.weights import load_astromae, save_weights
from inference.models import Model, read_model, shipped
from inference.models.card import Inputs, Knowledge, Measured, ModelCard, TrainingData
from scripts.command.model import new_model, refuse_taken
from scripts.data.split_column import SELECTION, TEST
from scripts.models.card_text import write_card
from scripts.models.numbers import number_from
from scripts.models.training.by_folds import calibrate_by_folds, number_with_errors, write_calibration
from scripts.models.training.error_model import Predicted
from scripts.models.training.fit import FitRecipe, Fitted, fit
from scripts.models.training.journal import Journal
from scripts.models.training.labelled import Labelled, read_labelled, refuse_too_few
from scripts.models.training.split import groups

DOMAIN_GALAXIES = 20_000
"""As many cutouts are looked at to learn what is usual."""
ROWS_AT_ONCE = 500
TEST_ROWS = "the test part of the split"
CROSS_VALIDATED = "all galaxies, each by a network that had not learned from it"


@dataclass(frozen=True)
class Order:
    """What is to be trained."""

    dataset: Path
    """Folder of shards."""

    name: str
    """Of the new model."""

    start: Model | None
    """Model to begin with; None to begin with nothing."""

    seed: int = 1
    pace: float = 1.0


def train_own(
    order: Order, *, root: Path, device: torch.device, export: Callable[[Path], object] = lambda _: None
) -> Model:
    """Train on a user's galaxies, and write the model to ``models/<name>/`` under `root`.

    Parameters
    ----------
    order : Order
    root : Path
        Holds ``models/``, and ``training/<name>/`` with the checkpoints, from which a run that was killed goes on.
    device : torch.device
        Computes.
    export : callable
        Makes the graphs of the weights file it is given, and raises where an engine differs.

    Raises
    ------
    UsageError
        If the name is taken or none.
    SourceError
        If the galaxies cannot teach.
    """
    refuse_taken(order.name, root, variable="MODEL")
    everyone = read_labelled(order.dataset)
    is_test = everyone.in_part(TEST)
    galaxies, tests = everyone.among(~is_test), everyone.among(is_test)
    refuse_too_few(order.dataset, len(galaxies), len(everyone))
    chosen = galaxies.in_part(SELECTION)
    group = groups(galaxies.object_id, galaxies.ra_deg, galaxies.dec_deg, galaxies.magnitudes)
    start_sha256 = order.start.card.weights_sha256 if order.start else ""
    recipe = FitRecipe(galaxies.fingerprint, start_sha256, order.seed, order.pace)
    start = load_astromae(order.start.weights) if order.start else None
    with Journal(root / "training" / order.name, recipe) as journal, galaxies.images:
        journal.say(f"{len(galaxies):,} clean galaxies with a redshift in {len(np.unique(group)):,} patches of sky")
        if galaxies.split is not None:
            journal.say(
                f"the split that you name: {len(galaxies) - chosen.sum():,} to learn from, {chosen.sum():,} to choose "
                f"by, {len(tests):,} to test on"
            )
        fitted = fit(galaxies, group, start, recipe, journal, device, chosen if chosen.any() else None)
        journal.say(f"best: {fitted.winner.name}")
        with new_model(order.name, root) as folder:
            write_model(folder, order, galaxies, fitted, export, tests)
    return read_model(root / "models" / order.name)


def write_model(
    folder: Path,
    order: Order,
    galaxies: Labelled,
    fitted: Fitted,
    export: Callable[[Path], object],
    tests: Labelled,
) -> None:
    """Fill the folder of a model; `tests` are galaxies that took no part."""
    basis = (order.start or shipped()).card
    weights = folder / basis.weights_name
    save_weights(fitted.model, weights)
    predicted = Predicted(galaxies.magnitudes, fitted.z_phot, galaxies.redshift)
    features = _features(galaxies, fitted.fold != 0, basis), _features(galaxies, fitted.fold == 0, basis)
    sha256 = file_sha256(weights)
    calibration = calibrate_by_folds(predicted, fitted.fold, features, sha256)
    write_calibration(folder, calibration)
    export(weights)
    numbers = [number_with_errors(calibration, predicted, CROSS_VALIDATED)]
    if len(tests):
        found = Predicted(tests.magnitudes, _predict(fitted.model, tests), tests.redshift)
        numbers.append(number_with_errors(calibration, found, TEST_ROWS))
    write_card(folder, _card(basis, order, galaxies, fitted, sha256, tuple(numbers)))


def _features(galaxies: Labelled, is_asked: NDArray[np.bool_], card: ModelCard) -> NDArray[np.float64]:
    rows = np.flatnonzero(is_asked)
    rows = rows[np.linspace(0, len(rows) - 1, min(DOMAIN_GALAXIES, len(rows))).astype(np.int64)]
    parts = [
        domain_features(galaxies[torch.from_numpy(part)].numpy(), galaxies.magnitudes[part], card.domain)
        for part in np.array_split(rows, -(-len(rows) // ROWS_AT_ONCE))
    ]
    return np.concatenate(parts, axis=1)


def _predict(model: AstroMAE, galaxies: Labelled) -> NDArray[np.float32]:
    """Predict with the finished network, (N,)."""
    parts = np.array_split(np.arange(len(galaxies)), -(-len(galaxies) // ROWS_AT_ONCE))
    with torch.inference_mode():
        found = [
            model(galaxies[torch.from_numpy(rows)], torch.from_numpy(galaxies.magnitudes[rows]).float())
            for rows in parts
        ]
    return torch.cat(found).numpy().ravel()


def _card(
    basis: ModelCard, order: Order, galaxies: Labelled, fitted: Fitted, sha256: str, numbers: tuple[Measured, ...]
) -> ModelCard:
    began = f"began with {order.start.card.name}" if order.start else "began with nothing"
    knowledge = Knowledge(
        description=f"Trained on {galaxies.name} ({fitted.winner.name}; {began}).",
        training=(TrainingData(name=galaxies.name, num_rows=len(galaxies), sha256=_checksum(galaxies)),),
        split=_split_in_words(galaxies),
        recipe=_RECIPE.format(
            seed=order.seed,
            winner=fitted.winner.name,
            cross_validated=CROSS_VALIDATED,
            zero_points=_zero_points_in_words(basis.inputs.bands, fitted.zero_points),
        ),
        numbers=numbers,
        controls=tuple(number_from(entry.accuracy, "selection part", entry.name) for entry in fitted.entries),
        not_for=("galaxies unlike those it was trained on", "inputs that are flagged as out of domain"),
    )
    return msgspec.structs.replace(
        basis, name=order.name, weights_sha256=sha256, inputs=_inputs(basis.inputs, galaxies.card), knowledge=knowledge
    )


def _zero_points_in_words(bands: Sequence[str], zero_points: Sequence[float]) -> str:
    if not zero_points:
        return ""
    shifts = ", ".join(f"{band} {shift:+.3f}" for band, shift in zip(bands, zero_points, strict=True))
    return _ZERO_POINTS.format(shifts=shifts)


def _checksum(galaxies: Labelled) -> str | None:
    return galaxies.card.sha256 if galaxies.card else None


def _split_in_words(galaxies: Labelled) -> str:
    if galaxies.split is None:
        return "Four folds of patches of sky, an object and its duplicates in one; fold 0 is the selection part."
    folds = "the selection part and three folds" if galaxies.in_part(SELECTION).any() else "four folds"
    return f"As a column of the dataset says: galaxies of its test part took no part. The others are {folds}."


def _inputs(like: Inputs, dataset: DatasetCard | None) -> Inputs:
    """State what the network was trained on, as far as the dataset says it."""
    if dataset is None:
        return like
    origin, light = dataset.image_origin, like.magnitudes
    assert light is not None, "AstroMAE reads magnitudes"
    return msgspec.structs.replace(
        like,
        image_origin=None if origin == "none" else origin,
        pixel_scale_arcsec=dataset.pixel_scale_arcsec,
        magnitudes=msgspec.structs.replace(light, dereddened=dataset.dereddened is not False),
    )


_RECIPE = """\
Ways to train competed on the selection part, with controls: they are the other methods below. *{winner}* won: of those
as good as the best, within one standard error, it risks the least. It was then trained on all galaxies, seed {seed}.
{zero_points}Sigma, the 95 % interval and p(z), four Gaussians per galaxy, come from {cross_validated}."""
_ZERO_POINTS = """\
It adds zero points that these galaxies ask for to their magnitudes, {shifts} mag: how they
differ from band to band is well known, what all bands share hardly. """
