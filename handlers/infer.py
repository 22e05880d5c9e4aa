"""Infer state: read one rank's rows, predict their redshifts, write one record."""

import logging
import time
from typing import Any

from msgspec import structs

from handlers import invocation, model, settings, snapshot, telemetry
from handlers.storage import ObjectStore
from inference import contract
from inference.clock import PhaseClock
from inference.contract import InferEvent, RankRecord, RankTask, RendezvousCheck
from inference.errors import RunError
from inference.pipeline import infer_rank
from inference.record import Invocation, bind, make_record

logger = logging.getLogger(__name__)

snapshot.prepare()

RESERVE_S = 5.0
"""What is left of the function's time when a rank stops to wait for the others [s]."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Run one rank: its predictions are written first, then its record, the commit; only then it meets the others."""
    if "check" in event:
        return _check(contract.decode(event, RendezvousCheck))
    clock = PhaseClock()
    is_cold = invocation.count() == 0
    call = contract.decode(event, InferEvent)
    task = call.task
    # An attempt that is killed leaves no record: this line says whose it was.
    logger.info("rank started", extra={"run_id": task.run_id, "rank": task.rank, "attempt": call.attempt})
    with clock.phase("model_load"):
        engine = model.engine(task.engine, task.precision, as_published=task.profile)
        calibration, sigma_note = model.calibration(engine.weights_sha256)
        card = settings.model().card
    shards, results = settings.object_store(task.data_bucket), settings.object_store(task.bucket)
    stores = {shards, results}
    for store in stores:
        store.start_counting()
    outcome = infer_rank(task, shards, engine, clock, card, calibration)
    with clock.phase("upload"):
        content = outcome.predictions.to_npz()
        etag = results.write(task.predictions_key, content)
    with clock.phase("record"):
        stored = bind(outcome.predictions, content, etag)
        here = Invocation(
            request_id=context.aws_request_id,
            attempt=call.attempt,
            cold_start=is_cold,
            queue_s=invocation.queue_s(call.entered_at, clock.started_at_s),
            init_s=invocation.init_s() if is_cold else 0.0,
            function_memory_mb=settings.function_memory_mb(),
            image_digest=settings.image_digest(),
            code_version=settings.code_version(),
            resident_memory_bytes=invocation.resident_memory_bytes(),
            peak_memory_bytes=invocation.peak_memory_bytes(),
        )
    request_times_s = [seconds for store in stores for seconds in store.request_times_s]
    record = make_record(
        task,
        outcome,
        engine,
        clock,
        here,
        model=card,
        stored=stored,
        request_times_s=request_times_s,
        sigma_note=sigma_note,
    )
    results.write(task.record_key, contract.encode(record))
    if task.comm is not None:
        _talk(task, record, results, latest_s=time.time() + context.get_remaining_time_in_millis() / 1000 - RESERVE_S)
    metrics = telemetry.embed(
        settings.function_name(),
        rows=record.num_samples,
        rows_per_s=record.sample_persec,
        inference_s=record.clock.inference,
        download_s=record.clock.download,
        peak_memory_bytes=record.peak_memory_bytes,
        cold_starts=int(record.cold_start),
    )
    facts = {"run_id": task.run_id, "rank": task.rank}
    # The one phase that the record cannot hold: its own writing.
    logger.info("rank inferred", extra=facts | metrics | {"record_write_s": clock.total - record.clock.total})
    return {"rank": task.rank, "record_key": task.record_key}


def _check(call: RendezvousCheck) -> dict[str, Any]:
    # Imported here: no rank needs it.
    from handlers.rendezvous.probe import probe, to_builtins

    return to_builtins(probe(call.host, call.port))


def _talk(task: RankTask, record: RankRecord, results: ObjectStore, *, latest_s: float) -> None:
    """Meet the other ranks and add to the record what came of it; the record is there already, whatever happens."""
    # Imported here: only ranks that talk need a socket.
    from handlers.talking import Messages
    from inference import comm

    report = comm.talk(task, record, Messages(results), latest_s=latest_s)
    facts = {"run_id": task.run_id, "rank": task.rank, "status": report.status, "why": report.why}
    logger.info("ranks met", extra=facts | {"meeting_s": report.meeting_s, "barrier_s": report.barrier_s})
    try:
        results.write(task.record_key, contract.encode(structs.replace(record, comm=report)))
    except RunError:
        # The rank's work is safe; failing now would do all of it again.
        logger.exception("report of the meeting not written", extra=facts)
