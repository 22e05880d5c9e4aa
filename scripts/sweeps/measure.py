"""What a run measured, as rows: read from the folder it left."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from inference import contract
from inference.contract import RankRecord, RunSummary
from inference.plan import ROW_BYTES
from scripts.pricing.cost import Rates
from scripts.runs import journal
from scripts.runs.execution import Ending
from scripts.sweeps.price import list_price_usd
from scripts.sweeps.rows import RankRow, RunRow

PARTITION_MB = re.compile(r"^(\d+)MB$")
COMBINED_KEY = "combined_data.json"
PHASES = ("queue", "init", "model_load", "download", "inference", "upload")


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a row says that the run's own files do not."""

    sweep: str
    setting: str
    repeat: int
    position: int
    run_id: str
    target: str
    started_at_s: float
    data_prefix: str
    world_size: int | None
    file_limit: int | None
    batch_size: int
    engine: str
    precision: str
    profile: bool
    rates: Rates
    """Also says the memory."""
    region: str
    max_concurrency: int

    def row(self, **measured: Any) -> RunRow:
        """Return the run's row with what was measured."""
        dataset = self.data_prefix.removeprefix("datasets/").strip("/")
        partition = PARTITION_MB.match(dataset.rsplit("/", maxsplit=1)[-1])
        same = {
            name: getattr(self, name)
            for name in RunRow.__struct_fields__
            if name in Conditions.__dataclass_fields__ and name not in measured
        }
        return RunRow(
            **same,
            **measured,
            dataset=dataset,
            shard_mb=int(partition[1]) if partition else None,
            memory_mb=self.rates.memory_mb["infer"],
        )


def measure(conditions: Conditions, ending: Ending, folder: Path) -> tuple[RunRow, tuple[RankRow, ...]]:
    """Return the rows of a run that ended, however it did.

    Parameters
    ----------
    conditions : Conditions
        What it ran under.
    ending : Ending
        How its execution ended.
    folder : Path
        The run's folder on this machine.
    """
    summary = journal.read_summary(folder)
    state = _state(ending, summary)
    why = {} if ending.succeeded else {"error": ending.error or ending.status, "message": ending.message}
    if summary is None or not summary.num_records:
        return conditions.row(state=state, **why), ()
    records = msgspec.json.decode((folder / COMBINED_KEY).read_bytes(), type=list[RankRecord])
    row = conditions.row(state=state, **why, **_measured(summary, records), **_costs(conditions, summary))
    return row, tuple(_rank_row(row, record) for record in records)


def _state(ending: Ending, summary: RunSummary | None) -> Literal["complete", "incomplete", "failed"]:
    if not ending.succeeded or summary is None:
        return "failed"
    return "complete" if summary.complete else "incomplete"


def _measured(summary: RunSummary, records: list[RankRecord]) -> dict[str, Any]:
    clock, rates = summary.clock, summary.throughput
    seconds = [record.clock.init + record.clock.total for record in records]
    median_s, p95_s, max_s = (float(value) for value in np.quantile(seconds, [0.5, 0.95, 1.0]))
    accuracy = {name: getattr(summary.accuracy, name, None) for name in ("nmad", "bias", "outlier_005", "mae")}
    bits = {f"{name}_bit_per_s": getattr(rates, name) * contract.BITS_PER_ROW for name in rates.__struct_fields__[:3]}
    return {
        "world_size": summary.world_size,
        "num_samples": summary.num_samples,
        "data_bytes": summary.num_samples * ROW_BYTES,
        "num_records": summary.num_records,
        "num_lost_ranks": len(summary.lost_ranks),
        "num_cold_starts": summary.num_cold_starts,
        "num_retried_ranks": summary.num_retried_ranks,
        "end_to_end_s": clock.end_to_end,
        "map_s": clock.map,
        "initialize_s": clock.initialize,
        "summarize_s": clock.summarize,
        "rank_median_s": median_s,
        "rank_p95_s": p95_s,
        "rank_max_s": max_s,
        **{f"{phase}_s": getattr(clock.ranks, phase) for phase in PHASES},
        "rank_seconds": summary.rank_seconds,
        "sum_of_rank_rates_per_s": rates.sum_of_rank_rates,
        "map_wall_per_s": rates.map_wall,
        "end_to_end_per_s": rates.end_to_end,
        **bits,
        "peak_memory_bytes": summary.peak_memory_bytes,
        **accuracy,
        "engines_used": ", ".join(summary.engines),
        "weights_sha256": ", ".join(summary.weights_sha256),
        "code_version": ", ".join(summary.code_versions),
        "image_digest": ", ".join(summary.image_digests),
    }


def _costs(conditions: Conditions, summary: RunSummary) -> dict[str, float]:
    usd = list_price_usd(summary, conditions.rates, conditions.region)
    return {"list_price_usd": usd, "paid_usd": usd if conditions.target == "aws" else 0.0}


def _rank_row(run: RunRow, record: RankRecord) -> RankRow:
    clock = record.clock
    return RankRow(
        sweep=run.sweep,
        setting=run.setting,
        repeat=run.repeat,
        run_id=run.run_id,
        rank=record.rank,
        world_size=record.world_size,
        batch_size=record.batch_size,
        dataset=run.dataset,
        memory_mb=run.memory_mb,
        num_samples=record.num_samples,
        num_batches=record.num_batches,
        attempt=record.attempt,
        cold_start=record.cold_start,
        started_at_s=record.started_at_s,
        **{f"{phase}_s": getattr(clock, phase) for phase in PHASES},
        total_s=clock.total,
        loop_s=record.total_cpu_time_s,
        execution_time_s_per_batch=record.execution_time_s_per_batch,
        samples_per_s=record.sample_persec,
        throughput_bit_per_s=record.throughput_bps,
        process_memory_mb=record.total_process_memory_mb,
        profiled_memory_mb=record.total_cpu_memory_mb,
        peak_memory_bytes=record.peak_memory_bytes,
        s3_num_requests=record.s3_num_requests,
        s3_total_s=record.s3_total_time,
        num_threads=record.num_threads,
        engine=record.engine,
    )
