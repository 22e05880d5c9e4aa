"""How good redshifts are: photometric against spectroscopic ones, residuals, n(z), and the calibration of sigma."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from inference.distributions import Distributions
from inference.metrics import nmad, normalised_residuals
from scripts.reports.figures.canvas import (
    COLORS,
    HALF,
    Array,
    add_boxes,
    add_legend,
    axes_of,
    bin_edges,
    padded,
    styled,
    swatch,
    tip,
)
from scripts.reports.quantities import number, percent

OUTLIER_DZ = 0.05
MIN_IN_BIN = 30
"""Galaxies that a running median or a quantile needs."""

RUNNING_BINS, SIGMA_BINS = 16, 10
CELL = 4.0
"""Side of a cell of a density [px]."""

NUM_SHADES = 6
STACK = "p(z), added up"
SIGMAS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
DZ = "dz = (z_phot - z_spec) / (1 + z_spec)"


# ------------------------------------------------------------------------------------------------ many points


@dataclass(frozen=True)
class Cells:
    """How many points fall into each cell of a grid; those outside count in the cells at its border."""

    x_edges: Array
    y_edges: Array
    counts: NDArray[np.int64]
    """Shape (Y, X)."""

    num_beyond: int
    """Points outside the grid."""

    @property
    def steps(self) -> NDArray[np.int64]:
        """Smallest count of each shade: 1, then in equal ratios up to the highest count."""
        ratio = max(int(self.counts.max(initial=1)), 2) ** (1 / NUM_SHADES)
        return np.unique([round(ratio**step) for step in range(NUM_SHADES)])


def cells(
    x: Array, y: Array, x_range: tuple[float, float], y_range: tuple[float, float], shape: tuple[int, int]
) -> Cells:
    """Count points in the cells of a grid.

    Parameters
    ----------
    x, y : array, shape (N,)
        Finite coordinates.
    x_range, y_range : tuple of float
        Ends of the grid.
    shape : tuple of int
        Cells along y and along x.
    """
    edges = [np.linspace(*ends, num + 1) for ends, num in zip((y_range, x_range), shape, strict=True)]
    line, column = (
        np.clip((values - low) / (high - low) * num, 0, num - 1).astype(int)
        for values, (low, high), num in zip((y, x), (y_range, x_range), shape, strict=True)
    )
    counts = np.bincount(line * shape[1] + column, minlength=shape[0] * shape[1]).reshape(shape)
    is_beyond = (x < x_range[0]) | (x > x_range[1]) | (y < y_range[0]) | (y > y_range[1])
    return Cells(edges[1], edges[0], counts, int(is_beyond.sum()))


def _draw_cells(axes: Axes, x: Array, y: Array) -> Cells:
    width, height = axes.get_window_extent().size
    found = cells(x, y, axes.get_xlim(), axes.get_ylim(), (round(height / CELL), round(width / CELL)))
    steps = found.steps
    shades = np.searchsorted(steps, found.counts, side="right")  # 0 where there is nothing
    names = [f"d{round((i + 1) * NUM_SHADES / len(steps))}" for i in range(len(steps))]
    for shade, name in enumerate(names, start=1):
        # Neighbours in a line are one box.
        ends = np.diff(np.pad(shades == shade, ((0, 0), (1, 1))).astype(int))
        line, left = np.nonzero(ends == 1)
        add_boxes(
            axes,
            found.x_edges[left],
            found.x_edges[np.nonzero(ends == -1)[1]],
            found.y_edges[line],
            found.y_edges[line + 1],
            color=COLORS[name],
            zorder=1,
        )
    labels = [_few(step) for step in steps.tolist()]
    labels[-1] += " per cell"
    add_legend(axes, [swatch(*pair) for pair in zip(names, labels, strict=True)])
    return found


def _few(value: int) -> str:
    return f"{value}" if value < 1000 else f"{value / 1000:.0f}k"


# ---------------------------------------------------------------------------- photometric against spectroscopic


@dataclass(frozen=True)
class Comparison:
    """Photometric against spectroscopic redshifts."""

    end: float
    """End of both axes; one redshift in a thousand at most is larger."""

    share_outliers: float
    """Share of galaxies with abs(dz) above `OUTLIER_DZ`."""

    limits: tuple[tuple[Array, Array], ...]
    """Line of equal redshifts, then the lines dz = ± `OUTLIER_DZ`: z_spec and z_phot at both ends of each."""


def comparison(z_phot: Array, z_spec: Array) -> Comparison:
    """Return what the plot of two redshifts of the same galaxies shows; both finite, shape (N,)."""
    end = max(float(np.quantile(np.concatenate([z_phot, z_spec]), 0.999)) * 1.05, 0.05)
    ends = np.array([0.0, end])
    limits = tuple((ends, ends + dz * (1 + ends)) for dz in (0.0, OUTLIER_DZ, -OUTLIER_DZ))
    return Comparison(end, float((np.abs(normalised_residuals(z_phot, z_spec)) > OUTLIER_DZ).mean()), limits)


@styled
def draw_comparison(z_phot: Array, z_spec: Array) -> tuple[Figure, Cells]:
    """Draw photometric against spectroscopic redshifts as a density, with the limits of outliers."""
    found = comparison(z_phot, z_spec)
    figure, axes = axes_of(
        x=(0, found.end),
        y=(0, found.end),
        x_label="spectroscopic redshift",
        y_label="photometric redshift",
        size=(HALF, 400),
    )
    drawn = _draw_cells(axes, z_spec, z_phot)
    for (x, y), dashes in zip(found.limits, ("-", "--", "--"), strict=True):
        axes.plot(x, y, color=COLORS["mark"], linewidth=1.2, linestyle=dashes)
    return figure, drawn


# --------------------------------------------------------------------------------------------------- residuals


@dataclass(frozen=True)
class Running:
    """Median and scatter of dz in bins of equal numbers of galaxies, each of shape (B,)."""

    centers: Array
    """Median of what it runs along."""

    medians: Array
    nmads: Array


def running(along: Array, dz: Array, num_bins: int = RUNNING_BINS) -> Running:
    """Return the running median and NMAD of dz; fewer bins where each would have fewer than `MIN_IN_BIN` galaxies."""
    columns = [(np.median(along[rows]), np.median(dz[rows]), nmad(dz[rows])) for rows in _equal_parts(along, num_bins)]
    return Running(*np.array(columns, float).T)


def _equal_parts(values: Array, num_bins: int) -> list[NDArray[np.int64]]:
    num_bins = max(1, min(num_bins, len(values) // MIN_IN_BIN))
    return np.array_split(np.argsort(values, kind="stable"), num_bins)


@styled
def draw_residuals(along: Array, dz: Array, *, label: str) -> tuple[Figure, Cells, Running]:
    """Draw dz against a property of the galaxies as a density, with its running median and NMAD.

    Parameters
    ----------
    along : array, shape (N,)
        The property, finite: z_spec, or r [mag].
    dz : array, shape (N,)
    label : str
        Name and unit of the property.
    """
    reach = 6 * max(nmad(dz), 1e-4)
    ends = padded(np.quantile(along, [0.001, 0.999]), share=0.02)
    figure, axes = axes_of(x=ends, y=(-reach, reach), x_label=label, y_label="dz")
    drawn = _draw_cells(axes, along, dz)
    axes.axhline(0, color=COLORS["mark"], linewidth=1)
    found = running(along, dz)
    color = COLORS["s2"]
    axes.plot(found.centers, found.medians, color=color, linewidth=2, marker="o", markersize=5)
    for sign in (-1, 1):
        axes.plot(found.centers, found.medians + sign * found.nmads, color=color, linewidth=1.4, linestyle="--")
    return figure, drawn, found


# -------------------------------------------------------------------------------------------------------- n(z)


def redshift_counts(samples: Mapping[str, Array], stack: Distributions | None = None) -> tuple[Array, dict[str, Array]]:
    """Return common edges of bins, and how many redshifts fall into each; the largest are left out.

    Parameters
    ----------
    samples : mapping
        Name to redshifts.
    stack : Distributions, optional
        Added up, they are the last sample.
    """
    finite = {name: values[np.isfinite(values)] for name, values in samples.items()}
    together = np.concatenate(list(finite.values()))
    edges = bin_edges(together, high=float(np.quantile(together, 0.999)) if together.size else None)
    counts = {name: np.histogram(values, edges)[0].astype(np.float64) for name, values in finite.items()}
    return edges, counts if stack is None else counts | {STACK: stack.stacked(edges)}


@styled
def draw_redshifts(samples: Mapping[str, Array], stack: Distributions | None = None) -> Figure:
    """Draw distributions of redshifts on the same bins, the first one filled; see `redshift_counts`."""
    edges, counts = redshift_counts(samples, stack)
    top = padded(np.concatenate(list(counts.values())), from_zero=True, share=0.08)
    figure, axes = axes_of(
        x=(edges[0], edges[-1]), y=top, x_label="redshift", y_label="galaxies per bin", size=(HALF, 400)
    )
    for i, num in enumerate(counts.values()):
        color = COLORS[f"s{i + 1}"]
        if i == 0:
            axes.stairs(num, edges, fill=True, color=color, alpha=0.3, linewidth=0)
        axes.stairs(num, edges, color=color, linewidth=2, linestyle=("-", (0, (3, 1.5)), (0, (1, 1)))[i])
    lines = [
        Line2D([], [], color=COLORS[f"s{i + 1}"], linewidth=2, linestyle=("-", "--", ":")[i], label=name)
        for i, name in enumerate(counts)
    ]
    add_legend(axes, lines)
    return figure


# ----------------------------------------------------------------------------------------- calibration of sigma


@dataclass(frozen=True)
class Coverage:
    """Which share of the galaxies is within a multiple of its sigma."""

    widths: Array
    """Multiples of sigma, shape (W,)."""

    observed: Array
    """Share of the galaxies within each, shape (W,)."""

    expected: Array
    """The same of a Gaussian, shape (W,)."""

    nominal: tuple[tuple[float, float, float], ...]
    """Half-width [sigma], share that it is to hold, share that it holds: of the 68 % and the 95 % interval."""

    table: tuple[tuple[float, float, float], ...]
    """Multiple of sigma, expected and observed share, for `SIGMAS`."""


def coverage(error: Array, sigma: Array, ratio_95: float) -> Coverage:
    """Compare the errors of redshifts with their sigma.

    Parameters
    ----------
    error : array, shape (N,)
        z_phot - z_spec.
    sigma : array, shape (N,)
        Half-width of the 68 % interval, positive.
    ratio_95 : float
        Half-width of the 95 % interval in units of sigma; NaN where unknown.
    """
    scores = np.sort(np.abs(error) / sigma)

    def observed(widths: Array | tuple[float, ...]) -> Array:
        shares: Array = np.searchsorted(scores, widths, side="right") / len(scores)
        return shares

    known = [(1.0, 0.68)] + ([(ratio_95, 0.95)] if math.isfinite(ratio_95) else [])
    widths = np.linspace(0, max([3.5, *(width + 0.5 for width, _ in known)]), 141)
    gaussian, found = _gaussian(np.array(SIGMAS)), observed(SIGMAS)
    held = observed(tuple(width for width, _ in known))
    return Coverage(
        widths,
        observed(widths),
        _gaussian(widths),
        tuple((width, share, one) for (width, share), one in zip(known, held.tolist(), strict=True)),
        tuple(zip(SIGMAS, gaussian.tolist(), found.tolist(), strict=True)),
    )


def _gaussian(widths: Array) -> Array:
    return np.array([math.erf(width / math.sqrt(2)) for width in np.ravel(widths)])


@styled
def draw_coverage(found: Coverage) -> Figure:
    """Draw the share of galaxies within multiples of sigma, with what the 68 % and the 95 % interval are to hold."""
    figure, axes = axes_of(
        x=(0, float(found.widths[-1])),
        y=(0, 1.04),
        x_label="half-width of the interval [sigma]",
        y_label="share of galaxies inside",
    )
    axes.plot(found.widths, found.expected, color=COLORS["mark"], linewidth=1.2, linestyle="--", label="Gaussian")
    axes.plot(found.widths, found.observed, color=COLORS["s1"], linewidth=2, label="observed")
    for k, expected, observed in found.table:
        text = f"within {k:g} sigma: {percent(observed)}, expected {percent(expected)}"
        axes.plot(k, observed, color=COLORS["s1"], marker="o", markersize=7, gid=tip(text))
    for width, nominal, observed in found.nominal:
        axes.plot(
            width, nominal, marker="o", markersize=11, markerfacecolor="none", markeredgecolor=COLORS["s2"], mew=1.6
        )
        text = f"{percent(nominal, 0)} nominal,\n{percent(observed)} found"
        axes.annotate(text, (width, nominal), (9, -29), textcoords="offset points")
    add_legend(axes, axes.get_lines()[1::-1])
    return figure


@dataclass(frozen=True)
class Widths:
    """The errors that 68 % of the galaxies stay below, in bins of equal numbers of galaxies with similar sigma."""

    sigma: Array
    """Median of each bin, shape (B,)."""

    error: Array
    """68 % quantile of abs(z_phot - z_spec) in each bin, shape (B,)."""

    low: Array
    high: Array
    """Ends of its 95 % interval, shape (B,)."""


def widths(error: Array, sigma: Array) -> Widths:
    """Return which error goes with which sigma; see `coverage`."""
    rows = []
    for part in _equal_parts(sigma, SIGMA_BINS):
        # Half-width of a binomial 95 % interval, turned into quantiles of the error.
        spread = 1.96 * math.sqrt(0.68 * 0.32 / len(part))
        quantiles = [0.68, max(0.68 - spread, 0), min(0.68 + spread, 1)]
        rows.append((np.median(sigma[part]), *np.quantile(np.abs(error[part]), quantiles)))
    return Widths(*np.array(rows, float).T)


@styled
def draw_widths(found: Widths) -> Figure:
    """Draw the error that 68 % of the galaxies stay below against their sigma."""
    end = 1.1 * max(found.sigma.max(), found.high.max())
    figure, axes = axes_of(
        x=(0, end), y=(0, end), x_label="sigma, median of the bin", y_label="|z_phot - z_spec| that 68 % stay below"
    )
    axes.plot([0, end], [0, end], color=COLORS["mark"], linewidth=1.2, linestyle="--", label="calibrated")
    for sigma, error, low, high in zip(found.sigma, found.error, found.low, found.high, strict=True):
        text = f"sigma {number(sigma)}: 68 % stay below {number(error)} ({number(low)} to {number(high)})"
        axes.plot([sigma, sigma], [low, high], color=COLORS["s1"], linewidth=1.3)
        axes.plot(sigma, error, color=COLORS["s1"], marker="o", markersize=7, gid=tip(text))
    add_legend(axes, axes.get_lines()[:1])
    return figure
