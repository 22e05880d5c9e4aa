"""Which goals the weights miss, and by how much."""

import pytest
from msgspec.structs import replace

from inference.contract import PzAccuracy
from inference.models.card import Measured
from scripts.models.training.goals import GOALS, HELD_OUT, SAMPLE, STRIPE_82, missed

GOOD = Measured(rows=SAMPLE, num_rows=1_000, nmad=0.0128, r2=0.883, outlier_005=0.5)
PZ = PzAccuracy(
    num_galaxies=9, ks=0.03, cvm=0.1, ad=0.1, crps=0.1, cde_loss=0.1, coverage_68=0.1, coverage_95=0.1, pit_counts=(1,)
)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (GOOD, []),
        (replace(GOOD, nmad=0.012801), [f"{SAMPLE}: NMAD 0.0128, the goal is 0.0128"]),
        (replace(GOOD, r2=0.87), [f"{SAMPLE}: R² 0.8700, the goal is 0.883"]),
        (replace(GOOD, r2=None), []),
        (replace(GOOD, rows="others", nmad=1.0, r2=0.0), []),
        (
            replace(GOOD, rows=f"{STRIPE_82}, {HELD_OUT}", nmad=0.0195, outlier_005=0.086),
            [f"{STRIPE_82}, {HELD_OUT}: share of outliers 0.0860, the goal is 0.085"],
        ),
        (replace(GOOD, rows="others", pz=PZ), []),
        (replace(GOOD, rows="others", pz=replace(PZ, ks=0.0312)), ["others: KS of the PIT 0.031, the goal is 0.03"]),
    ],
)
def test_a_number_on_the_wrong_side_of_its_goal_is_told(number: Measured, said: list[str]) -> None:
    assert list(missed([number], {})) == said


@pytest.mark.parametrize(("rows", "name", "limit"), GOALS)
def test_every_goal_is_one_of_the_rows_it_names(rows: str, name: str, limit: float) -> None:
    step = -0.001 if name == "r2" else 0.001
    perfect = {"nmad": 0.0, "r2": 1.0, "outlier_005": 0.0}

    for value, num_missed in ((limit, 0), (limit + step, 1), (limit - step, 0)):
        number = Measured(rows=rows, num_rows=9, **{**perfect, name: value})  # type: ignore[arg-type]
        assert len(list(missed([number], {}))) == num_missed


@pytest.mark.parametrize(
    ("coverage", "said"),
    [
        ((100_000, 0.68, 0.95, 0.9), []),
        ((100_000, 0.7099, 0.921, 0.9), []),
        (
            (100_000, 0.7101, 0.9199, 0.9),
            [
                "a: 71.0 ± 0.1 % inside the interval of 68 %, the goal is within 3",
                "a: 92.0 ± 0.1 % inside the interval of 95 %, the goal is within 3",
            ],
        ),
        ((100_000, 0.6499, 0.95, 0.9), ["a: 65.0 ± 0.1 % inside the interval of 68 %, the goal is within 3"]),
        # Of few galaxies chance alone makes as much: 4.66 and 2.18 %, twice of which are let pass.
        ((100, 0.772, 0.907, 0.9), []),
        ((100, 0.774, 0.95, 0.9), ["a: 77.4 ± 4.7 % inside the interval of 68 %, the goal is within 3"]),
        ((100, 0.68, 0.906, 0.9), ["a: 90.6 ± 2.2 % inside the interval of 95 %, the goal is within 3"]),
    ],
)
def test_a_share_inside_an_interval_may_be_off_by_little_or_by_chance(
    coverage: tuple[int, float, float, float], said: list[str]
) -> None:
    assert list(missed([], {"a": coverage})) == said
