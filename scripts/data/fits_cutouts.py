"""A folder of FITS cutouts, one file per galaxy with all bands, and the table that lists them."""

import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from inference.block import SDSS, centre_crop
from inference.models import MAX_SCALE_ERROR
from scripts.command.errors import SourceError
from scripts.data.records import Records
from scripts.data.table_file import TableFile, first_line
from scripts.data.units import conversion
from scripts.simulation.conditions import PIXEL_ARCSEC

ENDINGS = (".fits", ".fits.gz", ".fit")
BAND_KEYWORDS = ("EXTNAME", "FILTER", "BAND")


class Wanted(NamedTuple):
    """What is read of a cutout."""

    bands: tuple[str, ...] = SDSS.bands
    side_px: int = SDSS.side_px
    pixel_scale_arcsec: float | None = PIXEL_ARCSEC
    """Pixels of another size are refused; None takes any [arcsec]."""


SDSS_CUTOUT = Wanted()


@dataclass(frozen=True)
class FitsCutouts:
    """Files in the order of the table's rows; one that is absent is a cutout without pixels."""

    paths: list[Path]
    wanted: Wanted

    @cached_property
    def pixel_scale_arcsec(self) -> float | None:
        """Angular size of a pixel as the first file has it [arcsec]; None where its header has no coordinates."""
        first = next(path for path in self.paths if path.is_file())
        try:
            with fits.open(first) as file:
                images = [part for part in file if part.is_image and part.header.get("NAXIS", 0) >= 2]
                found = (scales for part in images if (scales := _scales(part.header)) is not None)
                return next((round(float(scales.mean()), 4) for scales in found), None)
        except OSError as error:
            raise SourceError(f"{first} is not a readable FITS cutout: {first_line(error)}") from error

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the cutouts, cropped to their centre."""
        bands, side = self.wanted.bands, self.wanted.side_px
        images = np.full((stop - start, len(bands), side, side), np.nan, dtype=np.float32)
        for image, path in zip(images, self.paths[start:stop], strict=True):
            if path.is_file():
                image[:] = read_cutout(path, self.wanted)
        return images


def find_cutouts(folder: Path, table: TableFile, records: Records, wanted: Wanted) -> FitsCutouts:
    """Name the file of each row: by its column ``file`` where there is one, otherwise ``<object_id>.fits``.

    Raises
    ------
    SourceError
        If no row has a file.
    """
    if "file" in records.columns.single:
        name = records.columns.single["file"]
        paths = [folder / str(file) for batch in table.batches({name: "text"}) for file in batch[name]]
    else:
        identifiers = records.rows(0, records.num_rows)["object_id"].tolist()
        candidates = ([folder / f"{number}{ending}" for ending in ENDINGS] for number in identifiers)
        paths = [next((path for path in paths if path.is_file()), paths[0]) for paths in candidates]
    if not any(path.is_file() for path in paths):
        raise SourceError(
            f"{folder} holds none of the {len(paths)} cutouts of {table.name}, the first {paths[0].name}."
        )
    return FitsCutouts(paths, wanted)


def read_cutout(path: Path, wanted: Wanted = SDSS_CUTOUT) -> NDArray[np.float32]:
    """Read all bands, from a cube (B, H, W) or (H, W, B), or from one image per band.

    The order is that of the model unless the header says another: BANDS of a cube, EXTNAME, FILTER or BAND of an image.
    Bands that are not wanted are passed over; without a header five are u, g, r, i, z.

    Returns
    -------
    array, shape (B, H, W), float32
        The central pixels [nanomaggy / pixel], converted from the unit that BUNIT states.

    Raises
    ------
    SourceError
        If they are not there, too small, in a unit that is not a flux density, or of another pixel scale than wanted.
    """
    try:
        with fits.open(path) as file:
            images = [part for part in file if part.is_image and part.header.get("NAXIS", 0) >= 2]
            cubes = [part for part in images if part.header["NAXIS"] == 3][:1]
            planes = cubes or _in_order([part for part in images if part.header["NAXIS"] == 2], wanted.bands)
            for part in planes:
                _check_scale(path, part.header, wanted.pixel_scale_arcsec)
            bands = [np.asarray(part.data, dtype=np.float32) * _nanomaggies(path, part.header) for part in planes]
            if cubes:
                cutout = _bands_first(path, bands[0], cubes[0].header, wanted.bands)
            else:
                cutout = np.stack(bands or [np.zeros((1, 1))])
    except (OSError, TypeError, ValueError) as error:
        raise SourceError(f"{path} is not a readable FITS cutout: {first_line(error)}") from error
    num_bands = len(wanted.bands)
    if cutout.ndim != 3 or cutout.shape[0] != num_bands or min(cutout.shape[1:]) < wanted.side_px:
        raise SourceError(
            f"{path} holds images of shape {cutout.shape}; ({num_bands}, H, W) with at least {wanted.side_px} pixels "
            "are read."
        )
    cropped: NDArray[np.float32] = centre_crop(cutout[None], wanted.side_px)[0]
    return cropped


def _bands_first(path: Path, cube: NDArray[np.float32], header: Any, bands: tuple[str, ...]) -> NDArray[np.float32]:
    """Put the wanted bands of a cube first, in their order."""
    stated = str(header.get("BANDS", "")).strip()
    order = _listed(stated) if stated else order_of(bands, {cube.shape[0], cube.shape[-1]})
    if missing := [band for band in bands if band not in order]:
        needed = ", ".join(bands)
        raise SourceError(
            f"{path} holds the bands {stated} (BANDS); {needed} are needed, {', '.join(missing)} not there."
        )
    if cube.shape[0] != len(order) and cube.shape[-1] == len(order):
        cube = np.moveaxis(cube, -1, 0)
    return cube[[order.index(band) for band in bands]] if cube.shape[0] == len(order) else cube


def _listed(text: str) -> tuple[str, ...]:
    """Read a list of bands as headers have it: ugriz, or g,r,z; lower case where all are upper case."""
    names = tuple(re.split(r"[\s,;]+", text)) if re.search(r"[\s,;]", text) else tuple(text)
    return tuple(name.lower() for name in names) if text.isupper() else names


def order_of(bands: tuple[str, ...], sizes: Collection[int]) -> tuple[str, ...]:
    """Return the bands of an array that does not name them, whose axis of bands has one of some sizes.

    As many as are wanted are those that are wanted; five are u, g, r, i, z where all that are wanted are among them.
    """
    is_sdss = set(bands) <= set(SDSS.bands) and len(SDSS.bands) in sizes and len(bands) not in sizes
    return SDSS.bands if is_sdss or sorted(bands) == sorted(SDSS.bands) else bands


def _in_order(parts: list[Any], bands: tuple[str, ...]) -> list[Any]:
    for keyword in BAND_KEYWORDS:
        by_band = {str(part.header.get(keyword, "")).strip(): part for part in parts}
        for spell in (str, str.lower):
            spelled = {spell(name): part for name, part in by_band.items()}
            if set(bands) <= set(spelled):
                return [spelled[band] for band in bands]
    order = order_of(bands, {len(parts)})
    return [parts[order.index(band)] for band in bands] if len(parts) == len(order) else parts


def _nanomaggies(path: Path, header: Any) -> np.float32:
    """Return what one of the header's unit is."""
    unit = str(header.get("BUNIT", "")).strip()
    try:
        return np.float32(conversion(unit, "flux").factor if unit else 1)
    except (ValueError, TypeError) as error:
        raise SourceError(
            f"{path} is in {unit!r} (BUNIT); nanomaggies per pixel, or a flux density such as nJy, are needed."
        ) from error


def _scales(header: Any) -> NDArray[np.float64] | None:
    """Return the angular size of a pixel along both axes [arcsec]; None without coordinates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        sky = WCS(header).celestial
    return proj_plane_pixel_scales(sky) * 3600 if sky.has_celestial else None


def _check_scale(path: Path, header: Any, wanted_arcsec: float | None) -> None:
    """Refuse pixels that are not those of the model; without coordinates nothing is known of them."""
    scales = _scales(header)
    if scales is not None and wanted_arcsec and np.abs(scales / wanted_arcsec - 1).max() > MAX_SCALE_ERROR:
        raise SourceError(
            f"{path} has pixels of {scales[0]:.3f} arcsec; the model reads {wanted_arcsec:g} arcsec"
            f"{', those of SDSS' if wanted_arcsec == PIXEL_ARCSEC else ''}. "
            "Resample it first, for example with the reproject package."
        )
