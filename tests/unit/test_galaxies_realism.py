"""Synthetic galaxies resemble the real ones they are made from; `scripts.benchmarks.realism` shows how closely."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scripts.benchmarks import realism
from scripts.benchmarks.realism import measure
from scripts.simulation.photometry import Photometry
from scripts.simulation.structure import LOG_RADIUS_SCATTER, physical_structure


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return measure(3_000)


def test_redshifts_are_those_of_a_magnitude_limited_sample_with_red_galaxies(found: dict[str, Any]) -> None:
    # Percentiles of a prototype with the same selection and another code; sampling error is below 5 %.
    expected = [0.026, 0.069, 0.125, 0.259, 0.498]

    assert found["redshift percentiles"]["synthetic"] == pytest.approx(expected, rel=0.15)


def test_colours_at_a_redshift_are_those_of_real_galaxies(found: dict[str, Any]) -> None:
    offsets = np.array(list(found["colour offsets [mag]"].values()))

    assert np.abs(offsets[:, 1:]).max() < 0.05
    # The templates are too blue in u at the far end.
    assert np.abs(offsets[:, 0]).max() < 0.2


def test_sizes_follow_the_law_fitted_to_real_ones(found: dict[str, Any]) -> None:
    sizes = found["log10 radius about the law"]

    assert sizes["median"] == pytest.approx(0, abs=0.02)
    assert sizes["scatter"] == pytest.approx(LOG_RADIUS_SCATTER, abs=0.02)


def test_the_comparison_is_as_before(found: dict[str, Any]) -> None:
    assert found["redshift percentiles"] == {
        "real": pytest.approx([0.021, 0.055, 0.1, 0.164, 0.293], abs=2e-3),
        "synthetic": pytest.approx([0.028, 0.076, 0.13, 0.257, 0.449], abs=2e-3),
    }
    assert found["colour offsets [mag]"] == {
        "0.04-0.08": pytest.approx([-0.037, -0.009, -0.009, -0.001], abs=2e-3),
        "0.08-0.12": pytest.approx([-0.067, -0.008, -0.001, -0.007], abs=2e-3),
        "0.12-0.18": pytest.approx([-0.087, -0.003, 0.004, -0.004], abs=2e-3),
        "0.18-0.25": pytest.approx([-0.125, -0.025, 0.001, -0.006], abs=2e-3),
    }
    assert found["log10 radius about the law"] == pytest.approx({"median": -0.00327, "scatter": 0.18252}, abs=1e-4)
    percentiles, offsets = found["redshift percentiles"].values(), found["colour offsets [mag]"].values()
    assert all(value == round(value, 3) for values in (*percentiles, *offsets) for value in values)


def test_colours_are_compared_within_a_bin_of_redshift_and_to_the_limit_of_the_survey(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def photometry(*magnitudes: list[float]) -> Photometry:
        flux = 10 ** (0.4 * (22.5 - np.array(magnitudes)))
        return Photometry(np.arange(len(flux)), flux, flux, flux, np.zeros_like(flux))

    # Beyond the limit in r, though not in i; at the ends of the bin; and within, though not in i.
    faint, odd, within = [25.0, 18.0, 17.8, 17.5, 17.4], [26.0, 17.0, 16.0, 15.0, 14.0], [20.0, 18.2, 17.7, 17.78, 17.5]
    typical = [19.0, 18.0, 17.0, 16.9, 16.8]
    redshifts = np.array([0.05, 0.04, 0.08, 0.06])
    real: Any = SimpleNamespace(photometry=photometry(faint, odd, odd, typical), redshift=redshifts)
    made: Any = SimpleNamespace(photometry=photometry(faint, odd, odd, within), redshift=redshifts)
    monkeypatch.setattr(realism, "REDSHIFT_BINS", ((0.04, 0.08),))

    assert realism.color_offsets(real, made) == {"0.04-0.08": pytest.approx([0.8, -0.5, -0.18, 0.18])}


def test_sizes_are_compared_with_the_law_also_beyond_the_galaxies_it_was_fitted_to() -> None:
    # Fainter and redder, brighter and bluer than any of them, and one of them.
    absolute_r, color, redshift = np.array([-15.0, -25.0, -21.0]), np.array([1.2, -0.2, 0.7]), np.full(3, 0.1)
    flux = np.ones((3, 5))
    measured = Photometry(np.arange(3), flux, flux, flux, 0 * flux)
    shape = physical_structure(measured, absolute_r, color, redshift, np.zeros((3, 5)))
    galaxies: Any = SimpleNamespace(absolute_r=absolute_r, rest_g_minus_r=color, redshift=redshift)

    assert realism.size_residual(galaxies, shape.disc_radius_arcsec) == pytest.approx((0, 0), abs=1e-9)


def test_the_comparison_is_printed_as_two_tables_and_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [0.02, 0.05, 0.1, 0.16, 0.29]
    measured = {
        "redshift percentiles": {"real": values, "synthetic": values[::-1]},
        "colour offsets [mag]": {"0.04-0.08": [-0.037, 0.009, 0.0, 0.1]},
        "log10 radius about the law": {"median": -0.003, "scatter": 0.18},
    }
    monkeypatch.setattr(realism, "measure", lambda: measured)

    realism.main()

    printed = capsys.readouterr().out
    titles = [line for line in printed.splitlines() if line.startswith(("Redshift percentiles", "Median colour"))]
    assert len(titles) == 2  # at the left
    assert " ".join(printed.split()) == (
        "Redshift percentiles galaxies 1 % 16 % 50 % 84 % 99 % "
        "real 0.020 0.050 0.100 0.160 0.290 "
        "synthetic 0.290 0.160 0.100 0.050 0.020 "
        "Median colour, synthetic minus real, r < 17.77 [mag] redshift u-g g-r r-i i-z "
        "0.04-0.08 -0.037 +0.009 +0.000 +0.100 "
        "log10 radius about the law: -0.003 ± 0.180"
    )
