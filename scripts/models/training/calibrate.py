"""Measures the errors of trained weights, and writes their calibration and how well it covers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from inference import engines
from inference.block import Block
from inference.calibration import Calibration, calibration_path, load_calibration
from inference.cleaning import clean_cutouts
from inference.contract import PzAccuracy
from inference.domain import domain_features
from inference.metrics import redshift_accuracy
from inference.models import CARD_NAME, read_model
from inference.models.card import encode_card
from inference.pipeline import Predictions, predict_block
from inference.posterior import FILE_NAME as POSTERIOR_NAME
from inference.predict import Engine
from inference.pz_metrics import pz_accuracy
from inference.quality import Quality
from inference.uncertainty import Array
from scripts.command.whole_file import write_whole
from scripts.models.card_text import pz_table
from scripts.models.training.broken_rows import broken
from scripts.models.training.domain_model import fit_domain_model
from scripts.models.training.error_model import Predicted, fit_error_model
from scripts.models.training.posterior_model import fit_posterior_model, rescaled, steps_for
from scripts.models.training.recipe import FULL, Recipe
from scripts.models.training.rows import (
    real_test_rows,
    selection_rows,
    synthetic_test_rows,
    training_rows,
)

FRESH_SEED = 500
"""Added to the recipe's seed: the same training galaxies in renderings, and simulated ones, that no training saw."""
NUM_SYNTHETIC = 6_000


class Samples(NamedTuple):
    """The galaxies of a calibration, by what they may be used for."""

    taught: Block
    """Training galaxies, freshly rendered: the shapes are learned from them."""

    untouched: Block
    """Selection galaxies: factors and threshold are set on them."""

    tests: dict[str, Block]
    """Test galaxies by name, to measure on and for nothing else; the first are real ones."""


@dataclass(frozen=True)
class Measured:
    """How a calibration does on galaxies it was not made from."""

    pz: dict[str, PzAccuracy]
    """Name of rows to how good their p(z) are."""

    coverage: dict[str, tuple[int, float, float, float]]
    """Name of rows to their number, the shares inside the 68 and 95 % intervals, and the share out of domain."""

    flagged: dict[str, tuple[float, float]]
    """What was done to real galaxies to the shares out of domain, and with any flag or rejected."""

    def to_table(self) -> str:
        """Return all as Markdown tables, shares in percent."""
        lines = [
            pz_table(self.pz),
            "",
            "| rows | N | within ± sigma [%] | within the 95 % interval [%] | out of domain [%] |",
            "|---|---|---|---|---|",
        ]
        for name, (count, *shares) in self.coverage.items():
            cells = [f"{100 * share:.1f} ± {100 * (share * (1 - share) / count) ** 0.5:.1f}" for share in shares]
            lines.append(f"| {name} | {count:,} | {' | '.join(cells)} |")
        lines += ["", "| real galaxies of the test set after | out of domain [%] | any flag [%] |", "|---|---|---|"]
        lines += [
            f"| {name} | {100 * outside:.1f} | {100 * any_flag:.1f} |"
            for name, (outside, any_flag) in self.flagged.items()
        ]
        return "\n".join(lines)


def calibrate(engine: Engine, samples: Samples) -> Calibration:
    """Fit error model, distributions and domain of the engine's weights."""
    taught, untouched = (clean_cutouts(block.images, block.magnitudes) for block in (samples.taught, samples.untouched))
    fitted, kept_back = (_predicted(block, engine) for block in (samples.taught, samples.untouched))
    posterior = fit_posterior_model(fitted, engine.weights_sha256, num_steps=steps_for(len(fitted.z_spec)))
    return Calibration(
        weights_sha256=engine.weights_sha256,
        errors=fit_error_model(fitted, kept_back),
        posterior=rescaled(posterior, kept_back),
        domain=fit_domain_model(
            domain_features(taught.images, taught.magnitudes), domain_features(untouched.images, untouched.magnitudes)
        ),
    )


def measure(calibration: Calibration, engine: Engine, tests: dict[str, Block]) -> Measured:
    """Measure coverage and flags on the test set, and flags on broken galaxies."""
    coverage: dict[str, tuple[int, float, float, float]] = {}
    pz: dict[str, PzAccuracy] = {}
    for name, block in tests.items():
        found = predict_block(block, engine, calibration)
        parts = {name: found, **{f"{name}, {third}": part for third, part in _thirds(found, block)}}
        coverage |= {label: _coverage(part, calibration) for label, part in parts.items()}
        pz |= {label: one for label, part in parts.items() if (one := pz_accuracy(part.pz, part.z_spec))}
    real = next(iter(tests.values()))
    flagged = {"nothing": _flagged(calibration, real.images, real.magnitudes)}
    for what, images, magnitudes in broken(real.images, real.magnitudes):
        flagged[what] = _flagged(calibration, images, magnitudes)
    return Measured(pz, coverage, flagged)


def gather(recipe: Recipe) -> Samples:
    """Render the galaxies of a calibration."""
    fresh = replace(recipe, seed=recipe.seed + FRESH_SEED, renderings=1, num_synthetic=NUM_SYNTHETIC)
    return Samples(
        taught=training_rows(fresh).to_block(),
        untouched=selection_rows(recipe).to_block(),
        tests={
            "real, test set": real_test_rows().to_block(),
            "simulated, test sources": synthetic_test_rows(recipe).to_block(),
        },
    )


def _predicted(block: Block, engine: Engine) -> Predicted:
    return Predicted(block.magnitudes, predict_block(block, engine, None).z_phot, block.redshifts)


def _coverage(found: Predictions, calibration: Calibration) -> tuple[int, float, float, float]:
    ratio = calibration.errors.ratio_95
    accuracy = redshift_accuracy(found.z_phot, found.z_spec, found.sigma, ratio_95=ratio)
    assert accuracy is not None, "the test galaxies are labelled"
    assert accuracy.coverage_68 is not None, "a calibration gives every galaxy a sigma"
    assert accuracy.coverage_95 is not None, "a calibration gives every galaxy a sigma"
    outside = float(((found.quality & Quality.OUT_OF_DOMAIN) != 0).mean())
    return accuracy.num_labelled, accuracy.coverage_68, accuracy.coverage_95, outside


def _thirds(found: Predictions, block: Block) -> Iterator[tuple[str, Predictions]]:
    """Yield the bright, the middle and the faint third by r: an interval should hold in each."""
    r = block.magnitudes[:, 2]
    edges = np.quantile(r, [0, 1 / 3, 2 / 3, 1])
    for low, high in pairwise(edges):
        rows = (r >= low) & ((r < high) | (high == edges[-1]))
        yield f"{low:.1f} < r < {high:.1f}", found[rows]


def _flagged(calibration: Calibration, images: np.ndarray, magnitudes: Array) -> tuple[float, float]:
    cleaned = clean_cutouts(images, magnitudes)
    is_outside = calibration.domain.is_outside(cleaned.images, cleaned.magnitudes)
    return float(is_outside.mean()), float((is_outside | (cleaned.quality != 0)).mean())


def write(checkpoint: Path) -> tuple[Calibration, Measured]:
    """Make the calibration, the distributions and their reports in the folder of some weights; a few minutes.

    ``calibration.safetensors``, ``posterior.safetensors`` and ``CALIBRATION.md`` are written; ``card.json`` gets how
    good the distributions of the rows are that it has numbers of.

    Raises
    ------
    WeightsError
        If the weights cannot be read.
    SourceCatalogError
        If the real galaxies are not there.
    """
    path = calibration_path(checkpoint)
    engine = engines.load("auto", checkpoint, num_threads=1)
    samples = gather(FULL)
    made = calibrate(engine, samples)
    assert made.posterior is not None, "it was fitted"
    write_whole(path, made.to_bytes())
    write_whole(path.with_name(POSTERIOR_NAME), made.posterior.to_bytes())
    calibration = load_calibration(path, engine.weights_sha256)
    measured = measure(calibration, engine, samples.tests)
    _add_to_card(checkpoint.parent, measured)
    report = _REPORT.format(sha256=engine.weights_sha256, ratio=calibration.errors.ratio_95, tables=measured.to_table())
    path.with_name("CALIBRATION.md").write_text(report, encoding="utf-8")
    return calibration, measured


def _add_to_card(folder: Path, measured: Measured) -> None:
    card = read_model(folder).card
    numbers = tuple(
        msgspec.structs.replace(one, pz=measured.pz.get(one.rows, one.pz)) for one in card.knowledge.numbers
    )
    knowledge = msgspec.structs.replace(card.knowledge, numbers=numbers)
    write_whole(folder / CARD_NAME, encode_card(msgspec.structs.replace(card, knowledge=knowledge)))


_REPORT = """# Calibration of the errors

`calibration.safetensors` gives every redshift a sigma, and a flag to inputs unlike the training galaxies;
`posterior.safetensors` gives it a p(z). Written by `make calibrate`, they belong to no others than the weights
`{sha256}`.

Sigma is scaled on 704 real galaxies that no weight was fitted to, though they selected the training step: the interval
z_phot ± sigma should contain 68 % of the true redshifts, z_phot ± {ratio:.3f} sigma 95 %. The coverage holds on average
over galaxies like these, not at every true redshift: sigma does not include the bias of the network where galaxies are
rare. The features and the threshold of the flag were chosen with the test set and degraded versions of it in view, so
the rates below are slightly optimistic.

p(z), four Gaussians per galaxy, has the shapes of the errors of training galaxies in other renderings and of simulated
ones; all of them are stretched and moved alike so that the 704 galaxies are most likely. The PIT is the probability
below the true redshift; KS is its largest distance from evenness (1.36 / sqrt(N) in one of twenty even samples), CvM is
about 0.17 and AD about 1 where it is even. CRPS is in redshift; the lower it and the CDE loss, the better.

{tables}
"""
