"""Initialize state: list the shards, deal every row to one rank, write the manifest."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from handlers import settings, telemetry
from handlers.storage import NUM_CONNECTIONS, ObjectExistsError, ObjectInfo, ObjectStore
from inference import contract
from inference.contract import DatasetCard, InitializeEvent, RankTask, RunPlan, RunRequest
from inference.errors import DatasetNotFoundError, ObjectMissingError, ResultPathTakenError
from inference.models import refuse_dataset, settle_model
from inference.models.card import ModelCard
from inference.plan import Demand, Shard, meet_by_s, plan_tasks, select_shards

logger = logging.getLogger(__name__)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    """Plan one run and write ``manifest.json``; see `inference.contract.InitializeEvent` and `RunPlan`."""
    started_at_s = time.time()
    call = contract.decode(event, InitializeEvent)
    request, notes = contract.parse_request(call.request)
    # Before anything is listed: nothing of another model's run would count.
    model = settings.model().card
    request = settle_model(request, model)
    shards, bands = _find_shards(settings.object_store(request.data_bucket or request.bucket), request, model)
    request = contract.with_defaults(request, run_id=call.execution_name, num_shards=len(shards))
    limits = settings.infer_limits(request.memory_mb)
    demand = Demand.of(model)
    tasks = plan_tasks(request, shards, limits, run_id=call.execution_name, demand=demand, bands=bands)
    if request.fmi_enabled:
        # Imported here: only ranks that talk need a socket.
        from handlers.talking import with_comm

        tasks = with_comm(
            tasks, request.rendezvous_endpoint, meet_by_s(tasks, limits, now_s=time.time(), demand=demand)
        )
    run_prefix = tasks[0].run_prefix
    _write_manifest(settings.object_store(request.bucket), run_prefix + contract.MANIFEST_KEY, tasks)
    metrics = telemetry.embed(settings.function_name(), ranks_planned=len(tasks))
    logger.info("run planned", extra={"run_id": call.execution_name} | metrics)
    plan = RunPlan(
        run_id=call.execution_name,
        bucket=request.bucket,
        run_prefix=run_prefix,
        manifest_key=run_prefix + contract.MANIFEST_KEY,
        request=request,
        notes=notes,
        num_samples=sum(task.num_samples for task in tasks),
        started_at_s=started_at_s,
        planned_at_s=time.time(),
    )
    return contract.to_builtins(plan)


def _find_shards(
    store: ObjectStore, request: RunRequest, model: ModelCard
) -> tuple[list[Shard], tuple[str, ...] | None]:
    """List the dataset's folder and count every shard's rows, from ``dataset.json`` where it matches the listing.

    Returns
    -------
    shards : list of Shard
    bands : tuple of str or None
        Those of the shards, where they are other ones than the model's.
    """
    prefix = contract.as_prefix(request.data_prefix)
    try:
        folder = store.list_folder(prefix)
    except ObjectMissingError as error:
        raise DatasetNotFoundError(str(error)) from error
    listing = {info.key: info for info in folder.objects}
    keys = select_shards([*listing, *folder.subfolders], prefix, file_limit=request.file_limit)
    card_key = prefix + contract.DATASET_KEY
    card = contract.decode(store.read(card_key), DatasetCard) if card_key in listing else None
    if card:
        refuse_dataset(card, model, prefix)
    entries = {prefix + entry.name: entry for entry in card.shards} if card else {}
    bands = card.bands if card and card.bands != model.inputs.bands else None

    def describe(info: ObjectInfo) -> Shard:
        entry = entries.get(info.key)
        if entry and entry.size_bytes == info.size_bytes:
            num_rows, sha256 = entry.num_rows, entry.sha256
        else:
            # Imported here, with numpy: our own datasets come with a card.
            from inference.block import Layout
            from inference.shard import count_rows

            layout = Layout.for_model(model.inputs, bands)
            num_rows, sha256 = count_rows(store, info.key, info.size_bytes, layout, etag=info.etag), None
        return Shard(key=info.key, num_rows=num_rows, size_bytes=info.size_bytes, etag=info.etag, sha256=sha256)

    with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
        return list(pool.map(describe, (listing[key] for key in keys))), bands


def _write_manifest(store: ObjectStore, key: str, tasks: list[RankTask]) -> None:
    """Claim the result path: a retry of this run may write again, another run may not."""
    content = contract.encode(tasks)
    try:
        store.write_new(key, content)
    except ObjectExistsError as error:
        taken_by = contract.decode(store.read(key), list[RankTask])[0].run_id
        if taken_by != tasks[0].run_id:
            raise ResultPathTakenError(
                f"{key} belongs to run {taken_by}, whose results would be overwritten. Choose another result_path."
            ) from error
        store.write(key, content)
