"""The model of the published system: fitted to its runs, simulated as it was."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln

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
    "freedom",
)
"""Parameters of the fit, in this order."""

NUM_FITTED = 5
"""Of them, those that the Map's duration depends on."""

NOISES = slice(9, 11)
"""Those that say how much runs of one setting differ."""

LISTING_PAGE = 1000
"""Records that the published summarizer reads at most: one page of a listing."""

FARTHEST = 3.0
"""Logarithm of the largest factor by which a run is drawn off: a distribution with such tails has no mean."""

MAX_CONCURRENCY = 10_240
GUMBEL_MEDIAN = 0.36651292058166435
"""-ln ln 2: median of the largest of many exponentials, beyond its mode."""


def fit(runs: Runs, prior: dict[str, Constant] | None = None) -> Fitted:
    """Return what the runs say of the parameters, given what was believed before: the mode, and the curvature there."""
    prior = prior or read_constants().published
    centre = np.log([prior[name].value for name in NAMES])
    width = np.array([prior[name].spread for name in NAMES])

    def loss(parameters: Array) -> float:
        distance = (parameters - centre) / width
        return _surprise(parameters, runs) + float(distance @ distance) / 2

    found = minimize(loss, centre, method="L-BFGS-B", bounds=np.stack([centre - 5 * width, centre + 5 * width], 1))
    # Runs of one cell share what the model misses of it: they say no more than one run does.
    num_cells = len(runs.cells)
    covariance = np.linalg.inv(_curvature(loss, found.x)) * len(runs) / num_cells
    mode = found.x.copy()
    # A fit comes closer to what it was fitted to than to what it has not seen.
    mode[NOISES] += np.log(num_cells / max(num_cells - NUM_FITTED, 1)) / 2
    return Fitted(
        f"{len(runs)} published runs in {num_cells} cells",
        NAMES,
        tuple(mode.tolist()),
        tuple(map(tuple, covariance.tolist())),
    )


def _surprise(parameters: Array, runs: Runs) -> float:
    """Return the negative logarithm of the likelihood: Student's t around the medians, of logarithms."""
    cold_s, cold_odds, map_noise, edge_noise, freedom = np.exp(parameters[7:])
    edge_s = runs.end_to_end_s - runs.map_s
    warm_s = edge_median(parameters, runs)
    log_map = _log_student(np.log(runs.map_s / map_median(parameters, runs)), map_noise, freedom)
    log_warm = _log_student(np.log(edge_s / warm_s), edge_noise, freedom)
    log_cold = _log_student(np.log(edge_s / (warm_s + cold_s)), edge_noise, freedom) + np.log(cold_odds)
    return -float((log_map + np.logaddexp(log_warm, log_cold) - np.log1p(cold_odds)).sum())


def _log_student(off: Array, scale: float, freedom: float) -> Array:
    """Return the logarithm of Student's density, whose degrees of freedom say how often a run is far off."""
    constant = gammaln((freedom + 1) / 2) - gammaln(freedom / 2) - np.log(np.pi * freedom) / 2
    return np.asarray(constant - (freedom + 1) / 2 * np.log1p((off / scale) ** 2 / freedom) - np.log(scale))


def _student(scale: Array, freedom: Array, generator: np.random.Generator) -> Array:
    """Return factors of that distribution."""
    return np.asarray(np.exp(np.clip(scale * generator.standard_t(freedom), -FARTHEST, FARTHEST)))


def map_median(parameters: Array, runs: Runs) -> Array:
    """Return the median duration of the Map in closed form [s], which the simulation approaches.

    Rank i of n ends at i / rate + rank_s + Exp(tail_s): the last end is Gumbel distributed around rank_s + tail_s
    ln(sum of exp(i / (rate tail_s))).
    """
    fixed_s, row_s, batch_s, tail_s, dispatch_per_s = np.exp(parameters[:5])
    step = 1 / (dispatch_per_s * tail_s)
    # ln of (e^(n step) - 1) / (e^step - 1), for any n.
    ends = step * (runs.num_ranks - 1) + np.log1p(-np.exp(-step * runs.num_ranks)) - np.log1p(-np.exp(-step))
    rank_s = fixed_s + row_s * runs.num_rows + batch_s * runs.num_batches
    return np.asarray(rank_s + tail_s * (ends + GUMBEL_MEDIAN))


def edge_median(parameters: Array, runs: Runs) -> Array:
    """Return the median of what a run takes besides its Map, its functions warm [s]."""
    edge_s, record_s = np.exp(parameters[5:7])
    return np.asarray(edge_s + record_s * np.minimum(runs.num_ranks, LISTING_PAGE))


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


def predict(fitted: Fitted, runs: Runs, *, num_replications: int = 4000, seed: int = 0) -> Prediction:
    """Simulate every run of a list as the published system was."""
    settings = np.stack([runs.shard_mb, runs.batch_size, runs.num_ranks], 1)
    distinct, which = np.unique(settings, axis=0, return_inverse=True)
    first = [int(np.flatnonzero(which == i)[0]) for i in range(len(distinct))]
    found = np.array([_predict_one(fitted, runs[np.array([i])], num_replications, seed) for i in first])
    return Prediction(found[which, 0], found[which, 1])


def _predict_one(fitted: Fitted, run: Runs, num: int, seed: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    drawn = np.exp(generator.multivariate_normal(fitted.log_values, fitted.log_covariance, num))
    values = dict(zip(fitted.names, drawn.T, strict=True))
    rank_s = values["fixed_s"] + values["row_s"] * run.num_rows + values["batch_s"] * run.num_batches
    num_ranks = int(run.num_ranks[0])
    is_cold = generator.random(num) < values["edge_cold_odds"] / (1 + values["edge_cold_odds"])
    edge_s = values["edge_s"] + values["record_s"] * min(num_ranks, LISTING_PAGE) + is_cold * values["edge_cold_s"]
    pace = Pace(
        before_s=np.zeros(num),
        dispatch_per_s=values["dispatch_per_s"],
        cold_s=np.zeros(num),  # every invocation downloads model and code: a warm one has little advantage
        rank_s=rank_s,
        tail_s=values["tail_s"],
        retry_share=np.zeros(num),  # in the tail, as it was measured
        backup_after_s=np.full(num, np.inf),
        weather=_student(values["map_noise"], values["freedom"], generator),
        after_s=edge_s * _student(values["edge_noise"], values["freedom"], generator),
    )
    found = simulate(pace, Room(max_concurrency=MAX_CONCURRENCY, burst=MAX_CONCURRENCY), num_ranks, generator)
    return found.map_s, found.end_to_end_s
