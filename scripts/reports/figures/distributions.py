"""Whether p(z) holds what it says: the histogram of the PIT."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scripts.reports.figures.canvas import COLORS, add_legend, axes_of, padded, styled, swatch
from scripts.reports.quantities import percent


@styled
def draw_pit(pit_counts: Sequence[int]) -> Figure:
    """Draw the share of galaxies in each equal bin of the PIT, over the band in which 95 % of even ones are."""
    counts = np.array(pit_counts)
    num_bins, num = len(counts), counts.sum()
    even = 1 / num_bins
    reach = 1.96 * math.sqrt(even * (1 - even) / num)
    shares = 100 * counts / num
    top = padded(np.append(shares, 100 * (even + reach)), from_zero=True, share=0.1)
    figure, axes = axes_of(
        x=(0, 1), y=top, x_label="PIT, p(z) below the spectroscopic redshift", y_label="galaxies [%]"
    )
    edges = np.linspace(0, 1, num_bins + 1)
    axes.axhspan(100 * max(even - reach, 0), 100 * (even + reach), color=COLORS["mark"], alpha=0.2, linewidth=0)
    axes.axhline(100 * even, color=COLORS["mark"], linewidth=1.2, linestyle="--")
    axes.stairs(shares, edges, fill=True, color=COLORS["s1"], alpha=0.3, linewidth=0)
    axes.stairs(shares, edges, color=COLORS["s1"], linewidth=2)
    line = Line2D([], [], color=COLORS["mark"], linewidth=1.2, linestyle="--", label=f"even, {percent(even, 0)} each")
    add_legend(axes, [swatch("s1", "observed"), line])
    return figure
