"""What is rendered from the numbers of a table, and whether measured images have the light that it states."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.cleaning import MAX_PIXEL, shipped_limits
from scripts.data.records import Records, observed_flux, read_records
from scripts.data.table_file import ArrayTable
from scripts.data.table_galaxies import (
    CutoutsWithTable,
    PlainTable,
    in_all_bands,
    measured_structure,
    own_numbers,
    photometry_of,
)
from scripts.simulation.render import SEEING_ARCSEC
from scripts.simulation.structure import RADIUS_LIMITS_ARCSEC, Structure, typical_petrosian_minus_model

KNOWN = shipped_limits().photometry
assert KNOWN is not None
MEAN = KNOWN.mean
NAN = np.nan


def records_of(folder: Path, num: int, light: Any = MEAN, **columns: Any) -> Records:
    """Read a table of galaxies with these magnitudes, and a value for each of them in further columns."""
    bands = {band: np.full(num, light[number], float) for number, band in enumerate("ugriz")}
    table = ArrayTable.of(Path("my.npz"), bands | {name: np.array(values) for name, values in columns.items()})
    return read_records(table, "", folder / "records")


# -------------------------------------------------------------------------------------------------- photometry


def test_what_is_drawn_for_a_galaxy_follows_from_its_magnitudes_to_a_thousandth() -> None:
    magnitudes = np.array([MEAN, MEAN + 4e-5, MEAN + 1e-3, [NAN, *MEAN[1:]], [-np.inf, *MEAN[1:]], [1e30, *MEAN[1:]]])

    numbers = own_numbers(np.round(magnitudes, 4))

    assert numbers[0] == numbers[1]
    assert len(set(numbers.tolist())) == 5
    assert np.all(numbers > 2**40)


def test_the_light_of_a_galaxy_is_that_before_the_correction_for_extinction(tmp_path: Path) -> None:
    columns = {f"A_{band}": [0.1, 0.0] for band in "ugriz"} | {f"err_{band}": [0.02, NAN] for band in "ugriz"}
    columns |= {f"petroMag_{band}": [MEAN[number] + 0.3, NAN] for number, band in enumerate("ugriz")}

    rows = records_of(tmp_path, 2, **columns).rows(0, 2)
    found = photometry_of(rows)

    assert found.model_flux == pytest.approx(observed_flux(np.array([MEAN, MEAN])))
    assert found.petrosian_flux[0] == pytest.approx(found.model_flux[0] * 10**-0.12)
    typical = typical_petrosian_minus_model(MEAN[None])[0]
    assert found.petrosian_flux[1] == pytest.approx(found.model_flux[1] * 10 ** (-0.4 * typical))
    assert found.model_flux_error[0] == pytest.approx(rows["flux_error"][0])
    assert found.model_flux_error[1].tolist() == [0.0] * 5
    assert found.extinction.tolist() == [[0.1] * 5, [0.0] * 5]
    assert found.object_id.tolist() == [1, 2]


def test_a_band_that_is_missing_is_rendered_as_it_is_estimated(tmp_path: Path) -> None:
    found = photometry_of(records_of(tmp_path, 1, [MEAN[0], -9999, *MEAN[2:]]).rows(0, 1))

    assert found.model_flux[0] == pytest.approx(observed_flux(MEAN[None])[0], rel=1e-6)


def test_bands_that_a_table_does_not_have_are_missing_and_without_extinction(tmp_path: Path) -> None:
    rows = records_of(tmp_path, 2, ra=[1.0, 2.0], dec=[3.0, 4.0], redshift=[0.1, 0.2]).rows(0, 2)
    kept = [1, 2, 4]
    some = np.zeros(2, [(name, *shape_of(rows, name, len(kept))) for name in rows.dtype.names])
    for name in rows.dtype.names:
        some[name] = rows[name][:, kept] if rows.dtype[name].shape == (5,) else rows[name]

    found = in_all_bands(some, kept)

    np.testing.assert_array_equal(found["magnitudes"][0], [NAN, MEAN[1], MEAN[2], NAN, MEAN[4]])
    assert found["extinction"].tolist() == [[0.0] * 5] * 2
    for name in ("object_id", "ra_deg", "dec_deg", "redshift", "disc_radius"):
        np.testing.assert_array_equal(found[name], rows[name])
    assert in_all_bands(rows, [0, 1, 2, 3, 4]) is rows


def shape_of(rows: NDArray[Any], name: str, num_bands: int) -> tuple[Any, ...]:
    kind = rows.dtype[name]
    return (kind.base, (num_bands,)) if kind.shape == (5,) else (kind.base, kind.shape)


# ------------------------------------------------------------------------------------------------------- sizes


def structure_of(folder: Path, **columns: float) -> Structure:
    """Return the structure of a galaxy whose disc was drawn as 1 arcsec, its bulge as 2, its axis ratio as .5."""
    one = np.ones(1)
    rows = records_of(folder, 1, **{name: [value] for name, value in columns.items()}).rows(0, 1)
    return measured_structure(rows, Structure(one, 2 * one, 0.5 * one, 0.3 * one, 0.25 * one))


@pytest.mark.parametrize(
    ("columns", "disc_arcsec", "bulge_arcsec"),
    [
        ({}, 1, 2),
        ({"expRad_r": 1.5}, 1.5, 3),
        ({"deVRad_r": 1.5}, 1, 1.5),
        ({"expRad_r": 1.5, "deVRad_r": 2.5}, 1.5, 2.5),
        ({"expRad_r": 1.5, "petroR50_r": 9.0}, 1.5, 3),
        ({"petroR50_r": 1.5}, np.sqrt((1.5**2 - (SEEING_ARCSEC / 2) ** 2) / 0.5), None),
        ({"petroR50_r": 1.5, "expAB_r": 0.25}, np.sqrt((1.5**2 - (SEEING_ARCSEC / 2) ** 2) / 0.25), None),
        ({"petroR50_r": SEEING_ARCSEC / 4}, RADIUS_LIMITS_ARCSEC[0], RADIUS_LIMITS_ARCSEC[0]),
        ({"expRad_r": 99.0}, RADIUS_LIMITS_ARCSEC[1], RADIUS_LIMITS_ARCSEC[1]),
        ({"deVRad_r": 0.001}, 1, RADIUS_LIMITS_ARCSEC[0]),
    ],
    ids=str,
)
def test_measured_radii_take_the_place_of_drawn_ones(
    columns: dict[str, float], disc_arcsec: float, bulge_arcsec: float | None, tmp_path: Path
) -> None:
    found = structure_of(tmp_path, **columns)

    assert found.disc_radius_arcsec == pytest.approx([disc_arcsec])
    assert found.bulge_radius_arcsec == pytest.approx([2 * disc_arcsec if bulge_arcsec is None else bulge_arcsec])


@pytest.mark.parametrize(("stated", "ratio"), [(NAN, 0.5), (0.05, 0.1), (0.1, 0.1), (0.3, 0.3), (1.0, 1.0)])
def test_no_galaxy_is_thinner_than_a_tenth(stated: float, ratio: float, tmp_path: Path) -> None:
    assert structure_of(tmp_path, expAB_r=stated).axis_ratio.tolist() == [ratio]


# ------------------------------------------------------------------------------------------------------ cutouts


@dataclass(frozen=True)
class Images:
    """Cutouts in memory."""

    images: NDArray[np.float32]

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        return self.images[start:stop]


def with_light(folder: Path, times: Any, *, magnitude: Any = MEAN[2], extinction: float = 0.0) -> CutoutsWithTable:
    """Return galaxies whose pixels hold so many times their light in r."""
    factors = np.asarray(times, float)
    records = records_of(
        folder,
        len(factors),
        r=np.broadcast_to(magnitude, len(factors)),
        **{f"A_{band}": np.full(len(factors), extinction) for band in "ugriz"},
    )
    images = np.zeros((len(factors), 5, 2, 2), np.float32)
    images[:, 2] = (factors * 10 ** (-0.4 * (MEAN[2] - 22.5)) / 4)[:, None, None]
    return CutoutsWithTable(records, Images(images))


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ([1.0] * 4, ""),
        ([49.0] * 4, ""),
        ([1 / 49] * 4, ""),
        ([51.0] * 4, "the cutouts hold 51 times the light of the table in r: are their pixels in nanomaggies?"),
        ([1 / 51] * 4, "the cutouts hold 0.02 times the light"),
        ([1e6] * 4, "the cutouts hold 1e+06 times the light"),
        ([100.0, 100.0, -1.0, NAN], "the cutouts hold 100 times the light"),
        ([100.0, 0.0, -1.0, NAN], ""),
        ([1.0] * 50 + [100.0] * 60, ""),
        ([100.0] * 50 + [1.0] * 60, "the cutouts hold 100 times the light"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else f"{value[0]:.2g}",
)
def test_pixels_in_another_unit_are_told_by_their_light(times: list[float], said: str, tmp_path: Path) -> None:
    found = with_light(tmp_path, times).fault_of_unit()

    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_the_light_of_pixels_is_compared_before_the_correction_for_extinction(tmp_path: Path) -> None:
    assert with_light(tmp_path, [40.0] * 4, extinction=0.5).fault_of_unit() == ""
    assert "100 times" in with_light(tmp_path, [100.0] * 4, extinction=0.5).fault_of_unit()


@pytest.mark.parametrize("magnitude", [-9999.0, 99.0, 0.0])
def test_galaxies_without_a_magnitude_are_not_compared(magnitude: float, tmp_path: Path) -> None:
    magnitudes = np.array([MEAN[2], magnitude, magnitude, magnitude])

    assert with_light(tmp_path, [100.0] * 4, magnitude=magnitudes).fault_of_unit() == ""


def test_codes_in_pixels_are_missing_and_the_file_stays_as_it_is(tmp_path: Path) -> None:
    images = np.ones((2, 5, 2, 2), np.float32)
    images[0, 1, 0, 1], images[0, 2, 0, 0], images[1, 0, 0, 0], images[1, 3, 1, 1] = 1e20, -1e20, NAN, MAX_PIXEL
    galaxies = CutoutsWithTable(records_of(tmp_path, 2), Images(images))

    found = galaxies.rows(0, 2).images

    assert np.isnan(found).sum(axis=(1, 2, 3)).tolist() == [2, 1]
    assert found[1, 3, 1, 1] == MAX_PIXEL
    assert images[0, 1, 0, 1] == np.float32(1e20)
    # Where there is none they are not copied.
    assert np.shares_memory(galaxies.rows(1, 2).images, images)


def test_a_table_without_images_has_all_else(tmp_path: Path) -> None:
    galaxies = PlainTable(records_of(tmp_path, 3, ra=[1.0, 2.0, 3.0], dec=[0.0] * 3, id=[7, 8, 9]))

    block, facts = galaxies.rows(1, 3), galaxies.facts(1, 3)

    assert (len(galaxies), block.images.shape, block.object_id.tolist()) == (3, (2, 5, 0, 0), [8, 9])
    assert (facts.ra_deg.tolist(), facts.split, facts.source_id, block.columns) == ([2.0, 3.0], None, None, None)
