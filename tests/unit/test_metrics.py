"""The accuracy of a hand-computed case, and sums that merge in any split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import metrics

Z_SPEC = np.array([0.0, 1.0, 0.25, 0.0, 1.0])
DZ = np.array([0.01, -0.02, 0.08, 0.20, 0.03])
Z_PHOT = Z_SPEC + DZ * (1 + Z_SPEC)


def test_a_case_computed_by_hand() -> None:
    accuracy = metrics.redshift_accuracy(Z_PHOT, Z_SPEC)

    assert accuracy is not None
    assert accuracy.num_labelled == 5
    assert accuracy.bias == pytest.approx(0.30 / 5)
    assert accuracy.bias_median == pytest.approx(0.03)
    # Sorted dz: -.02 .01 .03 .08 .20; median .03; distances .05 .02 0 .05 .17; their median .05.
    assert accuracy.nmad == pytest.approx(1.48 * 0.05)
    assert accuracy.sigma_mad == pytest.approx(1.4826 * 0.05)
    # Quartiles of five sorted values are the second and the fourth.
    assert accuracy.sigma_iqr == pytest.approx((0.08 - 0.01) / 1.349)
    assert accuracy.outlier_005 == pytest.approx(2 / 5)
    assert accuracy.outlier_015 == pytest.approx(1 / 5)
    # Errors: .01 -.04 .10 .20 .06.
    assert accuracy.mae == pytest.approx(0.41 / 5)
    assert accuracy.mse == pytest.approx((0.0001 + 0.0016 + 0.01 + 0.04 + 0.0036) / 5)
    # z_spec has mean .45 and variance .2025 + 2·.3025 + .04 + .2025 over 5.
    assert accuracy.std_z_spec == pytest.approx(np.sqrt(1.05 / 5))
    assert accuracy.r2 == pytest.approx(1 - 0.0553 / 1.05)


def test_single_metrics_agree_with_the_sums() -> None:
    accuracy = metrics.redshift_accuracy(Z_PHOT, Z_SPEC)

    assert accuracy is not None
    assert metrics.bias(DZ) == pytest.approx(accuracy.bias)
    assert metrics.outlier_fraction(DZ, 0.05) == accuracy.outlier_005
    assert metrics.outlier_fraction(DZ, 0.15) == accuracy.outlier_015


@pytest.mark.parametrize(("z_phot", "z_spec"), [(9.0, np.nan), (np.nan, 0.1)], ids=["no label", "refused"])
def test_galaxies_without_a_label_or_a_prediction_count_nowhere(z_phot: float, z_spec: float) -> None:
    with_gap = metrics.redshift_accuracy(np.append(Z_PHOT, z_phot), np.append(Z_SPEC, z_spec))

    assert with_gap == metrics.redshift_accuracy(Z_PHOT, Z_SPEC)


def test_coverage_counts_redshifts_inside_their_interval() -> None:
    # Errors are .01 -.04 .10 .20 .06; the last galaxy has no sigma.
    sigma = np.array([0.02, 0.03, 0.06, 0.05, np.nan])

    accuracy = metrics.redshift_accuracy(Z_PHOT, Z_SPEC, sigma, ratio_95=2.0)

    assert accuracy is not None
    assert accuracy.coverage_68 == 1 / 4
    assert accuracy.coverage_95 == 3 / 4


def test_an_outlier_is_further_off_than_its_limit_and_an_interval_holds_its_ends() -> None:
    z_phot = np.array([0.05, -0.05, 0.0501, -0.0501, 0.15, 0.1501])

    sums = metrics.accuracy_sums(z_phot, np.zeros(6), np.full(6, 0.0501), ratio_95=2.0)

    assert (sums.num_outliers_005, sums.num_outliers_015) == (4, 1)
    assert (metrics.outlier_fraction(z_phot, 0.05), metrics.outlier_fraction(z_phot, 0.15)) == (4 / 6, 1 / 6)
    assert (sums.num_with_sigma, sums.num_within_68, sums.num_within_95) == (6, 4, 4)
    ends = metrics.accuracy_sums(np.array([0.04, 0.0401]), np.zeros(2), np.full(2, 0.02), ratio_95=2.0)
    assert ends.num_within_95 == 1


def test_without_sigma_there_is_no_coverage() -> None:
    accuracy = metrics.redshift_accuracy(Z_PHOT, Z_SPEC)

    assert accuracy is not None
    assert (accuracy.coverage_68, accuracy.coverage_95) == (None, None)


def test_a_95_percent_interval_that_is_not_known_holds_no_share_not_none_of_the_galaxies() -> None:
    sigma = np.full(len(Z_SPEC), 0.02)
    parts = [metrics.accuracy_sums(Z_PHOT, Z_SPEC, sigma) for _ in range(2)]

    total = metrics.add_sums(parts)

    assert total.num_within_95 is None
    assert total.num_with_sigma > 0
    accuracy = metrics.redshift_accuracy(Z_PHOT, Z_SPEC, sigma)
    assert accuracy.coverage_68 is not None
    assert accuracy.coverage_95 is None


def test_no_labels_give_no_accuracy() -> None:
    assert metrics.redshift_accuracy(np.ones(2), np.full(2, np.nan)) is None


def test_r2_of_one_redshift_is_undefined() -> None:
    accuracy = metrics.redshift_accuracy(np.array([0.1, 0.2]), np.array([0.1, 0.1]))

    assert accuracy is not None
    assert accuracy.r2 is None


@given(cuts=st.lists(st.integers(0, 200), max_size=6), seed=st.integers(0, 5))
def test_merged_sums_equal_the_sums_of_the_whole(cuts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    z_spec = rng.uniform(0, 1, 200)
    z_phot = z_spec + rng.normal(0, 0.02, 200)

    parts = [
        metrics.accuracy_sums(p, s, ratio_95=2.0)
        for p, s in zip(np.split(z_phot, sorted(cuts)), np.split(z_spec, sorted(cuts)), strict=True)
    ]
    merged = metrics.add_sums(parts)

    whole = metrics.accuracy_sums(z_phot, z_spec, ratio_95=2.0)
    for name in whole.__struct_fields__:
        assert getattr(merged, name) == pytest.approx(getattr(whole, name), rel=1e-12)
    assert metrics.add_sums(reversed(parts)) == merged
