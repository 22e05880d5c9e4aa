"""Sigma, p(z) and the flag of any model, from a dataset of galaxies that it did not learn from."""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference import engines
from inference.cleaning import are_odd, color_spread, is_label
from inference.domain import domain_features
from inference.models import Model, refuse_dataset
from inference.models.card import Measured, Redshift
from inference.pipeline import predict_block
from inference.quality import Quality
from scripts.command.errors import SourceError, UsageError
from scripts.command.model import SHIPPED_NAMES
from scripts.data.reader import ShardFolder
from scripts.models.card_text import write_card
from scripts.models.training.by_folds import calibrate_by_folds, number_with_errors, write_calibration
from scripts.models.training.error_model import Predicted
from scripts.models.training.fit import NUM_FOLDS
from scripts.models.training.labelled import refuse_too_few
from scripts.models.training.split import folds, groups

NUM_BANDS = 5
"""Of what sigma and p(z) are functions of: a magnitude, four colours and the redshift."""
ROWS_AT_ONCE = 1_000


def calibrate_on(model: Model, folder: Path) -> Measured:
    """Write ``calibration.safetensors`` and ``posterior.safetensors`` of a model, and how well they hold into its card.

    What is measured on a fifth of the sky was learned from the rest of it; so is the number that the card gets.

    Parameters
    ----------
    model : Model
        One of the user's.
    folder : Path
        Of a dataset.

    Raises
    ------
    UsageError
        If the model needs no calibration, or cannot have one.
    SourceError
        If the galaxies are too few, or are those that the model learned from.
    ModelError
        If the model cannot read the dataset.
    """
    _refuse(model)
    card, shards = model.card, ShardFolder(folder, model.card.inputs)
    if shards.card:
        refuse_dataset(shards.card, card, str(folder))
        if shards.card.sha256 in {one.sha256 for one in card.knowledge.training}:
            raise SourceError(
                f"{folder} is what {card.name} was trained on: its errors there are too small. "
                "`make train` has calibrated it; a dataset of other galaxies does it again."
            )
    engine = engines.load_model("auto", model, num_threads=1)
    parts = []
    for start in range(0, len(shards), ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, len(shards))
        block, facts = shards.rows(start, stop), shards.facts(start, stop)
        found = predict_block(block, engine, None, card)
        quality = (found.quality | facts.quality) & ~np.uint8(Quality.COLOR_OUTLIER.value)
        good = np.flatnonzero(is_label(block.redshifts) & (quality == 0))
        features = domain_features(block.images[good], block.magnitudes[good], card.domain).T
        columns = (block.object_id, facts.ra_deg, facts.dec_deg, block.magnitudes, found.z_phot, block.redshifts)
        parts.append((*(column[good] for column in columns), features))
    object_id, ra_deg, dec_deg, magnitudes, z_phot, z_spec, features = map(np.concatenate, zip(*parts, strict=True))
    kept = _first_of_each(object_id)
    kept = kept[~are_odd(magnitudes[kept], *color_spread(magnitudes[kept]))] if len(kept) else kept
    refuse_too_few(folder, len(kept), len(shards))
    fold = folds(groups(object_id[kept], ra_deg[kept], dec_deg[kept], magnitudes[kept]), NUM_FOLDS)
    if len(np.unique(fold)) < NUM_FOLDS:
        raise SourceError(f"{folder}: its galaxies are in fewer than {NUM_FOLDS} patches of sky; more are needed.")
    predicted = Predicted(magnitudes[kept], z_phot[kept], z_spec[kept])
    is_kept_back = fold == 0
    both = features[kept][~is_kept_back].T, features[kept][is_kept_back].T
    calibration = calibrate_by_folds(predicted, fold, both, card.weights_sha256)
    name = shards.card.name if shards.card else folder.name
    number = number_with_errors(calibration, predicted, f"{name}, which sigma and p(z) were fitted to")
    write_calibration(model.folder, calibration)
    others = (one for one in card.knowledge.numbers if one.rows != number.rows)
    knowledge = msgspec.structs.replace(card.knowledge, numbers=(*others, number))
    write_card(model.folder, msgspec.structs.replace(card, knowledge=knowledge))
    return number


def _refuse(model: Model) -> None:
    card, asked = model.card, f"MODEL={model.card.name}"
    if card.name in SHIPPED_NAMES:
        raise UsageError(
            f"{asked} comes with its calibration, which stays. `make train DATASET=… MODEL=mine` makes a model of your "
            "galaxies, and `make model FILE=… NAME=mine` brings one in: DATASET is for these."
        )
    if not isinstance(card.output, Redshift):
        raise UsageError(f"{asked} gives sigma and p(z) itself: there is nothing to calibrate.")
    if not card.inputs.magnitudes or len(card.inputs.bands) != NUM_BANDS:
        raise UsageError(
            f"{asked} reads {'no ' if not card.inputs.magnitudes else ''}magnitudes in {' '.join(card.inputs.bands)}; "
            f"sigma and p(z) are functions of {NUM_BANDS}. A network that gives p(z) itself needs no calibration."
        )
    if card.inputs.side_px and card.domain is None:
        raise UsageError(
            f"{asked}: its card does not say where in a cutout light is. Import it again with [domain] in CARD: "
            "aperture_px, core_px and sky_noise; docs/models.md has one."
        )


def _first_of_each(object_id: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.sort(np.unique(object_id, return_index=True)[1])
