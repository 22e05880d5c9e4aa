"""What a setting, the cloud's constants and earlier runs say of every step of a run, and what is simulated of it."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from inference.contract import BITS_PER_ROW, PhaseSpread
from inference.plan import DEADLINE_FACTOR, MB_PER_VCPU, SAMPLES_PER_S_PER_VCPU, SHORTEST_DEADLINE_S, START_S
from scripts.command.errors import UsageError
from scripts.deployment.stages import read_stages
from scripts.forecasts.constants import Constant, certain, draw_all, read_constants
from scripts.forecasts.kept import FORECAST_FILE, keep, read_kept, verdict
from scripts.forecasts.simulate import QUANTILES, Room, quantiles, simulate
from scripts.forecasts.system import (
    STAGES_MB,
    Habits,
    Setting,
    _backup_after_s,
    default_habits,
    engine_speed,
    forecast,
    learn,
    num_replications,
    pace_of,
    room_of,
    share_of_speed,
    simulated,
)
from scripts.pricing.cost import Rates, bill, usage_before
from scripts.pricing.prices import read_prices
from scripts.pricing.what_if import inference_time
from tests.unit.test_cost_estimate import make_run
from tests.unit.test_forecast import make_pace, make_setting, run

PRICES = read_prices().of("us-east-1")
CONSTANTS = read_constants()
SURE = msgspec.structs.replace(CONSTANTS, cloud=certain(CONSTANTS.cloud), ours=certain(CONSTANTS.ours))
CLOUD, OURS, HERE = (
    {name: one.value for name, one in table.items()} for table in (CONSTANTS.cloud, CONSTANTS.ours, CONSTANTS.here)
)


def pace(num: int = 2, *, habits: Habits | None = None, **changes: Any) -> dict[str, float]:
    """Return the pace of a setting, of constants that are known exactly."""
    setting = make_setting(**changes)
    known = habits or default_habits(is_local=setting.is_local, constants=SURE)
    sure = Habits(constants=certain(known.constants), source="a test")
    found = vars(pace_of(setting, sure, SURE, np.random.default_rng(0), num))
    assert all(values.shape == (num,) and (values == values[0]).all() for values in found.values())
    return {name: float(values[0]) for name, values in found.items()}


def ours(values: dict[str, float]) -> dict[str, Constant]:
    """Return our constants, some with another value that is known exactly."""
    return CONSTANTS.ours | {name: Constant(value, 0.0, "a test") for name, value in values.items()}


# ------------------------------------------------------------------------------------------------- the constants


def test_a_constant_is_drawn_around_its_median_with_the_spread_of_its_logarithm() -> None:
    drawn = draw_all({"b": Constant(8.0, 0.5, "x"), "a": Constant(2.0, 0.0, "x")}, np.random.default_rng(0), 4000)

    assert (drawn["a"] == 2).all()
    assert np.median(drawn["b"]) == pytest.approx(8, rel=0.05)
    assert np.log(drawn["b"]).std() == pytest.approx(0.5, rel=0.05)
    known = certain({"b": Constant(8.0, 0.5, "x")})
    assert known == {"b": Constant(8.0, 0.0, "x")}


def test_the_order_of_a_table_does_not_decide_what_is_drawn() -> None:
    table = {"a": Constant(1.0, 1.0, "x"), "b": Constant(1.0, 1.0, "x")}
    turned = dict(reversed(table.items()))

    one, other = (draw_all(values, np.random.default_rng(0), 3) for values in (table, turned))

    assert all((one[name] == other[name]).all() for name in table)


# ------------------------------------------------------------------------------------------------- the simulation


def test_the_weather_is_that_of_the_whole_map_and_of_nothing_else() -> None:
    fine, foul = (run(make_pace(weather=weather, rank_s=4.0), 30, max_concurrency=7) for weather in (1.0, 2.0))

    assert foul.map_s[0] == pytest.approx(2 * fine.map_s[0])
    assert foul.ranks_s[0] == pytest.approx(2 * fine.ranks_s[0])
    assert foul.num_cold[0] == fine.num_cold[0] == 7
    assert (foul.before_s[0], foul.after_s[0]) == (1, 2)
    assert {step: values[0] for step, values in foul.last.items()} == pytest.approx(
        {step: 2 * values[0] for step, values in fine.last.items()}
    )


def test_a_rank_that_fails_is_done_again_after_up_to_two_seconds() -> None:
    found = run(make_pace(retry_share=1.0, dispatch_per_s=1e9), 4000)
    one_of_ten = run(make_pace(retry_share=0.1, dispatch_per_s=1e9), 4000)

    assert found.map_s[0] == pytest.approx(3 + 2 * 10 + 2, abs=0.01)
    assert found.ranks_s[0] / 4000 == pytest.approx(3 + 2 * 10 + 1, abs=0.05)
    assert found.last["tail"][0] == pytest.approx(12, abs=0.01)
    assert one_of_ten.ranks_s[0] / 4000 == pytest.approx(3 + 10 + 0.1 * 11, abs=0.2)


def test_a_second_invocation_starts_afresh_lingers_as_any_and_the_rank_ends_with_the_first_of_both() -> None:
    """Every rank is tried again, so that all of them take twice as long and a second invocation is in time for all."""
    helped = run(make_pace(retry_share=1.0, backup_after_s=5.0, dispatch_per_s=1e9), 100)
    late = run(make_pace(retry_share=1.0, backup_after_s=11.0, dispatch_per_s=1e9), 100)
    lingering = run(make_pace(tail_s=1000.0, backup_after_s=1.0), 4000)

    assert helped.map_s[0] == pytest.approx(3 + 5 + 13)
    assert helped.ranks_s[0] / 100 == pytest.approx(3 + 21 + 13, abs=0.3)
    assert 3 + 20 < late.map_s[0] < 3 + 22
    assert lingering.ranks_s[0] / 4000 == pytest.approx(2 * (3 + 10 + 1000), rel=0.05)


def test_what_limits_the_last_rank_is_dispatch_room_start_work_and_tail() -> None:
    found = run(make_pace(tail_s=0.0, dispatch_per_s=1.0), 5, max_concurrency=1)

    # One environment: the first rank starts it and each waits for the one before.
    assert {step: values[0] for step, values in found.last.items()} == pytest.approx(
        {"dispatch": 4, "room": 3 + 4 * 10 - 4, "start": 0, "work": 10, "tail": 0}
    )
    assert found.ranks_s[0] == pytest.approx(3 + 5 * 10)


def test_environments_are_dealt_first_come_first_served_within_the_burst_and_the_ramp() -> None:
    """Two at once, one more every 2 s: the third rank waits 2 s for a fresh one, the fourth 4 s, ..."""
    one_more = run(make_pace(dispatch_per_s=1e9, rank_s=100.0), 4, burst=2.0, ramp_per_s=0.5)
    at_most = run(make_pace(dispatch_per_s=1e9, rank_s=100.0), 4, burst=2.0, ramp_per_s=0.5, max_concurrency=3)

    assert (one_more.num_cold[0], one_more.map_s[0]) == pytest.approx((4, 4 + 103))
    assert one_more.last["room"][0] == pytest.approx(4)
    assert (at_most.num_cold[0], at_most.map_s[0]) == pytest.approx((3, 103 + 100))


def test_a_forecasts_quantiles_are_the_ends_of_its_intervals() -> None:
    assert quantiles(np.arange(101.0)) == (5, 25, 50, 75, 95)
    assert (QUANTILES[2] - QUANTILES[1], QUANTILES[4] - QUANTILES[0]) == pytest.approx((0.25, 0.9))
    assert (Room(max_concurrency=1).burst, Room(max_concurrency=1).ramp_per_s) == (1000, 100)


def test_replications_are_independent_and_as_many_as_the_pace() -> None:
    found = simulate(make_pace(5, tail_s=1.0), Room(max_concurrency=10), 4, np.random.default_rng(0))

    assert len(set(found.map_s)) == 5
    np.testing.assert_allclose(found.end_to_end_s, 1 + found.map_s + 2)


# --------------------------------------------------------------------------------------------------- on AWS


def test_the_steps_of_a_run_on_aws_are_those_of_the_tables() -> None:
    found = pace(num_rows=1_000_000, world_size=300, memory_mb=3538)

    rows = math.ceil(1_000_000 / 300)
    assert found == pytest.approx(
        {
            "before_s": OURS["edge_s"] / 2,
            "dispatch_per_s": CLOUD["standard_dispatch_per_s"],
            "cold_s": OURS["start_s"],
            "rank_s": rows * OURS["row_s"] * inference_time(3538, OURS["serial_share"]) + OURS["rest_s"],
            "tail_s": OURS["tail_s"],
            "retry_share": CLOUD["retry_share"],
            "backup_after_s": START_S + DEADLINE_FACTOR * rows * MB_PER_VCPU / (SAMPLES_PER_S_PER_VCPU * 3538),
            "weather": OURS["weather"],
            "after_s": OURS["edge_s"] / 2 + 300 * OURS["record_s"],
        }
    )


def test_half_a_processor_starts_and_does_everything_at_half_the_speed() -> None:
    whole, half = (pace(memory_mb=memory_mb, num_rows=1_000, world_size=1) for memory_mb in (1769, 885))

    ratio = 1769 / 885
    assert (half["cold_s"], half["rank_s"]) == pytest.approx((ratio * whole["cold_s"], ratio * whole["rank_s"]))


def test_express_children_are_dispatched_faster() -> None:
    assert pace(child_type="EXPRESS")["dispatch_per_s"] == CLOUD["express_dispatch_per_s"]


def test_what_is_warm_does_not_start() -> None:
    assert pace(is_warm=True)["cold_s"] == 0


def test_a_rank_that_computes_faster_than_it_reads_takes_as_long_as_reading() -> None:
    habits = Habits(constants=ours({"row_s": 1e-9}), source="a test")

    found = pace(habits=habits, num_rows=10_000, world_size=1)

    megabytes = 10_000 * BITS_PER_ROW / 8 / 1e6
    assert found["rank_s"] == pytest.approx(megabytes / CLOUD["bandwidth_mb_per_s"] + OURS["rest_s"])


def test_a_serial_share_is_never_more_than_all() -> None:
    habits = Habits(constants=ours({"serial_share": 1.5}), source="a test")

    assert pace(habits=habits, memory_mb=3538)["rank_s"] == pytest.approx(pace(memory_mb=1769)["rank_s"])


@pytest.mark.parametrize(
    ("change", "speed"),
    [
        ({}, 1.0),
        ({"engine": "native"}, 1.0),
        ({"precision": "int8"}, OURS["native_int8_speed"]),
        ({"engine": "torch"}, OURS["torch_speed"]),
        ({"engine": "torch", "precision": "int8"}, OURS["torch_speed"]),
        ({"engine": "onnxruntime", "precision": "int8"}, OURS["onnxruntime_int8_speed"]),
        ({"architecture": "arm64"}, 0.8),
        ({"architecture": "arm64", "engine": "torch"}, 0.8 * OURS["torch_speed"]),
        ({"architecture": "arm64", "precision": "int8"}, 0.8 * OURS["onnxruntime_int8_speed"]),
    ],
    ids=str,
)
def test_engine_precision_and_processor_decide_the_speed(change: dict[str, Any], speed: float) -> None:
    habits = Habits(constants=ours({"arm64_speed": 0.8}), source="a test")

    rank_s = pace(habits=habits, **change)["rank_s"] - OURS["rest_s"]

    assert rank_s == pytest.approx(2000 * OURS["row_s"] / speed)
    assert engine_speed("an engine without a speed", "int8", {}) == 1


@pytest.mark.parametrize(
    ("rows", "after_s"),
    [
        (100, SHORTEST_DEADLINE_S),
        (1_000, SHORTEST_DEADLINE_S),
        (2_000, 100),
        (21_999, 899.96),
        (22_000, math.inf),
        (90_000, math.inf),
    ],
)
def test_a_second_invocation_comes_as_the_plan_has_it_and_none_after_lambda_ends_the_first(
    rows: int, after_s: float
) -> None:
    assert _backup_after_s(make_setting(num_rows=rows, world_size=1, memory_mb=1769)) == pytest.approx(after_s)


@pytest.mark.parametrize(("is_local", "burst", "ramp"), [(True, 7, 100), (False, 500, 50)])
def test_room_is_what_the_account_has_or_the_workers_of_this_machine(is_local: bool, burst: float, ramp: float) -> None:
    room = {"burst_environments": Constant(500.0, 0.0, "x"), "ramp_per_s": Constant(50.0, 0.0, "x")}
    constants = msgspec.structs.replace(CONSTANTS, cloud=CONSTANTS.cloud | room)

    found = room_of(make_setting(is_local=is_local, max_concurrency=7), constants)

    assert (found.max_concurrency, found.burst, found.ramp_per_s) == (7, burst, ramp)


# ---------------------------------------------------------------------------------------------- on this machine


def test_the_steps_of_a_run_here_are_those_of_this_machine() -> None:
    found = pace(num_rows=1_000, world_size=4, max_concurrency=2, num_cores=4, is_local=True)

    speed = share_of_speed(2, 4, HERE["alone_speed"])
    assert speed == pytest.approx(1 + 0.5 * 2 / 3)
    assert found == pytest.approx(
        {
            "before_s": HERE["edge_s"] / 2,
            "dispatch_per_s": 1 / HERE["record_s"],
            "cold_s": HERE["start_s"],
            "rank_s": 250 * OURS["row_s"] / speed + HERE["rest_s"],
            "tail_s": 0.0,
            "retry_share": 0.0,
            "backup_after_s": math.inf,
            "weather": OURS["weather"],
            "after_s": HERE["edge_s"] / 2,
        }
    )


@pytest.mark.parametrize(
    ("num_busy", "num_cores", "speed"),
    [(1, 1, 1.0), (0, 4, 1.0), (1, 4, 1.6), (2, 4, 1.4), (4, 4, 1.0), (9, 4, 1.0), (1, 2, 1.6), (2, 2, 1.0)],
)
def test_ranks_side_by_side_share_the_cores(num_busy: int, num_cores: int, speed: float) -> None:
    assert share_of_speed(num_busy, num_cores, 1.6) == pytest.approx(speed)


# ----------------------------------------------------------------------------------------- defaults and own runs


def test_where_no_run_is_known_the_defaults_are_said_and_the_card_of_the_model_wins() -> None:
    by_default, stated, here = (
        default_habits(),
        default_habits(rows_per_s=500.0),
        default_habits(is_local=True, rows_per_s=500.0),
    )

    assert by_default == Habits(
        constants=CONSTANTS.ours, source="defaults, 300 galaxies/s per vCPU; no run is known yet"
    )
    assert stated.source == "defaults, 500 galaxies/s per vCPU; no run is known yet"
    assert here.source == "defaults, 500 galaxies/s per vCPU; no run here is known yet"
    row_s = stated.constants["row_s"]
    assert (row_s.value, row_s.spread) == (1 / 500, CONSTANTS.ours["row_s"].spread)
    assert row_s.source == "the card of the model"
    assert here.constants["row_s"] == row_s
    assert here.constants["tail_s"] == Constant(0.0, CONSTANTS.ours["tail_s"].spread, CONSTANTS.ours["tail_s"].source)
    assert {name: here.constants[name] for name in HERE} == CONSTANTS.here
    assert {**stated.constants, "row_s": None} == {**CONSTANTS.ours, "row_s": None}


def clocked(run: Any, **phases: float) -> Any:
    ranks = msgspec.structs.replace(run.clock.ranks, **phases)
    return msgspec.structs.replace(run, clock=msgspec.structs.replace(run.clock, ranks=ranks))


def test_a_run_shows_what_its_ranks_took_at_one_processor() -> None:
    """Two of eight ranks started afresh: 2 s of init and 1 s of loading together."""
    run = clocked(
        make_run(memory_mb=885, engines=("torch 2",)), inference=100.0, total=109.0, model_load=1.0, init=2.0, queue=9.0
    )

    found = learn([run], is_local=False)

    half = 885 / 1769
    shown = {name: found.constants[name].value for name in ("row_s", "start_s", "rest_s")}
    assert shown == pytest.approx(
        {
            "row_s": 100 / 3071 * half * OURS["torch_speed"],
            "start_s": (2 + 1) / 2 * half,
            "rest_s": (109 - 100 - 1) / 8 * half,
        }
    )
    assert (found.source, found.num_runs) == ("calibrated on 1 earlier run", 1)
    assert found.constants["weather"] == Constant(
        1.0, CONSTANTS.ours["weather"].spread, CONSTANTS.ours["weather"].source
    )
    assert found.constants["tail_s"] == CONSTANTS.ours["tail_s"]
    assert found.constants["row_s"].source == "1 earlier runs"


def test_a_queue_before_a_fresh_process_counts_where_it_is_longer_than_its_init() -> None:
    run = clocked(make_run(), model_load=1.0, init=2.0)
    cold = {"queue": PhaseSpread(sum=7.0, p50=3.5, p95=4.0, max=4.0)}
    clock = msgspec.structs.replace(run.clock, cold=cold)

    found = learn([msgspec.structs.replace(run, clock=clock)], is_local=False)

    assert found.constants["start_s"].value == pytest.approx((7 + 1) / 2)


def test_a_run_without_a_fresh_process_says_nothing_of_starts() -> None:
    found = learn([msgspec.structs.replace(make_run(), num_cold_starts=0)], is_local=False)

    assert found.constants["start_s"] == CONSTANTS.ours["start_s"]


def test_a_run_here_shows_what_it_took_besides_its_map() -> None:
    run = make_run()
    clock = msgspec.structs.replace(run.clock, end_to_end=6.5, map=6.0, num_concurrent_ranks=1)
    backwards = msgspec.structs.replace(run, clock=msgspec.structs.replace(clock, map=7.0))
    here = learn([msgspec.structs.replace(run, clock=clock)], is_local=True)

    assert here.constants["edge_s"].value == pytest.approx(0.5)
    assert here.constants["weather"].spread == 0.05
    assert here.constants["alone_speed"] == CONSTANTS.here["alone_speed"]
    assert learn([backwards], is_local=True).constants["edge_s"].value == pytest.approx(1e-4)


def test_runs_that_differ_widen_the_spread_and_the_default_counts_as_one_more() -> None:
    alike, different = ([make_run(rows_per_s=rate) for rate in rates] for rates in ((100, 100), (50, 100, 200)))
    default = CONSTANTS.ours["row_s"].spread

    one, other = (learn(runs, is_local=False).constants["row_s"] for runs in (alike, different))

    assert one.spread == pytest.approx(math.sqrt(default**2 / 4 / 2))
    assert other.spread == pytest.approx(math.sqrt((2 * math.log(2) ** 2 + default**2 / 4) / 3))
    assert other.value == pytest.approx(one.value)


@pytest.mark.parametrize("change", [{"num_records": 0}, {"function_memory_mb": 0}, {"num_samples": 0}], ids=str)
def test_a_run_that_shows_nothing_counts_for_nothing(change: dict[str, int]) -> None:
    assert learn([msgspec.structs.replace(make_run(), **change)], is_local=False).num_runs == 0


@pytest.mark.parametrize(
    ("concurrent", "num_cores", "speed"),
    [((1, 4), 4, 2.0), ((1, 5), 4, 2.0), ((1, 3), 4, 1.5), ((4, 4), 4, 1.5), ((1, 1), 1, 1.5)],
)
def test_how_much_faster_a_rank_is_alone_is_learnt_where_runs_of_both_kinds_are_known(
    concurrent: tuple[int, int], num_cores: int, speed: float
) -> None:
    rates = (200.0, 100.0)
    runs = [
        msgspec.structs.replace(one, clock=msgspec.structs.replace(one.clock, num_concurrent_ranks=num))
        for one, num in zip((make_run(rows_per_s=rate) for rate in rates), concurrent, strict=True)
    ]

    found = learn(runs, is_local=True, num_cores=num_cores).constants["alone_speed"]
    slower_alone = learn(runs, is_local=False, num_cores=num_cores)

    assert found.value == pytest.approx(speed)
    assert (found.spread == 0.05, found.source == "2 earlier runs") == (speed == 2, speed == 2)
    assert "alone_speed" not in slower_alone.constants


def test_a_rank_alone_is_never_slower() -> None:
    def of(rows_per_s: float, num_concurrent_ranks: int) -> Any:
        run = make_run(rows_per_s=rows_per_s)
        clock = msgspec.structs.replace(run.clock, num_concurrent_ranks=num_concurrent_ranks)
        return msgspec.structs.replace(run, clock=clock)

    assert learn([of(100, 1), of(200, 2)], is_local=True, num_cores=2).constants["alone_speed"].value == 1


# ------------------------------------------------------------------------------------------------- the forecast


@pytest.mark.parametrize(("world_size", "num"), [(1, 1000), (2_000, 500), (1_000_000, 20)])
def test_large_runs_are_simulated_less_often(world_size: int, num: int) -> None:
    assert num_replications(world_size) == num
    assert world_size > 2_000 or len(forecast_of(make_setting(world_size=world_size)).outcome.map_s) == num


def forecast_of(setting: Setting, **changes: Any) -> Any:
    return forecast(setting, PRICES, **({"prices_of": "here"} | changes))


def test_a_forecast_states_every_phase_the_last_rank_and_what_it_is_calibrated_on() -> None:
    setting = make_setting(world_size=10)
    habits = learn([make_run()], is_local=False)

    found = forecast_of(setting, habits=habits, num=50, seed=3)

    outcome = found.outcome
    assert found.source == "calibrated on 1 earlier run"
    assert found.seconds == {
        "initialize": quantiles(outcome.before_s),
        "map": quantiles(outcome.map_s),
        "summarize": quantiles(outcome.after_s),
        "end_to_end": quantiles(outcome.before_s + outcome.map_s + outcome.after_s),
    }
    assert [*found.last] == ["before", "dispatch", "room", "start", "work", "tail", "after"]
    assert found.last["before"] == pytest.approx(outcome.before_s.mean())
    assert found.last["after"] == pytest.approx(outcome.after_s.mean())
    assert found.last["work"] == pytest.approx(outcome.last["work"].mean())
    assert found.limit == max(found.last, key=lambda step: found.last[step])
    assert (simulated(setting, habits, num=50, seed=3) == outcome.end_to_end_s).all()


def test_a_run_here_is_forecast_by_the_habits_of_this_machine() -> None:
    found = forecast_of(make_setting(is_local=True, world_size=2, max_concurrency=2), num=3)

    assert "no run here is known yet" in found.source


@pytest.mark.parametrize("is_deployed", [True, False])
@pytest.mark.parametrize(("num_shards", "counted"), [(0, 10), (7, 7)])
def test_the_bill_is_that_of_the_setting_with_the_rest_as_it_is_deployed(
    is_deployed: bool, num_shards: int, counted: int
) -> None:
    deployed = Rates(
        memory_mb={"initialize": 512, "infer": 1, "summarize": 3008},
        architecture="x86_64",
        child_type="STANDARD",
        ephemeral_mb={"infer": 2048},
    )
    setting = make_setting(
        world_size=10, num_shards=num_shards, memory_mb=885, architecture="arm64", child_type="EXPRESS"
    )

    found = forecast_of(setting, rates=deployed if is_deployed else None, num=20)

    others = {"initialize": 512, "summarize": 3008} if is_deployed else STAGES_MB
    rates = Rates(
        memory_mb={**others, "infer": 885},
        architecture="arm64",
        child_type="EXPRESS",
        ephemeral_mb={"infer": 2048} if is_deployed else {},
    )
    usage = usage_before(
        rates,
        num_rows=100_000,
        num_shards=counted,
        world_size=10,
        ranks_s=quantiles(found.outcome.ranks_s)[2],
        initialize_s=1.0,
        summarize_s=quantiles(found.outcome.after_s)[2],
    )
    assert found.bills[2] == bill(usage, rates, PRICES, prices_of="here")
    assert found.usd == tuple(one.usd for one in found.bills)
    assert {name: stage["memory_mb"] for name, stage in read_stages().items() if name in STAGES_MB} == STAGES_MB


# ------------------------------------------------------------------------------------------------------ kept


def test_a_run_that_was_not_forecast_has_none_and_a_folder_in_its_place_is_told(tmp_path: Any) -> None:
    assert read_kept(tmp_path) is None

    (tmp_path / FORECAST_FILE).mkdir()
    with pytest.raises(UsageError, match=r"forecast\.json is no forecast: .*Delete it"):
        read_kept(tmp_path)


@pytest.mark.parametrize(
    ("measured_s", "said"),
    [
        (5.0, "50% shorter, within the"),
        (4.9, "51% shorter, outside the"),
        (10.0, "0% longer, within"),
        (20.0, "100% longer, within"),
        (20.1, "101% longer, outside"),
    ],
)
def test_the_ends_of_an_interval_are_within_it(measured_s: float, said: str, tmp_path: Any) -> None:
    kept = keep(forecast_of(make_setting(), num=20), tmp_path)
    kept = msgspec.structs.replace(kept, seconds={"end_to_end": (5.0, 8.0, 10.0, 15.0, 20.0)})

    found = verdict(kept, measured_s)

    assert found.startswith(f"10.0 s forecast, {measured_s:.1f} s measured: {said}")
    assert found.endswith("the central 90 % (5.0 to 20.0 s)")


def test_what_is_kept_is_the_forecast_in_lines(tmp_path: Any) -> None:
    found = forecast_of(make_setting(), num=20)

    kept = keep(found, tmp_path)

    assert (kept.source, kept.usd, kept.seconds) == (found.source, found.usd, dict(found.seconds))
    assert '\n  "version": 1,' in (tmp_path / FORECAST_FILE).read_text()
