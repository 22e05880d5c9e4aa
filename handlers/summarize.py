"""Summarize state: compare the records with the manifest, merge them, fail the run when too many are lost."""

import logging
import time
from typing import Any

from msgspec import structs

from handlers import merging, settings, telemetry
from inference import comm, contract, summary
from inference.contract import RankTask, RunPlan, RunResult

logger = logging.getLogger(__name__)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    """Write ``combined_data.json`` and ``summary.json``; see `inference.contract.RunPlan` and `RunResult`."""
    mapped_at_s = time.time()
    plan = contract.decode(event, RunPlan)
    store = settings.object_store(plan.bucket)
    tasks = contract.decode(store.read(plan.manifest_key), list[RankTask], where=plan.manifest_key)
    summary.check_manifest(plan, tasks)
    merged = merging.merge(store, tasks)
    times = summary.RunTimes(
        started_at_s=plan.started_at_s,
        planned_at_s=plan.planned_at_s,
        mapped_at_s=mapped_at_s,
        summarized_at_s=time.time(),
    )
    result = summary.conclude(plan, merged.whole, times, notes=merged.notes)
    if any(task.comm for task in tasks):
        met = comm.merge(plan.run_id, len(tasks), merged.talking)
        result = structs.replace(result, comm=met.summary)
        store.write(plan.run_prefix + contract.FMI_KEY, contract.encode(met))
    keys = {name: plan.run_prefix + name for name in ("combined_data.json", "summary.json")}
    store.write(keys["combined_data.json"], merged.combined)
    store.write(keys["summary.json"], contract.encode(result))
    metrics = telemetry.embed(settings.function_name(), ranks_lost=len(result.lost_ranks))
    logger.info("run summarized", extra={"run_id": plan.run_id, "num_records": result.num_records} | metrics)
    # Raised after both objects are there: an incomplete run still shows what it has.
    summary.refuse_incomplete(result)
    return contract.to_builtins(
        RunResult(
            run_id=plan.run_id,
            complete=result.complete,
            summary_key=keys["summary.json"],
            combined_key=keys["combined_data.json"],
        )
    )
