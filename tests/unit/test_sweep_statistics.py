"""What follows from the rows of a sweep: medians, speedup, the Pareto front, and which setting to take."""

import io
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

from inference.intervals import bootstrap
from scripts.sweeps.advice import recommend
from scripts.sweeps.analyse import analyse, statistic
from scripts.sweeps.journal import Entry, Journal
from scripts.sweeps.plan import SweepPlan
from scripts.sweeps.present import print_plan, print_statistics
from scripts.sweeps.rows import RunRow
from scripts.sweeps.statistics import SettingStatistics, Statistic, SweepStatistics
from tests.factories import make_run_row

PLAN = SweepPlan(world=(1, 2, 4), repeat=3, target="local")
TIMES_S = {1: (40.0, 41.0, 44.0), 2: (20.0, 22.0, 21.0), 4: (16.0, 14.0, 30.0)}
PRICES_USD = {1: 0.0010, 2: 0.0011, 4: 0.0019}


def rows(**changes: Any) -> list[RunRow]:
    return [
        make_run_row(
            setting=f"WORLD={world}",
            world_size=world,
            repeat=repeat,
            position=3 * repeat + world,
            end_to_end_s=seconds,
            map_s=seconds - 2.0,
            end_to_end_per_s=1000 / seconds,
            list_price_usd=PRICES_USD[world],
            **changes,
        )
        for world, times in TIMES_S.items()
        for repeat, seconds in enumerate(times)
    ]


def changed(row: RunRow, **changes: Any) -> RunRow:
    return msgspec.structs.replace(row, **changes)


def found(made: list[RunRow], plan: SweepPlan = PLAN) -> SweepStatistics:
    settings = {plan.label(setting): setting for setting in plan.settings}
    entries = tuple(
        Entry(planned=settings[row.setting], repeat=row.repeat, elapsed_s=1.0, run=row, ranks=()) for row in made
    )
    return analyse(Journal(Path("sweeps/tiny"), plan, entries), prices="list prices")


def printed(statistics: SweepStatistics, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_statistics(console, statistics, "sweeps/tiny")
    return console.file.getvalue()


# ----------------------------------------------------------------------------------------------- numbers


def test_a_median_has_the_smallest_and_largest_of_three_repeats_beside_it() -> None:
    by_setting = {one.setting: one.end_to_end_s for one in found(rows()).settings}

    assert (by_setting["WORLD=4"].median, by_setting["WORLD=4"].low, by_setting["WORLD=4"].high) == (16.0, 14.0, 30.0)
    assert found(rows()).interval == "smallest and largest of 3 repeats"


@pytest.mark.parametrize(
    ("repeat", "said"),
    [
        (1, "none: one run per setting"),
        (4, "smallest and largest of 4 repeats"),
        (5, "95 % bootstrap interval of the median over 5 repeats; smallest and largest where fewer than 5 have ended"),
    ],
)
def test_the_interval_is_called_what_it_is(repeat: int, said: str) -> None:
    assert found(rows(), msgspec.structs.replace(PLAN, repeat=repeat)).interval == said


def test_an_interval_of_few_runs_is_their_smallest_and_largest_however_many_were_planned() -> None:
    ends = [(one.low, one.high) for one in (statistic([4.0, 1.0, 2.0, 9.0]), statistic([4.0, 1.0, 2.0, 9.0, 50.0]))]

    assert ends[0] == (1.0, 9.0)
    assert ends[1] == tuple(bootstrap([4.0, 1.0, 2.0, 9.0, 50.0], lambda sets: np.median(sets, axis=-1)))


def test_many_repeats_have_a_bootstrap_interval_inside_their_extremes() -> None:
    values = [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 90.0]

    one, again = statistic(values), statistic(values)

    assert one == again
    assert 10.0 < one.low < one.median == 14.5 < one.high < 90.0


def test_speedup_is_to_the_smallest_world_size_and_efficiency_shares_it_out() -> None:
    four = found(rows()).settings[2]

    assert four.reference == "WORLD=1"
    assert four.speedup == pytest.approx(41.0 / 16.0)
    assert four.parallel_efficiency == pytest.approx(41.0 / 16.0 / 4)
    assert four.speedup_map == pytest.approx(39.0 / 14.0)


def test_the_smallest_world_size_is_its_own_reference() -> None:
    one, _, four = found(rows()).settings

    assert (one.reference, one.speedup, one.parallel_efficiency_map) == ("WORLD=1", 1.0, 1.0)
    assert four.parallel_efficiency_map == pytest.approx(39.0 / 14.0 / 4)


def test_a_setting_whose_only_rivals_failed_has_no_speedup() -> None:
    made = [row if row.world_size == 2 else changed(row, state="failed") for row in rows()]

    assert [(one.setting, one.reference, one.speedup) for one in found(made).settings] == [
        ("WORLD=1", None, None),
        ("WORLD=2", None, None),
        ("WORLD=4", None, None),
    ]


def test_what_a_setting_counts_is_summed_over_its_runs_and_the_last_failure_is_told() -> None:
    plan = SweepPlan(world=(2, 4), repeat=5, target="aws")
    rest = {"num_cold_starts": 1, "num_records": 2}
    made = [
        make_run_row(setting="WORLD=2", repeat=0, state="failed", error="PlanError", message="first", batch_size=99),
        make_run_row(setting="WORLD=2", repeat=1, num_samples=900, **rest),
        make_run_row(setting="WORLD=2", repeat=2, num_samples=1001, map_s=None, **rest),
        make_run_row(setting="WORLD=2", repeat=3, num_samples=1000, state="incomplete", **rest),
        make_run_row(setting="WORLD=2", repeat=4, state="failed", error="PlanError", message="last", position=9),
    ]

    statistics = found(made, plan)
    (one,) = statistics.settings

    assert (one.num_runs, one.num_failed, one.num_cold_starts, one.num_ranks) == (3, 2, 3, 6)
    assert (one.num_samples, one.error, one.values["batch_size"]) == (1000, "PlanError: last", 32)
    assert (one.map_s, one.end_to_end_s) == (None, Statistic(median=10.0, low=10.0, high=10.0))
    assert (statistics.sweep, statistics.target, statistics.varied) == ("tiny", "aws", ("world_size",))
    assert (statistics.num_runs, statistics.num_planned, statistics.num_failed) == (5, 10, 2)
    assert found(made, msgspec.structs.replace(plan, target=None)).target == "local"


def test_speedup_compares_equal_settings_only() -> None:
    plan = SweepPlan(batch=(8, 32), repeat=1, target="local")
    made = [make_run_row(setting=f"BATCH={batch}", batch_size=batch) for batch in (8, 32)]

    assert [one.speedup for one in found(made, plan).settings] == [None, None]


def test_performance_efficiency_is_gigabytes_per_second_per_dollar() -> None:
    one = found(rows()).settings[0]

    assert one.performance_efficiency == pytest.approx(1000 / 41.0 * 20_520 / 1e9 / 0.0010)


def test_the_front_holds_what_nothing_beats_in_time_and_price() -> None:
    made = [*rows(), *(make_run_row(setting="WORLD=8", world_size=8, repeat=n, end_to_end_s=25.0) for n in range(3))]
    dear = [row if row.world_size != 8 else changed(row, list_price_usd=0.01) for row in made]
    plan = SweepPlan(world=(1, 2, 4, 8), repeat=3, target="local")

    assert [one.is_pareto for one in found(dear, plan).settings] == [True, True, True, False]


def test_a_failed_run_is_in_no_median() -> None:
    made = rows()
    made[0] = make_run_row(
        setting="WORLD=1", repeat=0, state="failed", error="PlanError", message="why", end_to_end_s=None, map_s=None
    )

    statistics = found(made)

    assert (statistics.settings[0].num_runs, statistics.settings[0].num_failed) == (2, 1)
    assert statistics.settings[0].end_to_end_s.low == 41.0
    assert statistics.settings[0].error == "PlanError: why"
    assert any("1 of 9 runs failed" in warning for warning in statistics.warnings)


def test_a_sweep_whose_every_run_failed_has_no_recommendation() -> None:
    made = [make_run_row(setting="WORLD=1", state="failed", error="PlanError", end_to_end_s=None)]

    statistics = found(made)

    assert statistics.recommendations == ()
    assert "PlanError" in printed(statistics, 80)


# ----------------------------------------------------------------------------------------- recommendations


def test_the_three_goals_have_their_settings_and_their_reasons() -> None:
    goals = {one.goal: one for one in found(rows()).recommendations}

    assert {goal: one.setting for goal, one in goals.items()} == {
        "fastest": "WORLD=4",
        "cheapest": "WORLD=1",
        "balanced": "WORLD=2",
    }
    assert [goals[goal].why for goal in ("fastest", "cheapest", "balanced")] == [
        "16.00 s end to end, 0.001900 USD at list price: 2.56 times as fast as the slowest, WORLD=1; not "
        "distinguishable from WORLD=2, whose intervals overlap.",
        "41.00 s end to end, 0.001000 USD at list price: 47% cheaper than the fastest and 156% slower.",
        "21.00 s end to end, 0.001100 USD at list price: the smallest product of time and price, 31% slower than the "
        "fastest and 10% dearer than the cheapest.",
    ]


def test_a_setting_that_is_best_at_two_goals_says_so() -> None:
    plan = SweepPlan(world=(1, 2), repeat=1, target="local")
    worse = make_run_row(setting="WORLD=1", end_to_end_s=30.0, list_price_usd=0.002)
    better = make_run_row(setting="WORLD=2", world_size=2, end_to_end_s=20.0, list_price_usd=0.001)

    goals = {one.goal: one for one in found([worse, better], plan).recommendations}

    assert {one.setting for one in goals.values()} == {"WORLD=2"}
    assert goals["cheapest"].why.endswith(": the fastest, too.")
    assert goals["balanced"].why.endswith("is the fastest one's.")


@pytest.mark.parametrize(
    ("points", "on_front"),
    [
        ([(20.0, 0.001), (20.0, 0.002)], [True, False]),
        ([(20.0, 0.001), (21.0, 0.001)], [True, False]),
        ([(20.0, 0.001), (20.0, 0.001)], [True, True]),
        ([(20.0, 0.001), (20.0, None)], [True, False]),
    ],
)
def test_a_setting_is_beaten_by_one_as_fast_and_cheaper_or_as_cheap_and_faster(
    points: list[tuple[float, float | None]], on_front: list[bool]
) -> None:
    plan = SweepPlan(batch=(8, 32), repeat=1, target="local")
    made = [
        make_run_row(setting=f"BATCH={batch}", batch_size=batch, end_to_end_s=time_s, list_price_usd=usd)
        for batch, (time_s, usd) in zip((8, 32), points, strict=True)
    ]

    assert [one.is_pareto for one in found(made, plan).settings] == on_front


def setting_of(name: str, low_s: float, high_s: float, usd: float = 0.001, num_samples: int = 1000) -> Any:
    time = Statistic(median=(low_s + high_s) / 2, low=low_s, high=high_s)
    price = Statistic(median=usd, low=usd, high=usd)
    counts = {"num_samples": num_samples, "num_runs": 3, "num_failed": 0, "num_cold_starts": 0, "num_ranks": 1}
    return SettingStatistics(setting=name, values={}, end_to_end_s=time, list_price_usd=price, **counts)


@pytest.mark.parametrize(
    ("lows_s", "said"),
    [
        ([12.1], ""),
        ([12.0], "; not distinguishable from 12.0, whose intervals overlap"),
        ([11.0, 11.5], "; not distinguishable from 11.0, 11.5, whose intervals overlap"),
        ([11.0, 11.5, 11.7, 13.0], "; not distinguishable from 11.0, 11.5 and 1 more, whose intervals overlap"),
    ],
)
def test_settings_whose_interval_reaches_the_best_ones_are_named(lows_s: list[float], said: str) -> None:
    settings = [setting_of("best", 8.0, 12.0), *(setting_of(f"{low_s}", low_s, 30.0) for low_s in lows_s)]
    other = setting_of("another amount of data", 8.0, 50.0, num_samples=1001)

    fastest = recommend([*settings, other], repeat=3)[0]

    assert fastest.setting == "best"
    assert fastest.why.endswith(f"as the slowest, another amount of data{said}.")
    assert "not distinguishable" not in recommend(settings, repeat=1)[0].why


def test_equally_cheap_settings_are_named_too() -> None:
    cheapest = recommend(
        [setting_of("a", 1.0, 2.0), setting_of("b", 5.0, 6.0), setting_of("c", 7.0, 8.0, 0.002)], repeat=3
    )[1]

    assert cheapest.why.endswith(": the fastest, too; not distinguishable from b, whose intervals overlap.")


def test_the_balanced_setting_may_be_the_cheapest_one() -> None:
    balanced = recommend([setting_of("fast", 10.0, 10.0, 0.004), setting_of("cheap", 20.0, 20.0, 0.001)], repeat=3)[2]

    assert balanced.setting == "cheap"
    assert balanced.why.endswith(": the smallest product of time and price is the cheapest one's.")


@pytest.mark.parametrize("lacks", [{"end_to_end_s": None}, {"list_price_usd": None}, {"num_samples": 0}])
def test_a_setting_without_a_time_a_price_or_a_galaxy_is_never_recommended(lacks: dict[str, Any]) -> None:
    lacking = msgspec.structs.replace(setting_of("lacking", 1.0, 1.0), **lacks)

    assert {one.setting for one in recommend([lacking, setting_of("usable", 5.0, 5.0)], repeat=3)} == {"usable"}
    assert recommend([lacking], repeat=3) == ()


def test_settings_over_different_data_compare_by_galaxy() -> None:
    plan = SweepPlan(files=(1, 4), repeat=1, target="local")
    small = make_run_row(setting="FILES=1", file_limit=1, num_samples=1000, end_to_end_s=10.0, list_price_usd=0.001)
    large = make_run_row(setting="FILES=4", file_limit=4, num_samples=4000, end_to_end_s=20.0, list_price_usd=0.003)

    statistics = found([small, large], plan)

    assert {one.setting for one in statistics.recommendations} == {"FILES=4"}
    assert [one.is_pareto for one in statistics.settings] == [True, True]


# ----------------------------------------------------------------------------------------------- warnings


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (rows()[:4], "The sweep is unfinished: 4 of 9 runs have ended."),
        (rows(), "2 ranks run at the same time: a larger world size waits in turns and cannot be faster."),
        (
            [*rows()[:8], changed(rows()[8], state="failed")],
            "1 of 9 runs failed; no median counts them. RETRY=1 runs them again.",
        ),
        (
            rows(),
            "Repeats of WORLD=4 differ by 100% of their median: the machine was busy with other work, and small "
            "differences mean nothing.",
        ),
    ],
)
def test_what_limits_a_comparison_is_said(made: list[RunRow], said: str) -> None:
    assert said in found(made).warnings


def quiet(**changes: Any) -> list[RunRow]:
    """Return the rows of a sweep on AWS that nothing limits."""
    return [changed(row, world_size=2, end_to_end_s=20.0 + row.repeat, **changes) for row in rows()]


def limits(made: list[RunRow]) -> tuple[str, ...]:
    return found(made, msgspec.structs.replace(PLAN, target="aws")).warnings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights_sha256": "f" * 64}, "The runs used different weights: they are not repeats of the same thing."),
        (
            {"code_version": "2"},
            "The runs used different versions of the code: they are not repeats of the same thing.",
        ),
        ({"image_digest": "sha256:1"}, "The runs used different images: they are not repeats of the same thing."),
        ({"num_retried_ranks": 2}, "2 ranks were retried; the wall time includes their first attempts."),
        ({"num_samples": 7}, "Settings predicted different numbers of galaxies: compare rates, not times."),
        ({"world_size": None}, None),
    ],
)
def test_one_run_that_differs_from_the_others_is_noticed(changes: dict[str, Any], said: str | None) -> None:
    assert limits([*quiet()[:8], changed(quiet()[8], **changes)]) == ((said,) if said else ())


@pytest.mark.parametrize(
    ("num_records", "num_cold_starts", "said"),
    [
        (100, 25, ()),
        (100, 26, ("Between 0% and 26% of a setting's ranks started cold: part of the difference.",)),
        (1, 1, ("Between 0% and 100% of a setting's ranks started cold: part of the difference.",)),
        (0, 0, ()),
    ],
)
def test_settings_of_which_one_started_colder_are_noticed(
    num_records: int, num_cold_starts: int, said: tuple[str, ...]
) -> None:
    cold = [changed(row, num_records=num_records, num_cold_starts=num_cold_starts) for row in quiet()[6:]]

    assert limits([*quiet()[:6], *cold]) == said
    assert limits(quiet(num_cold_starts=2)) == ()


@pytest.mark.parametrize(
    ("times_s", "said"),
    [
        ((20.0, 20.0, 25.0), None),
        ((20.0, 20.0, 26.0), "30%"),
        ((None, None, None), None),
        ((None, 20.0, 20.0), "100%"),
    ],
)
def test_repeats_that_differ_by_more_than_a_quarter_are_noticed(
    times_s: tuple[float | None, ...], said: str | None
) -> None:
    made = [changed(row, end_to_end_s=times_s[row.repeat]) if row.setting == "WORLD=2" else row for row in quiet()]

    assert [one[:37] for one in limits(made)] == ([f"Repeats of WORLD=2 differ by {said} of th"[:37]] if said else [])


def test_a_quiet_sweep_has_the_notes_of_this_machine_and_no_others() -> None:
    assert found(quiet()).warnings == (
        "Start-up is excluded: an uncounted warm-up run goes first.",
        "Nothing was paid: prices are what these times would cost on AWS, whose processors differ.",
    )


def test_a_quiet_sweep_on_aws_has_none() -> None:
    assert limits(quiet()) == ()


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [("memory", (1769, 3538), "Here MEMORY sets threads"), ("batch", (8, 32), "Without PROFILE=1 the loop")],
)
def test_a_list_that_means_less_here_has_a_note(name: str, values: tuple[int, ...], said: str) -> None:
    plan = SweepPlan(**{name: values}, repeat=3, target="local")
    made = [
        make_run_row(setting=plan.label(setting), repeat=repeat) for setting in plan.settings for repeat in range(3)
    ]

    assert [said in one for one in found(made, plan).warnings].count(True) == 1


def test_a_profiled_sweep_over_batches_has_no_note_about_them() -> None:
    plan = SweepPlan(batch=(8, 32), profile=(True,), repeat=3, target="aws")
    made = [make_run_row(setting=f"BATCH={n}", repeat=r, profile=True) for n in (8, 32) for r in range(3)]

    assert found(made, plan).warnings == ()


def test_one_run_per_setting_leaves_the_scatter_unknown() -> None:
    plan = msgspec.structs.replace(PLAN, repeat=1, target="aws")

    assert found([row for row in quiet() if row.repeat == 0], plan).warnings == (
        "One run per setting: the scatter between runs is unknown. REPEAT=3 gives intervals.",
    )


# ------------------------------------------------------------------------------------------------ printed


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_table_fits_the_width(width: int) -> None:
    lines = printed(found(rows()), width).splitlines()

    table = [line for line in lines if line.startswith(("setting", "WORLD="))]
    assert len(table) == 4
    assert max(len(line) for line in table) <= width
    assert all("end to end [s]" in line for line in table[:1])
    assert "nan" not in "\n".join(lines)


def test_what_matters_least_goes_first_where_the_table_is_too_wide() -> None:
    measured = found(rows(map_wall_per_s=9.0, sum_of_rank_rates_per_s=9.0, peak_memory_bytes=2**29))
    headers = [printed(measured, width).splitlines()[2] for width in range(170, 40, -2)]
    titles = [dict.fromkeys(re.split("  +", header.strip())) for header in headers]

    gone = [title for before, after in pairwise(titles) for title in before if title not in after]

    assert len(titles[0]) == 12
    assert gone == [
        *("(GB/s)/USD", "sum of rank rates", "Map [s]", "Map wall", "peak [MB]", "efficiency", "runs", "speedup"),
        "end to end",
    ]


def test_the_state_the_table_the_advice_and_the_files_stand_apart() -> None:
    parts = printed(found(rows()), 80).split("\n\n")

    assert [part.split()[0] for part in parts] == ["tiny:", "setting", "fastest", "files"]


@pytest.mark.parametrize(
    ("plan", "num_left", "said"),
    [
        (PLAN, 9, ["runs       9: 3 WORLD by 3 repeats, interleaved, seed 0", "cost       free"]),
        (
            msgspec.structs.replace(PLAN, repeat=1),
            1,
            [
                "runs       3: 3 WORLD, interleaved, seed 0",
                "done       2 of 3, in sweeps/tiny/; 1 to go",
                "cost       free",
            ],
        ),
        (SweepPlan(), 1, ["runs       1: 1 setting", "cost       free"]),
        (
            SweepPlan(repeat=2),
            2,
            ["runs       2: 1 setting by 2 repeats, interleaved, seed 0", "cost       free"],
        ),
    ],
)
def test_a_plan_is_counted_before_it_starts(plan: SweepPlan, num_left: int, said: list[str]) -> None:
    console = Console(file=io.StringIO(), width=80)

    print_plan(console, Journal(Path("sweeps/tiny"), plan, ()), num_left=num_left, cost="free")

    assert console.file.getvalue().splitlines() == said


def test_what_is_printed_names_the_state_the_settings_and_the_files() -> None:
    made = rows(map_wall_per_s=1234.5, sum_of_rank_rates_per_s=2345.6, peak_memory_bytes=600 * 2**20)
    made[0] = changed(made[0], end_to_end_s=41.0)
    made[1] = changed(made[1], state="failed", error="PlanError", message="why")
    made[2] = changed(made[2], end_to_end_s=41.0)
    for index in (3, 4, 5):
        made[index] = changed(made[index], list_price_usd=0.002)
    broken = printed(found(made), 200).splitlines()

    assert broken[0] == "tiny: complete, 9 of 9 runs, 1 failed"
    assert printed(found(rows()), 200).startswith("tiny: complete, 9 of 9 runs\n")
    assert printed(found(made[:7]), 200).startswith("tiny: not over, 7 of 9 runs, 1 failed\n")
    cells = [re.split(" {2,}", line.strip()) for line in broken[2:8]]
    rates = ["2,346 /s", "1,234 /s"]
    assert cells[0][:4] == ["setting", "runs", "end to end [s]", "Map [s]"]
    assert [" ".join(one[:4]) for one in cells[1:4]] == [
        "WORLD=1 2+1 failed 41.00 40.00",
        "WORLD=2 3 21.00 (20.00-22.00) 19.00",
        "WORLD=4 3 16.00 (14.00-30.00) 14.00",
    ]
    assert [one[4:] for one in cells[1:4]] == [
        [*rates, "24 /s", "1.00", "100%", "600", "0.001000 *", "0.49"],
        [*rates, "48 /s", "1.95", "98%", "600", "0.002000", "0.49"],
        [*rates, "62 /s", "2.56", "64%", "600", "0.001900 *", "0.68"],
    ]
    assert broken[6:8] == [
        "  median; in brackets the interval: smallest and largest of 3 repeats",
        "  * no other setting is both faster and cheaper; list prices",
    ]
    # Numbers end where their titles do.
    assert broken[2].index("end to end [s]") + len("end to end [s]") == broken[4].index("(20.00-22.00)") + 13
    assert broken[-1] == "files      sweeps/tiny/: runs.parquet, ranks.parquet (and .csv), statistics.json"
    assert "failed     WORLD=1, 1 of its runs: PlanError: why" in broken
    assert [line[:18] for line in broken if line.startswith(("fastest", "cheapest", "balanced"))] == [
        "fastest    WORLD=4",
        "cheapest   WORLD=1",
        "balanced   WORLD=4",
    ]
