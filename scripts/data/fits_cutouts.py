"""A folder of FITS cutouts, one file per galaxy with five bands, and the table that lists them."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from inference.block import SDSS, centre_crop
from scripts.command.errors import SourceError
from scripts.data.columns import BANDS
from scripts.data.records import Records
from scripts.data.units import conversion
from scripts.data.user_table import TableFile, first_line
from scripts.simulation.conditions import PIXEL_ARCSEC

ENDINGS = (".fits", ".fits.gz", ".fit")
BAND_KEYWORDS = ("EXTNAME", "FILTER", "BAND")
MAX_SCALE_ERROR = 0.02
"""A pixel scale this near to that of SDSS changes sizes less than their own scatter."""


@dataclass(frozen=True)
class FitsCutouts:
    """Files in the order of the table's rows; one that is absent is a cutout without pixels."""

    paths: list[Path]

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the cutouts, cropped to their central 32 by 32 pixels."""
        images = np.full((stop - start, len(SDSS.bands), SDSS.side_px, SDSS.side_px), np.nan, dtype=np.float32)
        for image, path in zip(images, self.paths[start:stop], strict=True):
            if path.is_file():
                image[:] = read_cutout(path)
        return images


def find_cutouts(folder: Path, table: TableFile, records: Records) -> FitsCutouts:
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
    return FitsCutouts(paths)


def read_cutout(path: Path) -> NDArray[np.float32]:
    """Read five bands, from a cube (5, H, W) or (H, W, 5), or from one image per band.

    The order is u, g, r, i, z unless the header says another: BANDS of a cube, EXTNAME, FILTER or BAND of an image.

    Returns
    -------
    array, shape (5, 32, 32), float32
        The central pixels [nanomaggy / pixel], converted from the unit that BUNIT states.

    Raises
    ------
    SourceError
        If they are not there, too small, in a unit that is not a flux density, or of another pixel scale than SDSS's.
    """
    try:
        with fits.open(path) as file:
            images = [part for part in file if part.is_image and part.header.get("NAXIS", 0) >= 2]
            cubes = [part for part in images if part.header["NAXIS"] == 3][:1]
            planes = cubes or _in_order([part for part in images if part.header["NAXIS"] == 2])
            for part in planes:
                _check_scale(path, part.header)
            bands = [np.asarray(part.data, dtype=np.float32) * _nanomaggies(path, part.header) for part in planes]
            cutout = _bands_first(path, bands[0], cubes[0].header) if cubes else np.stack(bands or [np.zeros((1, 1))])
    except (OSError, TypeError, ValueError) as error:
        raise SourceError(f"{path} is not a readable FITS cutout: {first_line(error)}") from error
    if cutout.shape[0] != len(SDSS.bands) or min(cutout.shape[1:]) < SDSS.side_px:
        raise SourceError(f"{path} holds images of shape {cutout.shape}; (5, H, W) with at least 32 pixels are read.")
    cropped: NDArray[np.float32] = centre_crop(cutout[None])[0]
    return cropped


def _bands_first(path: Path, cube: NDArray[np.float32], header: Any) -> NDArray[np.float32]:
    if cube.shape[0] != len(SDSS.bands) and cube.shape[-1] == len(SDSS.bands):
        cube = np.moveaxis(cube, -1, 0)
    order = str(header.get("BANDS", BANDS)).strip().lower()
    if sorted(order) != sorted(BANDS):
        raise SourceError(f"{path} holds the bands {order} (BANDS); u, g, r, i, z are needed.")
    return cube[[order.index(band) for band in BANDS]] if cube.shape[0] == len(SDSS.bands) else cube


def _in_order(parts: list[Any]) -> list[Any]:
    for keyword in BAND_KEYWORDS:
        by_band = {str(part.header.get(keyword, "")).strip().lower(): part for part in parts}
        if set(BANDS) <= set(by_band):
            return [by_band[band] for band in BANDS]
    return parts


def _nanomaggies(path: Path, header: Any) -> np.float32:
    """Return what one of the header's unit is."""
    unit = str(header.get("BUNIT", "")).strip()
    try:
        return np.float32(conversion(unit, "flux").factor if unit else 1)
    except (ValueError, TypeError) as error:
        raise SourceError(
            f"{path} is in {unit!r} (BUNIT); nanomaggies per pixel, or a flux density such as nJy, are needed."
        ) from error


def _check_scale(path: Path, header: Any) -> None:
    """Refuse pixels that are not those of SDSS; without coordinates nothing is known of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        sky = WCS(header).celestial
    if not sky.has_celestial:
        return
    scales = proj_plane_pixel_scales(sky) * 3600
    if np.abs(scales / PIXEL_ARCSEC - 1).max() > MAX_SCALE_ERROR:
        raise SourceError(
            f"{path} has pixels of {scales[0]:.3f} arcsec; the model reads {PIXEL_ARCSEC} arcsec, those of SDSS. "
            "Resample it first, for example with the reproject package."
        )
