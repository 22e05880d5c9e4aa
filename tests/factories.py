"""Makes the smallest valid shard, task, record or engine; a test names only what it is about."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import save

from inference import contract
from inference.calibration import Calibration
from inference.clock import PhaseClock
from inference.contract import RankFailure, RankRecord, RankTask, RowRange, RunPlan, RunRequest
from inference.domain import NUM_FEATURES as NUM_DOMAIN_FEATURES
from inference.domain import DomainModel
from inference.errors import ObjectMissingError, ShardChangedError
from inference.models import SHIPPED, Model, read_model, shipped
from inference.models.card import ModelCard, encode_card
from inference.pipeline import Outcome, Predictions
from inference.plan import Shard
from inference.posterior import NUM_NUMBERS, PosteriorModel
from inference.record import bind, make_record
from inference.summary import Proof, StoredObject, decode_records, prove
from inference.uncertainty import NUM_FEATURES as NUM_ERROR_FEATURES
from inference.uncertainty import ErrorModel, Layer
from scripts.benchmarks.records import INVOCATION
from scripts.sweeps.rows import RunRow
from tests.fake_engine import FakeEngine

RUN = "run-a"

STAGE_VARIABLES = {
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
    "AWS_LAMBDA_FUNCTION_NAME": "photo-z",
    "INFER_MEMORY_MB": "1769",
    "INFER_QUALIFIER": "$LATEST",
    "INFER_TIMEOUT_S": "900",
    "MODEL_FOLDER": str(SHIPPED),
    "CODE_VERSION": "test",
    "IMAGE_DIGEST": "local",
}
"""The environment of a handler that a test calls itself."""


def make_arrays(num_rows: int = 3, *, seed: int = 0, side: int = 32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "images": rng.normal(size=(num_rows, 5, side, side)).astype(np.float32),
        "magnitudes": rng.uniform(14, 20, size=(num_rows, 5)),
        "redshifts": rng.uniform(0.01, 0.4, size=num_rows),
        "object_id": rng.integers(1, 2**62, size=num_rows, dtype=np.int64),
    }


def make_shard_bytes(num_rows: int = 3, **arrays: Any) -> bytes:
    """A safetensors shard; name an array to replace it, or give None to leave it out."""
    merged = {**make_arrays(num_rows), **arrays}
    return save({name: value for name, value in merged.items() if value is not None})


def make_shard(name: str = "0.safetensors", *, num_rows: int = 10, size_bytes: int | None = None) -> Shard:
    return Shard(
        key=f"datasets/tiny/10MB/{name}",
        num_rows=num_rows,
        size_bytes=num_rows * 20_536 if size_bytes is None else size_bytes,
        etag=f'"{name}"',
    )


def make_request(**changes: Any) -> RunRequest:
    request, _ = contract.parse_request({"bucket": "b", **changes})
    return contract.with_defaults(request, run_id=RUN, num_shards=1)


def make_task(*, rank: int = 0, world_size: int = 1, num_samples: int = 3, **changes: Any) -> RankTask:
    fields: dict[str, Any] = {
        "run_id": RUN,
        "bucket": "b",
        "data_bucket": "b",
        "run_prefix": f"runs/{RUN}/",
        "rank": rank,
        "world_size": world_size,
        "rows": (RowRange(key="d/0.safetensors", start_row=0, stop_row=num_samples, etag='"e"'),),
        "num_samples": num_samples,
        "batch_size": 256,
        **contract.rank_keys(f"runs/{RUN}/", rank),
    }
    return RankTask(**{**fields, **changes})


def make_calibration(*, threshold: float = -20.0, weights_sha256: str = "0" * 64) -> Calibration:
    """A calibration that knows galaxies of r = 17 and colours of .5 with the light that their magnitudes imply."""
    rng = np.random.default_rng(0)
    widths = (NUM_ERROR_FEATURES, 4, 1)
    layers = tuple(Layer(rng.normal(size=pair), rng.normal(size=pair[1])) for pair in pairwise(widths))
    center = np.array([17.0, 0.5, 0.5, 0.5, 0.5])
    return Calibration(
        weights_sha256=weights_sha256,
        errors=ErrorModel(center=np.append(center, 0.1), scale=np.ones(6), layers=layers, factor_68=1.1, factor_95=2.5),
        domain=DomainModel(
            center=np.append(center, np.zeros(6)),
            scale=np.ones(NUM_DOMAIN_FEATURES),
            log_weight=np.log([0.4, 0.6]),
            mean=rng.normal(size=(2, NUM_DOMAIN_FEATURES)),
            whitening=np.triu(rng.normal(size=(2, NUM_DOMAIN_FEATURES, NUM_DOMAIN_FEATURES))),
            threshold=threshold,
        ),
    )


def make_posterior(*, weights_sha256: str = "0" * 64) -> PosteriorModel:
    """A model of distributions that differ between galaxies."""
    rng = np.random.default_rng(1)
    widths = (NUM_ERROR_FEATURES, 4, NUM_NUMBERS)
    layers = tuple(Layer(rng.normal(size=pair), rng.normal(size=pair[1])) for pair in pairwise(widths))
    center = np.array([17.0, 0.5, 0.5, 0.5, 0.5, 0.1])
    return PosteriorModel(center=center, scale=np.ones(6), layers=layers, weights_sha256=weights_sha256)


def make_pz(z: np.ndarray, width: float = 0.02) -> np.ndarray:
    """Distributions that are single Gaussians around z, in the form of a mixture."""
    columns = [np.full(len(z), 0.25)] * 4 + [z] * 4 + [np.full(len(z), width)] * 4
    return np.stack(columns, axis=1).astype(np.float32)


def make_card(**changes: Any) -> ModelCard:
    """The card of a model that reads what the shipped one reads."""
    return msgspec.structs.replace(shipped().card, **changes)


def write_model(folder: Path, **changes: Any) -> Model:
    """A model's folder with nothing but its card."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_bytes(encode_card(make_card(**{"name": folder.name, **changes})))
    return read_model(folder)


def make_predictions(**arrays: np.ndarray) -> Predictions:
    """Three clean galaxies, or as many as are named; name an array to replace it."""
    num_rows = len(next(iter(arrays.values()), range(3)))
    fields: dict[str, Any] = {
        "object_id": np.arange(num_rows, dtype=np.int64),
        "z_phot": np.full(num_rows, 0.1, dtype=np.float32),
        "sigma": np.full(num_rows, 0.02, dtype=np.float32),
        "quality": np.zeros(num_rows, dtype=np.uint8),
        "z_spec": np.full(num_rows, 0.1),
    }
    return Predictions(**{**fields, **arrays})


def make_record_for(task: RankTask, predicted: Predictions | None = None, **changes: Any) -> RankRecord:
    """The record of a rank that wrote `predicted`, or labelled galaxies with an error of 0.01."""
    if predicted is None:
        arrays = make_arrays(task.num_samples, seed=task.rank)
        z_phot = arrays["redshifts"].astype(np.float32) + 0.01
        predicted = make_predictions(object_id=arrays["object_id"], z_phot=z_phot, z_spec=arrays["redshifts"])
    clock = PhaseClock()
    with clock.phase("inference"):
        pass
    here = msgspec.structs.replace(INVOCATION, request_id="r", code_version="1")
    record = make_record(
        task,
        Outcome(predicted, ratio_95=2.0),
        FakeEngine(),
        clock,
        here,
        model=make_card(name="fake"),
        stored=bind(predicted, predicted.to_npz(), f'"etag-{task.rank}"'),
        request_times_s=[0.1, 0.3],
    )
    return msgspec.structs.replace(record, **changes)


def stored_by(records: Mapping[str, RankRecord | str]) -> dict[str, StoredObject]:
    """A listing in which the predictions are those that the records are about."""
    found = [one for one in records.values() if isinstance(one, RankRecord) and one.predictions]
    return {one.predictions_key: StoredObject(one.predictions.size_bytes, one.predictions.etag) for one in found}


def prove_run(tasks: Sequence[RankTask], found: Mapping[str, bytes], failures: Sequence[RankFailure] = ()) -> Proof:
    """Judge records, encoded as they are stored, whose predictions are all there."""
    records = decode_records(found)
    return prove(tasks, records, failures, stored_by(records))


def make_plan(num_samples: int = 3, **changes: Any) -> RunPlan:
    fields: dict[str, Any] = {
        "run_id": RUN,
        "bucket": "b",
        "run_prefix": f"runs/{RUN}/",
        "manifest_key": f"runs/{RUN}/manifest.json",
        "items_key": f"runs/{RUN}/manifest.json",
        "request": make_request(),
        "notes": (),
        "num_samples": num_samples,
        "max_concurrency": 1000,
        "started_at_s": 1.0,
        "planned_at_s": 2.0,
    }
    return RunPlan(**{**fields, **changes})


class MemoryReader:
    """A RangeReader over a dict; remembers what was read."""

    def __init__(self, **objects: bytes) -> None:
        self.objects = objects
        self.etag = '"e"'
        self.requests: list[tuple[str, int, int]] = []

    def read(self, key: str, *, etag: str | None = None) -> bytes:
        return self.read_range(key, 0, len(self.objects.get(key, b"")), etag=etag)

    def read_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        if key not in self.objects:
            raise ObjectMissingError(key)
        if etag not in (None, self.etag):
            raise ShardChangedError(key)
        self.requests.append((key, start, stop))
        return self.objects[key][start:stop]


def make_run_row(**changes: Any) -> RunRow:
    """A complete local run of a sweep."""
    fields: dict[str, Any] = {
        "sweep": "tiny",
        "setting": "WORLD=2 BATCH=32",
        "repeat": 0,
        "position": 0,
        "run_id": RUN,
        "state": "complete",
        "target": "local",
        "started_at_s": 1.0,
        "world_size": 2,
        "batch_size": 32,
        "dataset": "sdss/10MB",
        "shard_mb": 10,
        "file_limit": None,
        "memory_mb": 1769,
        "engine": "auto",
        "precision": "fp32",
        "profile": False,
        "max_concurrency": 2,
        "num_samples": 1000,
        "data_bytes": 20_520_000,
        "num_records": 2,
        "end_to_end_s": 10.0,
        "map_s": 8.0,
        "rank_seconds": 14.0,
        "end_to_end_per_s": 100.0,
        "list_price_usd": 0.001,
        "paid_usd": 0.0,
    }
    return RunRow(**{**fields, **changes})
