"""What is wrong with a galaxy is flagged, filled or rejected by the stated rules, and clean rows pass untouched."""

import numpy as np
import pytest

from inference import cleaning
from inference.cleaning import clean_cutouts, shipped_limits
from inference.quality import Quality

KNOWN = shipped_limits().photometry
MEAN_MAGNITUDES = KNOWN.mean
MAGNITUDE_COVARIANCE = KNOWN.covariance

NAN, INF = np.nan, np.inf


def cutouts(num_rows: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num_rows, 5, 32, 32)).astype(np.float32)


def magnitudes(num_rows: int = 4, **changes: float) -> np.ndarray:
    """Mean galaxies; name a band to change it in the first."""
    table = np.tile(MEAN_MAGNITUDES, (num_rows, 1))
    for band, value in changes.items():
        table[0, "ugriz".index(band)] = value
    return table


def flags(images: np.ndarray, table: np.ndarray) -> Quality:
    """Flags of the first galaxy; the others must have none."""
    quality = clean_cutouts(images, table).quality
    assert quality.dtype == np.uint8
    assert not quality[1:].any()
    return Quality(int(quality[0]))


def test_clean_rows_come_back_as_the_very_same_arrays() -> None:
    images, table = cutouts(), magnitudes()
    images.flags.writeable = False

    cleaned = clean_cutouts(images, table)

    assert cleaned.images is images
    assert cleaned.magnitudes is table
    assert not cleaned.quality.any()


def test_flags_are_the_bits_that_stored_predictions_have() -> None:
    assert {flag.name: flag.value for flag in Quality} == {
        "IMPUTED_BAND": 1,
        "FILLED_PIXELS": 2,
        "LOW_SIGNAL": 4,
        "COLOR_OUTLIER": 8,
        "HIGH_EXTINCTION": 16,
        "OUT_OF_DOMAIN": 32,
        "REFUSED": 64,
    }


def test_a_block_without_rows_stays_empty() -> None:
    assert [len(part) for part in clean_cutouts(cutouts(0), magnitudes(0))] == [0, 0, 0]


# ----------------------------------------------------------------------------------------- magnitudes


@pytest.mark.parametrize("code", [-9999.0, 0.0, NAN, INF, -INF, 99.0, 10.0, 30.0])
def test_what_stands_for_a_missing_magnitude_is_imputed_and_flagged(code: float) -> None:
    cleaned = clean_cutouts(cutouts(), magnitudes(u=code))

    assert flags(cutouts(), magnitudes(u=code)) == Quality.IMPUTED_BAND
    # The mean galaxy's missing band is the mean.
    assert cleaned.magnitudes[0] == pytest.approx(MEAN_MAGNITUDES)


def test_a_bright_and_a_faint_magnitude_are_measurements() -> None:
    assert not cleaning.missing_bands(np.array([[10.1, 12.0, 20.0, 28.0, 29.9]])).any()


@pytest.mark.parametrize("level", [10.01, 29.99])
@pytest.mark.parametrize("band", range(5))
def test_what_stands_for_a_missing_magnitude_is_one_itself(level: float, band: int) -> None:
    table = np.full((1, 5), level)
    table[0, band] = NAN

    assert not cleaning.missing_bands(cleaning.fill_bands(table)[0]).any()


def test_a_model_that_knows_no_photometry_fills_no_band_in_and_finds_no_colour_odd() -> None:
    ignorant = cleaning.Limits(np.float32(-1000), None)
    table = magnitudes(u=NAN)

    filled, quality = cleaning.fill_bands(table, ignorant)

    assert quality.tolist() == [(Quality.IMPUTED_BAND | Quality.REFUSED).value, 0, 0, 0]
    assert not cleaning.missing_bands(filled).any()
    np.testing.assert_array_equal(filled[~np.isnan(table)], table[~np.isnan(table)])
    assert not cleaning.has_odd_colors(magnitudes(u=25.0), ignorant).any()


def test_a_colour_is_odd_beyond_8_sigma_on_either_side() -> None:
    median, sigma = np.array([1.0, 0.5]), np.array([0.1, 0.2])
    colors = median + sigma * np.array([[7.9, 0], [-7.9, 0], [8.1, 0], [-8.1, 0], [0, 8.1], [0, 7.9]])
    table = 20 - np.concatenate([np.zeros((6, 1)), np.cumsum(colors, axis=1)], axis=1)

    assert cleaning.are_odd(table, median, sigma).tolist() == [False, False, True, True, True, False]


def test_the_spread_of_a_colour_is_robust() -> None:
    table = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0], [99.0, 0.0]])

    median, sigma = cleaning.color_spread(table)

    assert (median.tolist(), sigma.tolist()) == ([3.0], [1.4826])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"u": NAN, "z": 0}, Quality.IMPUTED_BAND),
        ({"r": NAN}, Quality.IMPUTED_BAND | Quality.REFUSED),
        ({"u": NAN, "g": -9999, "z": 0}, Quality.IMPUTED_BAND | Quality.REFUSED),
        ({"u": 25.0}, Quality.COLOR_OUTLIER),
        ({"i": 16.5, "z": 18.0}, Quality.COLOR_OUTLIER),
        ({"u": 20.0}, Quality(0)),
    ],
    ids=str,
)
def test_bands_decide_between_imputed_refused_and_odd(changes: dict[str, float], expected: Quality) -> None:
    assert flags(cutouts(), magnitudes(**changes)) == expected


def test_a_rejected_galaxy_holds_finite_stand_ins() -> None:
    images = cutouts()
    images[0] = NAN

    cleaned = clean_cutouts(images, magnitudes(r=NAN, u=14.0))

    assert np.isfinite(cleaned.images).all()
    assert cleaned.magnitudes[0] == pytest.approx(MEAN_MAGNITUDES)


@pytest.mark.parametrize("missing", [[0], [1], [3], [4], [0, 1], [3, 4], [0, 4]], ids=str)
def test_an_imputed_band_is_the_linear_law_of_the_measured_ones(missing: list[int]) -> None:
    rng = np.random.default_rng(1)
    # Galaxies that obey the law exactly except for what the law cannot know.
    table = rng.multivariate_normal(MEAN_MAGNITUDES, MAGNITUDE_COVARIANCE, size=4000)
    holes = table.copy()
    holes[:, missing] = NAN

    error = (cleaning.fill_bands(holes)[0] - table)[:, missing]

    kept = [band for band in range(5) if band not in missing]
    within = MAGNITUDE_COVARIANCE[np.ix_(missing, missing)]
    across = MAGNITUDE_COVARIANCE[np.ix_(missing, kept)]
    unknowable = within - across @ np.linalg.solve(MAGNITUDE_COVARIANCE[np.ix_(kept, kept)], across.T)
    # The standard error of a standard deviation from 4,000 galaxies is 1.1 %.
    assert error.std(axis=0) == pytest.approx(np.sqrt(np.diag(unknowable)), rel=0.05)


def test_galaxies_that_miss_different_bands_do_not_mix() -> None:
    table = np.tile(MEAN_MAGNITUDES, (3, 1)) + np.array([[0.0], [0.5], [1.0]])
    alone = table.copy()
    table[0, 0], table[1, 4] = NAN, NAN
    alone[1, 4] = NAN

    together, _ = cleaning.fill_bands(table)

    assert together[1].tolist() == cleaning.fill_bands(alone[1:2])[0][0].tolist()
    assert together[2].tolist() == table[2].tolist()


# --------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("code", [NAN, INF, -INF, -9999.0, 1e20, 3.4e38])
def test_a_missing_pixel_becomes_sky_and_is_counted(code: float) -> None:
    images = cutouts()
    images[0, 1, 2, 3:5] = code

    filled, num_filled, _ = cleaning.fill_pixels(images)

    assert flags(images, magnitudes()) == Quality.FILLED_PIXELS
    assert filled[0, 1, 2, 3:5].tolist() == [0, 0]
    assert num_filled.tolist() == [2, 0, 0, 0]
    assert filled[1:].tobytes() == images[1:].tobytes()


@pytest.mark.parametrize(
    ("value", "is_filled"), [(-1000.0, False), (-1000.5, True), (9.9e7, False), (1e8, True), (0.0, False)]
)
def test_pixels_between_the_codes_are_measurements(value: float, is_filled: bool) -> None:
    images = cutouts()
    images[0, 1, 2, 3] = value

    filled, num_filled, quality = cleaning.fill_pixels(images)

    assert num_filled.tolist() == [is_filled, 0, 0, 0]
    assert quality.tolist() == [Quality.FILLED_PIXELS if is_filled else 0, 0, 0, 0]
    assert filled[0, 1, 2, 3] == (0.0 if is_filled else np.float32(value))


@pytest.mark.parametrize(
    ("band", "rows", "columns", "is_rejected"),
    [
        (0, slice(0, 8), slice(0, 32), False),  # exactly 5 % of 5,120 pixels
        (0, slice(0, 9), slice(0, 32), True),
        (4, slice(11, 12), slice(11, 12), False),
        (4, slice(12, 13), slice(12, 13), True),
        (4, slice(19, 20), slice(19, 20), True),
        (4, slice(20, 21), slice(20, 21), False),
    ],
)
def test_many_missing_pixels_or_a_central_one_reject_a_galaxy(
    band: int, rows: slice, columns: slice, is_rejected: bool
) -> None:
    images = cutouts()
    images[0, band, rows, columns] = NAN

    assert (Quality.REFUSED in flags(images, magnitudes())) == is_rejected


@pytest.mark.parametrize("value", [0.0, 3.5, NAN])
def test_a_dead_band_rejects_a_galaxy(value: float) -> None:
    images = cutouts()
    images[0, 3] = value

    assert flags(images, magnitudes()) == Quality.FILLED_PIXELS | Quality.REFUSED
    assert cleaning.fill_pixels(images)[1][0] == 32 * 32


def test_the_input_is_never_changed() -> None:
    images, table = cutouts(), magnitudes(u=NAN)
    images[0, 0, 0, 0] = NAN

    clean_cutouts(images, table)

    assert np.isnan(images[0, 0, 0, 0])
    assert np.isnan(table[0, 0])


# -------------------------------------------------------------------------------------- rules of tables


def test_low_signal_counts_in_every_band_but_u() -> None:
    ratio = np.array([[1.0, 9, 9, 9, 9], [9, 4.9, 9, 9, 9], [9, 9, 9, 9, 5.0], [9, NAN, NAN, NAN, NAN]])

    assert cleaning.has_low_signal(ratio).tolist() == [False, True, False, False]


def test_high_extinction_begins_above_half_a_magnitude() -> None:
    assert cleaning.has_high_extinction(np.array([0.1, 0.5, 0.51, NAN]), 0.5).tolist() == [False, False, True, False]
    assert not cleaning.has_high_extinction(np.array([9.0]), None).any()


def test_a_label_is_a_positive_redshift() -> None:
    assert cleaning.is_label(np.array([0.1, 0.0, -0.001, -9999, NAN, INF])).tolist() == [True] + [False] * 5
