"""The model of the published system: fitted to its runs, simulated as it was."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from scripts.forecasts.constants import Array, Constant, Fitted, read_constants
from scripts.forecasts.published import Runs
from scripts.forecasts.simulate import Pace, Room, simulate

NAMES = (
    "fixed_s",
    "row_s",
    "batch_s",
    "tail_s",
    "dispatch_per_s",
    "edge_s",
    "record_s",
    "edge_cold_s",
    "edge_cold_odds",
    "map_noise",
    "edge_noise",
)
"""Parameters of the fit, in this order."""

NUM_FITTED = 5
"""Of them, those that the Map's duration depends on."""

LISTING_PAGE = 1000
"""Records that the published summarizer reads at most: one page of a listing."""

FREEDOM = 3.0
"""Degrees of freedom of the noise: a run in twenty is far off, for reasons that no model knows."""

NUM_DRAWN = 400
"""Draws of the parameters for a forecast in closed form."""

MAX_CONCURRENCY = 10_240
GUMBEL_MEDIAN = 0.36651292058166435
"""-ln ln 2: median of the largest of many exponentials, beyond its mode."""


def fit(runs: Runs, prior: dict[str, Constant] | None = None) -> Fitted:
    """Return what the runs say of the parameters, given what was believed before: the mode, and the curvature there.

    Notes
    -----
    How far a cell is from a fit that has not seen it decides how wide intervals are (cross-conformal prediction, Vovk
    2015, doi:10.1007/s10472-013-9368-4): every cell of `runs` is forecast by the others, and `stretch` is what the
    intervals' logarithms must be multiplied by to hold 90 % of these runs, and one more.
    """
    prior = prior or read_constants().published
    centre = np.log([prior[name].value for name in NAMES])
    width = np.array([prior[name].spread for name in NAMES])

    def loss(parameters: Array, which: Runs) -> float:
        distance = (parameters - centre) / width
        return _surprise(parameters, which) + float(distance @ distance) / 2

    ends = np.stack([centre - 5 * width, centre + 5 * width], 1)
    mode = minimize(loss, centre, args=(runs,), method="L-BFGS-B", bounds=ends).x
    # Runs of one cell share what the model misses of it: they say no more than one run does.
    num_cells = len(runs.cells)
    inverse = np.linalg.inv(_curvature(lambda parameters: loss(parameters, runs), mode))
    covariance = inverse * len(runs) / num_cells
    off = []
    for cell in runs.cells:
        there = runs.in_cell(cell)
        begin = {"hess_inv0": (inverse + inverse.T) / 2, "gtol": 1e-3}
        without = minimize(loss, mode, args=(runs[~there],), method="BFGS", options=begin).x
        off.append(_half_widths_off(_without_optimism(without, num_cells - 1), covariance, runs[there]))
    return Fitted(
        f"{len(runs)} published runs in {num_cells} cells",
        NAMES,
        tuple(_without_optimism(mode, num_cells).tolist()),
        tuple(map(tuple, covariance.tolist())),
        _stretch(np.concatenate(off, axis=1)),
    )


def _without_optimism(mode: Array, num_cells: int) -> Array:
    """Return parameters with more noise: a fit comes closer to what it was fitted to than to what it has not seen."""
    wider = np.zeros(len(mode))
    wider[-2:] = np.log(num_cells / max(num_cells - NUM_FITTED, 1)) / 2
    return mode + wider


def _half_widths_off(mode: Array, covariance: Array, runs: Runs) -> Array:
    """Return how far runs are from their forecast in closed form, in halves of the central 90 %: Map, end to end."""
    generator = np.random.default_rng(0)
    drawn = generator.multivariate_normal(mode, covariance, NUM_DRAWN).T[..., None]
    map_s = map_time(drawn, runs, generator.gumbel(size=(NUM_DRAWN, len(runs)))) * _noise(drawn[-2], runs, generator)
    end_to_end_s = map_s + _edge_time(drawn, runs, generator)
    found = []
    for predicted, measured in ((map_s, runs.map_s), (end_to_end_s, runs.end_to_end_s)):
        low, median, high = np.log(np.quantile(predicted, (0.05, 0.5, 0.95), axis=0))
        off = np.log(measured) - median
        found.append(np.where(off < 0, off / (low - median), off / (high - median)))
    return np.array(found)


def _stretch(off: Array) -> tuple[float, ...]:
    """Return what holds 90 % of the runs, shape (2, N), and of those with one more."""
    num = off.shape[1]
    inside = min(math.ceil(0.9 * (num + 1)), num)
    return tuple(np.sort(off, axis=1)[:, inside - 1].tolist())


def _surprise(parameters: Array, runs: Runs) -> float:
    """Return the negative logarithm of the likelihood: Student's t around the medians, of logarithms."""
    cold_s, cold_odds, map_noise, edge_noise = np.exp(parameters[-4:])
    edge_s = runs.end_to_end_s - runs.map_s
    warm_s = edge_median(parameters, runs)
    log_map = _log_student(np.log(runs.map_s / map_median(parameters, runs)), map_noise)
    log_warm = _log_student(np.log(edge_s / warm_s), edge_noise)
    log_cold = _log_student(np.log(edge_s / (warm_s + cold_s)), edge_noise) + np.log(cold_odds)
    return -float((log_map + np.logaddexp(log_warm, log_cold) - np.log1p(cold_odds)).sum())


def _log_student(off: Array, scale: float) -> Array:
    """Return the logarithm of Student's density, but for a constant."""
    return np.asarray(-(FREEDOM + 1) / 2 * np.log1p((off / scale) ** 2 / FREEDOM) - np.log(scale))


def map_median(parameters: Array, runs: Runs) -> Array:
    """Return the median duration of the Map in closed form [s], which the simulation approaches."""
    return map_time(parameters, runs, GUMBEL_MEDIAN)


def map_time(parameters: Array, runs: Runs, gumbel: Array | float) -> Array:
    """Return the duration of the Map in closed form, without noise [s].

    Rank i of n ends at i / rate + rank_s + Exp(tail_s): the last end is Gumbel distributed around rank_s + tail_s
    ln(sum of exp(i / (rate tail_s))).
    """
    fixed_s, row_s, batch_s, tail_s, dispatch_per_s = np.exp(parameters[:5])
    step = 1 / (dispatch_per_s * tail_s)
    # ln of (e^(n step) - 1) / (e^step - 1), for any n.
    ends = step * (runs.num_ranks - 1) + np.log1p(-np.exp(-step * runs.num_ranks)) - np.log1p(-np.exp(-step))
    rank_s = fixed_s + row_s * runs.num_rows + batch_s * runs.num_batches
    return np.asarray(rank_s + tail_s * (ends + gumbel))


def edge_median(parameters: Array, runs: Runs) -> Array:
    """Return the median of what a run takes besides its Map, its functions warm [s]."""
    edge_s, record_s = np.exp(parameters[5:7])
    return np.asarray(edge_s + record_s * np.minimum(runs.num_ranks, LISTING_PAGE))


def _edge_time(drawn: Array, runs: Runs, generator: np.random.Generator) -> Array:
    """Return what runs take besides their Maps, parameters (11, R, 1), shape (R, N) [s]."""
    cold_s, cold_odds = np.exp(drawn[7:9])
    is_cold = generator.random((drawn.shape[1], len(runs))) < cold_odds / (1 + cold_odds)
    return (edge_median(drawn, runs) + is_cold * cold_s) * _noise(drawn[-1], runs, generator)


def _noise(log_scale: Array, runs: Runs, generator: np.random.Generator) -> Array:
    """Return factors around one by which runs of a setting differ, scales (R, 1), shape (R, N)."""
    return np.asarray(np.exp(np.exp(log_scale) * generator.standard_t(FREEDOM, (len(log_scale), len(runs)))))


def _curvature(loss: Callable[[Array], float], at: Array, step: float = 1e-3) -> Array:
    """Return the second derivatives by central differences."""
    size = len(at)
    steps = step * np.eye(size)
    found = np.empty((size, size))
    for i in range(size):
        for j in range(i + 1):
            corners = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
            values = [a * b * loss(at + a * steps[i] + b * steps[j]) for a, b in corners]
            found[i, j] = found[j, i] = sum(values) / (4 * step**2)
    return found


@dataclass(frozen=True)
class Prediction:
    """What is forecast of runs: arrays of shape (N, R), a row per run."""

    map_s: Array
    end_to_end_s: Array


def predict(fitted: Fitted, runs: Runs, *, num_replications: int = 400, seed: int = 0) -> Prediction:
    """Simulate every run of a list as the published system was."""
    settings = np.stack([runs.shard_mb, runs.batch_size, runs.num_ranks], 1)
    distinct, which = np.unique(settings, axis=0, return_inverse=True)
    first = [int(np.flatnonzero(which == i)[0]) for i in range(len(distinct))]
    found = np.array([_predict_one(fitted, runs[np.array([i])], num_replications, seed) for i in first])
    return Prediction(*(_stretched(found[which, i], by) for i, by in enumerate(fitted.stretch)))


def _predict_one(fitted: Fitted, run: Runs, num: int, seed: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    drawn = generator.multivariate_normal(fitted.log_values, fitted.log_covariance, num).T
    values = dict(zip(fitted.names, np.exp(drawn), strict=True))
    pace = Pace(
        before_s=np.zeros(num),
        dispatch_per_s=values["dispatch_per_s"],
        cold_s=np.zeros(num),  # every invocation downloads model and code: a warm one has little advantage
        rank_s=values["fixed_s"] + values["row_s"] * run.num_rows + values["batch_s"] * run.num_batches,
        tail_s=values["tail_s"],
        retry_share=np.zeros(num),  # in the tail, as it was measured
        backup_after_s=np.full(num, np.inf),
        weather=_noise(drawn[-2][:, None], run, generator)[:, 0],
        after_s=_edge_time(drawn[..., None], run, generator)[:, 0],
    )
    room = Room(max_concurrency=MAX_CONCURRENCY, burst=MAX_CONCURRENCY)
    found = simulate(pace, room, int(run.num_ranks[0]), generator)
    return found.map_s, found.end_to_end_s


def _stretched(predicted: Array, by: float) -> Array:
    """Return replications (N, R) as far from their median as their kind was found to be."""
    median = np.median(predicted, axis=1, keepdims=True)
    return np.asarray(median * (predicted / median) ** by)
