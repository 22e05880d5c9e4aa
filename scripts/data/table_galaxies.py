"""Galaxies of a table, with images rendered from its photometry and sizes, or with measured ones."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from inference.block import Block
from inference.cleaning import fill_bands
from scripts.data.galaxies import Facts
from scripts.data.records import Records, observed_flux
from scripts.simulation import render
from scripts.simulation.cutouts import draw_chances
from scripts.simulation.photometry import Photometry
from scripts.simulation.structure import (
    RADIUS_LIMITS_ARCSEC,
    Structure,
    apparent_structure,
    typical_petrosian_minus_model,
)


@dataclass(frozen=True)
class TableGalaxies:
    """Galaxies with a row each in a table, in its order."""

    records: Records

    def __len__(self) -> int:
        return self.records.num_rows

    def facts(self, start: int, stop: int) -> Facts:
        """Return positions and what is known of the measurements."""
        rows = self.records.rows(start, stop)
        return Facts(*(rows[name].copy() for name in ("ra_deg", "dec_deg", "quality")))


@dataclass(frozen=True)
class RenderedTable(TableGalaxies):
    """Galaxies with rendered images; identifiers and the seed decide everything."""

    seed: int

    def rows(self, start: int, stop: int) -> Block:
        """Render the galaxies from `start` to before `stop`."""
        rows = self.records.rows(start, stop)
        photometry = photometry_of(rows)
        chances = draw_chances(self.seed, photometry.object_id)
        shape = measured_structure(rows, apparent_structure(photometry, chances.structure))
        return Block(
            images=render.render(photometry, shape, chances.view, chances.pixels),
            magnitudes=rows["magnitudes"].copy(),
            redshifts=rows["redshift"].copy(),
            object_id=photometry.object_id,
        )


class Cutouts(Protocol):
    """Images of N galaxies."""

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return those from `start` to before `stop`, shape (n, 5, 32, 32) [nanomaggy / pixel]; NaN is missing."""
        ...


@dataclass(frozen=True)
class CutoutsWithTable(TableGalaxies):
    """Galaxies with measured images."""

    cutouts: Cutouts

    def rows(self, start: int, stop: int) -> Block:
        """Read the galaxies from `start` to before `stop`."""
        rows = self.records.rows(start, stop)
        columns = (rows[name].copy() for name in ("magnitudes", "redshift", "object_id"))
        return Block(self.cutouts.read(start, stop), *columns)


def photometry_of(rows: NDArray[Any]) -> Photometry:
    """Turn records into the light of images, imputed bands and stand-ins of rejected galaxies included."""
    magnitudes, _ = fill_bands(rows["magnitudes"])
    flux = observed_flux(magnitudes + rows["extinction"])
    difference = np.where(
        np.isnan(rows["petrosian_minus_model"]),
        typical_petrosian_minus_model(magnitudes),
        rows["petrosian_minus_model"],
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
