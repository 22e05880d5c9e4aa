"""A folder of FITS cutouts, one file per galaxy with five bands, and the table that lists them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from inference.block import NUM_BANDS, SIDE, centre_crop
from scripts.command.errors import SourceError
from scripts.data.columns import BANDS
from scripts.data.records import Records
from scripts.data.units import FLUX_UNITS
from scripts.data.user_table import TableFile

ENDINGS = (".fits", ".fits.gz", ".fit")
BAND_KEYWORDS = ("EXTNAME", "FILTER", "BAND")


@dataclass(frozen=True)
class FitsCutouts:
    """Files in the order of the table's rows; one that is absent is a cutout without pixels."""

    paths: list[Path]

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the cutouts, cropped to their central 32 by 32 pixels."""
        images = np.full((stop - start, NUM_BANDS, SIDE, SIDE), np.nan, dtype=np.float32)
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
    """Read five bands, from a cube (5, H, W) or from one image per band in the order u, g, r, i, z or named by band.

    Raises
    ------
    SourceError
        If they are not there, too small, or not in nanomaggies.
    """
    try:
        with fits.open(path) as file:
            images = [part for part in file if part.is_image and part.header.get("NAXIS", 0) >= 2]
            for part in images:
                _check_unit(path, part.header)
            cubes = [part.data for part in images if part.header["NAXIS"] == 3]
            if cubes:
                bands = np.asarray(cubes[0], dtype=np.float32)
            else:
                planes = _in_order([part for part in images if part.header["NAXIS"] == 2])
                bands = np.stack(
                    [np.asarray(part.data, dtype=np.float32) for part in planes] or [np.zeros((1, 1), np.float32)]
                )
    except (OSError, TypeError, ValueError) as error:
        raise SourceError(f"{path} is no readable FITS cutout: {str(error).splitlines()[0]}") from error
    if bands.shape[0] != NUM_BANDS or min(bands.shape[1:]) < SIDE:
        raise SourceError(f"{path} holds images of shape {bands.shape}; (5, H, W) with at least 32 pixels are read.")
    cutout: NDArray[np.float32] = centre_crop(bands[None])[0]
    return cutout


def _in_order(parts: list[Any]) -> list[Any]:
    for keyword in BAND_KEYWORDS:
        by_band = {str(part.header.get(keyword, "")).strip().lower(): part for part in parts}
        if set(BANDS) <= set(by_band):
            return [by_band[band] for band in BANDS]
    return parts


def _check_unit(path: Path, header: Any) -> None:
    unit = str(header.get("BUNIT", "")).strip().lower()
    if unit and unit not in FLUX_UNITS:
        raise SourceError(
            f"{path} is in {unit!r} (BUNIT); cutouts are read in nanomaggies per pixel. Convert it first."
        )
