"""When a reduced precision counts as equivalent to fp32, and which difference refuses it."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from inference.engines.exported import Difference
from scripts.models.export.equivalence import measure_difference, why_not_equivalent
from scripts.models.export.judge import judge
from tests.factories import FakeEngine, make_arrays

NUM_ROWS = 4_000
SAME = Difference(
    num_rows=9, rms=0, mean=0, p999=0, largest=0, nmad=(0, 0), bias=(0, 0), outlier_005=(0, 0), coverage=0
)


def difference(change: Callable[[np.ndarray], np.ndarray]) -> Difference:
    """Of redshifts with an error of 0.01, and a few outliers, after a change in units of sigma."""
    rng = np.random.default_rng(0)
    z_spec = rng.uniform(0.02, 0.3, NUM_ROWS)
    full = z_spec + rng.standard_t(3, NUM_ROWS) * 0.01
    sigma = np.full(NUM_ROWS, 0.012)
    return measure_difference(full, full + change(rng.normal(size=NUM_ROWS)) * sigma, sigma, z_spec)


def test_noise_of_a_hundredth_of_sigma_is_equivalent() -> None:
    found = difference(lambda noise: 0.01 * noise)

    assert found.rms == pytest.approx(0.01, rel=0.05)
    assert found.nmad[0] < 0 < found.nmad[1]
    assert why_not_equivalent({"real": found}) == ""


def test_differences_are_counted_in_sigma() -> None:
    """Two galaxies of eight move by half a sigma, out of the interval of one sigma."""
    errors = np.tile([-0.8, -0.6, -0.4, -0.2, 0.2, 0.4, 0.6, 0.8], 50)
    moves = np.tile([0, 0, 0, 0, 0, 0, 0.5, 0.5], 50)
    sigma, z_spec = np.full(400, 0.01), np.zeros(400)

    found = measure_difference(0.01 * errors, 0.01 * (errors + moves), sigma, z_spec)

    assert (found.num_rows, found.coverage) == (400, -0.25)
    figures = (found.mean, found.rms, found.p999, found.largest)
    assert figures == pytest.approx((0.125, (0.25 / 4) ** 0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda noise: 0.05 * noise, "rms +0.04"),
        (lambda noise: np.full_like(noise, 0.015), "mean +0.0150 on real galaxies, more than 0.01"),
        (lambda noise: np.full_like(noise, 0.015), "bias by +0.01"),
        (lambda noise: np.where(np.arange(NUM_ROWS) < 8, 0.2, 0.0), "p999 +0.2"),
        (lambda noise: np.where(np.arange(NUM_ROWS) == 8, 0.6, 0.0), "largest +0.6"),
        (lambda noise: 0.5 * noise, "nmad by +0."),
    ],
    ids=["noise", "shift", "shift of the bias", "tail", "one galaxy", "wider"],
)
def test_what_is_larger_is_refused_and_named(change: Callable[[np.ndarray], np.ndarray], why: str) -> None:
    assert why in why_not_equivalent({"real": difference(change)})


@pytest.mark.parametrize(
    "changes",
    [
        {"outlier_005": (0.0, 0.0011)},
        {"outlier_005": (-0.0011, 0.0)},
        {"coverage": -0.004},
        {"nmad": (float("nan"), 0.0)},
        {"rms": float("nan")},
    ],
)
def test_every_figure_counts_on_all_galaxies_and_one_that_is_no_number_is_too_large(changes: dict[str, object]) -> None:
    assert why_not_equivalent({"real": SAME, "simulated": SAME}) == ""

    found = why_not_equivalent({"real": SAME, "simulated": msgspec.structs.replace(SAME, **changes)})

    assert next(iter(changes)) in found
    assert "on simulated galaxies" in found


def test_engines_are_judged_on_all_blocks() -> None:
    class Coarse(FakeEngine):
        name = "coarse 1"

        def predict(self, images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
            return super().predict(images, magnitudes) + np.float32(0.001)

    blocks = [make_arrays(5, seed=seed) for seed in range(3)]

    full, judged = judge(FakeEngine(), {"int8": Coarse()}, blocks, lambda _light, z: 0.01 * np.ones_like(z), 2)

    accuracy, found = judged["int8"]
    assert (full.engine, accuracy.engine, found.num_rows) == ("fake", "coarse", 15)
    assert found.mean == pytest.approx(0.1, rel=1e-3)
