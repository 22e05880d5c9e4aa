"""What a run would have taken and cost with other memory or another processor.

The model: Lambda grants CPU in proportion to memory, one vCPU at 1,769 MB (AWS, "Configure Lambda function memory").
Below that everything slows down with the share of the vCPU. Above it the engine computes with as many threads as there
are whole vCPUs, and Amdahl's law says what they gain. The share that stays serial is at best 0; at worst 0.33, which is
what the native engine shows here, 1.5 times as fast with a second CPU, and what the published rate with 10,240 MB (200
to 248 galaxies/s, five threads) leaves of the same loop's 103 on one thread. What is not inference (start, transfers,
record) gains nothing. An arm64 function has its own price and is assumed to be as fast: that was not measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from inference.contract import RunSummary
from inference.plan import MB_PER_VCPU
from scripts.pricing.cost import Prices, Rates, Usage, bill

MEMORY_SIZES_MB = (512, 1024, 1769, 3008, 5307, 10240)
"""Sizes people ask for: small, one vCPU, the cap of a new account, three vCPUs, all of them."""

ARCHITECTURES = ("x86_64", "arm64")


class Range(NamedTuple):
    """A number that is not known exactly."""

    low: float
    expected: float
    high: float

    def scaled(self, factor: float) -> "Range":
        """Return the range times a number."""
        return Range(*(value * factor for value in self))


SERIAL_SHARE = Range(0.0, 0.25, 0.33)
"""Of inference, what further threads do not make faster."""


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """One setting, and what the run would have taken with it."""

    memory_mb: int
    """Memory of the Infer function [MB]."""

    num_vcpus: float
    """CPU that comes with it."""

    rank_s: Range
    """Billed time of a mean rank [s]."""

    usd: Mapping[str, Range]
    """Architecture to the price of the whole run [USD]."""

    is_large_enough: bool
    """False when the ranks of this run held more memory than that."""


def inference_time(memory_mb: float, serial_share: float) -> float:
    """Return the time of inference with this memory, relative to one vCPU."""
    if memory_mb < MB_PER_VCPU:
        return MB_PER_VCPU / memory_mb
    num_threads = int(memory_mb // MB_PER_VCPU)
    return serial_share + (1 - serial_share) / num_threads


def other_time(memory_mb: float) -> float:
    """Return the time of everything else with this memory, relative to one vCPU."""
    return max(1.0, MB_PER_VCPU / memory_mb)


def rescaled(summary: RunSummary, from_mb: int, to_mb: int) -> Range:
    """Return the factor by which the ranks' billed time changes with their memory."""
    inference_s = summary.clock.ranks.inference
    other_s = max(summary.rank_seconds - inference_s, 0.0)
    other_ratio = other_time(to_mb) / other_time(from_mb)
    factors = [
        (inference_s * inference_time(to_mb, serial) / inference_time(from_mb, serial) + other_s * other_ratio)
        / max(summary.rank_seconds, 1e-9)
        for serial in SERIAL_SHARE
    ]
    return Range(min(factors), factors[1], max(factors))


def what_if(summary: RunSummary, usage: Usage, rates: Rates, prices: Prices) -> list[WhatIf]:
    """Return what a run would have taken with other memory sizes, its own among them, the smallest first.

    Parameters
    ----------
    summary : RunSummary
        Of the run, with at least one record.
    usage : Usage
        What it took.
    rates, prices
        What it was deployed with.
    """
    own_mb = rates.memory_mb["infer"]
    return [_with_memory(summary, usage, rates, prices, memory_mb) for memory_mb in sorted({*MEMORY_SIZES_MB, own_mb})]


def _with_memory(summary: RunSummary, usage: Usage, rates: Rates, prices: Prices, memory_mb: int) -> WhatIf:
    factors = rescaled(summary, rates.memory_mb["infer"], memory_mb)

    def usd(architecture: str, factor: float) -> float:
        there = replace(rates, memory_mb={**rates.memory_mb, "infer": memory_mb}, architecture=architecture)
        took = replace(usage, billed_ms={**usage.billed_ms, "infer": round(usage.billed_ms["infer"] * factor)})
        return bill(took, there, prices, prices_of="").usd

    return WhatIf(
        memory_mb=memory_mb,
        num_vcpus=memory_mb / MB_PER_VCPU,
        rank_s=factors.scaled(usage.billed_ms["infer"] / 1000 / summary.num_records),
        usd={name: Range(*(usd(name, factor) for factor in factors)) for name in ARCHITECTURES},
        is_large_enough=summary.peak_memory_bytes <= memory_mb * 2**20,
    )
