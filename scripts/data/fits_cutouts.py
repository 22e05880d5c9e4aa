"""A folder of FITS cutouts, a file per galaxy or one per band, and the table that lists them."""

import re
import sys
import warnings
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
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

ENDINGS = (".fits", ".fits.gz", ".fit", ".fits.fz")
"""In letters of any case."""
BAND_KEYWORDS = ("FILTER", "BAND", "EXTNAME")
SCALE_KEYWORDS = ("PIXSCALE", "PIXSCAL1", "PIXSCALX", "SECPIX", "SECPIX1")
"""Of headers without coordinates [arcsec]."""
OF_A_BAND = ("{id}_{b}", "{id}-{b}", "{id}.{b}", "{b}_{id}", "{b}-{id}", "{b}/{id}", "{id}/{b}")
"""How the files of a galaxy are called where every band has one."""


class Wanted(NamedTuple):
    """What is read of a cutout."""

    bands: tuple[str, ...] = SDSS.bands
    side_px: int = SDSS.side_px
    pixel_scale_arcsec: float | None = PIXEL_ARCSEC
    """Pixels of another size are refused; None takes any [arcsec]."""


SDSS_CUTOUT = Wanted()


class DamagedCutoutError(SourceError):
    """A file cannot be read, or holds too few pixels: its galaxy has no cutout, and the others have theirs."""


@dataclass(frozen=True)
class FitsCutouts:
    """Files in the order of the table's rows; one that is absent is a cutout without pixels."""

    paths: list[tuple[Path, ...]]
    """One with all bands, or one for each band."""
    wanted: Wanted
    named: set[tuple[Path, ...]] = field(default_factory=set, init=False, compare=False)
    """Damaged files that a message named."""

    @cached_property
    def pixel_scale_arcsec(self) -> float | None:
        """Angular size of a pixel as the first file has it [arcsec]; None where its header has no coordinates."""
        for path in self._first_files:
            with suppress(OSError), fits.open(path) as file:
                images = [part for part in file if part.is_image and part.header.get("NAXIS", 0) >= 2]
                found = (scales for part in images if (scales := _scales(part.header)) is not None)
                return next((round(float(scales.mean()), 4) for scales in found), None)
        return None

    @property
    def _first_files(self) -> list[Path]:
        return list(islice((path for paths in self.paths for path in paths if path.is_file()), MAX_TRIED))

    def refuse_damaged(self) -> None:
        """Raise when none of the first files can be read.

        Raises
        ------
        SourceError
            Saying what is wrong with the first.
        """
        errors = []
        for paths in islice((paths for paths in self.paths if any(path.is_file() for path in paths)), MAX_TRIED):
            try:
                self._read(paths)
                return
            except DamagedCutoutError as error:
                errors.append(error)
        raise SourceError(str(errors[0]))

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the cutouts, cropped to their centre; damaged files are named, and their pixels missing."""
        bands, side = self.wanted.bands, self.wanted.side_px
        images = np.full((stop - start, len(bands), side, side), np.nan, dtype=np.float32)
        for image, paths in zip(images, self.paths[start:stop], strict=True):
            try:
                image[:] = self._read(paths)
            except DamagedCutoutError as error:
                if paths not in self.named:
                    print(f"{error} Its galaxy has no cutout.", file=sys.stderr)
                self.named.add(paths)
        return images

    def _read(self, paths: tuple[Path, ...]) -> NDArray[np.float32]:
        """Return one cutout, NaN where a file is absent."""
        bands, side = self.wanted.bands, self.wanted.side_px
        cutout = np.full((len(bands), side, side), np.nan, dtype=np.float32)
        for number, path in enumerate(paths):
            if path.is_file():
                which = slice(None) if len(paths) == 1 else slice(number, number + 1)
                cutout[which] = read_cutout(path, self.wanted._replace(bands=bands[which]))
        return cutout


MAX_TRIED = 20
"""So many damaged files in a row are no accident."""


def find_cutouts(folder: Path, table: TableFile, records: Records, wanted: Wanted) -> FitsCutouts:
    """Name the files of each row: by its column ``file`` where there is one, otherwise by its identifier.

    That is ``<object_id>.fits``, or a file for each band such as ``<object_id>_u.fits``.

    Raises
    ------
    SourceError
        If no row has a file.
    """
    if "file" in records.columns.single:
        name = records.columns.single["file"]
        paths: list[tuple[Path, ...]] = [
            (folder / str(file),) for batch in table.batches({name: "text"}) for file in batch[name]
        ]
    else:
        rows = records.rows(0, records.num_rows)
        identifiers = np.char.decode(rows["source_id"]) if records.has_source_id else rows["object_id"]
        files = _named(folder)
        paths = [_files_of(str(identifier), folder, files, wanted.bands) for identifier in identifiers.tolist()]
    if not any(path.is_file() for several in paths for path in several):
        raise SourceError(
            f"{folder} holds none of the {len(paths)} cutouts of {table.name}, the first {paths[0][0].name}. Name them "
            "after their identifiers, or in a column called file; with a file for each band, 7_u.fits."
        )
    cutouts = FitsCutouts(paths, wanted)
    cutouts.refuse_damaged()
    return cutouts


def cutouts_in(folder: Path) -> list[Path]:
    """Return the FITS files in a folder and in the folders in it."""
    found = (path for pattern in ("*", "*/*") for path in folder.glob(pattern))
    return [path for path in found if path.name.lower().endswith(ENDINGS) and path.is_file()]


def _named(folder: Path) -> dict[str, Path]:
    """Return files by all that they may be called, in small letters: path, name, number without zeros before it."""
    paths = sorted(cutouts_in(folder))
    num_called = Counter(path.name for path in paths)
    files = {path.relative_to(folder).as_posix().lower(): path for path in paths}
    for path in (path for path in paths if num_called[path.name] == 1):
        files.setdefault(path.name.lower(), path)
        files.setdefault(re.sub(r"^0+(?=\d+\.)", "", path.name.lower()), path)
    return files


def _files_of(identifier: str, folder: Path, files: dict[str, Path], bands: tuple[str, ...]) -> tuple[Path, ...]:
    for ending in ENDINGS:
        if whole := files.get(f"{identifier}{ending}".lower()):
            return (whole,)
    for pattern in OF_A_BAND:
        for ending in ENDINGS:
            names = [f"{pattern.format(id=identifier, b=band)}{ending}".lower() for band in bands]
            if any(name in files for name in names):
                return tuple(files.get(name, folder / name) for name in names)
    return (folder / f"{identifier}{ENDINGS[0]}",)


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
            cubes = [part for part in images if _num_axes(part.header) == 3][:1]
            planes = cubes or _in_order(path, [part for part in images if _num_axes(part.header) == 2], wanted.bands)
            for part in planes:
                _check_scale(path, part.header, wanted.pixel_scale_arcsec)
            bands = [np.squeeze(part.data).astype(np.float32) * _nanomaggies(path, part.header) for part in planes]
            if cubes:
                cutout = _bands_first(path, bands[0], cubes[0].header, wanted.bands)
            else:
                cutout = np.stack(bands or [np.zeros((1, 1))])
    except (OSError, TypeError, ValueError) as error:
        said = first_line(error).partition(". If this is really")[0]  # advice to programmers
        raise DamagedCutoutError(f"{path} is not a readable FITS cutout: {said.rstrip('.')}.") from error
    num_bands = len(wanted.bands)
    if cutout.ndim != 3 or cutout.shape[0] != num_bands or min(cutout.shape[1:]) < wanted.side_px:
        raise DamagedCutoutError(
            f"{path} holds images of shape {cutout.shape}; ({num_bands}, H, W) with at least {wanted.side_px} pixels "
            "are read."
        )
    cropped: NDArray[np.float32] = centre_crop(cutout[None], wanted.side_px)[0]
    return cropped


def _num_axes(header: Any) -> int:
    """Return how many axes are longer than one pixel."""
    return sum(header[f"NAXIS{number}"] > 1 for number in range(1, header["NAXIS"] + 1))


def _bands_first(path: Path, cube: NDArray[np.float32], header: Any, bands: tuple[str, ...]) -> NDArray[np.float32]:
    """Put the wanted bands of a cube first, in their order."""
    stated = _stated_bands(header, cube.shape)
    order = _listed(stated) if stated else order_of(bands, {cube.shape[0], cube.shape[-1]})
    if missing := [band for band in bands if band not in order]:
        needed = ", ".join(bands)
        raise SourceError(
            f"{path} holds the bands {stated} in its header; {needed} are needed, {', '.join(missing)} not there."
        )
    if cube.shape[0] != len(order) and cube.shape[-1] == len(order):
        cube = np.moveaxis(cube, -1, 0)
    return cube[[order.index(band) for band in bands]] if cube.shape[0] == len(order) else cube


def _stated_bands(header: Any, shape: tuple[int, ...]) -> str:
    """Return the bands of a cube in their order, as its header has them; nothing where it has none."""
    for keyword in ("BANDS", "FILTERS", *BAND_KEYWORDS):
        stated = str(header.get(keyword, "")).strip()
        if stated and (keyword == "BANDS" or len(_listed(stated)) in (shape[0], shape[-1])):
            return stated
    for pattern, first in ((pattern, first) for pattern in ("BAND", "FILTER", "FILT", "PLANE") for first in (0, 1)):
        numbered = [str(header.get(f"{pattern}{number}", "")).strip() for number in range(first, first + max(shape))]
        if len(found := list(filter(None, numbered))) in (shape[0], shape[-1]):
            return ",".join(re.split(r"[\s._:-]+", name)[-1] for name in found)
    return ""


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


def _in_order(path: Path, parts: list[Any], bands: tuple[str, ...]) -> list[Any]:
    """Return the images of the bands, as their headers name them; in the order of the file where these name none."""
    for keyword in BAND_KEYWORDS:
        names = [str(part.header.get(keyword, "")).strip() for part in parts]
        by_band = {band: part for name, part in zip(names, parts, strict=True) if (band := band_in(name, bands))}
        if set(bands) <= set(by_band):
            return [by_band[band] for band in bands]
        if by_band or (keyword != "EXTNAME" and any(names) and len(parts) > 1):
            raise SourceError(
                f"{path} holds images of {', '.join(name or 'no band' for name in names)} ({keyword}); one of each of "
                f"{', '.join(bands)} is needed."
            )
    order = order_of(bands, {len(parts)})
    return [parts[order.index(band)] for band in bands] if len(parts) == len(order) else parts


def band_in(name: str, bands: tuple[str, ...]) -> str:
    """Return the band that a name such as r, SDSS_r or sdss.R means; nothing where it is none of them."""
    last = re.split(r"[\s._:-]+", name)[-1]
    return last if last in bands else next((band for band in bands if band.lower() == last.lower()), "")


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
    """Return the angular size of a pixel along both axes [arcsec]; None where nothing says it."""
    if header["CTYPE*"]:  # reading coordinates takes longer than all else of a cutout
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            sky = WCS(header).celestial
        if sky.has_celestial:
            scales: NDArray[np.float64] = proj_plane_pixel_scales(sky) * 3600
            return scales
    stated = next((header[keyword] for keyword in SCALE_KEYWORDS if keyword in header), None)
    return np.array([stated, stated]) if isinstance(stated, int | float) and stated > 0 else None


def _check_scale(path: Path, header: Any, wanted_arcsec: float | None) -> None:
    """Refuse pixels that are not those of the model; without coordinates nothing is known of them."""
    if not wanted_arcsec:
        return
    scales = _scales(header)
    if scales is not None and np.abs(scales / wanted_arcsec - 1).max() > MAX_SCALE_ERROR:
        raise SourceError(
            f"{path} has pixels of {scales[0]:.3f} arcsec; the model reads {wanted_arcsec:g} arcsec"
            f"{', those of SDSS' if wanted_arcsec == PIXEL_ARCSEC else ''}. "
            "Resample it first, for example with the reproject package."
        )
