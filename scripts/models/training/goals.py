"""What the weights of the sample should reach on galaxies that no training saw, and which of it they miss."""

from collections.abc import Iterator, Mapping, Sequence

from inference.models.card import Measured

SAMPLE, STRIPE_82, WITH_SIZES = "real, test set", "Stripe 82 spectroscopic", "Main-sample galaxies with sizes"
HELD_OUT = "patches of sky that no training saw"
GOALS = (
    (SAMPLE, "nmad", 0.0128),
    (SAMPLE, "r2", 0.883),
    (f"{STRIPE_82}, {HELD_OUT}", "nmad", 0.0195),
    (f"{STRIPE_82}, {HELD_OUT}", "outlier_005", 0.085),
    (f"{STRIPE_82}, {HELD_OUT}, r < 17.8", "nmad", 0.0148),
    (f"{WITH_SIZES}, {HELD_OUT}", "nmad", 0.0138),
    (f"{WITH_SIZES}, {HELD_OUT}", "r2", 0.83),
)
"""Rows, the metric, and what it should not be above; R² not below."""
NAMES = {"nmad": "NMAD", "r2": "R²", "outlier_005": "share of outliers"}
MAX_KS = 0.03
COVERAGE = (0.68, 0.95)
COVERAGE_ERROR = 0.03
CERTAIN = 2.0
"""Standard errors of a share that count as more than chance."""


def missed(numbers: Sequence[Measured], coverage: Mapping[str, tuple[int, float, float, float]]) -> Iterator[str]:
    """Yield the goals that are missed.

    Parameters
    ----------
    numbers : sequence of Measured
        Of the model itself.
    coverage : mapping
        Name of rows to their number and the shares inside the 68 and 95 % intervals, and more.
    """
    for one in numbers:
        for rows, name, limit in GOALS:
            value = getattr(one, name)
            if rows == one.rows and value is not None and ((value < limit) if name == "r2" else (value > limit)):
                yield f"{rows}: {NAMES[name]} {value:.4f}, the goal is {limit:g}"
        if one.pz and one.pz.ks > MAX_KS:
            yield f"{one.rows}: KS of the PIT {one.pz.ks:.3f}, the goal is {MAX_KS:g}"
    for rows, (count, *shares) in coverage.items():
        for share, held in zip(COVERAGE, shares, strict=False):
            error = (share * (1 - share) / count) ** 0.5
            if abs(held - share) > max(COVERAGE_ERROR, CERTAIN * error):
                yield (
                    f"{rows}: {100 * held:.1f} ± {100 * error:.1f} % inside the interval of {100 * share:.0f} %, "
                    f"the goal is within {100 * COVERAGE_ERROR:.0f}"
                )
