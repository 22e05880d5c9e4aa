"""What a run costs: the configured memory, the billed time, and one dated table of prices."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from inference.contract import RunSummary

PRICES_AS_OF = "us-east-1, January 2026, without free tier"
USD_PER_LAMBDA_GB_S = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
USD_PER_LAMBDA_REQUEST = 0.20 / 1e6
USD_PER_STATE_TRANSITION = 0.025 / 1e3
USD_PER_EXPRESS_REQUEST = 1.00 / 1e6
USD_PER_EXPRESS_GB_S = 0.00001667
EXPRESS_MEMORY_GB = 64 / 1024
"""Smallest chunk that an Express execution is billed for; a rank's payload stays far below it."""

MB_PER_GB = 1024
STATES_OF_A_RUN = 3
"""Initialize, InferRanks, Summarize."""

STATES_OF_A_LOST_RANK = 3
"""Infer, RecordFailure, RankLost."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What of a deployment decides the price."""

    memory_mb: Mapping[str, int]
    """Stage to the configured memory of its function [MB]."""

    architecture: str
    """``x86_64`` or ``arm64``."""

    child_type: Literal["STANDARD", "EXPRESS"] = "STANDARD"
    """Kind of child execution per rank."""


@dataclass(frozen=True)
class CostItem:
    """One line of a bill."""

    name: str
    """What is paid for."""

    usd: float
    """Price [USD]."""

    quantity: str
    """How much of it, in words."""


def itemise(summary: RunSummary, rates: Rates) -> tuple[CostItem, ...]:
    """Return what a run cost by Lambda's and Step Functions' rules.

    Parameters
    ----------
    summary : RunSummary
        Of the run; the time of a rank's failed attempts is not in it, and so not in the bill.
    rates : Rates
        Of the deployment.

    Returns
    -------
    tuple of CostItem
        Compute, requests, state transitions, and Express executions where the children are such. S3 is not in it:
        some cents per ten thousand ranks.
    """
    lost = len(summary.lost_ranks)
    attempts = summary.num_records + summary.num_retried_ranks + lost
    # The stages' own clocks stop some milliseconds before Lambda's.
    compute_gb_s = (
        summary.rank_seconds * rates.memory_mb["infer"]
        + summary.clock.initialize * rates.memory_mb["initialize"]
        + summary.clock.summarize * rates.memory_mb["summarize"]
    ) / MB_PER_GB
    num_requests = attempts + 2
    entered_by_ranks = attempts + lost * (STATES_OF_A_LOST_RANK - 1)
    num_transitions = STATES_OF_A_RUN + (entered_by_ranks if rates.child_type == "STANDARD" else 0)
    items = [
        CostItem(
            "Lambda time",
            compute_gb_s * USD_PER_LAMBDA_GB_S[rates.architecture],
            f"{compute_gb_s:,.1f} GB-s, {rates.architecture}",
        ),
        CostItem("Lambda requests", num_requests * USD_PER_LAMBDA_REQUEST, f"{num_requests:,} invocations"),
        CostItem("Step Functions", num_transitions * USD_PER_STATE_TRANSITION, f"{num_transitions:,} transitions"),
    ]
    if rates.child_type == "EXPRESS":
        express_gb_s = (summary.clock.ranks.queue + summary.clock.ranks.total) * EXPRESS_MEMORY_GB
        usd = summary.world_size * USD_PER_EXPRESS_REQUEST + express_gb_s * USD_PER_EXPRESS_GB_S
        items.append(CostItem("Express ranks", usd, f"{summary.world_size:,} executions, {express_gb_s:,.1f} GB-s"))
    return tuple(items)
