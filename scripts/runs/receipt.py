"""The receipt of a run: what it took, counted as exactly as its folder allows, and what that costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from inference.contract import BITS_PER_ROW, RunSummary
from scripts.command.whole_file import write_whole
from scripts.pricing.cost import BYTES_PER_GB, Bill, Rates, Usage, bill, billed_ms, usage_of, usd_as_published
from scripts.pricing.prices import PriceList
from scripts.pricing.what_if import WhatIf, what_if
from scripts.runs.logs.invocations import STAGES, Invocation, read_csv, read_log
from scripts.runs.logs.sources import events_of_run
from scripts.runs.run_folder import Run

COST_FILE = "cost.json"
LOGS_FILE = "logs.csv"
MIB_PER_GB = 1024


@dataclass(frozen=True)
class Receipt:
    """What a run cost."""

    bill: Bill
    """Item by item."""

    basis: str
    """What the billed time was read from, in words."""

    usage: Usage
    """What it took."""

    rates: Rates
    """What it was deployed with."""

    region: str
    """Whose prices."""

    is_paid: bool
    """False for a run on this machine, which costs what it would have cost."""

    published_usd: float
    """The same run by the published method: used memory times inference time [USD]."""

    num_rows: int
    """Galaxies predicted."""

    end_to_end_s: float
    """Wall time of the run [s]."""

    settings: Sequence[WhatIf]
    """What it would have taken with other memory and processors."""

    sources: dict[str, str]
    """Pages the prices were read from."""

    resumed: str = ""
    """What of it is paid twice, of a run that was resumed."""

    @property
    def usd_per_million_rows(self) -> float:
        """Price of a million galaxies [USD]."""
        return self.bill.usd / max(self.num_rows, 1) * 1e6

    @property
    def gb_per_s_per_usd(self) -> float:
        """The published "performance efficiency": data over wall time and price [GB/s/USD]."""
        gb = self.num_rows * BITS_PER_ROW / 8 / BYTES_PER_GB
        return gb / self.end_to_end_s / self.bill.usd if self.bill.usd and self.end_to_end_s else 0.0


def receipt_of(folder: Run, prices: PriceList) -> Receipt:
    """Count and price a run.

    Raises
    ------
    UsageError
        If the run has no summary, or its files cannot be read.
    PriceError
        If the price file does not know its region.
    """
    rates, region = folder.rates(), folder.region
    # Summaries of older versions do not count requests; their records do.
    num_requests = sum(record.s3_num_requests for record in folder.records)
    summary = msgspec.structs.replace(folder.summary, num_s3_requests=num_requests)
    invocations = reported(folder)
    if _has_all(invocations, summary.num_records):
        basis = f"from the REPORT lines of {len(invocations):,} invocations"
        billed = {stage: [one.billed_ms or 0 for one in invocations if one.stage == stage] for stage in STAGES}
        log_bytes = sum(one.log_bytes for one in invocations)
    else:
        basis = f"from the clocks of {summary.num_records:,} records" + _why_no_reports(folder)
        billed = _clocked(folder)
        log_bytes = None
    usage = usage_of(summary, rates, billed=billed, stored_bytes=folder.result_bytes(), log_bytes=log_bytes)
    region_prices = prices.of(region)
    return Receipt(
        bill=bill(usage, rates, region_prices, prices_of=prices.label(region)),
        basis=basis,
        usage=usage,
        rates=rates,
        region=region,
        is_paid=folder.stack is not None,
        published_usd=sum(
            usd_as_published(1, record.total_cpu_time_s, record.total_process_memory_mb / MIB_PER_GB)
            for record in folder.records
        ),
        num_rows=summary.num_samples,
        end_to_end_s=summary.clock.end_to_end,
        settings=what_if(summary, usage, rates, region_prices) if summary.num_records else (),
        sources=prices.sources,
        resumed=_resumed(summary),
    )


def reported(folder: Run) -> list[Invocation]:
    """Return the invocations of a run as far as its folder has their log, else as ``logs.csv`` has them."""
    events = list(events_of_run(folder.path))
    if not events:
        return read_csv(folder.path / LOGS_FILE) or []
    return list(read_log(events, rank_of=folder.rank_of, is_all_ours=True).invocations)


def write_receipt(path: Path, run_id: str, receipt: Receipt) -> None:
    """Write the receipt as JSON, whole or not at all."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(_document(run_id, receipt)), indent=2))


def _document(run_id: str, receipt: Receipt) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "usd": receipt.bill.usd,
        "is_paid": receipt.is_paid,
        "prices_of": receipt.bill.prices_of,
        "sources": receipt.sources,
        "basis": receipt.basis,
        "resumed": receipt.resumed,
        "items": [{"name": one.name, "usd": one.usd, "quantity": one.quantity} for one in receipt.bill.items],
        "usd_per_million_rows": receipt.usd_per_million_rows,
        "gb_per_s_per_usd": receipt.gb_per_s_per_usd,
        "usd_by_published_method": receipt.published_usd,
        "usage": msgspec.to_builtins(receipt.usage),
        "deployment": msgspec.to_builtins(receipt.rates) | {"region": receipt.region},
        "what_if": [
            {
                "memory_mb": row.memory_mb,
                "num_vcpus": row.num_vcpus,
                "rank_s": row.rank_s._asdict(),
                "usd": {architecture: usd._asdict() for architecture, usd in row.usd.items()},
                "is_large_enough": row.is_large_enough,
                "is_own": row.memory_mb == receipt.rates.memory_mb["infer"],
            }
            for row in receipt.settings
        ],
    }


def _has_all(invocations: Sequence[Invocation], num_records: int) -> bool:
    """Return whether every rank and both ends of the run have a REPORT line."""
    stages = [one.stage for one in invocations if one.billed_ms is not None]
    return stages.count("infer") >= num_records and {"initialize", "summarize"} <= set(stages)


def _why_no_reports(folder: Run) -> str:
    return f"; `make logs RUN={folder.run_id}` fetches what Lambda reported" if folder.stack else ""


def _resumed(summary: RunSummary) -> str:
    if not summary.resumptions:
        return ""
    ranks = ", then ".join(f"{one.num_ranks:,}" for one in summary.resumptions)
    return f"Resumed with {ranks} of {summary.world_size:,} ranks left: of these, what had begun is paid twice"


def _clocked(folder: Run) -> dict[str, list[int]]:
    """Return the billed time as the clocks have it: each ends some milliseconds before Lambda's."""
    clock = folder.summary.clock
    return {
        "initialize": [billed_ms(clock.initialize)],
        "infer": [billed_ms(record.clock.total, record.clock.init) for record in folder.records],
        "summarize": [billed_ms(clock.summarize)],
    }
