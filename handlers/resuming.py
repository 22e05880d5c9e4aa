"""Initialize of an execution that goes on with a run: the plan that was stored, with what is left of it."""

import logging
import time

from msgspec import structs

from handlers import settings
from inference import contract
from inference.contract import InitializeEvent, RankTask, ResumeRequest, Resumption, RunPlan
from inference.errors import ManifestError
from inference.models import settle_model
from inference.plan import MAX_CHILDREN

logger = logging.getLogger(__name__)


def resume(call: InitializeEvent, *, started_at_s: float) -> RunPlan:
    """Return the plan of a run with the Map on the ranks it lacks; store it again with a note of this execution.

    Raises
    ------
    ModelError
        If another model is deployed than the run began with.
    ManifestError
        If the ranks are another run's.
    ObjectMissingError
        If the run has no plan.
    """
    asked = contract.decode(call.request, ResumeRequest, where="The request")
    store = settings.object_store(asked.bucket)
    plan = contract.decode(store.read(asked.plan_key), RunPlan, where=asked.plan_key)
    settle_model(plan.request, settings.model().card)
    pending = contract.decode(store.read(asked.pending_key), list[RankTask], where=asked.pending_key)
    if (plan.bucket, plan.run_prefix) != (asked.bucket, asked.run_prefix):
        raise ManifestError(
            f"{asked.plan_key} is the plan of s3://{plan.bucket}/{plan.run_prefix}: it was changed, or copied from "
            "another run. Start the run again."
        )
    for task in pending:
        if (task.run_id, task.bucket, task.run_prefix) != (plan.run_id, plan.bucket, plan.run_prefix):
            where = f"rank {task.rank} of run {task.run_id} in s3://{task.bucket}/{task.run_prefix}"
            raise ManifestError(
                f"{asked.pending_key} holds {where}, not of {plan.run_id}. `make resume` writes it again."
            )
    limits = settings.infer_limits(plan.request.memory_mb, asked.max_concurrency or plan.request.max_concurrency)
    # A retry of this execution must not count twice.
    earlier = [one for one in plan.resumptions if one.execution_name != call.execution_name]
    plan = structs.replace(
        plan,
        items_key=asked.pending_key,
        max_concurrency=limits.max_concurrency or MAX_CHILDREN,
        started_at_s=started_at_s,
        planned_at_s=time.time(),
        resumptions=(*earlier, Resumption(execution_name=call.execution_name, num_ranks=len(pending))),
    )
    store.write(asked.plan_key, contract.encode(plan))
    logger.info("run resumed", extra={"run_id": plan.run_id, "num_ranks": len(pending)})
    return plan
