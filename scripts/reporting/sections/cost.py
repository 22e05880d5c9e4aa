"""What a run cost, item by item."""

from typing import Any

from scripts.reporting.document import Block, Section, Table
from scripts.reporting.evidence import RunEvidence
from scripts.reporting.quantities import number, percent, usd


def cost_section(run: RunEvidence) -> Section:
    """Return the receipt of a run, from its ``cost.json``."""
    items = run.cost.get("items")
    if not items:
        return Section("Cost", f"No receipt: `make cost RUN={run.run_id}` writes one.")
    total = sum(item["usd"] for item in items)
    return Section("Cost", f"{usd(total)} at list prices.", [_receipt(items, total)])


def total_usd(run: RunEvidence) -> float | None:
    """Return what the run costs at list prices [USD]; None where there is no receipt."""
    items = run.cost.get("items")
    return sum(item["usd"] for item in items) if items else None


def _receipt(items: list[dict[str, Any]], total: float) -> Block:
    rows = [(item["name"], number(item["usd"]), percent(item["usd"] / total), item["quantity"]) for item in items]
    rows.append(("together", number(total), "", ""))
    return Table("Receipt", ("item", "USD", "share", "quantity"), rows, frozenset({0, 3}))
