"""Folders as `make run` leaves them, of any size, without running anything."""

import io
from pathlib import Path

import msgspec
import numpy as np

from inference import contract, summary
from inference.contract import LostRank, RankClock, RankRecord, RankTask, RunSummary
from inference.metrics import accuracy_sums, normalised_residuals, pack_residuals
from inference.pipeline import Predictions
from inference.record import bind
from inference.summary import Proof, RunTimes
from tests.factories import RUN, make_plan, make_pz, make_record_for, make_request, make_task

STARTED_AT_S = 1_795_308_908.0
ROWS = 64
NUM_DISTINCT = 64
"""Ranks with predictions of their own; beyond that they repeat, since a report does not care."""


def write_run(folder: Path, *, world_size: int = 8, num_lost: int = 0, rows: int = ROWS) -> RunSummary:
    """Write a run whose ranks started over half a minute, a few of them cold, one a straggler."""
    rng = np.random.default_rng(0)
    tasks = [make_task(rank=rank, world_size=world_size, num_samples=rows) for rank in range(world_size)]
    parts = [_predictions(rng, rows) for _ in range(min(world_size, NUM_DISTINCT))]
    of_part = [
        {
            "accuracy": accuracy_sums(z_phot, z_spec),
            "residuals": pack_residuals(normalised_residuals(z_phot, z_spec)),
            "predictions": bind(Predictions.from_npz(content), content, ""),
        }
        for z_phot, z_spec, content in parts
    ]
    template = make_record_for(tasks[0])
    records = []
    starts = np.sort(rng.uniform(0, 30, world_size))
    for task in tasks[: world_size - num_lost]:
        record = _record(template, task, rng, STARTED_AT_S + float(starts[task.rank]))
        records.append(msgspec.structs.replace(record, **of_part[task.rank % NUM_DISTINCT]))
    lost = tuple(
        LostRank(rank=task.rank, error="ShardFormatError", message="<b>bad</b> | shard", shards=("d/0.safetensors",))
        for task in tasks[world_size - num_lost :]
    )
    made = summary.summarize(
        make_plan(world_size * rows, request=make_request(world_size=world_size)),
        tasks,
        Proof(tuple(records), lost, ()),
        RunTimes(started_at_s=1.0, planned_at_s=1.5, mapped_at_s=41.5, summarized_at_s=42.0),
    )
    (folder / "predictions").mkdir(parents=True)
    for record in records:
        (folder / "predictions" / f"{record.rank:05d}.npz").write_bytes(parts[record.rank % NUM_DISTINCT][2])
    (folder / "summary.json").write_bytes(contract.encode(made))
    (folder / "combined_data.json").write_bytes(summary.combine(records))
    return made


def _record(template: RankRecord, task: RankTask, rng: np.random.Generator, at_s: float) -> RankRecord:
    rank, world_size = task.rank, task.world_size
    is_cold = rank < max(2, world_size // 20)
    loop_s = float(rng.gamma(40, 0.05)) * (4 if rank == world_size // 2 else 1)
    load_s, download_s, upload_s = (1.8 if is_cold else 0.0), float(rng.uniform(0.05, 0.3)), 0.02
    clock = RankClock(
        queue=0.5 + 0.4 * is_cold,
        init=0.4 if is_cold else 0.0,
        model_load=load_s,
        download=download_s,
        inference=loop_s,
        upload=upload_s,
        record=0.001,
        total=load_s + download_s + loop_s + upload_s + 0.001,
    )
    return msgspec.structs.replace(
        template,
        rank=rank,
        world_size=world_size,
        run_id=RUN,
        predictions_key=task.predictions_key,
        clock=clock,
        cold_start=is_cold,
        attempt=1 if rank == 1 else 0,
        started_at_s=at_s,
        total_cpu_time_s=loop_s,
        sample_persec=template.num_samples / loop_s,
        peak_memory_bytes=int(rng.normal(450, 10) * 2**20),
    )


def _predictions(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray, bytes]:
    z_spec = rng.gamma(4, 0.03, rows)
    sigma = np.full(rows, 0.02, np.float32)
    z_phot = (z_spec + rng.normal(0, 0.02, rows)).astype(np.float32)
    file = io.BytesIO()
    np.savez(
        file,
        object_id=rng.integers(1, 2**62, rows),
        z_phot=z_phot,
        sigma=sigma,
        quality=(rng.random(rows) < 0.05).astype(np.uint8) * 4,
        z_spec=z_spec,
        pz=make_pz(z_phot),
    )
    return z_phot, z_spec, file.getvalue()
