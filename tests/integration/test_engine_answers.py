"""Every engine present here, with the weights this project ships: same answers, whatever batch was asked for."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from inference import engines
from inference.checkpoints import CHECKPOINT
from inference.checksum import file_sha256
from inference.clock import PhaseClock
from inference.contract import RowRange
from inference.engines import exported
from inference.pipeline import infer_rank
from inference.predict import Engine
from scripts import engines as exporting
from scripts.dataset import ensure_sample
from tests.factories import MemoryReader, make_arrays, make_shard_bytes, make_task

NUM_ROWS = 70


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights with a graph exported from them, compared with torch on the first shard of the sample."""
    folder = tmp_path_factory.mktemp("exported")
    copy = Path(shutil.copy(CHECKPOINT, folder))
    rows = folder / "rows"
    rows.mkdir()
    shutil.copy(ensure_sample() / "0.safetensors", rows)
    exporting.export(copy, rows)
    return copy


@pytest.fixture(scope="module", params=engines.NAMES)
def engine(request: pytest.FixtureRequest, checkpoint: Path) -> Engine:
    engine = engines.load(request.param, checkpoint, num_threads=1)
    if engine.note:
        pytest.skip(engine.note)
    return engine


@pytest.fixture(scope="module")
def published() -> Engine:
    return engines.load("torch", CHECKPOINT, num_threads=1, as_published=True)


def predict(engine: Engine, *, batch_size: int) -> np.ndarray:
    arrays = make_arrays(NUM_ROWS)
    task = make_task(
        num_samples=NUM_ROWS,
        batch_size=batch_size,
        rows=(RowRange(key="d/0.safetensors", start_row=0, stop_row=NUM_ROWS, etag='"e"'),),
    )
    reader = MemoryReader(**{"d/0.safetensors": make_shard_bytes(NUM_ROWS, **arrays)})
    return infer_rank(task, reader, engine, PhaseClock()).predictions.z_phot


def test_the_asked_batch_size_changes_no_bit(engine: Engine) -> None:
    results = [predict(engine, batch_size=size) for size in (1, 64, 512)]

    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_every_engine_follows_the_published_network(engine: Engine, published: Engine) -> None:
    difference = np.abs(predict(engine, batch_size=64) - predict(published, batch_size=64))

    # The bounds of the export, met by noise as well as by galaxies.
    assert difference.max() <= exporting.MAX_ABS
    assert difference.mean() <= exporting.MEAN_ABS


def test_a_record_can_name_the_engine(engine: Engine) -> None:
    assert engine.name.split()[0] in engines.NAMES
    assert engine.weights_sha256 == file_sha256(CHECKPOINT)
    assert engine.num_parameters == 15_902_889
    assert engine.precision == "fp32"


def test_the_graph_holds_few_weights_of_its_own(checkpoint: Path) -> None:
    graph = exported.graph_path(checkpoint, file_sha256(checkpoint))

    assert graph.stat().st_size < checkpoint.stat().st_size / 8


def test_without_weights_there_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(exporting.WeightsError, match="make train"):
        exporting.export(tmp_path / "none.safetensors", None)
