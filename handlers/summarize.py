"""Summarize state: compare the records with the manifest, merge them, fail the run when too many are lost."""

import logging
import time
from typing import Any

from msgspec import structs

from handlers import merging, settings, telemetry
from handlers.manifest import Manifest
from inference import comm, contract, summary
from inference.contract import RunPlan, RunResult

logger = logging.getLogger(__name__)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    """Write ``combined_data.json`` and ``summary.json``; see `inference.contract.RunPlan` and `RunResult`."""
    mapped_at_s = time.time()
    plan = contract.decode(event, RunPlan)
    store = settings.object_store(plan.bucket)
    merged = merging.merge(store, plan.run_prefix, Manifest(store, plan))
    times = summary.RunTimes(
        started_at_s=plan.started_at_s,
        planned_at_s=plan.planned_at_s,
        mapped_at_s=mapped_at_s,
        summarized_at_s=time.time(),
    )
    result = summary.conclude(plan, merged.whole, times, notes=merged.notes)
    if merged.talking is not None:
        met = comm.merge(plan.run_id, merged.whole.stop_rank, merged.talking)
        result = structs.replace(result, comm=met.summary)
        store.write(plan.run_prefix + contract.FMI_KEY, contract.encode(met))
    summary_key, combined_key = plan.run_prefix + contract.SUMMARY_KEY, plan.run_prefix + contract.COMBINED_KEY
    store.write_parts(combined_key, merged.combined, size_bytes=merged.combined.size_bytes)
    store.write(summary_key, contract.encode(result))
    metrics = telemetry.embed(settings.function_name(), ranks_lost=len(result.lost_ranks))
    logger.info("run summarized", extra={"run_id": plan.run_id, "num_records": result.num_records} | metrics)
    # Raised after both objects are there: an incomplete run still shows what it has.
    summary.refuse_incomplete(result)
    return contract.to_builtins(
        RunResult(
            run_id=plan.run_id,
            complete=result.complete,
            summary_key=summary_key,
            combined_key=combined_key,
        )
    )
