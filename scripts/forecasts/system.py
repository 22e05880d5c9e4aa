"""Our own system as a pace: what a setting, the cloud's constants and earlier runs say of every step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np

from inference.contract import BITS_PER_ROW, RunSummary
from inference.plan import (
    DEADLINE_FACTOR,
    MB_PER_VCPU,
    SAMPLES_PER_S_PER_VCPU,
    SHORTEST_DEADLINE_S,
    START_S,
)
from scripts.command.console import counted
from scripts.forecasts.constants import Array, Constant, Constants, draw_all, read_constants
from scripts.forecasts.simulate import Outcome, Pace, Room, quantiles, simulate
from scripts.pricing.cost import Bill, Prices, Rates, bill, usage_before
from scripts.pricing.what_if import SERIAL_SHARE, inference_time, other_time

DEFAULT_CONCURRENCY = 1000
"""Concurrent executions of an account that never asked for more."""

MAX_EXPRESS_S = 300
"""An Express execution ends after five minutes."""

MAX_LAMBDA_S = 900

NUM_EVENTS = 1_000_000
"""Ranks times replications that one forecast simulates, about two seconds of one CPU."""

MAX_REPLICATIONS, MIN_REPLICATIONS = 1000, 20

STAGES_MB = {"initialize": 1769, "summarize": 1769}
"""Memory of the other functions, as terraform/stages.json has it."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What can be chosen of a run, and where it runs."""

    num_rows: int
    """Galaxies."""

    world_size: int
    """Ranks."""

    num_shards: int = 0
    """Files that hold the galaxies; one per rank when 0."""

    memory_mb: int = 1769
    """Memory of a rank."""

    architecture: str = "x86_64"
    child_type: Literal["STANDARD", "EXPRESS"] = "STANDARD"
    max_concurrency: int = DEFAULT_CONCURRENCY
    """Ranks at work at the same time."""

    engine: str = "auto"
    precision: str = "fp32"
    is_local: bool = False
    """On this machine: `max_concurrency` workers, no cloud."""

    num_cores: int = 1
    """Of this machine; means nothing on AWS."""

    is_warm: bool = False
    """Whether environments are there already, as between the runs of a sweep."""

    @property
    def rows_per_rank(self) -> int:
        """Galaxies of the largest rank."""
        return math.ceil(self.num_rows / self.world_size)


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How long our steps take at one vCPU, from defaults or from runs."""

    constants: Mapping[str, Constant]
    """Names of the table `ours`."""

    source: str
    """Where they come from, in words."""

    num_runs: int = 0
    """Runs that they were learnt from."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will take and cost."""

    setting: Setting
    source: str
    seconds: Mapping[str, tuple[float, ...]]
    """Phase to quantiles [s]; see `simulate.QUANTILES`."""

    bills: tuple[Bill, ...]
    """What it costs, item by item, at the same quantiles of the ranks' time."""

    last: Mapping[str, float]
    """Step to the mean time that the rank which ends last spends on it [s], with `before` and `after`."""

    outcome: Outcome = field(repr=False)

    @property
    def usd(self) -> tuple[float, ...]:
        """Quantiles of the list price."""
        return tuple(one.usd for one in self.bills)

    @property
    def limit(self) -> str:
        """What most of the time goes into: a step of `last`."""
        return max(self.last, key=lambda step: self.last[step])


def default_habits(
    *, is_local: bool = False, constants: Constants | None = None, rows_per_s: float | None = None
) -> Habits:
    """Return what is assumed where no run is known; `rows_per_s` of one thread, where the card of the model says it."""
    constants = constants or read_constants()
    if rows_per_s:
        stated = replace_value(constants.ours["row_s"], 1 / rows_per_s, source="the card of the model")
        constants = msgspec.structs.replace(constants, ours={**constants.ours, "row_s": stated})
    rate = f"defaults, {1 / constants.ours['row_s'].value:,.0f} galaxies/s per vCPU"
    if not is_local:
        return Habits(constants=constants.ours, source=f"{rate}; no run is known yet")
    quiet = {"tail_s": replace_value(constants.ours["tail_s"], 0.0), "weather": constants.ours["weather"]}
    return Habits(constants={**constants.ours, **constants.here, **quiet}, source=f"{rate}; no run here is known yet")


def replace_value(constant: Constant, value: float, spread: float | None = None, source: str | None = None) -> Constant:
    """Return a constant with another value, and another spread or source where given."""
    return Constant(value, constant.spread if spread is None else spread, source or constant.source)


def learn(
    summaries: Sequence[RunSummary],
    *,
    is_local: bool,
    num_cores: int = 1,
    rows_per_s: float | None = None,
) -> Habits:
    """Return the habits that complete runs show, those they do not show as by default.

    Parameters
    ----------
    summaries : sequence of RunSummary
        Of runs in the same place; those without records or without a known memory count for nothing.
    is_local : bool
        Where they ran.
    num_cores : int
        Of this machine, which ranks share.
    rows_per_s : float, optional
        What the card of the model says of its speed on one thread, where nothing was learnt.
    """
    known = default_habits(is_local=is_local, rows_per_s=rows_per_s)
    runs = [run for run in summaries if run.num_records and run.function_memory_mb and run.num_samples]
    if not runs:
        return known
    alone = _learn_alone(runs, known.constants, num_cores) if is_local else None
    busy = [share_of_speed(run.clock.num_concurrent_ranks, num_cores, alone.value) if alone else 1.0 for run in runs]
    shown = {
        "row_s": [_row_s(run, known.constants) * speed for run, speed in zip(runs, busy, strict=True)],
        "start_s": [_start_s(run) for run in runs if run.num_cold_starts],
        "rest_s": [_rest_s(run) for run in runs],
    }
    if is_local:
        shown["edge_s"] = [_edge_s(run) for run in runs]
    learnt = {name: _learnt(known.constants[name], values) for name, values in shown.items() if values}
    # What differs between runs is in the spread of `row_s` from now on.
    learnt["weather"] = replace_value(known.constants["weather"], 1.0, 0.05 if is_local else None)
    if alone:
        learnt["alone_speed"] = alone
    words = f"calibrated on {counted(len(runs), 'earlier run')}"
    return Habits(constants={**known.constants, **learnt}, source=words, num_runs=len(runs))


def _learn_alone(runs: Sequence[RunSummary], constants: Mapping[str, Constant], num_cores: int) -> Constant:
    """Return how much faster a rank is alone than with all cores busy, where there are runs of both kinds."""
    alone = [_row_s(run, constants) for run in runs if run.clock.num_concurrent_ranks == 1]
    together = [_row_s(run, constants) for run in runs if run.clock.num_concurrent_ranks >= num_cores > 1]
    if not (alone and together):
        return constants["alone_speed"]
    ratio = float(np.median(together) / np.median(alone))
    return Constant(max(ratio, 1.0), 0.05, f"{len(alone) + len(together)} earlier runs")


def share_of_speed(num_busy: int, num_cores: int, alone_speed: float) -> float:
    """Return the speed of a rank next to `num_busy` - 1 others, relative to one with all cores busy."""
    if num_cores < 2 or num_busy < 1:
        return 1.0
    return 1 + (alone_speed - 1) * (num_cores - min(num_busy, num_cores)) / (num_cores - 1)


def _learnt(default: Constant, values: Sequence[float]) -> Constant:
    logs = np.log(np.maximum(values, 1e-4))
    # Few runs say little of how much runs differ: the default's spread counts as one more.
    spread = math.sqrt((float(((logs - np.median(logs)) ** 2).sum()) + default.spread**2 / 4) / len(logs))
    return Constant(float(np.exp(np.median(logs))), spread, f"{len(logs)} earlier runs")


def _row_s(run: RunSummary, constants: Mapping[str, Constant]) -> float:
    """Return the time of a galaxy as if the native engine had computed it on one vCPU [s]."""
    engine = run.engines[0].partition(" ")[0] if run.engines else run.request.engine
    medians = {name: np.array(one.value) for name, one in constants.items()}
    speed = float(engine_speed(engine, run.request.precision, medians))
    relative = inference_time(run.function_memory_mb, SERIAL_SHARE.expected)
    return run.clock.ranks.inference / run.num_samples / relative * speed


def _start_s(run: RunSummary) -> float:
    # A queue includes the init of the process it waited for, and on AWS the making of its environment.
    start_s = max(run.clock.ranks.init, _cold_queue_s(run)) + run.clock.ranks.model_load
    return start_s / run.num_cold_starts / other_time(run.function_memory_mb)


def _rest_s(run: RunSummary) -> float:
    """Return what a rank took besides loading and computing, taken back to one vCPU [s]."""
    clock = run.clock.ranks
    rest_s = clock.total - clock.model_load - clock.inference
    return max(rest_s, 0.0) / run.num_records / other_time(run.function_memory_mb)


def _cold_queue_s(run: RunSummary) -> float:
    spread = run.clock.cold.get("queue")
    return spread.sum if spread else 0.0


def _edge_s(run: RunSummary) -> float:
    clock = run.clock
    return max(clock.end_to_end - clock.map, 0.0)


# ------------------------------------------------------------------------------------------- forecast


def num_replications(world_size: int) -> int:
    """Return how often a run of so many ranks is simulated."""
    return int(np.clip(NUM_EVENTS // world_size, MIN_REPLICATIONS, MAX_REPLICATIONS))


def forecast(
    setting: Setting,
    prices: Prices,
    *,
    prices_of: str,
    habits: Habits | None = None,
    rates: Rates | None = None,
    num: int | None = None,
    seed: int = 0,
    constants: Constants | None = None,
) -> Forecast:
    """Simulate a run and price it.

    Parameters
    ----------
    setting : Setting
        What to run, where.
    prices : Prices
        Of the region.
    prices_of : str
        Whose prices they are, of when.
    habits : Habits, optional
        From `learn`; defaults when absent.
    rates : Rates, optional
        Of a deployment; its memory, architecture and child type are replaced by those of `setting`.
    num, seed : int
        Replications, and what decides them: the same, the same forecast.
    """
    constants = constants or read_constants()
    habits = habits or default_habits(is_local=setting.is_local, constants=constants)
    generator = np.random.default_rng(seed)
    num = num or num_replications(setting.world_size)
    pace = pace_of(setting, habits, constants, generator, num)
    outcome = simulate(pace, room_of(setting, constants), setting.world_size, generator)
    ranks_s = quantiles(outcome.ranks_s)
    after_s = quantiles(outcome.after_s)
    bills = tuple(
        _bill(setting, prices, prices_of, rates, ranks_s=one, after_s=after)
        for one, after in zip(ranks_s, after_s, strict=True)
    )
    last = {"before": float(outcome.before_s.mean())}
    last |= {step: float(values.mean()) for step, values in outcome.last.items()}
    last["after"] = float(outcome.after_s.mean())
    return Forecast(
        setting=setting,
        source=habits.source,
        seconds={
            "initialize": quantiles(outcome.before_s),
            "map": quantiles(outcome.map_s),
            "summarize": quantiles(outcome.after_s),
            "end_to_end": quantiles(outcome.end_to_end_s),
        },
        bills=bills,
        last=last,
        outcome=outcome,
    )


def simulated(setting: Setting, habits: Habits, *, num: int, seed: int = 0) -> Array:
    """Return replications of the end-to-end time of a run whose price does not matter [s]."""
    constants, generator = read_constants(), np.random.default_rng(seed)
    pace = pace_of(setting, habits, constants, generator, num)
    return simulate(pace, room_of(setting, constants), setting.world_size, generator).end_to_end_s


def room_of(setting: Setting, constants: Constants) -> Room:
    """Return how many environments a setting may have."""
    if setting.is_local:
        return Room(max_concurrency=setting.max_concurrency, burst=setting.max_concurrency)
    cloud = constants.cloud
    return Room(
        max_concurrency=setting.max_concurrency,
        burst=cloud["burst_environments"].value,
        ramp_per_s=cloud["ramp_per_s"].value,
    )


def pace_of(setting: Setting, habits: Habits, constants: Constants, generator: np.random.Generator, num: int) -> Pace:
    """Return how long each step takes, drawn once per replication."""
    cloud = draw_all(constants.cloud, generator, num)
    ours = draw_all(habits.constants, generator, num)
    rows = setting.rows_per_rank
    speed = _speed(setting, ours)
    if setting.is_local:
        speed = speed * np.array(
            [share_of_speed(_num_busy(setting), setting.num_cores, one) for one in ours["alone_speed"]]
        )
    computing_s = rows * ours["row_s"] / speed * _inference_time(setting.memory_mb, np.minimum(ours["serial_share"], 1))
    # Rows are read one block ahead of the network: the slower of the two decides.
    reading_s = np.zeros(num) if setting.is_local else rows * BITS_PER_ROW / 8e6 / cloud["bandwidth_mb_per_s"]
    other = other_time(setting.memory_mb)
    edge_s = ours["edge_s"] / 2
    dispatch = cloud["express_dispatch_per_s" if setting.child_type == "EXPRESS" else "standard_dispatch_per_s"]
    return Pace(
        before_s=edge_s,
        dispatch_per_s=1 / ours["record_s"] if setting.is_local else dispatch,
        cold_s=np.zeros(num) if setting.is_warm else ours["start_s"] * other,
        rank_s=np.maximum(computing_s, reading_s) + ours["rest_s"] * other,
        tail_s=ours["tail_s"],
        retry_share=np.zeros(num) if setting.is_local else cloud["retry_share"],
        backup_after_s=np.full(num, math.inf if setting.is_local else _backup_after_s(setting)),
        weather=ours["weather"],
        after_s=edge_s + (0 if setting.is_local else 1) * setting.world_size * ours["record_s"],
    )


def _backup_after_s(setting: Setting) -> float:
    """Return after how long a rank gets a second invocation, as the plan sets it [s]; infinite where it gets none."""
    work_s = setting.rows_per_rank * MB_PER_VCPU / (SAMPLES_PER_S_PER_VCPU * setting.memory_mb)
    after_s = max(START_S + DEADLINE_FACTOR * work_s, SHORTEST_DEADLINE_S)
    return after_s if after_s < MAX_LAMBDA_S else math.inf


def _num_busy(setting: Setting) -> int:
    return min(setting.world_size, setting.max_concurrency)


def _inference_time(memory_mb: int, serial_share: Array) -> Array:
    return np.asarray([inference_time(memory_mb, share) for share in serial_share.tolist()])


def _speed(setting: Setting, ours: Mapping[str, Array]) -> Array:
    """Return the speed relative to the native engine in fp32 on x86_64."""
    is_arm = setting.architecture == "arm64"
    # On arm64 onnxruntime computes int8, whichever engine is asked for.
    engine = "onnxruntime" if is_arm and setting.precision == "int8" else setting.engine
    speed = engine_speed(engine, setting.precision, ours) * np.ones_like(ours["row_s"])
    return speed * ours["arm64_speed"] if is_arm else speed


def engine_speed(engine: str, precision: str, speeds: Mapping[str, Array]) -> Array | float:
    """Return the speed of an engine relative to the native one in fp32, which `auto` is."""
    name = "native" if engine == "auto" else engine
    fp32 = speeds.get(f"{name}_speed", 1.0)
    return speeds.get(f"{name}_int8_speed", fp32) if precision == "int8" else fp32


def _bill(
    setting: Setting, prices: Prices, prices_of: str, rates: Rates | None, *, ranks_s: float, after_s: float
) -> Bill:
    memory_mb = {**(rates.memory_mb if rates else STAGES_MB), "infer": setting.memory_mb}
    there = Rates(
        memory_mb=memory_mb,
        architecture=setting.architecture,
        child_type=setting.child_type,
        ephemeral_mb=rates.ephemeral_mb if rates else {},
    )
    usage = usage_before(
        there,
        num_rows=setting.num_rows,
        num_shards=setting.num_shards or setting.world_size,
        world_size=setting.world_size,
        ranks_s=ranks_s,
        initialize_s=1.0,
        summarize_s=after_s,
    )
    return bill(usage, there, prices, prices_of=prices_of)
