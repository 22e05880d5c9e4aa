"""How far synthetic galaxies are from real ones: redshifts, colours at a redshift, sizes. Run as a program."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scripts.simulation.cosmology import angular_diameter_distance_mpc
from scripts.simulation.cutouts import draw_chances
from scripts.simulation.population import Population, SyntheticGalaxies
from scripts.simulation.sdss import SourceCatalog, load_sources
from scripts.simulation.structure import ARCSEC_PER_RADIAN, PHYSICAL_LAW, physical_structure, quadratic_terms

PERCENTILES = (1, 16, 50, 84, 99)
REDSHIFT_BINS = ((0.04, 0.08), (0.08, 0.12), (0.12, 0.18), (0.18, 0.25))
COLORS = ("u-g", "g-r", "r-i", "i-z")


def draw(sources: SourceCatalog, num: int) -> tuple[SyntheticGalaxies, NDArray[np.float64]]:
    """Draw synthetic galaxies without rendering them, and the radius of each disc [arcsec]."""
    chances = [draw_chances(0, np.arange(start + 1, start + 501)) for start in range(0, num, 500)]
    uniform, flux, structure = (
        np.concatenate([getattr(part, name) for part in chances]) for name in ("uniform", "flux", "structure")
    )
    galaxies = Population(sources).draw(np.arange(1, len(uniform) + 1), uniform, flux)
    shape = physical_structure(
        galaxies.true_photometry, galaxies.absolute_r, galaxies.rest_g_minus_r, galaxies.redshift, structure
    )
    return galaxies, shape.disc_radius_arcsec


def color_offsets(sources: SourceCatalog, galaxies: SyntheticGalaxies) -> dict[str, list[float]]:
    """Median colour of synthetic minus real main-sample galaxies (r < 17.77) by redshift [mag]."""
    real, made = sources.photometry.magnitudes, galaxies.photometry.magnitudes
    offsets = {}
    for low, high in REDSHIFT_BINS:
        real_rows = (sources.redshift > low) & (sources.redshift < high) & (real[:, 2] < 17.77)
        made_rows = (galaxies.redshift > low) & (galaxies.redshift < high) & (made[:, 2] < 17.77)
        medians = [np.median(part[:, :-1] - part[:, 1:], axis=0) for part in (made[made_rows], real[real_rows])]
        offsets[f"{low:.2f}-{high:.2f}"] = (medians[0] - medians[1]).round(3).tolist()
    return offsets


def size_residual(galaxies: SyntheticGalaxies, radius_arcsec: NDArray[np.float64]) -> tuple[float, float]:
    """Median and scatter of log10 radius [kpc] about the law fitted to real SDSS sizes."""
    kpc = radius_arcsec / ARCSEC_PER_RADIAN * angular_diameter_distance_mpc(galaxies.redshift) * 1000
    terms = np.clip(galaxies.absolute_r + 21.5, -2.5, 5), np.clip(galaxies.rest_g_minus_r - 0.65, -0.6, 0.3)
    residual = np.log10(kpc) - quadratic_terms(*terms) @ PHYSICAL_LAW
    low, middle, high = np.percentile(residual, [16, 50, 84])
    return float(middle), float((high - low) / 2)


def measure(num: int = 4_000) -> dict[str, Any]:
    """Compare synthetic galaxies made from the real ones of the test set with those."""
    sources = load_sources().of("held_out")
    galaxies, radius = draw(sources, num)
    return {
        "redshift percentiles": {
            "real": np.percentile(sources.redshift, PERCENTILES).round(3).tolist(),
            "synthetic": np.percentile(galaxies.redshift, PERCENTILES).round(3).tolist(),
        },
        "colour offsets [mag]": color_offsets(sources, galaxies),
        "log10 radius about the law": dict(zip(("median", "scatter"), size_residual(galaxies, radius), strict=True)),
    }


def main() -> None:
    """Print the comparison."""
    found, console = measure(), Console()
    table = Table(title="Redshift percentiles", title_justify="left", box=None)
    for name in ("galaxies", *(f"{percentile} %" for percentile in PERCENTILES)):
        table.add_column(name)
    for name, values in found["redshift percentiles"].items():
        table.add_row(name, *(f"{value:.3f}" for value in values))
    # As a text: in a string, rich would take the unit for a tag and leave it out.
    title = Text("Median colour, synthetic minus real, r < 17.77 [mag]", "table.title")
    colors = Table(title=title, title_justify="left", box=None)
    for name in ("redshift", *COLORS):
        colors.add_column(name)
    for name, values in found["colour offsets [mag]"].items():
        colors.add_row(name, *(f"{value:+.3f}" for value in values))
    sizes = found["log10 radius about the law"]
    console.print(
        table, colors, f"log10 radius about the law: {sizes['median']:+.3f} ± {sizes['scatter']:.3f}", sep="\n"
    )


if __name__ == "__main__":
    main()
