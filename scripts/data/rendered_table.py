"""Galaxies of a table with images rendered from their photometry, and from their measured sizes where it has them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.cleaning import fill_bands
from scripts.data.survey import Survey, observed_flux
from scripts.simulation import render
from scripts.simulation.cutouts import Rows, draw_chances
from scripts.simulation.facts import Facts
from scripts.simulation.photometry import Photometry
from scripts.simulation.structure import RADIUS_LIMITS_ARCSEC, Structure, apparent_structure

TYPICAL_PETROSIAN_MINUS_MODEL = 0.07
"""Where none is measured [mag]: at this value it says nothing about the bulge (`structure.py`)."""


@dataclass(frozen=True)
class RenderedTable:
    """Galaxies of a survey's table, in its order; row numbers and the seed decide everything."""

    survey: Survey
    seed: int

    def __len__(self) -> int:
        return self.survey.num_rows

    def rows(self, start: int, stop: int) -> Rows:
        """Render the galaxies from `start` to before `stop`."""
        rows = self.survey.rows(start, stop)
        photometry = photometry_of(rows)
        chances = draw_chances(self.seed, photometry.object_id)
        shape = measured_structure(rows, apparent_structure(photometry, chances.structure))
        return Rows(
            images=render.render(photometry, shape, chances.view, chances.pixels),
            magnitudes=rows["magnitudes"].copy(),
            redshifts=rows["redshift"].copy(),
            object_id=photometry.object_id,
        )

    def facts(self, start: int, stop: int) -> Facts:
        """Return positions and what is known of the measurements."""
        return facts_of(self.survey.rows(start, stop))


def facts_of(rows: NDArray[Any]) -> Facts:
    """Take what the network does not read out of records."""
    return Facts(*(rows[name].copy() for name in ("ra_deg", "dec_deg", "quality")))


def photometry_of(rows: NDArray[Any]) -> Photometry:
    """Turn records into the light of images, imputed bands and stand-ins of refused galaxies included."""
    magnitudes, _ = fill_bands(rows["magnitudes"])
    flux = observed_flux(magnitudes + rows["extinction"])
    difference = np.where(
        np.isnan(rows["petrosian_minus_model"]), TYPICAL_PETROSIAN_MINUS_MODEL, rows["petrosian_minus_model"]
    )
    return Photometry(
        object_id=rows["object_id"].copy(),
        model_flux=flux,
        model_flux_error=np.where(np.isnan(rows["flux_error"]), 0.0, rows["flux_error"]),
        petrosian_flux=flux * 10 ** (-0.4 * difference),
        extinction=rows["extinction"].copy(),
    )


def measured_structure(rows: NDArray[Any], drawn: Structure) -> Structure:
    """Put measured radii and axis ratios in the place of drawn ones.

    Notes
    -----
    A half-light radius as observed (petroR50) is taken for the disc's after the seeing is removed in quadrature and
    the circle is stretched to the ellipse of the same area. A missing bulge radius keeps its drawn ratio to the disc's.
    """
    axis_ratio = np.where(np.isnan(rows["axis_ratio"]), drawn.axis_ratio, np.clip(rows["axis_ratio"], 0.1, 1.0))
    seeing = render.SEEING_ARCSEC / 2
    deconvolved = np.sqrt(np.maximum(rows["half_light_radius"] ** 2 - seeing**2, 0)) / np.sqrt(axis_ratio)
    disc = np.where(np.isnan(rows["disc_radius"]), deconvolved, rows["disc_radius"])
    disc = np.where(np.isnan(disc), drawn.disc_radius_arcsec, disc)
    bulge = disc * drawn.bulge_radius_arcsec / drawn.disc_radius_arcsec
    bulge = np.where(np.isnan(rows["bulge_radius"]), bulge, rows["bulge_radius"])
    return drawn._replace(
        disc_radius_arcsec=np.clip(disc, *RADIUS_LIMITS_ARCSEC),
        bulge_radius_arcsec=np.clip(bulge, *RADIUS_LIMITS_ARCSEC),
        axis_ratio=axis_ratio,
    )
