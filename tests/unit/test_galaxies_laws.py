"""The laws of `structure.py` are what the programs that fit them print."""

import ast
from pathlib import Path

import numpy as np
import pytest

from scripts.simulation import fit_petrosian, fit_sizes, sed
from scripts.simulation.cosmology import angular_diameter_distance_mpc, distance_modulus
from scripts.simulation.sdss import load_sources
from scripts.simulation.structure import (
    ARCSEC_PER_RADIAN,
    AXIS_RATIO_LOGIT_LAW,
    PETROSIAN_LAW,
    PHYSICAL_LAW,
    quadratic_terms,
)

NUM = 150


def laws(printed: str) -> dict[str, list[float]]:
    """Return what is printed before every list to the list."""
    lines = [line.partition(": [") for line in printed.splitlines() if ": [" in line]
    return {name: ast.literal_eval(f"[{rest.partition(']')[0]}]") for name, _, rest in lines}


def test_a_law_of_medians_is_not_pulled_by_failed_measurements() -> None:
    rng = np.random.default_rng(0)
    terms = np.stack([np.ones(NUM), rng.normal(size=NUM)], axis=1)
    target = terms @ np.array([0.5, -2.0])
    target[::3] += 10.0

    assert fit_petrosian.median_law(terms, target) == pytest.approx([0.5, -2.0], abs=1e-3)


def test_the_petrosian_law_is_the_one_that_is_fitted(capsys: pytest.CaptureFixture[str]) -> None:
    fit_petrosian.main()

    printed = capsys.readouterr().out
    found = laws(printed)
    assert "".join(found) == "ugriz"
    assert np.array(list(found.values())) == pytest.approx(PETROSIAN_LAW, abs=2e-4)
    scatters = [float(line.rpartition(" ")[2]) for line in printed.splitlines()]
    assert scatters == pytest.approx(SCATTERS, abs=2e-3)


SCATTERS = [0.104, 0.085, 0.076, 0.078, 0.088]
"""Of the measured around the law in u, g, r, i, z [mag]."""


def write_table(path: Path) -> None:
    """Real photometry with sizes and axis ratios that follow the laws exactly, and rows that are no galaxies' sizes."""
    sources = load_sources().of("held_out").first(NUM)
    magnitudes, z = sources.photometry.magnitudes, sources.redshift
    flux = 10 ** (-0.4 * (magnitudes - 22.5))
    coefficients = sed.fit(z, flux, flux * fit_sizes.FLUX_ERROR)
    absolute = 22.5 - 2.5 * np.log10(sed.fluxes(np.zeros(NUM), coefficients)) - distance_modulus(z)[:, None]
    kpc = 10 ** (quadratic_terms(absolute[:, 2] + 21.5, absolute[:, 1] - absolute[:, 2] - 0.65) @ PHYSICAL_LAW)
    radius = kpc / 1000 / angular_diameter_distance_mpc(z) * ARCSEC_PER_RADIAN
    color = magnitudes[:, 1] - magnitudes[:, 2] - 0.8
    ratio = 1 / (1 + np.exp(-(AXIS_RATIO_LOGIT_LAW[0] + AXIS_RATIO_LOGIT_LAW[1] * color)))
    names = ("redshift", "expRad_r", "deVRad_r", "expAB_r", *(f"mag_{band}" for band in "ugriz"))
    rows = np.column_stack([z, radius, radius * 10**0.25, ratio, magnitudes])
    bad = np.repeat(rows[:1], len(NO_GALAXY), axis=0)
    for row, (name, value) in zip(bad, NO_GALAXY, strict=True):
        row[names.index(name)] = value
    text = [",".join(names), *(",".join(map(repr, row.tolist())) for row in np.vstack([rows, bad]))]
    path.write_text("\n".join(text))


APPARENT = [0.2834, -0.1363, -0.3286, 0.0046, 0.0972, 0.3278]
"""What such sizes are like in apparent magnitude and colour."""

NO_GALAXY = (
    *(("mag_u", 10.0), ("mag_z", 24.0), ("expRad_r", 0.3), ("expRad_r", 30.0), ("deVRad_r", 0.3)),
    *(("deVRad_r", 29.0), ("expAB_r", 0.051), ("expAB_r", 0.999), ("redshift", 0.01)),
)
"""Measurements that are limits of the pipeline, or failed."""


def test_the_laws_of_size_and_axis_ratio_are_found_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path / "sizes.csv")

    fit_sizes.main(tmp_path / "sizes.csv")

    printed = capsys.readouterr().out
    found = laws(printed)
    assert found["log10 disc radius [arcsec] from r, g-r"] == pytest.approx(APPARENT, abs=1e-3)
    assert found["log10 disc radius [kpc] from M_r, rest g-r"] == pytest.approx(PHYSICAL_LAW, abs=1e-3)
    assert found["axis ratio logit from r, g-r"] == pytest.approx(AXIS_RATIO_LOGIT_LAW, abs=1e-3)
    assert "log10 bulge/disc radius: median 0.250 std 0.000" in printed
    assert printed.endswith(f"scatter 0.000 rows {NUM}\n")


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        *((f"mag_{band}", 10.1, 23.9) for band in "ugriz"),
        ("expRad_r", 0.31, 29.9),
        ("deVRad_r", 0.31, 28.9),
        ("expAB_r", 0.052, 0.998),
        ("redshift", 0.0101, 5.0),
    ],
)
def test_what_is_just_within_the_limits_is_measured(name: str, lowest: float, highest: float) -> None:
    galaxy = {**dict.fromkeys((f"mag_{band}" for band in "ugriz"), 17.0), "expRad_r": 2.0, "deVRad_r": 3.0}
    galaxy |= {"expAB_r": 0.7, "redshift": 0.1}
    rows = np.zeros(2, dtype=[(column, float) for column in galaxy])
    for column, value in galaxy.items():
        rows[column] = value
    rows[name] = lowest, highest

    assert fit_sizes.are_measured(rows).tolist() == [True, True]


def test_outliers_are_left_out_of_a_fit_once(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    terms = np.stack([np.ones(NUM), rng.normal(size=NUM)], axis=1)
    target = terms @ np.array([0.5, -2.0]) + 0.01 * rng.normal(size=NUM)
    target[:7] += 5.0
    # Those that are left out lie beyond four deviations, not beyond five.
    target[7:9] = terms[7:9] @ np.array([0.5, -2.0]) + [0.048, 0.036]

    fit_sizes.report("line", terms, target)

    printed = capsys.readouterr().out
    assert laws(printed)["line"] == pytest.approx([0.5, -2.0], abs=3e-3)
    assert printed.endswith(f"scatter 0.011 rows {NUM - 8}\n")


def test_the_robust_deviation_is_half_of_what_the_middle_two_thirds_span() -> None:
    assert fit_sizes.robust_std(np.arange(101.0)) == 34.0
