"""What the runs of a sweep cost at list prices, also where nothing is paid."""

from dataclasses import replace

from inference.contract import RunSummary
from scripts.deployment.stack import Stack
from scripts.deployment.stages import read_stages
from scripts.pricing.cost import Rates
from scripts.pricing.prices import bill_of, read_prices

LOCAL_ARCHITECTURE = "x86_64"


def rates_of(stack: Stack | None, memory_mb: int) -> Rates:
    """Return what decides the price of a run with `memory_mb` per rank; of a local one as it would be deployed."""
    if stack is not None:
        return replace(stack.rates, memory_mb={**stack.rates.memory_mb, "infer": memory_mb})
    deployed = {stage: settings["memory_mb"] for stage, settings in read_stages().items()}
    return Rates(memory_mb={**deployed, "infer": memory_mb}, architecture=LOCAL_ARCHITECTURE)


def list_price_usd(summary: RunSummary, rates: Rates, region: str) -> float:
    """Return what a run with these times costs on AWS [USD].

    Raises
    ------
    PriceError
        If the price file is damaged or does not know the region.
    """
    return bill_of(summary, rates, region).usd


def prices_in_words(region: str) -> str:
    """Say whose prices, of when."""
    return f"list prices of {read_prices().label(region)}"
