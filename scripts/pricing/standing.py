"""What a deployment costs by the hour, whether anything runs or not: the rendezvous, where there is one."""

from scripts.pricing.cost import CostItem, StandingPrices

HOURS_PER_MONTH = 730
NUM_VCPUS = 0.25
MEMORY_GB = 0.5
NUM_ADDRESSES = 2
"""Public ones: the load balancer's, and the task's, which pulls its image."""


def rendezvous_items(prices: StandingPrices, architecture: str) -> tuple[CostItem, ...]:
    """Return the price of an hour of the rendezvous, item by item; what passes through it comes on top."""
    task = NUM_VCPUS * prices.fargate_vcpu_h[architecture] + MEMORY_GB * prices.fargate_gb_h[architecture]
    return (
        CostItem("task", task, f"{NUM_VCPUS} vCPU, {MEMORY_GB} GB of Fargate, {architecture}"),
        CostItem("load balancer", prices.load_balancer_h, "one, without its capacity units"),
        CostItem("addresses", NUM_ADDRESSES * prices.public_ipv4_h, f"{NUM_ADDRESSES} public IPv4"),
        CostItem("secret", prices.secret_month / HOURS_PER_MONTH, "one, the key"),
    )
