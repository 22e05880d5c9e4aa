"""How good the model is: every cell predicted by the others, next to rivals that know less."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.contract import RunSummary
from scripts.forecasts.constants import Array
from scripts.forecasts.fit import Prediction, fit, predict
from scripts.forecasts.published import Runs
from scripts.forecasts.simulate import QUANTILES
from scripts.forecasts.system import Setting, learn, simulated


def cross_validated(runs: Runs, *, num_replications: int = 4000) -> Prediction:
    """Predict every cell by a fit to the runs of all other cells."""
    map_s, end_to_end_s = np.empty((2, len(runs), num_replications))
    for cell in runs.cells:
        there = runs.in_cell(cell)
        found = predict(fit(runs[~there]), runs[there], num_replications=num_replications)
        map_s[there], end_to_end_s[there] = found.map_s, found.end_to_end_s
    return Prediction(map_s, end_to_end_s)


def mean_of_others(runs: Runs) -> tuple[Array, Array]:
    """Return the rival that knows nothing: the mean of the other cells' means, of Map and end to end [s]."""
    map_s, end_to_end_s = np.empty((2, len(runs)))
    for cell in runs.cells:
        there = runs.in_cell(cell)
        others = [runs.in_cell(other) for other in runs.cells if other != cell]
        map_s[there] = np.mean([runs.map_s[one].mean() for one in others])
        end_to_end_s[there] = np.mean([runs.end_to_end_s[one].mean() for one in others])
    return map_s, end_to_end_s


def linear_regression(runs: Runs) -> tuple[Array, Array]:
    """Return the rival that knows ranks and shard size: least squares on the other cells, of Map and end to end [s]."""
    known = np.stack([np.ones(len(runs)), runs.num_ranks, runs.shard_mb], 1)
    found = np.empty((2, len(runs)))
    for cell in runs.cells:
        there = runs.in_cell(cell)
        for i, measured in enumerate((runs.map_s, runs.end_to_end_s)):
            weights, *_ = np.linalg.lstsq(known[~there], measured[~there], rcond=None)
            found[i, there] = known[there] @ weights
    return found[0], found[1]


@dataclass(frozen=True)
class Score:
    """How good a prediction is."""

    error: float
    """Median of the absolute relative error."""

    inside_90: float
    """Share of the runs within the central 90 %; NaN where there is no interval."""

    inside_50: float
    """The same of the central 50 %."""


def score(predicted: Array, measured: Array) -> Score:
    """Compare predictions, shape (N,) or (N, R), with what was measured, shape (N,)."""
    if predicted.ndim == 1:
        return Score(float(np.median(np.abs(predicted / measured - 1))), float("nan"), float("nan"))
    p5, p25, p50, p75, p95 = np.quantile(predicted, QUANTILES, axis=1)
    return Score(
        float(np.median(np.abs(p50 / measured - 1))),
        float(np.mean((p5 <= measured) & (measured <= p95))),
        float(np.mean((p25 <= measured) & (measured <= p75))),
    )


def judge_own(runs: Sequence[RunSummary], *, is_local: bool, num_cores: int, num: int = 200) -> Score:
    """Forecast every run of one's own, end to end, by a calibration on the others."""
    predicted = []
    for i, run in enumerate(runs):
        habits = learn([*runs[:i], *runs[i + 1 :]], is_local=is_local, num_cores=num_cores)
        predicted.append(simulated(setting_of_run(run, is_local=is_local, num_cores=num_cores), habits, num=num))
    return score(np.array(predicted), np.array([run.clock.end_to_end for run in runs]))


def setting_of_run(run: RunSummary, *, is_local: bool, num_cores: int) -> Setting:
    """Return what a run was, to be forecast after it."""
    request = run.request
    return Setting(
        num_rows=run.num_samples,
        world_size=run.world_size,
        memory_mb=run.function_memory_mb,
        max_concurrency=max(run.clock.num_concurrent_ranks, 1),
        engine=run.engines[0].partition(" ")[0] if run.engines else request.engine,
        precision=request.precision,
        is_local=is_local,
        num_cores=num_cores,
        is_warm=run.num_cold_starts == 0,
    )
