"""Galaxies of a table, with images rendered from its photometry and sizes, or with measured ones."""

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from inference.block import Block
from inference.cleaning import MAX_PIXEL, fill_bands
from scripts.data.columns import BANDS
from scripts.data.galaxies import Facts
from scripts.data.records import Records, observed_flux, row_type
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
        known = {name: rows[name].copy() for name in ("ra_deg", "dec_deg", "quality")}
        source_id = np.char.decode(rows["source_id"], "utf-8") if self.records.has_source_id else None
        split = rows["split"].copy() if "split" in self.records.columns.single else None
        return Facts(**known, split=split, source_id=source_id)


@dataclass(frozen=True)
class PlainTable(TableGalaxies):
    """Galaxies without images."""

    def rows(self, start: int, stop: int) -> Block:
        """Read the galaxies from `start` to before `stop`."""
        rows = self.records.rows(start, stop)
        return _block(rows, np.empty((stop - start, len(self.records.columns.bands), 0, 0), np.float32))


@dataclass(frozen=True)
class RenderedTable(TableGalaxies):
    """Galaxies with rendered images; their magnitudes and the seed decide everything, whatever their names."""

    seed: int

    def rows(self, start: int, stop: int) -> Block:
        """Render the galaxies from `start` to before `stop`: in u, g, r, i, z, of which those of the table are kept."""
        rows = self.records.rows(start, stop)
        kept = [BANDS.index(band) for band in self.records.columns.bands]
        known = in_all_bands(rows, kept)
        photometry = photometry_of(known)
        chances = draw_chances(self.seed, own_numbers(known["magnitudes"]))
        shape = measured_structure(rows, apparent_structure(photometry, chances.structure))
        images = render.render(photometry, shape, chances.view, chances.pixels)
        return _block(rows, images if kept == list(range(len(BANDS))) else images[:, kept])


def own_numbers(magnitudes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a number for each galaxy that follows from its magnitudes alone, shape (N, B) [mag].

    Identifiers and rows differ between copies of a table, and what is drawn for a galaxy must not: it moves its
    redshift by up to .7 sigma.
    """
    thousandths = (1000 * np.nan_to_num(np.clip(magnitudes, -1e6, 1e6))).round().astype("<i8")
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in thousandths)
    return np.array([int.from_bytes(digest, "little") >> 1 for digest in digests], dtype=np.int64)


def _block(rows: NDArray[Any], images: NDArray[np.float32]) -> Block:
    """Put the images of some galaxies next to what their records say."""
    magnitudes, redshifts, object_id = (rows[name].copy() for name in ("magnitudes", "redshift", "object_id"))
    further = rows["further"]
    return Block(images, magnitudes, redshifts, object_id, further.copy() if further.size else None)


def in_all_bands(rows: NDArray[Any], kept: list[int]) -> NDArray[Any]:
    """Return records in u, g, r, i, z of galaxies that were measured in some of them; the others are missing."""
    if len(kept) == len(BANDS):
        return rows
    known = np.zeros(len(rows), dtype=row_type())
    for name in set(known.dtype.names or ()) - {"further"}:
        if known.dtype[name].shape:
            known[name] = np.nan
            known[name][:, kept] = rows[name]
        else:
            known[name] = rows[name]
    known["extinction"] = np.nan_to_num(known["extinction"])
    return known


NUM_COMPARED = 50
MAX_LIGHT_RATIO = 50.0
"""Cutouts show a third of a large galaxy, or a neighbour too; other units differ by more."""


class Cutouts(Protocol):
    """Images of N galaxies."""

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return those from `start` to before `stop`, shape (n, B, H, W) [nanomaggy / pixel]; NaN is missing."""
        ...


@dataclass(frozen=True)
class CutoutsWithTable(TableGalaxies):
    """Galaxies with measured images."""

    cutouts: Cutouts

    def rows(self, start: int, stop: int) -> Block:
        """Read the galaxies from `start` to before `stop`."""
        images = self.cutouts.read(start, stop)
        with np.errstate(invalid="ignore"):
            is_code: NDArray[np.bool_] = np.abs(images) > MAX_PIXEL
        if is_code.any():
            images = np.where(is_code, np.float32(np.nan), images)
        return _block(self.records.rows(start, stop), images)

    def fault_of_unit(self) -> str:
        """Say that the first galaxies have far more or less light in their pixels than the table says, if they do."""
        stop = min(len(self), NUM_COMPARED)
        block, bands = self.rows(0, stop), self.records.columns.bands
        if "r" not in bands:
            return ""
        r = bands.index("r")
        extinction = self.records.rows(0, stop)["extinction"][:, r]
        magnitudes = block.magnitudes[:, r]
        flux = 10 ** (-0.4 * (np.where((magnitudes > 0) & (magnitudes < 30), magnitudes, np.nan) + extinction - 22.5))
        ratios = np.nansum(block.images[:, r], axis=(1, 2)) / flux
        ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
        if len(ratios) < stop / 2 or 1 / MAX_LIGHT_RATIO < np.median(ratios) < MAX_LIGHT_RATIO:
            return ""
        ratio = float(f"{np.median(ratios):.2g}")
        return (
            f"the cutouts hold {ratio:,g} times the light of the table in r: are their pixels in nanomaggies? BUNIT "
            "says the unit of a FITS file"
        )


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
    """Put measured radii, axis ratios and bulge fractions in the place of drawn ones.

    Notes
    -----
    A half-light radius as observed (petroR50) is taken for the disc's after the seeing is removed in quadrature and
    the circle is stretched to the ellipse of the same area. A missing bulge radius keeps its drawn ratio to the disc's.
    """
    fraction = np.where(np.isnan(rows["bulge_fraction"]), drawn.bulge_fraction, rows["bulge_fraction"])
    measured = _common_axis_ratio(rows["axis_ratio"], rows["bulge_axis_ratio"], fraction)
    axis_ratio = np.where(np.isnan(measured), drawn.axis_ratio, np.clip(measured, 0.1, 1.0))
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
        bulge_fraction=fraction,
    )


def _common_axis_ratio(
    disc: NDArray[np.float64], bulge: NDArray[np.float64], bulge_fraction: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return one axis ratio for a galaxy whose components were fitted apart: the mean by light, or the one there is."""
    both = (1 - bulge_fraction) * disc + bulge_fraction * bulge
    return np.where(np.isnan(disc), bulge, np.where(np.isnan(bulge), disc, both))
