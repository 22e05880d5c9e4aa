"""The numbers of an evaluation: every metric with its interval, by brightness and by redshift, as JSON and a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference.contract import Accuracy, PzAccuracy
from inference.intervals import Interval, accuracy_intervals, num_draws_for
from inference.metrics import redshift_accuracy
from inference.pz_metrics import pz_accuracy
from inference.record import count_flags
from scripts.reports.bins import R_EDGES, REDSHIFT_EDGES, Bin, by_bin
from scripts.reports.evaluated import Evaluated
from scripts.reports.shares import Covered, Stack, covered, stack

METRICS = {
    "nmad": "NMAD",
    "bias": "bias, mean",
    "bias_median": "bias, median",
    "sigma_mad": "1.4826 MAD",
    "sigma_iqr": "IQR / 1.349",
    "outlier_005": "|dz| > 0.05 [%]",
    "outlier_015": "|dz| > 0.15 [%]",
    "mae": "MAE",
    "mse": "MSE",
    "r2": "R²",
    "coverage_68": "within sigma [%]",
    "coverage_95": "within 95 % int.",
}
"""Metrics in the order of the table, NMAD first, and what they are called there."""

PERCENTAGES = {"outlier_005", "outlier_015", "coverage_68", "coverage_95"}
LABEL_WIDTH, CELL_WIDTH = 17, 31
MIN_IN_BIN = 10
"""Galaxies of a bin whose scatter the table shows; the JSON has every bin."""


@dataclass(frozen=True)
class Numbers:
    """What is said about some galaxies."""

    name: str
    """What they are."""

    accuracy: Accuracy
    """Over all with a label and a prediction."""

    intervals: dict[str, Interval]
    """Metric to its 95 % bootstrap interval."""

    num_draws: int
    """Resamples behind the intervals."""

    by_r: list[Bin]
    """By brightness; empty where magnitudes are unknown."""

    by_redshift: list[Bin]
    """By spectroscopic redshift."""

    num_flagged: dict[str, int]
    """Flag to the galaxies that carry it."""

    pz: PzAccuracy | None
    """How good the distributions are; None where there are none."""

    coverage: list[Covered]
    """Which share of the redshifts is inside its intervals, by magnitude, colour and redshift."""

    stack: Stack | None
    """Distribution of the redshifts, n(z), in three ways; None where there are no distributions."""


def evaluate(galaxies: Evaluated) -> Numbers | None:
    """Compute the numbers of some galaxies; None when none of them is labelled."""
    found, ratio = galaxies.predictions, galaxies.ratio_95
    sigma = found.sigma.astype(np.float64)
    accuracy = redshift_accuracy(found.z_phot, found.z_spec, sigma, ratio_95=ratio)
    if accuracy is None:
        return None

    def binned(values: NDArray[np.float64], edges: Sequence[float]) -> list[Bin]:
        return by_bin(values, edges, found.z_phot, found.z_spec, sigma, ratio_95=ratio)

    return Numbers(
        name=galaxies.name,
        accuracy=accuracy,
        intervals=accuracy_intervals(found.z_phot, found.z_spec, sigma, ratio_95=ratio),
        num_draws=num_draws_for(accuracy.num_labelled),
        by_r=binned(galaxies.r, R_EDGES),
        by_redshift=binned(found.z_spec, REDSHIFT_EDGES),
        num_flagged=count_flags(found.quality),
        pz=pz_accuracy(found.pz, found.z_spec),
        coverage=covered(galaxies),
        stack=stack(found),
    )


def to_json(galaxies: Sequence[Evaluated], numbers: Sequence[Numbers]) -> bytes:
    """Return everything that was computed, for whoever wants to plot or compare it."""
    document = {
        "definitions": {field: METRICS[field] for field in METRICS},
        "interval": "95 %, percentile bootstrap over galaxies, seed 0",
        "sets": [
            {
                "weights_sha256": rows.weights_sha256,
                "engines": rows.engines,
                "ratio_95": None if math.isnan(rows.ratio_95) else rows.ratio_95,
                "num_galaxies": len(rows.predictions.z_phot),
                **_builtins(found),
            }
            for rows, found in zip(galaxies, numbers, strict=True)
        ],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def _builtins(numbers: Numbers) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(numbers)
    for name in ("by_r", "by_redshift"):
        # A namedtuple becomes a bare list, and JSON has no infinity.
        document[name] = [
            {"low": _finite(one.low), "high": _finite(one.high), "accuracy": one.accuracy, "nmad_interval": one.nmad}
            for one in getattr(numbers, name)
        ]
    return document


def _finite(edge: float) -> float | None:
    return edge if math.isfinite(edge) else None


# ------------------------------------------------------------------------------------------------ the table


def table(numbers: Sequence[Numbers]) -> str:
    """Return a table with one column for each kind of galaxies, then one by brightness and one by redshift for each."""
    head = [_line("", [one.name for one in numbers])]
    head.append(_line("galaxies", [f"{one.accuracy.num_labelled:,}" for one in numbers]))
    head.append(_line("std(z_spec)", [f"{one.accuracy.std_z_spec:.4f}" for one in numbers]))
    body = [_line(label, [_cell(one, metric) for one in numbers]) for metric, label in METRICS.items()]
    flags = sorted({flag for one in numbers for flag in one.num_flagged})
    tail = [_line(flag.lower(), [f"{one.num_flagged.get(flag, 0):,}" for one in numbers]) for flag in flags]
    lines = [*head, *body, *tail]
    for one in numbers:
        lines += _bins(f"{one.name}, by r [mag]", one.by_r) + _bins(f"{one.name}, by z_spec", one.by_redshift)
        lines += _pz(one)
    return "\n".join(line.rstrip() for line in lines)


def _line(label: str, cells: Sequence[str]) -> str:
    return f"{label:<{LABEL_WIDTH}}" + "".join(f"{cell:<{CELL_WIDTH}}" for cell in cells)


def _cell(numbers: Numbers, metric: str) -> str:
    value = getattr(numbers.accuracy, metric)
    if value is None:
        return "unknown"
    low, high = numbers.intervals.get(metric, (math.nan, math.nan))
    return f"{_shown(metric, value)} [{_shown(metric, low)}, {_shown(metric, high)}]"


def _shown(metric: str, value: float) -> str:
    if metric in PERCENTAGES:
        return f"{100 * value:.2f}"
    digits = {"mse": 6, "r2": 4}.get(metric, 5)
    return f"{value:+.{digits}f}" if metric.startswith("bias") else f"{value:.{digits}f}"


def _bins(title: str, bins: Sequence[Bin]) -> list[str]:
    if not bins:
        return []
    lines = ["", title, f"{'':<{LABEL_WIDTH}}{'N':>6}  {'NMAD':<26}{'bias':>9}{'|dz|>.05':>10}{'in sigma':>10}"]
    for one in bins:
        found = one.accuracy
        interval = f"{found.nmad:.4f} [{one.nmad.low:.4f}, {one.nmad.high:.4f}]"
        if found.num_labelled < MIN_IN_BIN:
            interval = "too few to say"
        covered = "" if found.coverage_68 is None else f"{100 * found.coverage_68:.1f} %"
        lines.append(
            f"{_range(one):<{LABEL_WIDTH}}{found.num_labelled:>6,}  {interval:<26}{found.bias:>+9.4f}"
            f"{100 * found.outlier_005:>8.1f} %{covered:>10}"
        )
    return lines


def _pz(numbers: Numbers) -> list[str]:
    lines = []
    if found := numbers.pz:
        lines += [
            "",
            f"{numbers.name}, p(z) of {found.num_galaxies:,} galaxies",
            _line("PIT, KS", [f"{found.ks:.4f}", f"below {1.36 / math.sqrt(found.num_galaxies):.4f} where it is even"]),
            _line("PIT, CvM", [f"{found.cvm:.3f}", "about 0.17 where it is even"]),
            _line("PIT, AD", [f"{found.ad:.2f}", "about 1 where it is even"]),
            _line("CRPS", [f"{found.crps:.5f}"]),
            _line("CDE loss", [f"{found.cde_loss:.3f}"]),
        ]
    if numbers.coverage:
        source = "p(z)" if found else "z_phot and sigma"
        lines += ["", f"{numbers.name}, inside the intervals of {source}"]
        lines.append(f"{'':<{LABEL_WIDTH}}{'N':>6}{'68 %':>16}{'95 %':>16}")
    for one in numbers.coverage:
        cells = (f"{100 * share:.1f} ± {100 * error:.1f}" if share is not None else "" for share, error in one.shares)
        lines.append(f"{one.label:<{LABEL_WIDTH}}{one.num_galaxies:>6,}" + "".join(f"{cell:>16}" for cell in cells))
    return lines


def _range(one: Bin) -> str:
    if math.isinf(one.low):
        return f"below {one.high:g}"
    return f"{one.low:g} to {one.high:g}" if math.isfinite(one.high) else f"from {one.low:g}"
