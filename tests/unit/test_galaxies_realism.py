"""Synthetic galaxies resemble the real ones they are made from; `scripts.benchmarks.realism` shows how closely."""

from typing import Any

import numpy as np
import pytest

from scripts.benchmarks.realism import measure
from scripts.simulation.structure import LOG_RADIUS_SCATTER


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
