"""Plots of an evaluation, from plain arrays to matplotlib figures that print as well as they show."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter
from numpy.typing import NDArray

from inference.metrics import nmad, normalised_residuals

Array = NDArray[np.floating]

INK, ACCENT, QUIET = "#222222", "#c4500a", "#2a6f97"
# From a blue that a single galaxy is still seen in, on screen and in print.
DENSITY = ListedColormap(mpl.colormaps["Blues"](np.linspace(0.3, 1.0, 256)))
DPI = 160
NUM_BINS = 90
MIN_IN_BIN = 15
"""Galaxies a running median needs."""

RUNNING_BINS = 16
SIGMA_BINS = 10
STYLE: Any = {
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.use": True,
}


def density_figure(z_phot: Array, z_spec: Array, *, title: str = "") -> Figure:
    """Draw predicted against spectroscopic redshift as a density, with the 1:1 line and the limits of outliers.

    Parameters
    ----------
    z_phot, z_spec : array, shape (N,)
        Galaxies without either are left out.
    title : str
        What the galaxies are.
    """
    phot, spec = _known(z_phot, z_spec)
    with _axes(6.0, 5.4) as (figure, (axes,)):
        top = _top(np.concatenate([phot, spec]))
        _draw_density(figure, axes, spec, phot, ((0, top), (0, top)))
        line = np.array([0.0, top])
        axes.plot(line, line, color=INK, linewidth=1, label="1:1")
        for sign in (1, -1):
            axes.plot(line, line + sign * 0.05 * (1 + line), color=ACCENT, linewidth=1, linestyle="--")
        axes.plot([], [], color=ACCENT, linewidth=1, linestyle="--", label="|dz| = 0.05")
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="$z_{spec}$", ylabel="$z_{phot}$", aspect="equal")
        axes.set_title(_beyond(title, np.maximum(spec, phot) > top))
        axes.legend(loc="upper left")
    return figure


def residuals_figure(x: Array, z_phot: Array, z_spec: Array, *, label: str, title: str = "") -> Figure:
    """Draw dz against a property, with its running median and NMAD in bins of equal number.

    Parameters
    ----------
    x : array, shape (N,)
        The property, such as z_spec or r.
    z_phot, z_spec : array, shape (N,)
        Galaxies without either, or without `x`, are left out.
    label : str
        The property's name and unit.
    title : str
        What the galaxies are.
    """
    known = np.isfinite(x) & np.isfinite(z_phot) & np.isfinite(z_spec)
    x, dz = np.asarray(x)[known], normalised_residuals(z_phot[known], z_spec[known])
    with _axes(7.0, 4.2) as (figure, (axes,)):
        reach = _reach(dz)
        low, high = np.quantile(x, [0.001, 0.999])
        if low == high:
            low, high = low - 0.01, high + 0.01
        _draw_density(figure, axes, x, dz, ((low, high), (-reach, reach)))
        axes.axhline(0, color=INK, linewidth=0.8)
        centers, medians, widths = running(x, dz)
        axes.plot(centers, medians, color=ACCENT, linewidth=1.8, marker="o", markersize=3, label="running median")
        for sign in (1, -1):
            axes.plot(centers, medians + sign * widths, color=ACCENT, linewidth=1, linestyle="--")
        axes.plot([], [], color=ACCENT, linewidth=1, linestyle="--", label="± running NMAD")
        axes.set(xlabel=label, ylabel="$dz = (z_{phot} - z_{spec}) / (1 + z_{spec})$", xlim=(low, high))
        axes.set_title(_beyond(title, (np.abs(dz) > reach) | (x < low) | (x > high)))
        axes.legend(loc="lower left", ncols=2)
    return figure


def redshifts_figure(z_phot: Array, z_spec: Array, *, title: str = "") -> Figure:
    """Draw n(z), the distributions of predicted and of spectroscopic redshifts of the same galaxies."""
    phot, spec = _known(z_phot, z_spec)
    with _axes(6.4, 3.8) as (figure, (axes,)):
        edges = np.linspace(0, _top(np.concatenate([phot, spec])), 61).tolist()
        axes.hist(spec, edges, color=QUIET, alpha=0.35, label="$z_{spec}$")
        axes.hist(phot, edges, histtype="step", color=ACCENT, linewidth=1.6, label="$z_{phot}$")
        axes.set(xlabel="redshift", ylabel="galaxies per bin", title=title, xlim=(edges[0], edges[-1]))
        axes.legend()
    return figure


def calibration_figure(z_phot: Array, z_spec: Array, sigma: Array, *, ratio_95: float, title: str = "") -> Figure:
    """Draw whether intervals hold what they say: coverage by width, and the error found by the sigma given.

    Parameters
    ----------
    z_phot, z_spec, sigma : array, shape (N,)
        Galaxies without one of them are left out.
    ratio_95 : float
        Half-width of the 95 % interval in units of sigma.
    title : str
        What the galaxies are.
    """
    known = np.isfinite(z_phot) & np.isfinite(z_spec) & np.isfinite(sigma)
    error, sigma = np.abs(z_phot[known] - z_spec[known]).astype(np.float64), np.asarray(sigma)[known]
    with _axes(9.0, 4.0, columns=2) as (figure, (left, right)):
        _draw_coverage(left, error / sigma, ratio_95)
        _draw_widths(right, error, sigma)
        left.set_title(title)
    return figure


def running(x: Array, dz: NDArray[np.float64], num_bins: int = RUNNING_BINS) -> tuple[Array, Array, Array]:
    """Return the median of `x`, and median and NMAD of `dz`, in bins of equal number.

    Fewer bins where there are fewer than `MIN_IN_BIN` galaxies for each.
    """
    num_bins = max(1, min(num_bins, len(x) // MIN_IN_BIN))
    order = np.array_split(np.argsort(x, kind="stable"), num_bins)
    columns = [(np.median(x[rows]), np.median(dz[rows]), nmad(dz[rows])) for rows in order]
    centers, medians, widths = np.array(columns).T
    return centers, medians, widths


def _draw_density(figure: Figure, axes: Axes, x: Array, y: Array, frame: Any) -> None:
    highest = max(2.0, np.histogram2d(x, y, bins=NUM_BINS, range=frame)[0].max())
    image = axes.hist2d(x, y, bins=NUM_BINS, range=frame, cmap=DENSITY, cmin=1, norm=LogNorm(1, highest))[3]
    bar = figure.colorbar(image, ax=axes, label="galaxies", shrink=0.85)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    bar.ax.yaxis.set_minor_locator(LogLocator(subs=()))


def _draw_coverage(axes: Axes, scores: Array, ratio_95: float) -> None:
    widths = np.linspace(0, max(3.5, ratio_95 + 0.5), 200)
    axes.plot(widths, 100 * np.searchsorted(np.sort(scores), widths, side="right") / len(scores), color=QUIET, lw=1.8)
    for width, nominal in ((1.0, 68), (ratio_95, 95)):
        found = 100 * float(np.mean(scores <= width))
        axes.plot(width, nominal, marker="o", markersize=9, markerfacecolor="none", markeredgecolor=ACCENT, mew=1.6)
        axes.annotate(
            f"{nominal} % asked, {found:.1f} % found",
            (width, nominal),
            (10, -14),
            textcoords="offset points",
            fontsize=9,
        )
    axes.set(xlabel="half-width of the interval [sigma]", ylabel="galaxies inside [%]", ylim=(0, 102), xlim=(0, None))


def _draw_widths(axes: Axes, error: Array, sigma: Array) -> None:
    num_bins = max(1, min(SIGMA_BINS, len(sigma) // MIN_IN_BIN))
    order = np.array_split(np.argsort(sigma, kind="stable"), num_bins)
    given = np.array([np.median(sigma[rows]) for rows in order])
    found = np.array([np.quantile(error[rows], 0.68) for rows in order])
    # Half-widths of a binomial 95 % interval, turned into quantiles of the error.
    spread = [1.96 * (0.68 * 0.32 / len(rows)) ** 0.5 for rows in order]
    ends = [
        np.quantile(error[rows], [max(0.68 - d, 0), min(0.68 + d, 1)]) for rows, d in zip(order, spread, strict=True)
    ]
    low, high = np.array(ends).T
    axes.errorbar(given, found, (found - low, high - found), fmt="o", color=QUIET, markersize=5, capsize=2)
    line = np.array([0, 1.1 * max(given.max(), high.max())])
    axes.plot(line, line, color=INK, linewidth=1, label="as it says")
    axes.set(xlabel="sigma given (median of a tenth)", ylabel="$|z_{phot} - z_{spec}|$ that 68 % stay below")
    axes.set(xlim=(0, line[1]), ylim=(0, line[1]))
    axes.locator_params(nbins=6)
    axes.legend(loc="upper left")


# --------------------------------------------------------------------------------------------- what they share


@contextmanager
def _axes(width: float, height: float, *, columns: int = 1) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """Give axes in this project's style; figures of their own, so that no plot is left in a global list."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=DPI)
        yield figure, list(np.ravel(figure.subplots(1, columns)))


def _known(z_phot: Array, z_spec: Array) -> tuple[Array, Array]:
    known = np.isfinite(z_phot) & np.isfinite(z_spec)
    return np.asarray(z_phot)[known], np.asarray(z_spec)[known]


def _top(redshifts: Array) -> float:
    """Return an end of the axis that leaves out one galaxy in a thousand at most."""
    return float(np.quantile(redshifts, 0.9995)) * 1.08


def _beyond(title: str, is_beyond: NDArray[np.bool_]) -> str:
    """Add how many galaxies the frame leaves out: none vanishes in silence."""
    count = np.count_nonzero(is_beyond)
    return f"{title}{'; ' if title else ''}{count:,} beyond the frame" if count else title


def _reach(dz: Array) -> float:
    return float(np.clip(1.2 * np.quantile(np.abs(dz), 0.997), 0.02, 0.5))
