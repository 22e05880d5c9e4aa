"""What a run cost, item by item, and what it would have cost with other memory or another processor."""

from inference.errors import RunFolderError
from scripts.command.errors import UsageError
from scripts.pricing.prices import read_prices
from scripts.pricing.what_if import Range, WhatIf
from scripts.reports.document import Block, Note, Row, Section, Table
from scripts.reports.evidence import RunEvidence
from scripts.reports.quantities import decimals, number, percent
from scripts.runs.receipt import Receipt, receipt_of
from scripts.runs.run_folder import Run


def find_receipt(run: RunEvidence) -> Receipt | None:
    """Return the receipt of a run; None where its folder does not tell enough, or the prices are not known."""
    folder = Run(run.folder, run.run_id, run.entry)
    try:
        return receipt_of(folder, read_prices())
    except (UsageError, RunFolderError):
        return None


def cost_section(receipt: Receipt | None) -> Section:
    """Return the receipt of a run."""
    if receipt is None:
        return Section("Cost", "Unknown: a receipt needs the summary and the records of a run of this version.")
    lead = f"{number(receipt.bill.usd)} USD at list prices of {receipt.bill.prices_of}. Billed time {receipt.basis}."
    if not receipt.is_paid:
        lead = f"Nothing was paid: the run was local. On AWS, with these times and this memory: {lead}"
    blocks: list[Block] = [_receipt(receipt)]
    if receipt.settings:
        blocks += [_what_if(receipt), Note(_MODEL)]
    return Section("Cost", lead, blocks)


_MODEL = (
    "The second table is a model: a rank is faster with a larger share of a vCPU, up to 1,769 MB; above, further "
    "threads speed up all but a part of inference, which is why prices are ranges. arm64 is assumed to be as fast; "
    "that was not measured."
)


def _receipt(receipt: Receipt) -> Table:
    total = receipt.bill.usd or 1.0
    rows = [(item.name, decimals(item.usd, 6), percent(item.usd / total), item.quantity) for item in receipt.bill.items]
    per_million = f"{number(receipt.usd_per_million_rows)} USD per million galaxies"
    rows.append(("together", decimals(receipt.bill.usd, 6), "100.0 %", per_million))
    if receipt.published_usd:
        ratio = number(receipt.bill.usd / receipt.published_usd, 2)
        meaning = f"used memory times inference time, as the published table counts: {ratio} times less"
        rows.append(("as published", decimals(receipt.published_usd, 6), "", meaning))
    return Table("Receipt", ("item", "USD", "share", "quantity"), rows, frozenset({0, 3}))


def _what_if(receipt: Receipt) -> Table:
    columns = ("memory [MB]", "vCPUs", "rank [s]", "x86_64 [USD]", "arm64 [USD]", "remark")
    own_mb = receipt.rates.memory_mb["infer"]
    rows = [_setting(setting, own_mb) for setting in receipt.settings]
    return Table("The same run with other memory or another processor", columns, rows, frozenset({0, 5}))


def _setting(setting: WhatIf, own_mb: int) -> Row:
    remark = "" if setting.is_large_enough else "too small"
    return (
        f"{setting.memory_mb:,}",
        decimals(setting.num_vcpus, 2),
        _between(setting.rank_s, 2),
        *(_between(setting.usd[name], 5) for name in ("x86_64", "arm64")),
        "as run" if setting.memory_mb == own_mb else remark,
    )


def _between(values: Range, num_decimals: int) -> str:
    low, high = decimals(values.low, num_decimals), decimals(values.high, num_decimals)
    return low if low == high else f"{low} to {high}"
