"""A rank predicts its own rows in order, whatever the batch size, and its record says so."""

import json
from threading import Event

import numpy as np
import pytest

from inference import contract
from inference.clock import PhaseClock
from inference.contract import RowRange
from inference.errors import EngineError, ShardFormatError
from inference.pipeline import Predictions, infer_rank
from inference.predict import predict_redshift
from tests.factories import FakeEngine, MemoryReader, make_arrays, make_record_for, make_shard_bytes, make_task


def test_a_rank_over_several_shards_keeps_their_order() -> None:
    reader = MemoryReader(a=b"", **{f"{n}.safetensors": make_shard_bytes(5, **make_arrays(5, seed=n)) for n in (0, 1)})
    rows = (
        RowRange(key="0.safetensors", start_row=3, stop_row=5, etag='"e"'),
        RowRange(key="1.safetensors", start_row=0, stop_row=4, etag='"e"'),
    )

    found = infer_rank(make_task(rows=rows, num_samples=6), reader, FakeEngine(), PhaseClock()).predictions

    first, second = make_arrays(5, seed=0), make_arrays(5, seed=1)
    np.testing.assert_array_equal(found.object_id, np.append(first["object_id"][3:], second["object_id"][:4]))
    np.testing.assert_array_equal(found.z_spec, np.append(first["redshifts"][3:], second["redshifts"][:4]))
    magnitudes = np.vstack([first["magnitudes"][3:], second["magnitudes"][:4]])
    np.testing.assert_array_equal(found.z_phot, FakeEngine().predict(np.zeros(6), magnitudes))


def test_tiny_shards_are_gathered_into_full_micro_batches() -> None:
    sizes: list[int] = []

    class Watched(FakeEngine):
        def predict(self, images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
            sizes.append(len(images))
            return super().predict(images, magnitudes)

    reader = MemoryReader(**{f"{n}.safetensors": make_shard_bytes(3, **make_arrays(3, seed=n)) for n in range(50)})
    rows = tuple(RowRange(key=f"{n}.safetensors", start_row=0, stop_row=3, etag='"e"') for n in range(50))

    found = infer_rank(make_task(rows=rows, num_samples=150), reader, Watched(), PhaseClock()).predictions

    assert sizes == [64, 64, 22]
    np.testing.assert_array_equal(
        found.object_id, np.concatenate([make_arrays(3, seed=n)["object_id"] for n in range(50)])
    )


def test_the_next_block_is_read_while_this_one_is_computed() -> None:
    next_is_read = Event()

    class Reader(MemoryReader):
        def read_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
            if key == "1.safetensors":
                next_is_read.set()
            return super().read_range(key, start, stop, etag=etag)

    class Engine(FakeEngine):
        def predict(self, images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
            assert next_is_read.wait(timeout=30)
            return super().predict(images, magnitudes)

    reader = Reader(**{f"{n}.safetensors": make_shard_bytes(64) for n in range(2)})
    rows = tuple(RowRange(key=f"{n}.safetensors", start_row=0, stop_row=64, etag='"e"') for n in range(2))

    infer_rank(make_task(rows=rows, num_samples=128), reader, Engine(), PhaseClock())


def test_unlabelled_rows_have_no_spectroscopic_redshift() -> None:
    reader = MemoryReader(**{"d/0.safetensors": make_shard_bytes(3, redshifts=None)})

    predictions = infer_rank(make_task(), reader, FakeEngine(), PhaseClock()).predictions

    assert np.isnan(predictions.z_spec).all()


def test_predictions_survive_their_file() -> None:
    before = Predictions(np.array([7]), np.array([0.1], dtype=np.float32), np.array([np.nan]))

    after = Predictions.from_npz(before.to_npz())

    for name in ("object_id", "z_phot", "z_spec"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_the_phases_of_a_rank_are_counted() -> None:
    clock = PhaseClock()

    infer_rank(make_task(), MemoryReader(**{"d/0.safetensors": make_shard_bytes(3)}), FakeEngine(), clock)

    assert clock.seconds("download") > 0
    assert clock.seconds("inference") > 0
    assert clock.seconds("download") + clock.seconds("inference") <= clock.total


def test_a_bad_shard_stops_the_rank() -> None:
    with pytest.raises(ShardFormatError):
        infer_rank(make_task(), MemoryReader(**{"d/0.safetensors": b"x"}), FakeEngine(), PhaseClock())


@pytest.mark.parametrize("micro_batch", [1, 2, 64])
def test_the_micro_batch_does_not_change_which_galaxy_gets_which_redshift(micro_batch: int) -> None:
    arrays = make_arrays(5)

    z_phot = predict_redshift(FakeEngine(), arrays["images"], arrays["magnitudes"], micro_batch=micro_batch)

    np.testing.assert_array_equal(z_phot, FakeEngine().predict(arrays["images"], arrays["magnitudes"]))


def test_a_redshift_that_is_not_finite_is_never_written() -> None:
    arrays = make_arrays(5)
    arrays["magnitudes"][3, 2] = np.inf

    with pytest.raises(EngineError, match="1 redshifts that are not finite, the first for row 3"):
        predict_redshift(FakeEngine(), arrays["images"], arrays["magnitudes"])


def test_published_figures_follow_the_published_definitions() -> None:
    # Published: 10.01953125 MB of images at batch 512 and 60.66470718383789 MB of model.
    record = json.loads(contract.encode(make_record_for(make_task(num_samples=1000, batch_size=512))))

    loop_s = record["total_cpu_time (seconds)"]
    assert record["total_image_memory (MB)"] == 10.01953125
    assert record["total_model_memory (MB)"] == 60.66470718383789
    assert record["num_batches"] == 2
    assert record["execution_time (seconds/batch)"] == pytest.approx(loop_s * 512 / 1000)
    assert record["throughput_bps"] == pytest.approx(164_160 * 1000 / loop_s)
    assert record["sample_persec"] == pytest.approx(1000 / loop_s)
    assert record["total_cpu_memory (MB)"] is None
    assert (record["s3_num_requests"], record["s3_min_time"], record["s3_max_time"]) == (2, 0.1, 0.3)
