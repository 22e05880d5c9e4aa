"""What the report of cleaning counts: each rule on the galaxies it applies to, and each galaxy under one outcome."""

import io
from collections import Counter
from typing import Any

import numpy as np
from rich.console import Console

from inference.cleaning import shipped_limits
from inference.quality import Quality
from scripts.data.cleaning_report import OUTCOMES, RULES, CleaningReport, inspect

USUAL = shipped_limits().photometry.mean
SIZE = 32


def report_of(
    magnitudes: list[list[float]],
    images: np.ndarray | None = None,
    redshifts: list[float] | None = None,
    known: list[int] | None = None,
    **more: Any,
) -> CleaningReport:
    num = len(magnitudes)
    flags = np.array(known if known is not None else [0] * num, np.uint8)
    found = inspect(images, np.array(magnitudes), np.array(redshifts or [0.1] * num), flags, **more)
    return found.report


def with_bands(**changes: float) -> list[float]:
    """Return usual magnitudes, but for some bands."""
    return [changes.get(band, float(usual)) for band, usual in zip("ugriz", USUAL, strict=True)]


def test_missing_magnitudes_are_counted_by_what_stands_in_their_place() -> None:
    report = report_of(
        [
            with_bands(),
            with_bands(u=np.nan),
            with_bands(u=np.inf, g=-9999),
            with_bands(r=0.0),
            with_bands(u=0.0, g=0.0, z=31.0),
        ]
    )

    assert report.rules == {
        "magnitude is NaN or infinite": 2,
        "magnitude is -9999": 1,
        "magnitude is 0": 2,
        "magnitude outside 10-30": 1,
        "one or two bands missing": 2,
        "no r": 1,
        "more than two bands missing": 1,
    }
    assert +report.outcomes == {"clean": 1, "imputed": 2, "rejected": 2}


def test_a_band_of_another_survey_is_never_filled_in() -> None:
    report = report_of([[20.0, 21.0], [np.nan, 21.0], [np.nan, np.nan]], bands=("Y", "J"))

    assert report.rules == {"magnitude is NaN or infinite": 2, "a band missing": 2}
    assert +report.outcomes == {"clean": 1, "rejected": 2}


def test_missing_pixels_are_counted_by_where_and_how_many_they_are() -> None:
    images = np.random.default_rng(0).normal(1.0, 0.1, (6, 5, SIZE, SIZE)).astype(np.float32)
    images[1, 0, 0, 0] = np.nan
    images[2, :2, :5, :26] = np.nan  # 260 of 5,120
    images[3, 2, SIZE // 2, SIZE // 2] = np.nan
    images[4, 1] = np.nan
    images[5] = np.nan

    report = report_of([with_bands()] * 6, images)

    assert report.rules == {
        "pixels missing": 5,
        "more than 5 % of the pixels missing": 3,
        "a central pixel missing": 3,
        "a band without signal": 2,
        "no cutout": 1,
    }
    assert report.num_filled_pixels == 1 + 260 + 1 + SIZE**2 + 5 * SIZE**2
    assert +report.outcomes == {"clean": 1, "imputed": 1, "rejected": 4}


def test_no_cutouts_at_all_break_no_rule_of_pixels() -> None:
    assert report_of([with_bands()], np.empty((1, 5, 0, 0), np.float32)) == report_of([with_bands()])


def test_what_is_odd_or_without_a_label_is_counted() -> None:
    known = [
        Quality.LOW_SIGNAL,
        Quality.HIGH_EXTINCTION,
        Quality.LOW_SIGNAL | Quality.HIGH_EXTINCTION,
        Quality.HIGH_EXTINCTION,
        0,
    ]
    magnitudes = [*[with_bands()] * 3, with_bands(u=29.0), with_bands(r=np.nan)]

    report = report_of(magnitudes, redshifts=[0.1, -0.1, 0.0, np.nan, 0.1], known=[int(flag) for flag in known])

    assert [report.rules[rule] for rule in RULES if RULES[rule] == "flagged"] == [1, 2, 3]
    assert report.rules["redshift not positive"] == 2
    assert +report.outcomes == {"flagged": 4, "rejected": 1}


def test_a_magnitude_is_filled_in_unless_the_galaxy_is_rejected() -> None:
    magnitudes = np.array([with_bands(u=np.nan), with_bands(u=np.nan, r=np.nan)])

    found = inspect(None, magnitudes, np.array([0.1, 0.1]), np.zeros(2, np.uint8))

    assert np.isfinite(found.magnitudes[0]).all()
    assert np.isnan(found.magnitudes[1]).tolist() == [True, False, True, False, False]


PART = CleaningReport(Counter({"clean": 1200, "rejected": 3}), Counter({"no r": 3}), 7, ("degrees from hours",))
OTHER = CleaningReport(Counter({"clean": 1, "dropped": 2}), Counter({"no cutout": 2}), 5, ("degrees from hours", "mag"))


def test_parts_add_up_and_survive_the_disk() -> None:
    both = PART + OTHER

    assert both.outcomes == {"clean": 1201, "rejected": 3, "dropped": 2}
    assert (both.rules, both.num_filled_pixels) == ({"no r": 3, "no cutout": 2}, 12)
    assert both.notes == ("degrees from hours", "mag")
    assert CleaningReport.from_json(both.to_json()) == both


def test_the_file_names_every_outcome_and_every_rule() -> None:
    text = (PART + OTHER).to_json().decode()

    assert text.startswith('{\n  "num_rows": 1206,\n  "outcomes": {\n    "clean": 1201,\n    "imputed": 0,')
    assert all(f'"{name}"' in text for name in (*OUTCOMES, *RULES))


def test_what_is_printed_leaves_out_what_never_happened() -> None:
    console = Console(file=io.StringIO(), width=120)

    console.print((PART + OTHER).shown())

    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == [
        "read       degrees from hours",
        "read       mag",
        "cleaning   1,206 galaxies: 1,201 clean, 3 rejected, 2 dropped",
        "  3    no r         rejected",
        "  2    no cutout    rejected",
    ]
