"""Initialize state: list the shards, deal every row to one rank, write the manifest."""

import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

from handlers import settings, telemetry
from handlers.storage import LARGE_BYTES, NUM_CONNECTIONS, Folder, ObjectExistsError, ObjectInfo, ObjectStore
from inference import contract
from inference.contract import DatasetCard, InitializeEvent, RunPlan, RunRequest, ShardEntry
from inference.dataset import (
    Extent,
    find_differences,
    find_miscounts,
    judge_copies,
    note_ignored,
    note_others,
    note_unproved,
    refuse_differences,
)
from inference.errors import (
    AccessDeniedError,
    DatasetNotFoundError,
    EngineError,
    InvalidRequestError,
    ObjectMissingError,
    ResultPathTakenError,
    StorageUnavailableError,
)
from inference.manifest_text import ManifestText
from inference.models import mismatches, refuse_dataset, settle_model
from inference.models.card import ModelCard
from inference.plan import (
    MAX_CHILDREN,
    MAX_TASK_BYTES,
    Demand,
    Shard,
    first_rows,
    is_shard,
    meet_by_s,
    plan_tasks,
    select_shards,
)

logger = logging.getLogger(__name__)

HEAD_BYTES = 2**14
"""First read of a shard: its header, which takes some hundred bytes."""


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    """Plan one run and write ``manifest.json`` and ``plan.json``, or go on with one.

    See `inference.contract.InitializeEvent` and `RunPlan`.
    """
    started_at_s = time.time()
    call = contract.decode(event, InitializeEvent)
    if isinstance(call.request, dict) and "pending_key" in call.request:
        # Imported here: hardly any execution goes on with another one.
        from handlers.resuming import resume

        return contract.to_builtins(resume(call, started_at_s=started_at_s))
    request, notes = contract.parse_request(call.request)
    # Before anything is listed: nothing of another model's run would count.
    model = settings.model().card
    request = settle_model(request, model)
    _refuse_engine(request)
    shards, bands, doubts = _find_shards(settings.object_store(request.data_bucket or request.bucket), request, model)
    shards = first_rows(shards, request.row_limit)
    request = contract.with_defaults(request, run_id=call.execution_name, num_shards=len(shards))
    limits = settings.infer_limits(request.memory_mb, request.max_concurrency)
    demand = Demand.of(model)
    tasks = plan_tasks(request, shards, limits, run_id=call.execution_name, demand=demand, bands=bands)
    if request.fmi_enabled:
        # Imported here: only ranks that talk need a socket.
        from handlers.talking import with_comm

        tasks = with_comm(
            tasks, request.rendezvous_endpoint, meet_by_s(tasks, limits, now_s=time.time(), demand=demand)
        )
    run_prefix = tasks[0].run_prefix
    results = settings.object_store(request.bucket)
    manifest = ManifestText(tasks)
    _write_manifest(results, run_prefix + contract.MANIFEST_KEY, manifest)
    num_samples = sum(shard.num_rows for shard in shards)
    manifest_sha256 = manifest.prove(num_samples)
    metrics = telemetry.embed(settings.function_name(), ranks_planned=len(tasks))
    logger.info("run planned", extra={"run_id": call.execution_name} | metrics)
    plan = RunPlan(
        run_id=call.execution_name,
        bucket=request.bucket,
        run_prefix=run_prefix,
        manifest_key=run_prefix + contract.MANIFEST_KEY,
        items_key=run_prefix + contract.MANIFEST_KEY,
        request=request,
        notes=(*notes, *doubts),
        num_samples=num_samples,
        max_concurrency=limits.max_concurrency or MAX_CHILDREN,
        started_at_s=started_at_s,
        planned_at_s=time.time(),
        manifest_sha256=manifest_sha256,
    )
    # Only now: a plan that is there says that its manifest is.
    results.write(run_prefix + contract.PLAN_KEY, contract.encode(plan))
    return contract.to_builtins(plan)


def _refuse_engine(request: RunRequest) -> None:
    """Raise where every rank would fail for want of a library that the image was built without.

    Raises
    ------
    EngineError
        If only torch or ONNX Runtime computes what is asked for.
    """
    if (request.profile or request.engine not in ("auto", "native")) and find_spec("torch") is None:
        asked = "profile" if request.profile else f"engine={request.engine}"
        raise EngineError(
            f"{asked} cannot be had: the deployed image was built with SLIM=1 and holds the native engine alone. "
            "Leave it out, or build, push and apply without SLIM."
        )


def _find_shards(
    store: ObjectStore, request: RunRequest, model: ModelCard
) -> tuple[list[Shard], tuple[str, ...] | None, list[str]]:
    """List the dataset's folder and count every shard's rows, from ``dataset.json``, which must be about these shards.

    Returns
    -------
    shards : list of Shard
    bands : tuple of str or None
        Those of the shards, where they are other ones than the model's.
    doubts : list of str
        Notes on shards that count twice, on files that were ignored, and on what is unlike the model's training data.

    Raises
    ------
    DatasetNotFoundError
        If there is no shard.
    DatasetError
        If ``dataset.json`` names other shards than there are, or other sizes or numbers of galaxies than theirs; or
        one is the copy of another.
    """
    prefix = contract.as_prefix(request.data_prefix)
    try:
        folder = store.list_folder(prefix)
    except ObjectMissingError as error:
        raise DatasetNotFoundError(str(error)) from error
    if folder == Folder([], []):
        _refuse_impostor(store, prefix)
    listing = {info.key: info for info in folder.objects}
    keys = select_shards([*listing, *folder.subfolders], prefix, file_limit=request.file_limit)
    infos = [listing[key] for key in keys]
    contents = [(key[len(prefix) :], (listing[key].etag, listing[key].size_bytes)) for key in keys]
    doubts = [
        *note_ignored(key[len(prefix) :] for key in listing),
        *judge_copies(prefix, contents, are_allowed=request.allow_copies),
    ]
    card_key = prefix + contract.DATASET_KEY
    if card_key not in listing:
        shards = [_shard(info, num_rows) for info, num_rows in _count(store, infos, model, None)]
        others = note_others(key[len(prefix) :] for key in (*listing, *folder.subfolders))
        return shards, None, [*doubts, *others, *note_unproved(shards)]
    with ThreadPoolExecutor(2) as pool:
        content, head = pool.submit(store.read, card_key), pool.submit(_read_head, store, infos[0])
        card = contract.decode(content.result(), DatasetCard, where=card_key)
        extent = Extent.of_header(head.result(), infos[0].size_bytes)
    refuse_dataset(card, model, prefix)
    sizes = {key[len(prefix) :]: info.size_bytes for key, info in listing.items() if is_shard(key[len(prefix) :])}
    refuse_differences(prefix, list(find_differences(card, sizes, file_limit=request.file_limit)))
    bands = card.bands if card.bands != model.inputs.bands else None
    entries = {prefix + entry.name: entry for entry in card.shards}
    unproved = [info for info in infos if not (extent and extent.proves(entries[info.key]))]
    counted = [(entries[info.key], num_rows) for info, num_rows in _count(store, unproved, model, bands)]
    refuse_differences(prefix, list(find_miscounts(counted)))
    doubts += mismatches(card, model, prefix)
    shards = [_shard(info, entries[info.key].num_rows, entries[info.key]) for info in infos]
    return shards, bands, [*doubts, *note_unproved(shards)]


def _refuse_impostor(store: ObjectStore, prefix: str) -> None:
    """Raise when an empty listing is no answer of S3: a login page, say, that answers whatever is asked."""
    key = prefix + contract.DATASET_KEY
    try:
        store.read(key)
    except (ObjectMissingError, AccessDeniedError, InvalidRequestError):
        return
    raise StorageUnavailableError(
        f"s3://{store.bucket}/{prefix} is empty, and yet {key} is answered: something else than S3 answers, such as a "
        "proxy or a login page. Check the network."
    )


def _shard(info: ObjectInfo, num_rows: int, entry: ShardEntry | None = None) -> Shard:
    return Shard(
        key=info.key,
        num_rows=num_rows,
        size_bytes=info.size_bytes,
        etag=info.etag,
        sha256=entry.sha256 if entry else None,
        crc32=entry.crc32 if entry else b"",
    )


def _read_head(store: ObjectStore, info: ObjectInfo) -> bytes | memoryview:
    """Read the beginning of a shard, with its header."""
    stop = min(HEAD_BYTES, info.size_bytes)
    return store.read_range(info.key, 0, stop, etag=info.etag) if stop else b""


def _count(
    store: ObjectStore, infos: Sequence[ObjectInfo], model: ModelCard, bands: tuple[str, ...] | None
) -> list[tuple[ObjectInfo, int]]:
    """Read the number of galaxies from the header of every shard."""
    if not infos:
        return []
    # Imported here, with numpy: our own datasets come with a card.
    from inference.block import Layout
    from inference.shard import count_rows

    layout = Layout.for_model(model.inputs, bands)

    def count(info: ObjectInfo) -> int:
        return count_rows(store, info.key, info.size_bytes, layout, etag=info.etag)

    with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
        return list(zip(infos, pool.map(count, infos), strict=True))


def _write_manifest(store: ObjectStore, key: str, manifest: ManifestText) -> None:
    """Claim the result path: a retry of this run may write again, another run may not."""
    run_id = manifest.tasks[0].run_id
    size_bytes = len(manifest.tasks) * len(contract.encode(manifest.tasks[0]))
    is_small = size_bytes < LARGE_BYTES
    # An object in parts cannot be written only where none is: of many ranks, the first one claims the path.
    claim = b"".join(manifest) if is_small else contract.encode([manifest.tasks[0]])
    try:
        store.write_new(key, claim)
    except ObjectExistsError as error:
        if (owner := _owner(store, key)) != run_id:
            raise ResultPathTakenError(
                f"{key} belongs to {f'run {owner}' if owner else 'another run'}, whose results would be overwritten. "
                "Choose another result_path."
            ) from error
        if is_small:
            store.write(key, claim)
    if not is_small:
        store.write_parts(key, manifest, size_bytes=size_bytes)


def _owner(store: ObjectStore, key: str) -> str | None:
    """Return whose a manifest is, by its first task; None if that cannot be known."""
    head = bytes(store.read_range(key, 0, 2 * MAX_TASK_BYTES)).decode(errors="replace")
    try:
        first, _ = json.JSONDecoder().raw_decode(head.lstrip("[ \n"))
    except json.JSONDecodeError:
        return None
    return first.get("run_id") if isinstance(first, dict) else None
