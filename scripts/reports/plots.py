"""The plots of an evaluation as PNG: the same as those of a report, with what they show above them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from inference.metrics import normalised_residuals
from inference.pz_metrics import labelled, pit, pit_counts
from scripts.reports.evaluated import Evaluated
from scripts.reports.figures.distributions import draw_pit
from scripts.reports.figures.output import as_png
from scripts.reports.figures.redshifts import (
    Cells,
    coverage,
    draw_comparison,
    draw_coverage,
    draw_redshifts,
    draw_residuals,
    draw_widths,
    widths,
)


def write_plots(galaxies: Evaluated, folder: Path, *, prefix: str = "") -> list[str]:
    """Write every plot that these galaxies allow into a folder; return the names of the files."""
    names = []
    for name, drawing, remark in plots(galaxies):
        names.append(f"{prefix}{name}.png")
        as_png(drawing, folder / names[-1], title=f"{galaxies.name}{remark}")
    return names


def plots(galaxies: Evaluated) -> Iterator[tuple[str, Figure, str]]:
    """Yield name and drawing of each plot, and a remark on galaxies outside its axes."""
    found = galaxies.predictions
    use = np.isfinite(found.z_phot) & np.isfinite(found.z_spec)
    z_phot, z_spec, r = found.z_phot[use].astype(np.float64), found.z_spec[use], galaxies.r[use]
    sigma, dz = found.sigma[use].astype(np.float64), normalised_residuals(z_phot, z_spec)
    drawing, cells = draw_comparison(z_phot, z_spec)
    yield "density", drawing, _beyond(cells)
    drawing, cells, _ = draw_residuals(z_spec, dz, label="spectroscopic redshift")
    yield "residuals-z", drawing, _beyond(cells)
    known = np.isfinite(r)
    if known.any():
        drawing, cells, _ = draw_residuals(r[known], dz[known], label="r magnitude [mag]")
        yield "residuals-r", drawing, _beyond(cells)
    pair = labelled(found.pz, found.z_spec)
    yield "redshifts", draw_redshifts({"z_spec": z_spec, "z_phot": z_phot}, pair[0] if pair else None), ""
    if pair:
        yield "pit", draw_pit(pit_counts(pit(*pair))), ""
    known = np.isfinite(sigma) & (sigma > 0)
    if known.any():
        error, sigma = (z_phot - z_spec)[known], sigma[known]
        yield "calibration", draw_coverage(coverage(error, sigma, galaxies.ratio_95)), ""
        yield "calibration-sigma", draw_widths(widths(error, sigma)), ""


def _beyond(cells: Cells) -> str:
    """Say how many galaxies the axes leave out: none vanishes in silence."""
    return f"; {cells.num_beyond:,} beyond the axes, at the border" if cells.num_beyond else ""
