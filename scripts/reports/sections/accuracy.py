"""How good the redshifts are: the field's numbers, and where they fail."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.intervals import nmad_interval
from inference.metrics import Array, nmad, normalised_residuals
from inference.quality import Quality
from inference.run_folder import RunPredictions
from scripts.reports.charts.density import density
from scripts.reports.charts.distribution import outlines
from scripts.reports.charts.scale import padded
from scripts.reports.charts.svg import Frame, element
from scripts.reports.document import Block, Figure, Note, Section, Table
from scripts.reports.evidence import RunEvidence
from scripts.reports.quantities import UNKNOWN, count, number, percent

OUTLIER_DZ = 0.05
MIN_GALAXIES_PER_BIN = 40
MAX_BINS = 14
DZ = "dz = (z_phot - z_spec) / (1 + z_spec)"

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
        r of every galaxy of `run.predictions` [mag]; None where the dataset's table is not at hand.
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
        blocks += _figures(predictions, r_magnitude)
    else:
        blocks.append(Note("The predictions are not in the run's folder: no plots."))
    return Section("Accuracy", _lead(found), blocks)


def running_median(at: Array, dz: Array) -> tuple[Array, Array, Array]:
    """Return the centres of bins of equal numbers of galaxies, and the median and the NMAD of dz in each."""
    num_bins = min(MAX_BINS, max(1, len(at) // MIN_GALAXIES_PER_BIN))
    bins = np.array_split(np.argsort(at, kind="stable"), num_bins)
    rows = [(np.median(at[one]), np.median(dz[one]), nmad(dz[one])) for one in bins]
    centres, medians, spreads = np.array(rows, float).T
    return centres, medians, spreads


def _why_unknown(run: RunEvidence) -> str:
    if run.predictions is None and not run.summary:
        return "Unknown: the run's folder holds neither predictions nor a summary."
    return "Unknown: no galaxy of this run has a spectroscopic redshift."


def _unlabelled(predictions: RunPredictions | None) -> Iterator[Block]:
    """Yield what can be said of redshifts that nothing can be compared with."""
    if predictions is None or not np.isfinite(predictions.z_phot).any():
        return
    svg = outlines(
        {"z_phot": predictions.z_phot},
        x_label="redshift",
        y_label="galaxies per bin",
        title="Predicted redshifts",
        description=f"Histogram of {len(predictions.z_phot):,} predicted redshifts.",
    )
    yield Figure("Predicted redshifts", svg, "Distribution of the predictions.")
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


def _figures(predictions: RunPredictions, r_magnitude: Array | None) -> Iterator[Block]:
    use = predictions.is_labelled
    z_phot, z_spec = predictions.z_phot[use], predictions.z_spec[use]
    dz = normalised_residuals(z_phot, z_spec)
    yield _against_truth(z_phot, z_spec)
    yield _redshifts(z_phot, z_spec)
    yield _residuals(z_spec, dz, "spectroscopic redshift", "z_spec")
    if r_magnitude is not None and np.isfinite(r_magnitude[use]).sum() > MIN_GALAXIES_PER_BIN:
        known = np.isfinite(r_magnitude[use])
        yield _residuals(r_magnitude[use][known], dz[known], "r magnitude [mag]", "r")
    if predictions.sigma is not None:
        yield from _uncertainty(z_phot - z_spec, predictions.sigma[use])
    yield from _flags(predictions)
    if r_magnitude is None:
        yield Note("Residuals against r are left out: the dataset's table.parquet is not at hand.")


def _against_truth(z_phot: Array, z_spec: Array) -> Figure:
    high = float(np.quantile(np.concatenate([z_phot, z_spec]), 0.999)) * 1.05
    ends = (0.0, max(high, 0.05))
    frame = Frame(ends, ends, x_label="spectroscopic redshift", y_label="photometric redshift", size=(430, 400))
    diagonal = np.linspace(*ends, 2)
    marks = density(frame, z_spec, z_phot)
    marks.append(frame.line(diagonal, diagonal, "mark"))
    for sign in (-1, 1):
        bound = diagonal + sign * OUTLIER_DZ * (1 + diagonal)
        inside = np.clip(bound, *ends)
        at = (inside - sign * OUTLIER_DZ) / (1 + sign * OUTLIER_DZ)
        marks.append(frame.line(at, inside, "mark dashed"))
    beyond = int(((z_spec > ends[1]) | (z_phot > ends[1]) | (z_phot < 0)).sum())
    share = float((np.abs(normalised_residuals(z_phot, z_spec)) > OUTLIER_DZ).mean())
    caption = (
        f"Solid: equal redshifts. Dashed: |dz| = {OUTLIER_DZ}; {percent(share, 2)} of the galaxies lie outside."
        + (f" {count(beyond)} beyond the axes are drawn at the border." if beyond else "")
    )
    svg = frame.draw(marks, title="Photometric against spectroscopic redshift", description=caption)
    return Figure("Photometric against spectroscopic redshift", svg, caption)


def _redshifts(z_phot: Array, z_spec: Array) -> Figure:
    title = "Distribution of redshifts, n(z)"
    high = float(np.quantile(np.concatenate([z_phot, z_spec]), 0.999))
    rows = [
        (name, *(number(float(q)) for q in np.quantile(z, [0.05, 0.16, 0.5, 0.84, 0.95])), number(float(z.std())))
        for name, z in (("z_spec", z_spec), ("z_phot", z_phot))
    ]
    svg = outlines(
        {"z_spec": z_spec, "z_phot": z_phot},
        x_label="redshift",
        y_label="galaxies per bin",
        title=title,
        description="Histograms of the spectroscopic and of the photometric redshifts on the same bins.",
        high=high,
    )
    columns = ("redshift", "5 %", "16 %", "median", "84 %", "95 %", "std")
    caption = "Filled: spectroscopic. Dashed: photometric. Where the two differ, the predictions pile up or avoid."
    return Figure(title, svg, caption, Table("Percentiles of the redshifts", columns, rows))


def _residuals(at: Array, dz: Array, label: str, short_label: str) -> Figure:
    spread = max(nmad(dz), 1e-4)
    low, high = (float(q) for q in np.quantile(at, [0.001, 0.999]))
    frame = Frame(
        padded(np.array([low, high]), share=0.02),
        (-6 * spread, 6 * spread),
        x_label=label,
        y_label="dz",
        size=(430, 300),
    )
    centres, medians, spreads = running_median(at, dz)
    marks = density(frame, at, dz)
    marks.append(element("path", d=f"M{frame.left} {frame.y.at(0):.1f}H{frame.right}", class_="line mark thin"))
    marks += [frame.line(centres, medians + sign * spreads, "series-2 dashed") for sign in (-1, 1)]
    marks.append(frame.line(centres, medians, "series-2 solid"))
    x, y = frame.x(centres), frame.y(medians)
    marks += [element("circle", cx=a, cy=b, r=2.6, class_="fill series-2") for a, b in zip(x, y, strict=True)]
    beyond = int((np.abs(dz) > 6 * spread).sum())
    caption = "Line: running median. Dashed: median ± NMAD, in bins of equal numbers of galaxies. " + (
        f"{count(beyond)} galaxies beyond ± 6 NMAD are drawn at the border." if beyond else ""
    )
    title = f"Residuals against {short_label}"
    rows = [(number(c), f"{m:+.4f}", f"{s:.4f}") for c, m, s in zip(centres, medians, spreads, strict=True)]
    table = Table(f"{title}: running median", (f"median {short_label}", "median dz", "NMAD"), rows)
    return Figure(title, frame.draw(marks, title=title, description=caption), caption, table)


def _uncertainty(error: Array, sigma: Array) -> Iterator[Block]:
    known = np.isfinite(sigma) & (sigma > 0)
    if not known.any():
        return
    pull = error[known] / sigma[known]
    expected = [(k, math.erf(k / math.sqrt(2))) for k in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)]
    nominal = np.array([0.0, *(share for _, share in expected)])
    observed = np.array([0.0, *(float((np.abs(pull) <= k).mean()) for k, _ in expected)])
    frame = Frame((0, 1), (0, 1), x_label="expected share within k sigma", y_label="observed share", size=(430, 300))
    marks = [
        frame.line(np.array([0.0, 1.0]), np.array([0.0, 1.0]), "mark dashed"),
        frame.line(nominal, observed, "series-1"),
    ]
    for (k, share), seen in zip(expected, observed[1:], strict=True):
        x, y = frame.x.at(share), frame.y.at(float(seen))
        told = f"within {k:g} sigma: {percent(float(seen))}, expected {percent(share)}"
        marks.append(
            element(
                "g", element("title", told), element("circle", cx=x, cy=y, r=4.0, class_="fill series-1"), class_="tip"
            )
        )
    one = float(observed[2])
    caption = (
        f"{percent(one)} of the galaxies lie within one sigma; 68.3 % are expected. "
        "Above the diagonal, sigma is too wide."
    )
    rows = [
        (f"{k:g} sigma", percent(share), percent(float(seen)))
        for (k, share), seen in zip(expected, observed[1:], strict=True)
    ]
    title = "Whether sigma can be believed"
    table = Table("Galaxies within k sigma", ("within", "expected", "observed"), rows)
    yield Figure(title, frame.draw(marks, title=title, description=caption), caption, table)


def _flags(predictions: RunPredictions) -> Iterator[Block]:
    quality = predictions.quality
    if quality is None:
        return
    if not quality.any():
        yield Note(f"No quality flag is set on any of {len(quality):,} galaxies.")
        return
    rows = []
    for flag in Quality:
        has = (quality & flag.value) != 0
        if has.any():
            rows.append(
                (_flag_name(flag), count(int(has.sum())), percent(float(has.mean()), 2), _nmad_of(predictions, has))
            )
    clean = quality == 0
    rows.append(("none", count(int(clean.sum())), percent(float(clean.mean()), 2), _nmad_of(predictions, clean)))
    yield Table("Quality flags of the input; a galaxy can have several", ("flag", "galaxies", "share", "NMAD"), rows)


def _flag_name(flag: Quality) -> str:
    return (flag.name or "").lower().replace("_", " ")


def _nmad_of(predictions: RunPredictions, chosen: NDArray[np.bool_]) -> str:
    use = chosen & predictions.is_labelled
    if use.sum() < MIN_GALAXIES_PER_BIN:
        return UNKNOWN
    return number(nmad(normalised_residuals(predictions.z_phot[use], predictions.z_spec[use])))
