"""From a user's dataset to a model's folder: weights, engines, calibration, p(z) and card, whole or not at all."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from inference.calibration import FILE_NAME as CALIBRATION_NAME
from inference.calibration import Calibration
from inference.checksum import file_sha256
from inference.contract import Accuracy, DatasetCard
from inference.distributions import distributions
from inference.domain import domain_features
from inference.intervals import Interval, accuracy_intervals
from inference.metrics import redshift_accuracy
from inference.model.astromae import AstroMAE
from inference.model.weights import load_astromae, save_weights
from inference.models import CARD_NAME, CARD_TEXT_NAME, Model, read_model, shipped
from inference.models.card import Inputs, Knowledge, Measured, ModelCard, TrainingData, encode_card
from inference.posterior import FILE_NAME as POSTERIOR_NAME
from inference.pz_metrics import kolmogorov_smirnov, pit
from scripts.command.model import new_model, refuse_taken
from scripts.data.split_column import SELECTION, TEST
from scripts.models.training.domain_model import fit_domain_model
from scripts.models.training.error_model import Predicted, fit_error_model_by_folds
from scripts.models.training.fit import FitRecipe, Fitted, fit
from scripts.models.training.journal import Journal
from scripts.models.training.labelled import Labelled, read_labelled, refuse_too_few
from scripts.models.training.posterior_model import fit_posterior_model, steps_for
from scripts.models.training.split import groups

DOMAIN_GALAXIES = 20_000
"""As many cutouts are looked at to learn what is usual."""
ROWS_AT_ONCE = 500
TEST_ROWS = "the test part of the split"


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
    sha256 = file_sha256(weights)
    predicted = Predicted(galaxies.magnitudes, fitted.z_phot, galaxies.redshift)
    errors = fit_error_model_by_folds(predicted, fitted.fold)
    domain = fit_domain_model(*(_features(galaxies, rows) for rows in (fitted.fold != 0, fitted.fold == 0)))
    (folder / CALIBRATION_NAME).write_bytes(Calibration(sha256, errors, domain).to_bytes())
    posterior = fit_posterior_model(predicted, sha256, num_steps=steps_for(len(galaxies)))
    (folder / POSTERIOR_NAME).write_bytes(posterior.to_bytes())
    found = distributions(posterior.posteriors(galaxies.magnitudes, fitted.z_phot))
    ks = kolmogorov_smirnov(pit(found, galaxies.redshift))
    export(weights)
    card = _card(basis, order, galaxies, fitted, sha256, tests)
    (folder / CARD_NAME).write_bytes(encode_card(card))
    (folder / CARD_TEXT_NAME).write_text(_in_words(card, fitted, order, ks), encoding="utf-8")


def _features(galaxies: Labelled, is_asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    rows = np.flatnonzero(is_asked)
    rows = rows[np.linspace(0, len(rows) - 1, min(DOMAIN_GALAXIES, len(rows))).astype(np.int64)]
    parts = [
        domain_features(galaxies[torch.from_numpy(part)].numpy(), galaxies.magnitudes[part])
        for part in np.array_split(rows, -(-len(rows) // ROWS_AT_ONCE))
    ]
    return np.concatenate(parts, axis=1)


def _measure(model: AstroMAE, tests: Labelled) -> Measured:
    """Measure the finished network on the test part that the user names."""
    parts = np.array_split(np.arange(len(tests)), -(-len(tests) // ROWS_AT_ONCE))
    with torch.inference_mode():
        z_phot = torch.cat(
            [model(tests[torch.from_numpy(rows)], torch.from_numpy(tests.magnitudes[rows]).float()) for rows in parts]
        ).double()
    found = z_phot.numpy().ravel()
    accuracy = redshift_accuracy(found, tests.redshift)
    assert accuracy is not None, "the test part is labelled"
    return _measured(accuracy, TEST_ROWS, intervals=accuracy_intervals(found, tests.redshift))


def _card(
    basis: ModelCard, order: Order, galaxies: Labelled, fitted: Fitted, sha256: str, tests: Labelled
) -> ModelCard:
    intervals = accuracy_intervals(fitted.z_phot.astype(np.float64), galaxies.redshift)
    own = _measured(
        fitted.accuracy, "all galaxies, each by a network that had not learned from it", intervals=intervals
    )
    controls = tuple(_measured(entry.accuracy, "selection part", method=entry.name) for entry in fitted.entries)
    began = f"began with {order.start.card.name}" if order.start else "began with nothing"
    knowledge = Knowledge(
        description=f"Trained on {order.dataset.name} ({fitted.winner.name}; {began}).",
        training=(TrainingData(name=str(order.dataset.name), num_rows=len(galaxies), sha256=galaxies.fingerprint),),
        split=_split_in_words(galaxies),
        numbers=(own, _measure(fitted.model, tests)) if len(tests) else (own,),
        controls=controls,
        not_for=("galaxies unlike those it was trained on", "inputs that are flagged as out of domain"),
    )
    return msgspec.structs.replace(
        basis, name=order.name, weights_sha256=sha256, inputs=_inputs(basis.inputs, galaxies.card), knowledge=knowledge
    )


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


def _measured(
    accuracy: Accuracy, rows: str, *, method: str = "", intervals: dict[str, Interval] | None = None
) -> Measured:
    found = intervals or {}
    return Measured(
        method=method,
        rows=rows,
        num_rows=accuracy.num_labelled,
        nmad=accuracy.nmad,
        nmad_95=(found["nmad"].low, found["nmad"].high) if "nmad" in found else None,
        bias=accuracy.bias,
        outlier_005=accuracy.outlier_005,
        outlier_015=accuracy.outlier_015,
        r2=accuracy.r2,
        r2_95=(found["r2"].low, found["r2"].high) if "r2" in found else None,
    )


def _in_words(card: ModelCard, fitted: Fitted, order: Order, ks: float) -> str:
    known = card.knowledge
    own = {TEST_ROWS: "**this model, test part**"}
    lines = [
        _line(one.method or own.get(one.rows, "**this model, cross-validated**"), one)
        for one in (*known.numbers, *known.controls)
    ]
    return _TEXT.format(
        card=card, knowledge=known, rows="\n".join(lines), ks=ks, seed=order.seed, winner=fitted.winner.name
    )


def _line(name: str, one: Measured) -> str:
    interval = f" ({one.nmad_95[0]:.4f}-{one.nmad_95[1]:.4f})" if one.nmad_95 else ""
    return (
        f"| {name} | {one.num_rows:,} | {one.nmad:.4f}{interval} | {one.bias or 0:+.4f} "
        f"| {100 * (one.outlier_005 or 0):.2f} | {one.r2 or 0:.3f} |"
    )


_TEXT = """# Model card: {card.name}

{knowledge.description} {knowledge.split} Seed {seed}. Weights: sha256 `{card.weights_sha256}`.

dz = (z_phot - z_spec) / (1 + z_spec); NMAD = 1.48 median |dz - median dz|, with its 95 % interval. The first line is
every galaxy, predicted by a network that had not learned from it; the others are the ways to train that competed, and
controls, on the selection part. *{winner}* won and was then trained on all galaxies.

| method | N | NMAD | bias | dz > .05 [%] | R² |
|---|---|---|---|---|---|
{rows}

Sigma and the 95 % interval are scaled on the redshifts of the first line. p(z), four Gaussians per galaxy, is fitted to
the same; the true redshifts are spread over its percentiles with a KS distance of {ks:.3f} from evenness.
"""
