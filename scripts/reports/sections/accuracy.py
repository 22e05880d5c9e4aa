"""How good the redshifts are: the field's numbers, and where they fail."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.distributions import Distributions, distributions
from inference.intervals import nmad_interval
from inference.metrics import Array, nmad, normalised_residuals
from inference.pz_metrics import (
    LIMITS_68,
    LIMITS_95,
    anderson_darling,
    cramer_von_mises,
    kolmogorov_smirnov,
    labelled,
    pit,
    pit_counts,
    share_inside,
)
from inference.quality import Quality
from inference.run_folder import RunPredictions
from scripts.reports.document import Block, Figure, Note, Section, Table
from scripts.reports.evidence import RunEvidence
from scripts.reports.figures.distributions import draw_pit
from scripts.reports.figures.redshifts import (
    DZ,
    OUTLIER_DZ,
    comparison,
    coverage,
    draw_comparison,
    draw_coverage,
    draw_redshifts,
    draw_residuals,
    draw_widths,
    widths,
)
from scripts.reports.quantities import UNKNOWN, count, number, percent

MIN_GALAXIES = 40
"""Labelled galaxies of which a scatter says something."""

SUMMARY_ROWS = (
    ("NMAD", "nmad", "1.48 · median(|dz - median(dz)|), the published precision"),
    ("bias", "bias", "mean of dz"),
    ("median bias", "bias_median", "median of dz"),
    ("outliers beyond 0.05", "outlier_005", "share of galaxies with |dz| > 0.05"),
    ("outliers beyond 0.15", "outlier_015", "share of galaxies with |dz| > 0.15"),
    ("MAE", "mae", "mean of |z_phot - z_spec|"),
    ("MSE", "mse", "mean of (z_phot - z_spec)²"),
    ("R²", "r2", "depends on the width of the sample, the next line"),
    ("std(z_spec)", "std_z_spec", "width of the sample"),
    ("within 1 sigma", "coverage_68", "68 % are expected"),
    ("within the 95 % interval", "coverage_95", "95 % are expected"),
)
SHARES = {"outlier_005", "outlier_015", "coverage_68", "coverage_95"}


def accuracy_section(run: RunEvidence, r_magnitude: Array | None) -> Section:
    """Return the accuracy of a run.

    Parameters
    ----------
    run : RunEvidence
    r_magnitude : array, shape (N,), or None
        r of every galaxy of `run.predictions` [mag]; None where the dataset's table is not found.
    """
    found = run.get("accuracy")
    predictions = run.predictions
    labelled = predictions is not None and bool(predictions.is_labelled.any())
    if not found and not labelled:
        return Section("Accuracy", _why_unknown(run), list(_unlabelled(predictions)))
    blocks: list[Block] = []
    if found:
        blocks.append(_table(found, predictions))
    if predictions is not None and labelled:
        ratio_95 = run.get("ratio_95")
        blocks += _figures(predictions, r_magnitude, math.nan if ratio_95 is None else ratio_95)
    else:
        blocks.append(Note("The predictions are not in the run's folder: no plots."))
    return Section("Accuracy", _lead(found), blocks)


def _why_unknown(run: RunEvidence) -> str:
    if run.predictions is None and not run.summary:
        return "Unknown: the run's folder holds neither predictions nor a summary."
    return "Unknown: no galaxy of this run has a spectroscopic redshift."


def _unlabelled(predictions: RunPredictions | None) -> Iterator[Block]:
    """Yield what can be said of redshifts that nothing can be compared with."""
    if predictions is None or not np.isfinite(predictions.z_phot).any():
        return
    caption, stack = f"Histogram of {len(predictions.z_phot):,} predicted redshifts.", None
    if predictions.pz is not None:
        stack = distributions(predictions.pz[np.isfinite(predictions.pz).all(axis=1)])
        caption += " Dashed: all p(z) added up, the n(z) to be expected."
    yield Figure("Predicted redshifts", draw_redshifts({"z_phot": predictions.z_phot}, stack), caption)
    yield from _flags(predictions)


def _lead(found: dict[str, Any] | None) -> str:
    if not found:
        return "From the predictions; the run left no summary."
    return (
        f"Over {found['num_labelled']:,} galaxies with a spectroscopic redshift; {DZ}. "
        "Compare numbers of the same sample only."
    )


def _table(found: dict[str, Any], predictions: RunPredictions | None) -> Table:
    rows = []
    for name, key, meaning in SUMMARY_ROWS:
        if key not in found or (found[key] is None and key != "r2"):
            continue
        value = percent(found[key], 2) if key in SHARES else number(found[key], 4)
        if key == "nmad" and predictions is not None and predictions.is_labelled.any():
            low, high = nmad_interval(normalised_residuals(predictions.z_phot, predictions.z_spec))
            meaning = f"95 % interval {number(low)} to {number(high)}; {meaning}"
        rows.append((name, value, meaning))
    return Table("Metrics", ("quantity", "value", "definition"), rows, frozenset({0, 2}))


def _figures(predictions: RunPredictions, r_magnitude: Array | None, ratio_95: float) -> Iterator[Block]:
    use = predictions.is_labelled
    z_phot, z_spec = predictions.z_phot[use], predictions.z_spec[use]
    dz = normalised_residuals(z_phot, z_spec)
    yield _comparison(z_phot, z_spec)
    pair = labelled(predictions.pz, predictions.z_spec)
    yield _redshifts(z_phot, z_spec, pair[0] if pair else None)
    yield _residuals(z_spec, dz, "spectroscopic redshift", "z_spec")
    if r_magnitude is not None and np.isfinite(r_magnitude[use]).sum() > MIN_GALAXIES:
        known = np.isfinite(r_magnitude[use])
        yield _residuals(r_magnitude[use][known], dz[known], "r magnitude [mag]", "r")
    if predictions.sigma is not None:
        yield from _calibration(z_phot - z_spec, predictions.sigma[use], ratio_95)
    if pair and len(pair[1]) >= MIN_GALAXIES:
        yield _pit(*pair)
    yield from _flags(predictions)
    if r_magnitude is None:
        yield Note("Residuals against r are left out: no table of these galaxies with r was found.")


def _comparison(z_phot: Array, z_spec: Array) -> Figure:
    drawing, cells = draw_comparison(z_phot, z_spec)
    share = comparison(z_phot, z_spec).share_outliers
    caption = (
        f"Solid: equal redshifts. Dashed: |dz| = {OUTLIER_DZ}; {percent(share, 2)} of the galaxies are outside."
        + (f" Drawn at the border: {count(cells.num_beyond)} beyond the axes." if cells.num_beyond else "")
    )
    return Figure("Photometric against spectroscopic redshift", drawing, caption)


def _redshifts(z_phot: Array, z_spec: Array, stack: Distributions | None) -> Figure:
    rows = [
        (name, *(number(float(q)) for q in np.quantile(z, [0.05, 0.16, 0.5, 0.84, 0.95])), number(float(z.std())))
        for name, z in (("z_spec", z_spec), ("z_phot", z_phot))
    ]
    columns = ("redshift", "5 %", "16 %", "median", "84 %", "95 %", "std")
    caption = (
        f"Filled: spectroscopic. Dashed: photometric. {'Dotted: all p(z) added up. ' if stack else ''}"
        "Where they differ, predictions pile up at, or avoid, some redshifts."
    )
    drawing = draw_redshifts({"z_spec": z_spec, "z_phot": z_phot}, stack)
    return Figure(
        "Distribution of redshifts, n(z)", drawing, caption, Table("Percentiles of the redshifts", columns, rows)
    )


def _pit(found: Distributions, z_spec: Array) -> Figure:
    transform = pit(found, z_spec)
    num = len(transform)
    rows = [
        ("Kolmogorov-Smirnov", number(kolmogorov_smirnov(transform)), f"below {number(1.36 / math.sqrt(num))}"),
        ("Cramér-von Mises", number(cramer_von_mises(transform)), "about 0.17"),
        ("Anderson-Darling", number(anderson_darling(transform)), "about 1"),
        ("inside the central 68 %", percent(share_inside(transform, LIMITS_68)), "68 %"),
        ("inside the central 95 %", percent(share_inside(transform, LIMITS_95)), "95 %"),
    ]
    caption = (
        "For each galaxy the probability that p(z) gives to redshifts below the spectroscopic one. Even where p(z) "
        "holds what it says; full ends: too narrow; a slope: biased. Grey: where 95 % of even bins are."
    )
    table = Table(f"PIT of {num:,} galaxies", ("quantity", "value", "where it is even"), rows, frozenset({0, 2}))
    return Figure("Calibration of p(z)", draw_pit(pit_counts(transform)), caption, table)


def _residuals(along: Array, dz: Array, label: str, short_label: str) -> Figure:
    drawing, cells, found = draw_residuals(along, dz, label=label)
    caption = "Line: running median. Dashed: median ± NMAD, in bins of equal numbers of galaxies." + (
        f" Drawn at the border: {count(cells.num_beyond)} beyond the axes." if cells.num_beyond else ""
    )
    title = f"Residuals against {short_label}"
    columns = zip(found.centers, found.medians, found.nmads, strict=True)
    rows = [(number(center), f"{median:+.4f}", f"{spread:.4f}") for center, median, spread in columns]
    table = Table(f"{title}: running median", (f"median {short_label}", "median dz", "NMAD"), rows)
    return Figure(title, drawing, caption, table)


def _calibration(error: Array, sigma: Array, ratio_95: float) -> Iterator[Block]:
    known = np.isfinite(sigma) & (sigma > 0)
    if not known.any():
        return
    found = coverage(error[known], sigma[known], ratio_95)
    nominal, held = (" and ".join(percent(one[i], i - 1) for one in found.nominal) for i in (1, 2))
    caption = (
        f"Circles: the nominal {nominal}; {held} of the galaxies are inside. "
        "A curve above the circles means that sigma is too large."
    )
    rows = [(f"{k:g} sigma", percent(expected), percent(observed)) for k, expected, observed in found.table]
    table = Table("Galaxies within k sigma", ("within", "Gaussian", "observed"), rows)
    yield Figure("Calibration of sigma", draw_coverage(found), caption, table)
    caption = (
        "In bins of equal numbers of galaxies; bars are 95 % intervals. Points above the line: sigma is too small."
    )
    yield Figure("Errors against sigma", draw_widths(widths(error[known], sigma[known])), caption)


def _flags(predictions: RunPredictions) -> Iterator[Block]:
    quality = predictions.quality
    if quality is None:
        return
    if not quality.any():
        yield Note(f"No quality flag is set on any of {len(quality):,} galaxies.")
        return
    chosen = {(flag.name or "").lower().replace("_", " "): (quality & flag.value) != 0 for flag in Quality}
    chosen = {name: has for name, has in chosen.items() if has.any()} | {"none": quality == 0}
    rows = [
        (name, count(int(has.sum())), percent(float(has.mean()), 2), _nmad_of(predictions, has))
        for name, has in chosen.items()
    ]
    yield Table("Quality flags of the input; a galaxy can have several", ("flag", "galaxies", "share", "NMAD"), rows)


def _nmad_of(predictions: RunPredictions, chosen: NDArray[np.bool_]) -> str:
    use = chosen & predictions.is_labelled
    if use.sum() < MIN_GALAXIES:
        return UNKNOWN
    return number(nmad(normalised_residuals(predictions.z_phot[use], predictions.z_spec[use])))
