"""Every engine present here, with the weights this project ships: same answers, whatever batch was asked for."""

import shutil
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from inference import engines
from inference.checksum import file_sha256
from inference.clock import PhaseClock
from inference.contract import RowRange
from inference.engines import exported
from inference.errors import WeightsError
from inference.models import shipped
from inference.pipeline import infer_rank
from inference.predict import MICRO_BATCH, Engine, predict_values
from scripts.data.sample import ensure_sample
from scripts.models.export import engines as exporting
from scripts.models.export import judge
from scripts.models.export.engines import export, exported_already, read_rows, remove_graphs_of_other_weights
from scripts.models.export.judge import MAX_ABS, MEAN_ABS
from tests.factories import MemoryReader, make_arrays, make_shard_bytes, make_task
from tests.kept_graph import write_graph_once

NUM_ROWS = MICRO_BATCH + 8
NUM_COMPARED = 64


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights with a graph exported from them, compared with torch on a few galaxies of the sample.

    `make engines` compares 512 and judges the reduced precisions too.
    """
    folder = tmp_path_factory.mktemp("exported")
    copy = Path(shutil.copy(shipped().weights, folder))
    rows = folder / "rows"
    rows.mkdir()
    shard = load_file(ensure_sample() / "0.safetensors")
    save_file({name: array[:NUM_COMPARED] for name, array in shard.items()}, rows / "0.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "write_graph", write_graph_once)
        export(copy, rows)
    return copy


@pytest.fixture(scope="module", params=engines.NAMES)
def engine(request: pytest.FixtureRequest, checkpoint: Path) -> Engine:
    engine = engines.load(request.param, checkpoint, num_threads=1)
    if engine.note:
        pytest.skip(engine.note)
    return engine


@pytest.fixture(scope="module")
def answer(engine: Engine) -> np.ndarray:
    return predict(engine, batch_size=MICRO_BATCH)


@pytest.fixture(scope="module")
def published() -> np.ndarray:
    return predict(engines.load("torch", shipped().weights, num_threads=1, as_published=True), batch_size=MICRO_BATCH)


def predict(engine: Engine, *, batch_size: int) -> np.ndarray:
    arrays = make_arrays(NUM_ROWS)
    task = make_task(
        num_samples=NUM_ROWS,
        batch_size=batch_size,
        rows=(RowRange(key="d/0.safetensors", start_row=0, stop_row=NUM_ROWS, etag='"e"'),),
    )
    reader = MemoryReader(**{"d/0.safetensors": make_shard_bytes(NUM_ROWS, **arrays)})
    return infer_rank(task, reader, engine, PhaseClock(), shipped().card).predictions.z_phot


def test_the_asked_batch_size_changes_no_bit(engine: Engine, answer: np.ndarray) -> None:
    for size in (1, 512):
        np.testing.assert_array_equal(predict(engine, batch_size=size), answer)


def test_every_engine_follows_the_published_network(answer: np.ndarray, published: np.ndarray) -> None:
    difference = np.abs(answer - published)

    # The bounds of the export, met by noise as well as by galaxies.
    assert difference.max() <= MAX_ABS
    assert difference.mean() <= MEAN_ABS


def test_a_record_can_name_the_engine(engine: Engine) -> None:
    assert engine.name.split()[0] in engines.NAMES
    assert engine.weights_sha256 == file_sha256(shipped().weights)
    assert engine.num_parameters == 15_902_889
    assert engine.precision == "fp32"


@pytest.mark.parametrize("engine", engines.NAMES[:-1], indirect=True)
def test_the_shipped_graph_is_the_one_that_the_export_makes(engine: Engine, answer: np.ndarray) -> None:
    as_shipped = engines.load(engine.name.split()[0], shipped().weights, num_threads=1)

    assert as_shipped.name == engine.name
    np.testing.assert_array_equal(predict(as_shipped, batch_size=MICRO_BATCH), answer)


def test_the_shipped_card_was_made_with_the_installed_libraries() -> None:
    card = exported.read_card(shipped().weights, file_sha256(shipped().weights))

    for name, agreement in card.engines.items():
        if find_spec(name):
            assert agreement.version == metadata.version(name)
    assert "onnxruntime" in card.engines


def test_a_graph_of_earlier_weights_goes_when_the_new_one_is_there(checkpoint: Path, tmp_path: Path) -> None:
    sha256 = file_sha256(checkpoint)
    for path in checkpoint.parent.glob("astromae*"):
        shutil.copy(path, tmp_path)
    copy = tmp_path / checkpoint.name
    old = [exported.graph_path(copy, "0" * 64, precision) for precision in ("fp32", "int8")]
    old += [exported.card_path(copy, "0" * 64), tmp_path / "astromae-notes.txt"]
    for path in old:
        path.write_bytes(b"")

    remove_graphs_of_other_weights(copy, sha256)

    assert [path.exists() for path in old] == [False, False, False, True]
    assert exported.read_card(copy, sha256).weights_sha256 == sha256


def test_the_graph_holds_few_weights_of_its_own(checkpoint: Path) -> None:
    graph = exported.graph_path(checkpoint, file_sha256(checkpoint))

    assert graph.stat().st_size < checkpoint.stat().st_size / 8


def test_without_weights_there_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="make train"):
        exported_already(tmp_path / "none.safetensors")


def test_what_is_there_is_not_exported_again(checkpoint: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copy(checkpoint, tmp_path))

    assert exported_already(checkpoint) == exported.read_card(checkpoint, file_sha256(checkpoint))
    assert exported_already(alone) is None


def test_the_shipped_graph_is_near_fp32_on_galaxies_that_gave_it_no_ranges() -> None:
    galaxies = {name: array[judge.NUM_COMPARED :][:256] for name, array in read_rows(ensure_sample()).items()}
    images, magnitudes = galaxies["images"], galaxies["magnitudes"].astype(np.float64)

    def predict(precision: str) -> np.ndarray:
        engine = engines.load("onnxruntime", shipped().weights, num_threads=1, precision=precision)
        return predict_values(engine, images, magnitudes)

    # A thirtieth of NMAD, the scatter of the redshifts themselves.
    assert 0 < np.abs(predict("int8") - predict("fp32")).max() < 4e-4
