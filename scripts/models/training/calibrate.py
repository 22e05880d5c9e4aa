"""Measures the errors of trained weights, and writes their calibration and how well it covers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from inference import engines
from inference.block import Block, join
from inference.calibration import Calibration, calibration_path, load_calibration
from inference.cleaning import clean_cutouts
from inference.contract import PzAccuracy
from inference.domain import domain_features
from inference.metrics import redshift_accuracy
from inference.models import read_model
from inference.models.card import Measured as Number
from inference.pipeline import Predictions, predict_block
from inference.predict import Engine
from inference.pz_metrics import pz_accuracy
from inference.quality import Quality
from inference.uncertainty import Array
from scripts.models.card_text import pz_table, write_card
from scripts.models.numbers import number_of
from scripts.models.training.broken_rows import broken
from scripts.models.training.by_folds import write_calibration
from scripts.models.training.domain_model import fit_domain_model
from scripts.models.training.error_model import Predicted, fit_error_model
from scripts.models.training.goals import SAMPLE, missed
from scripts.models.training.posterior_model import fit_posterior_model, rescaled, steps_for
from scripts.models.training.recipe import FULL, Recipe
from scripts.models.training.rows import (
    TrainingRows,
    real_test_rows,
    selection_rows,
    synthetic_test_rows,
    training_rows,
)
from scripts.models.training.surveys import PARTS, Survey, catalogues

FRESH_SEED = 500
"""Added to the recipe's seed: the same training galaxies in renderings, and simulated ones, that no training saw."""
NUM_SYNTHETIC = 6_000
MAX_WEIGHT = 3.0
REDSHIFTS = (0.0, 0.1, 0.2, 0.3, 0.5)
FEWEST = 100
"""Fewer galaxies say nothing of the share inside an interval."""


class Samples(NamedTuple):
    """The galaxies of a calibration, by what they may be used for."""

    taught: Block
    """Training galaxies, freshly rendered: the shapes are learned from them."""

    untouched: Block
    """Selection galaxies: factors and threshold are set on them."""

    tests: dict[str, Block]
    """Test galaxies by name, to measure on and for nothing else; the first are real ones."""

    taught_weight: Array | None = None
    untouched_weight: Array | None = None
    """How much each of those galaxies counts for p(z); all the same when absent."""

    domain: tuple[Block, Block] | None = None
    """Training and selection galaxies of the flag; those above when absent. A domain of all surveys has room for stars:
    it flags 43 % of simulated ones instead of 92 %."""


@dataclass(frozen=True)
class Measured:
    """How a calibration does on galaxies it was not made from."""

    pz: dict[str, PzAccuracy]
    """Name of rows to how good their p(z) are."""

    coverage: dict[str, tuple[int, float, float, float]]
    """Name of rows to their number, the shares inside the 68 and 95 % intervals, and the share out of domain."""

    numbers: dict[str, Number]
    """Name of whole test sets to how good their redshifts are."""

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
    of_flag = samples.domain or (samples.taught, samples.untouched)
    taught, untouched = (clean_cutouts(block.images, block.magnitudes) for block in of_flag)
    fitted, kept_back = (_predicted(block, engine) for block in (samples.taught, samples.untouched))
    posterior = fit_posterior_model(
        fitted, engine.weights_sha256, importance=samples.taught_weight, num_steps=steps_for(len(fitted.z_spec))
    )
    return Calibration(
        weights_sha256=engine.weights_sha256,
        errors=fit_error_model(fitted, kept_back),
        posterior=rescaled(posterior, kept_back, samples.untouched_weight),
        domain=fit_domain_model(
            domain_features(taught.images, taught.magnitudes), domain_features(untouched.images, untouched.magnitudes)
        ),
    )


def measure(calibration: Calibration, engine: Engine, tests: dict[str, Block]) -> Measured:
    """Measure coverage and flags on the test set, and flags on broken galaxies."""
    coverage: dict[str, tuple[int, float, float, float]] = {}
    pz: dict[str, PzAccuracy] = {}
    numbers = {}
    for name, block in tests.items():
        found = predict_block(block, engine, calibration)
        numbers[name] = number_of(found.z_phot.astype(np.float64), block.redshifts, name)
        parts = {name: found, **{f"{name}, {label}": part for label, part in _parts(found, block)}}
        coverage |= {label: _coverage(part, calibration) for label, part in parts.items()}
        pz |= {label: one for label, part in parts.items() if (one := pz_accuracy(part.pz, part.z_spec))}
    real = next(iter(tests.values()))
    flagged = {"nothing": _flagged(calibration, real.images, real.magnitudes)}
    for what, images, magnitudes in broken(real.images, real.magnitudes):
        flagged[what] = _flagged(calibration, images, magnitudes)
    return Measured(pz, coverage, numbers, flagged)


def gather(recipe: Recipe, surveys: Sequence[Survey] = ()) -> Samples:
    """Render the galaxies of a calibration: those of the sample, and of the surveys that the weights learned from."""
    fresh = replace(
        recipe, seed=recipe.seed + FRESH_SEED, renderings=1, num_synthetic=min(NUM_SYNTHETIC, recipe.num_synthetic)
    )
    taught, untouched = [training_rows(fresh)], [selection_rows(recipe)]
    domain = None
    if surveys:
        domain = _join(taught), _join(untouched)
        # Frozen branches learned nothing from the noise of these images, and real galaxies suffice.
        taught, untouched = ([one.render() for one in catalogues(part, surveys, recipe.seed)] for part in PARTS)
    return Samples(
        taught=_join(taught),
        untouched=_join(untouched),
        tests={
            SAMPLE: real_test_rows(at_most=recipe.num_test_real).to_block(),
            **{survey.tests: survey.rendered("held_out", 0).to_block() for survey in surveys},
            "simulated, test sources": synthetic_test_rows(recipe).to_block(),
        },
        taught_weight=_weights(taught),
        untouched_weight=_weights(untouched),
        domain=domain,
    )


def _weights(catalogues: Sequence[TrainingRows]) -> Array:
    """Let catalogues count alike, whatever their size, but no galaxy for more than a few; simulated ones count once."""
    largest = max(one.num_real for one in catalogues)
    parts = []
    for one in catalogues:
        weight = np.ones(len(one))
        weight[: one.num_real] = min(largest / one.num_real, MAX_WEIGHT)
        parts.append(weight)
    return np.concatenate(parts)


def _join(catalogues: Sequence[TrainingRows]) -> Block:
    joined = join([one.to_block() for one in catalogues])
    return replace(joined, object_id=np.arange(len(joined.redshifts), dtype=np.int64))


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


def _parts(found: Predictions, block: Block) -> Iterator[tuple[str, Predictions]]:
    """Yield thirds by r, from bright to faint, and ranges of redshift: an interval should hold in each."""
    r = block.magnitudes[:, 2]
    edges = np.quantile(r, [0, 1 / 3, 2 / 3, 1])
    for low, high in pairwise(edges):
        rows = (r >= low) & ((r < high) | (high == edges[-1]))
        yield f"{low:.1f} < r < {high:.1f}", found[rows]
    for low, high in pairwise(REDSHIFTS):
        rows = (found.z_phot >= low) & (found.z_phot < high)
        if rows.sum() >= FEWEST:
            yield f"{low:g} < z_phot < {high:g}", found[rows]


def _flagged(calibration: Calibration, images: np.ndarray, magnitudes: Array) -> tuple[float, float]:
    cleaned = clean_cutouts(images, magnitudes)
    is_outside = calibration.domain.is_outside(cleaned.images, cleaned.magnitudes)
    return float(is_outside.mean()), float((is_outside | (cleaned.quality != 0)).mean())


def write(
    checkpoint: Path, surveys: Sequence[Survey] = (), samples: Samples | None = None
) -> tuple[Calibration, Measured]:
    """Make the calibration, the distributions and their reports in the folder of some weights; a few minutes.

    ``calibration.safetensors``, ``posterior.safetensors`` and ``CALIBRATION.md`` are written; the card gets how good
    intervals and distributions are of the rows that it has numbers of, and which goals are missed.

    Raises
    ------
    WeightsError
        If the weights cannot be read.
    SourceCatalogError
        If the real galaxies are not there.
    """
    path = calibration_path(checkpoint)
    engine = engines.load("auto", checkpoint, num_threads=1)
    samples = samples or gather(FULL, surveys)
    made = calibrate(engine, samples)
    write_calibration(path.parent, made)
    calibration = load_calibration(path, engine.weights_sha256)
    measured = measure(calibration, engine, samples.tests)
    _add_to_card(checkpoint.parent, measured)
    report = _REPORT.format(
        sha256=engine.weights_sha256,
        ratio=calibration.errors.ratio_95,
        n=f"{len(samples.untouched.redshifts):,}",
        shapes=SHAPES_OF_SURVEYS if surveys else SHAPES,
        tables=measured.to_table(),
    )
    path.with_name("CALIBRATION.md").write_text(report, encoding="utf-8")
    return calibration, measured


def _add_to_card(folder: Path, measured: Measured) -> None:
    card = read_model(folder).card
    known = {one.rows for one in card.knowledge.numbers}
    added = (one for rows, one in measured.numbers.items() if rows not in known)
    numbers = tuple(
        msgspec.structs.replace(
            one,
            pz=measured.pz.get(one.rows, one.pz),
            coverage_68=measured.coverage.get(one.rows, (0, one.coverage_68))[1],
            coverage_95=measured.coverage.get(one.rows, (0, None, one.coverage_95))[2],
        )
        for one in (*card.knowledge.numbers, *added)
    )
    knowledge = msgspec.structs.replace(
        card.knowledge, numbers=numbers, missed=tuple(missed(numbers, measured.coverage))
    )
    write_card(folder, msgspec.structs.replace(card, knowledge=knowledge))


SHAPES = """\
p(z), four Gaussians per galaxy, has the shapes of the errors of training galaxies in other renderings and of simulated
ones; all of them are stretched and moved alike"""
SHAPES_OF_SURVEYS = """\
p(z), four Gaussians per galaxy, has the shapes of the errors of training galaxies of all catalogues,
which count alike, but no galaxy for more than three; all of them are stretched and moved alike"""
_REPORT = """# Calibration of the errors

`calibration.safetensors` gives every redshift a sigma, and a flag to inputs unlike the training galaxies;
`posterior.safetensors` gives it a p(z). Written by `make calibrate`, they belong to no others than the weights
`{sha256}`.

Sigma is scaled on {n} real galaxies that no weight was fitted to, though they selected the training step: the interval
z_phot ± sigma should contain 68 % of the true redshifts, z_phot ± {ratio:.3f} sigma 95 %. The coverage holds on average
over galaxies like these, not at every true redshift: sigma does not include the bias of the network where galaxies are
rare. The features and the threshold of the flag were chosen with the test set and degraded versions of it in view, so
the rates below are slightly optimistic.

{shapes} so that the {n} galaxies are most likely. The flag
is about the sample and simulated galaxies, whatever else was learned from.

The PIT is the probability below the true redshift; KS is its largest distance from evenness (1.36 / sqrt(N) in one of
twenty even samples), CvM is about 0.17 and AD about 1 where it is even. CRPS is in redshift; the lower it and the CDE
loss, the better.

{tables}
"""
