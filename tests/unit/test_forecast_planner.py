"""Which settings are tried, which are worth taking, and what terabytes would take on Lambda and on Fargate spot."""

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from inference.plan import MAX_CHILDREN
from scripts.forecasts import scale
from scripts.forecasts.constants import Constant, certain, read_constants
from scripts.forecasts.planner import (
    NUM_WORLDS,
    Wish,
    _front,
    _keeps,
    _settings,
    _thinned,
    _why_not,
    _worlds,
    describe,
    fits,
    plan,
)
from scripts.forecasts.system import Habits, Setting, default_habits
from scripts.pricing.prices import read_prices
from scripts.pricing.what_if import ARCHITECTURES, MEMORY_SIZES_MB
from tests.unit.test_forecast import make_setting

PRICES = read_prices().of("us-east-1")
HABITS = default_habits()


def made(time_s: float, usd: float, **setting: Any) -> Any:
    """Return a forecast whose intervals end at twice the median."""
    return SimpleNamespace(
        setting=make_setting(**setting),
        seconds={"end_to_end": (0, 0, time_s, 0, 2 * time_s)},
        usd=(0, 0, usd, 0, 2 * usd),
    )


def wish(**changes: Any) -> Wish:
    return Wish(**({"num_rows": 100_000, "max_concurrency": 500} | changes))


# -------------------------------------------------------------------------------------------- what is tried


def test_every_memory_from_a_gigabyte_processor_and_kind_of_child_is_tried() -> None:
    found = list(_settings(wish(world_size=50, engine="torch", precision="int8"), HABITS))

    sizes = [size for size in MEMORY_SIZES_MB if size >= 1024]
    assert {(one.memory_mb, one.architecture, one.child_type) for one in found} == {
        (size, architecture, kind)
        for size in sizes
        for architecture in ARCHITECTURES
        for kind in ("STANDARD", "EXPRESS")
    }
    assert len(found) == len(sizes) * 2 * 2
    assert {(one.num_rows, one.world_size, one.max_concurrency) for one in found} == {(100_000, 50, 500)}
    assert {(one.engine, one.precision, one.is_local) for one in found} == {("torch", "int8", False)}


def test_what_the_user_chose_is_not_tried_otherwise() -> None:
    asked = wish(world_size=50, memory_mb=512, architecture="arm64", child_type="EXPRESS", max_concurrency=20_000)

    (found,) = _settings(asked, HABITS)

    assert found == Setting(
        num_rows=100_000,
        world_size=50,
        memory_mb=512,
        architecture="arm64",
        child_type="EXPRESS",
        max_concurrency=MAX_CHILDREN,
    )


@pytest.mark.parametrize(
    ("rows", "concurrency", "least", "most"),
    [
        (640_000, 500, 1, 10_000),  # 64 galaxies a rank, and no more than a Map starts
        (6_400_000, 500, 5, 10_000),
        (64_000, 500, 1, 1_000),
        (64_000, 1_000, 1, 1_000),
        (64_000, 1_001, 1, 1_000),
        (63, 500, 1, 1),
    ],
)
def test_worlds_are_spread_evenly_in_their_logarithm_with_the_concurrency_among_them(
    rows: int, concurrency: int, least: int, most: int
) -> None:
    found = _worlds(wish(num_rows=rows, max_concurrency=concurrency), HABITS)

    assert (found[0], found[-1]) == (least, most)
    assert found == sorted(set(found))
    assert (concurrency in found) is (concurrency <= most)
    spread = [one for one in found if one != concurrency] if concurrency < most else found
    assert len(spread) == (NUM_WORLDS if most > 1 else 1)
    if spread[-2:][0] > 100:
        assert spread[-1] / spread[-2] == pytest.approx((most / least) ** (1 / (NUM_WORLDS - 1)), rel=0.01)


def test_the_least_world_computes_within_lambdas_end_on_five_processors() -> None:
    habits = Habits(constants={"row_s": Constant(0.01, 0.0, "a test")}, source="a test")

    assert _worlds(wish(num_rows=4_500_000), habits)[0] == 10
    assert _worlds(wish(num_rows=4_500_001), habits)[0] == 11
    assert _worlds(wish(num_rows=900_000, max_concurrency=2), habits)[0] == 2


@pytest.mark.parametrize(
    ("longest_s", "child", "is_fitting"),
    [(719.9, "STANDARD", True), (720.0, "STANDARD", False), (239.9, "EXPRESS", True), (240.0, "EXPRESS", False)],
)
def test_a_rank_ends_well_before_aws_ends_it(longest_s: float, child: Any, is_fitting: bool) -> None:
    found: Any = SimpleNamespace(
        setting=make_setting(world_size=4, child_type=child),
        outcome=SimpleNamespace(ranks_s=np.array([4 * longest_s, 4.0])),
    )

    assert fits(found) is is_fitting


# ------------------------------------------------------------------------------------------ what is worth taking


def test_the_front_is_what_no_other_setting_beats_in_both_the_fastest_first() -> None:
    fast, dear, cheap, slow, same = made(1, 9), made(2, 9), made(3, 4), made(4, 5), made(3, 4)

    assert [(one.seconds["end_to_end"][2], one.usd[2]) for one in _front([slow, dear, cheap, same, fast])] == [
        (1, 9),
        (3, 4),
    ]
    assert _front([made(1, 9), made(1, 8)])[0].usd[2] == 8


@pytest.mark.parametrize(
    ("num", "most", "kept"), [(3, 3, [0, 1, 2]), (2, 3, [0, 1]), (5, 3, [0, 2, 4]), (10, 4, [0, 3, 6, 9])]
)
def test_a_long_front_is_thinned_evenly_and_keeps_its_ends(num: int, most: int, kept: list[int]) -> None:
    front: list[Any] = list(range(num))

    assert _thinned(front, most) == kept


@pytest.mark.parametrize(
    ("asked", "is_kept"),
    [
        ({}, True),
        ({"deadline_s": 20.0}, True),
        ({"deadline_s": 19.9}, False),
        ({"budget_usd": 4.0}, True),
        ({"budget_usd": 3.9}, False),
        ({"deadline_s": 20.0, "budget_usd": 3.9}, False),
        ({"deadline_s": 19.9, "budget_usd": 4.0}, False),
    ],
    ids=str,
)
def test_a_promise_is_kept_by_the_upper_end_of_the_interval(asked: dict[str, float], is_kept: bool) -> None:
    assert _keeps(made(10, 2), wish(**asked)) is is_kept


@pytest.mark.parametrize(
    ("asked", "world_size", "binds"),
    [
        ({"deadline_s": 5.0}, 250, True),
        ({"deadline_s": 5.0}, 249, False),
        ({"deadline_s": 5.0, "max_concurrency": MAX_CHILDREN}, 10_000, False),
        ({"budget_usd": 1.0}, 250, False),
    ],
)
def test_what_cannot_be_kept_to_is_said_with_the_fastest_the_cheapest_and_what_binds(
    asked: dict[str, Any], world_size: int, binds: bool
) -> None:
    fastest, cheapest = made(10, 9, world_size=world_size), made(30, 2, world_size=5)

    said = _why_not(wish(**asked), [cheapest, fastest])

    fast, cheap = (describe(one.setting) for one in (fastest, cheapest))
    named = "DEADLINE=5" if "deadline_s" in asked else "BUDGET=1"
    assert said.startswith(
        f"{named} cannot be kept to in 95 of 100 runs. The fastest setting takes up to 20 s and 18.00 USD ({fast}), "
        f"the cheapest 60 s and 4.00 USD ({cheap})."
    )
    assert ("CONCURRENCY=500 binds: a higher quota is faster." in said) is binds


def test_a_setting_is_described_by_the_variables_that_make_it() -> None:
    found = describe(make_setting(num_rows=100_000, world_size=10, memory_mb=3008, architecture="arm64"))

    assert found == "WORLD=10 MEMORY=3008 arm64, STANDARD, 196 MB per rank"


def test_a_plan_without_limits_has_the_cheapest_and_the_fastest_of_its_front() -> None:
    found = plan(wish(num_rows=64_000, memory_mb=1769, architecture="x86_64"), PRICES, prices_of="mine", habits=HABITS)

    every = [*found.front, *found.others]
    assert found.cheapest.usd[2] == min(one.usd[2] for one in every)
    assert found.fastest.seconds["end_to_end"][2] == min(one.seconds["end_to_end"][2] for one in every)
    assert 2 <= len(every) <= 16
    assert len({id(one) for one in every}) == len(every)
    assert all(len(one.outcome.map_s) == min(120, 600_000 // one.setting.world_size + 20) for one in every)
    assert {one.bills[0].prices_of for one in every} == {"mine"}
    assert found.cheapest.source == HABITS.source


# --------------------------------------------------------------------------------------------------- terabytes


def sure(monkeypatch: pytest.MonkeyPatch, **cloud: float) -> dict[str, float]:
    """Let the constants be known exactly, some with another value; return them."""
    constants = read_constants()
    changed = {name: Constant(value, 0.0, "a test") for name, value in cloud.items()}
    known = msgspec.structs.replace(constants, cloud=certain(constants.cloud) | changed)
    habits = default_habits()
    monkeypatch.setattr(scale, "read_constants", lambda: known)
    monkeypatch.setattr(scale, "default_habits", lambda: Habits(constants=certain(habits.constants), source=""))
    return {name: one.value for name, one in {**known.cloud, **habits.constants}.items()}


@pytest.mark.parametrize(("share", "paid"), [(0.4, 0.4), (1.5, 1.0)])
def test_spot_tasks_are_launched_compute_are_lost_now_and_then_and_paid_from_their_start(
    share: float, paid: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = sure(monkeypatch, spot_price_share=share)
    standing = PRICES.standing
    assert standing is not None

    found = list(scale.on_fargate(PRICES, sizes_tb=[1.0, 10.0], num=3))

    assert [(one.size_tb, one.num_vcpus) for one in found] == [
        (size, num) for size in (1.0, 10.0) for num in (1_000, 5_000, 10_000)
    ]
    last = found[-1]
    launch_s = 10_000 / 4 / known["fargate_tasks_per_s"]
    work_s = scale.rows_of(10.0) * known["row_s"] * (1 + known["spot_lost_share"]) / 10_000
    whole_s = known["fargate_start_s"] + launch_s + work_s
    hour_usd = standing.fargate_vcpu_h["x86_64"] + 2 * standing.fargate_gb_h["x86_64"]
    assert last.seconds == pytest.approx((whole_s,) * 5)
    assert last.usd == pytest.approx((10_000 * (whole_s - launch_s / 2) / 3600 * hour_usd * paid,) * 5)
    assert (last.engine, last.num_rows, last.num_ranks, last.limit) == (
        "Fargate spot",
        scale.rows_of(10.0),
        2_500,
        "",
    )


def test_a_region_without_fargate_has_no_such_plan() -> None:
    with pytest.raises(ValueError, match="no prices of Fargate"):
        next(scale.on_fargate(msgspec.structs.replace(PRICES, standing=None)))


@pytest.mark.parametrize(
    ("rows", "num_ranks"),
    [
        (60_000_000, (1_200, 5_000, 10_000)),  # 50,000 galaxies a rank, and less where environments would idle
        (60_000_001, (1_201, 5_000, 10_000)),
        (6_000_000, (1_000, 3_000, 3_000)),  # 2,000 galaxies at least
        (1_000, (1, 1, 1)),
    ],
)
def test_lambda_gets_a_gigabyte_per_rank_or_less_where_environments_would_idle(
    rows: int, num_ranks: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Setting] = []

    def forecast(setting: Setting, prices: object, *, prices_of: str) -> Any:
        asked.append(setting)
        return SimpleNamespace(seconds={"end_to_end": (1, 2, 3, 4, 5)}, usd=(5, 6, 7, 8, 9), limit="work")

    monkeypatch.setattr(scale, "forecast", forecast)
    monkeypatch.setattr(scale, "rows_of", lambda size_tb: rows)

    found = list(scale.on_lambda(PRICES, sizes_tb=[1.0]))

    assert tuple(one.num_ranks for one in found) == tuple(one.world_size for one in asked) == num_ranks
    assert [one.max_concurrency for one in asked] == [one.num_vcpus for one in found] == [1_000, 5_000, 10_000]
    assert {one.num_rows for one in asked} == {one.num_rows for one in found} == {rows}
    assert {(one.engine, one.size_tb, one.seconds, one.usd, one.limit) for one in found} == {
        ("Lambda", 1.0, (1, 2, 3, 4, 5), (5, 6, 7, 8, 9), "work")
    }


def test_an_hour_of_a_processor_comes_with_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sure(monkeypatch, spot_price_share=0.25)
    standing = PRICES.standing
    assert standing is not None

    found = scale.vcpu_hour_usd(PRICES)

    on_demand = standing.fargate_vcpu_h["x86_64"] + 2 * standing.fargate_gb_h["x86_64"]
    assert found == pytest.approx(
        {
            "Lambda": 1769 / 1024 * 3600 * PRICES.lambda_gb_s["x86_64"],
            "Fargate": on_demand,
            "Fargate spot": on_demand / 4,
        }
    )
    assert scale.vcpu_hour_usd(PRICES, 1024)["Lambda"] == pytest.approx(3600 * PRICES.lambda_gb_s["x86_64"])


def plan_of(size_tb: float, num_vcpus: int, time_s: float, usd: float) -> scale.Plan:
    ends = np.array([0.5, 0.75, 1, 1.5, 2])
    return scale.Plan(
        engine="",
        size_tb=size_tb,
        num_rows=1,
        num_vcpus=num_vcpus,
        num_ranks=1,
        seconds=tuple(time_s * ends),
        usd=tuple(usd * ends),
        limit="",
    )


@pytest.mark.parametrize(("time_s", "usd", "is_cheaper"), [(15.0, 4.0, True), (15.1, 4.0, False), (15.0, 5.0, False)])
def test_spot_may_take_half_as_long_again_and_must_be_cheaper(time_s: float, usd: float, is_cheaper: bool) -> None:
    on_lambda = [plan_of(1.0, 1_000, 10.0, 5.0)]

    assert scale.cheaper_from_tb(on_lambda, [plan_of(1.0, 1_000, time_s, usd)]) == (1.0 if is_cheaper else None)
    assert scale.cheaper_from_tb(on_lambda, [plan_of(1.0, 5_000, time_s, usd)]) is None


def test_a_figure_gets_sizes_medians_and_ends() -> None:
    found = scale.as_arrays([plan_of(1.0, 1, 10.0, 4.0), plan_of(10.0, 1, 20.0, 8.0)], "usd")

    assert [values.tolist() for values in found] == [[1, 10], [2, 4], [4, 8], [8, 16]]
