"""What a run costs: what AWS bills it for, counted, times one dated table of prices."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from inference.contract import Payload, RunSummary

MB_PER_GB = 1024
BYTES_PER_GB = 2**30
FREE_EPHEMERAL_MB = 512
EXPRESS_MEMORY_GB = 64 / 1024
"""Smallest chunk that an Express execution is billed for; a rank's payload stays far below it."""

EXPRESS_ROUNDING_S = 0.05
"""Express executions are billed in steps of 100 ms: half a step each, on average."""

LAMBDA_ROUNDING_MS = 0.5
"""The same for Lambda's steps of 1 ms, where only the sum over the ranks is known."""

STATES_OF_A_RUN = 3
"""Initialize, InferRanks, Summarize."""

STATES_OF_A_LOST_RANK = 3
"""Infer, RecordFailure, RankLost."""

LIST_PAGE = 1000

# Where they were not measured: one rank's objects and log lines, from runs of this version, rounded up.
RECORD_BYTES = 9_000
RESULT_BYTES_PER_ROW = 35
LOG_BYTES_PER_INVOCATION = 2_500
LOG_EVENT_BYTES = 26
"""CloudWatch counts this much for every event, besides its text."""


class StandingPrices(Payload, frozen=True, kw_only=True):
    """List prices of what is paid for while it is there [USD]."""

    fargate_vcpu_h: dict[str, float]
    """Architecture to the price of a vCPU of a Fargate task for an hour."""

    fargate_gb_h: dict[str, float]
    """Architecture to the price of a GB of its memory for an hour."""

    load_balancer_h: float
    """A network load balancer for an hour."""

    public_ipv4_h: float
    """A public IPv4 address for an hour."""

    secret_month: float
    """A secret of Secrets Manager for a month."""


class Prices(Payload, frozen=True, kw_only=True):
    """List prices of one region [USD], without free tier."""

    lambda_gb_s: dict[str, float]
    """Architecture to the price of a GB of configured memory for a second."""

    lambda_request: float
    """One invocation."""

    lambda_ephemeral_gb_s: float
    """A GB of /tmp above the first 512 MB for a second."""

    state_transition: float
    """One state entered in a Standard execution, retries included."""

    express_request: float
    """One Express execution."""

    express_gb_s: float
    """A GB of an Express execution for a second."""

    s3_put: float
    """One PUT, COPY, POST or LIST."""

    s3_get: float
    """One GET or HEAD."""

    s3_gb_month: float
    """A GB stored for a month."""

    log_gb: float
    """A GB of log lines taken in."""

    standing: StandingPrices | None = None
    """Of the rendezvous; None where no one has looked them up."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What of a deployment decides the price."""

    memory_mb: Mapping[str, int]
    """Stage to the configured memory of its function [MB]."""

    architecture: str
    """``x86_64`` or ``arm64``."""

    child_type: Literal["STANDARD", "EXPRESS"] = "STANDARD"
    """Kind of child execution per rank."""

    ephemeral_mb: Mapping[str, int] = field(default_factory=dict)
    """Stage to the size of its /tmp [MB]; 512 where not named."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a run took, in the units that AWS bills."""

    billed_ms: Mapping[str, int]
    """Stage to the billed duration of its invocations, init included [ms]."""

    num_invocations: int
    """Invocations of all functions."""

    num_transitions: int
    """States entered in Standard executions."""

    num_express: int = 0
    """Express executions."""

    express_s: float = 0.0
    """Their duration [s]."""

    num_s3_puts: int = 0
    """PUT and LIST requests."""

    num_s3_gets: int = 0
    """GET and HEAD requests."""

    stored_bytes: int = 0
    """Size of the results [bytes]."""

    log_bytes: int = 0
    """Log lines as CloudWatch counts them [bytes]."""


@dataclass(frozen=True)
class CostItem:
    """One line of a bill."""

    name: str
    """What is paid for."""

    usd: float
    """Price [USD]."""

    quantity: str
    """How much of it, in words."""


@dataclass(frozen=True)
class Bill:
    """What a run cost, or would cost."""

    items: tuple[CostItem, ...]
    """What is paid for."""

    prices_of: str
    """Region and date of the prices."""

    @property
    def usd(self) -> float:
        """All of it [USD]."""
        return math.fsum(item.usd for item in self.items)


def as_run(rates: Rates, summary: RunSummary) -> Rates:
    """Return the rates with the memory that Infer had in a run: a sweep sets it without deploying again."""
    if not summary.function_memory_mb:
        return rates
    return replace(rates, memory_mb={**rates.memory_mb, "infer": summary.function_memory_mb})


def billed_ms(duration_s: float, init_s: float = 0.0) -> int:
    """Return what Lambda bills for one invocation [ms]: init and duration, rounded up together."""
    return math.ceil(round((duration_s + init_s) * 1000, 6))


def usage_of(
    summary: RunSummary,
    rates: Rates,
    *,
    billed: Mapping[str, Sequence[int]] | None = None,
    stored_bytes: int | None = None,
    log_bytes: int | None = None,
) -> Usage:
    """Count what a run took.

    Parameters
    ----------
    summary : RunSummary
        Of the run.
    rates : Rates
        Of the deployment.
    billed : mapping of str to sequence of int, optional
        Stage to the billed duration of every invocation [ms], as the REPORT lines state it. Without it the clocks of
        the summary count: they end some milliseconds before Lambda's, know nothing of failed attempts, and miss the
        init of Initialize and Summarize. Of a resumed run every rank that was left counts as begun before.
    stored_bytes, log_bytes : int, optional
        Size of the results and of the log lines; from the number of ranks and rows when absent.
    """
    attempts = summary.num_records + (sum(summary.retries.values()) or summary.num_retried_ranks)
    lost = len(summary.lost_ranks)
    num_executions = 1 + len(summary.resumptions)
    if billed is None:
        ranks_ms = summary.rank_seconds * 1000 + LAMBDA_ROUNDING_MS * summary.num_records
        sums = {
            "infer": math.ceil(ranks_ms),
            "initialize": billed_ms(summary.clock.initialize),
            "summarize": billed_ms(summary.clock.summarize),
        }
        num_begun = attempts + lost + sum(one.num_ranks for one in summary.resumptions)
        num_invocations = num_begun + 2 * num_executions
    else:
        sums = {stage: sum(each) for stage, each in billed.items()}
        num_begun = max(attempts + lost, len(billed.get("infer", ())))
        num_invocations = sum(map(len, billed.values()))
    entered_by_ranks = num_begun + lost * (STATES_OF_A_LOST_RANK - 1)
    is_express = rates.child_type == "EXPRESS"
    puts, gets = s3_requests(summary)
    modelled_bytes = summary.world_size * RECORD_BYTES + summary.num_samples * RESULT_BYTES_PER_ROW
    return Usage(
        billed_ms=sums,
        num_invocations=num_invocations,
        num_transitions=STATES_OF_A_RUN * num_executions + (0 if is_express else entered_by_ranks),
        num_express=summary.world_size if is_express else 0,
        express_s=summary.clock.ranks.queue + summary.clock.ranks.total if is_express else 0.0,
        num_s3_puts=puts,
        num_s3_gets=gets,
        stored_bytes=modelled_bytes if stored_bytes is None else stored_bytes,
        log_bytes=num_invocations * LOG_BYTES_PER_INVOCATION if log_bytes is None else log_bytes,
    )


def usage_before(
    rates: Rates,
    *,
    num_rows: int,
    num_shards: int,
    world_size: int,
    ranks_s: float,
    initialize_s: float,
    summarize_s: float,
) -> Usage:
    """Count what a run will take whose times are known: billed time of all ranks together, and of both ends [s]."""
    num_invocations = world_size + 2
    is_express = rates.child_type == "EXPRESS"
    return Usage(
        billed_ms={
            "infer": math.ceil(ranks_s * 1000),
            "initialize": math.ceil(initialize_s * 1000),
            "summarize": math.ceil(summarize_s * 1000),
        },
        num_invocations=num_invocations,
        num_transitions=STATES_OF_A_RUN + (0 if is_express else world_size),
        num_express=world_size if is_express else 0,
        express_s=ranks_s if is_express else 0.0,
        num_s3_puts=2 * world_size + 5 + list_pages(world_size),
        # Per part of a shard its head and its images; a rank takes one part, and one more where two shards meet.
        num_s3_gets=2 * (world_size + num_shards) + world_size + 3,
        stored_bytes=world_size * RECORD_BYTES + num_rows * RESULT_BYTES_PER_ROW,
        log_bytes=num_invocations * LOG_BYTES_PER_INVOCATION,
    )


def s3_requests(summary: RunSummary) -> tuple[int, int]:
    """Count a run's requests to S3: PUT and LIST, then GET.

    Notes
    -----
    A rank PUTs its predictions and its record; Initialize LISTs the dataset, GETs ``dataset.json`` and PUTs the plan
    and the manifest, which the Map GETs; Summarize GETs the manifest, LISTs and GETs the records and failures, and PUTs
    two objects. What the client repeats by itself is not counted.
    """
    ranks, lost = summary.num_records, len(summary.lost_ranks)
    puts = 2 * ranks + lost + 3 + 2 + list_pages(ranks) + list_pages(lost)
    return puts, max(summary.num_s3_requests - ranks, 0) + ranks + lost + 3


def list_pages(num_objects: int) -> int:
    """Return the requests that a listing takes; an empty one takes one."""
    return max(1, math.ceil(num_objects / LIST_PAGE))


def bill(usage: Usage, rates: Rates, prices: Prices, *, prices_of: str) -> Bill:
    """Price what a run took.

    Returns
    -------
    Bill
        Lambda's time on the **configured** memory, its requests and its storage above 512 MB, state transitions or
        Express executions, S3 requests and one month of the results, and the log lines taken in. Not in it: the
        dataset's storage, metrics and tracing, and the transfer of results out of AWS.
    """
    seconds = {stage: ms / 1000 for stage, ms in usage.billed_ms.items()}
    gb_s = sum(s * rates.memory_mb[stage] for stage, s in seconds.items()) / MB_PER_GB
    extra_mb = {stage: max(rates.ephemeral_mb.get(stage, 0) - FREE_EPHEMERAL_MB, 0) for stage in seconds}
    ephemeral_gb_s = sum(s * extra_mb[stage] for stage, s in seconds.items()) / MB_PER_GB
    express_gb_s = (usage.express_s + usage.num_express * EXPRESS_ROUNDING_S) * EXPRESS_MEMORY_GB
    lines = [
        ("Lambda time", gb_s * prices.lambda_gb_s[rates.architecture], f"{gb_s:,.1f} GB-s, {rates.architecture}"),
        ("Lambda requests", usage.num_invocations * prices.lambda_request, f"{usage.num_invocations:,} invocations"),
        ("Lambda storage", ephemeral_gb_s * prices.lambda_ephemeral_gb_s, f"{ephemeral_gb_s:,.1f} GB-s above 512 MB"),
        ("Step Functions", usage.num_transitions * prices.state_transition, f"{usage.num_transitions:,} transitions"),
        (
            "Express ranks",
            usage.num_express * prices.express_request + express_gb_s * prices.express_gb_s,
            f"{usage.num_express:,} executions, {express_gb_s:,.1f} GB-s",
        ),
        (
            "S3 requests",
            usage.num_s3_puts * prices.s3_put + usage.num_s3_gets * prices.s3_get,
            f"{usage.num_s3_puts:,} PUT and LIST, {usage.num_s3_gets:,} GET",
        ),
        (
            "S3 storage",
            usage.stored_bytes / BYTES_PER_GB * prices.s3_gb_month,
            f"{usage.stored_bytes / 1e6:,.1f} MB for a month",
        ),
        ("Logs", usage.log_bytes / BYTES_PER_GB * prices.log_gb, f"{usage.log_bytes / 1e3:,.0f} kB"),
    ]
    always = {"Lambda time", "Lambda requests", "Step Functions", "S3 requests", "S3 storage", "Logs"}
    return Bill(tuple(CostItem(*line) for line in lines if line[1] or line[0] in always), prices_of)


def usd_as_published(num_requests: int, inference_s: float, used_gb: float, usd_per_gb_s: float = 0.00001667) -> float:
    """Return what the published cost table states: **used** memory times inference time, no init, no transfers [USD].

    References
    ----------
    Staylor et al. 2025, arXiv:2501.06249: requests x duration(s) x memory(GB) x 0.00001667. Lambda bills the configured
    memory and the whole duration.
    """
    return num_requests * inference_s * used_gb * usd_per_gb_s
