"""A rank predicts its own rows in order, whatever the batch size, and its record says so."""

import hashlib
import json
from dataclasses import replace
from itertools import pairwise
from threading import Event

import msgspec
import numpy as np
import pytest

from inference import contract
from inference.calibration import Calibration
from inference.clock import PhaseClock
from inference.contract import RowRange
from inference.domain import domain_features
from inference.engines.torch import Profile
from inference.errors import EngineError, ShardFormatError
from inference.metrics import accuracy_sums
from inference.models import shipped
from inference.models.card import BinnedPz
from inference.pipeline import Outcome, Predictions, infer_rank
from inference.posterior import NUM_NUMBERS
from inference.predict import MICRO_BATCH, predict_values
from inference.quality import Quality
from inference.record import Invocation, bind, count_flags, make_record
from inference.shard import SMALL_BLOCK_ROWS
from scripts.benchmarks.records import INVOCATION
from tests.factories import (
    FakeEngine,
    MemoryReader,
    make_arrays,
    make_calibration,
    make_card,
    make_posterior,
    make_predictions,
    make_pz,
    make_record_for,
    make_shard_bytes,
    make_task,
)

PREDICTED = {"object_id": "int64", "z_phot": "float32", "sigma": "float32", "quality": "uint8", "z_spec": "float64"}
"""What a rank writes, and as what: catalog and report read it."""

CARD = shipped().card


class Watched(FakeEngine):
    """Keeps how many galaxies each call had, and gives as many numbers for each as it has `values`."""

    def __init__(self, micro_batch: int = MICRO_BATCH, values: tuple[float, ...] = (0.1,)) -> None:
        self.micro_batch, self.values, self.sizes = micro_batch, values, []

    def predict(self, images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
        self.sizes.append(len(images))
        found = np.tile(np.array(self.values, np.float32), (len(images), 1))
        return found[:, 0] if len(self.values) == 1 else found


def test_a_rank_over_several_shards_keeps_their_order() -> None:
    reader = MemoryReader(a=b"", **{f"{n}.safetensors": make_shard_bytes(5, **make_arrays(5, seed=n)) for n in (0, 1)})
    rows = (
        RowRange(key="0.safetensors", start_row=3, stop_row=5, etag='"e"'),
        RowRange(key="1.safetensors", start_row=0, stop_row=4, etag='"e"'),
    )

    found = infer_rank(make_task(rows=rows, num_samples=6), reader, FakeEngine(), PhaseClock(), CARD).predictions

    first, second = make_arrays(5, seed=0), make_arrays(5, seed=1)
    np.testing.assert_array_equal(found.object_id, np.append(first["object_id"][3:], second["object_id"][:4]))
    np.testing.assert_array_equal(found.z_spec, np.append(first["redshifts"][3:], second["redshifts"][:4]))
    magnitudes = np.vstack([first["magnitudes"][3:], second["magnitudes"][:4]])
    np.testing.assert_array_equal(found.z_phot, FakeEngine().predict(np.zeros(6), magnitudes))


def test_tiny_shards_are_gathered_into_full_micro_batches() -> None:
    engine = Watched()
    reader = MemoryReader(**{f"{n}.safetensors": make_shard_bytes(3, **make_arrays(3, seed=n)) for n in range(50)})
    rows = tuple(RowRange(key=f"{n}.safetensors", start_row=0, stop_row=3, etag='"e"') for n in range(50))

    found = infer_rank(make_task(rows=rows, num_samples=150), reader, engine, PhaseClock(), CARD).predictions

    whole, rest = divmod(150, MICRO_BATCH)
    assert engine.sizes == [MICRO_BATCH] * whole + [rest]
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

    infer_rank(make_task(rows=rows, num_samples=128), reader, Engine(), PhaseClock(), CARD)


def test_blocks_are_predicted_from_the_bytes_that_were_read() -> None:
    read: list[np.ndarray] = []
    computed: list[np.ndarray] = []

    class Reader(MemoryReader):
        def read_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
            content = super().read_range(key, start, stop, etag=etag)
            read.append(np.frombuffer(content, dtype=np.uint8))
            return content

    class Engine(FakeEngine):
        def predict(self, images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
            computed.append(images)
            return super().predict(images, magnitudes)

    num_rows = 2 * SMALL_BLOCK_ROWS + 40
    reader = Reader(**{"d/0.safetensors": make_shard_bytes(num_rows)})

    infer_rank(make_task(num_samples=num_rows), reader, Engine(), PhaseClock(), CARD)

    # A copy of a block would be as much memory again.
    assert all(any(np.shares_memory(images, content) for content in read) for images in computed)
    assert sum(map(len, computed)) == num_rows
    assert max(content.nbytes for content in read) == SMALL_BLOCK_ROWS * 5 * 32 * 32 * 4


def test_unlabelled_rows_have_no_spectroscopic_redshift() -> None:
    reader = MemoryReader(**{"d/0.safetensors": make_shard_bytes(3, redshifts=None)})

    predictions = infer_rank(make_task(), reader, FakeEngine(), PhaseClock(), CARD).predictions

    assert np.isnan(predictions.z_spec).all()


def test_a_redshift_that_cannot_be_stands_for_none() -> None:
    outcome = infer(5, redshifts=np.array([-1.0, -9999.0, -0.001, 0.2, np.nan]))

    np.testing.assert_array_equal(outcome.z_spec, [np.nan, np.nan, -0.001, 0.2, np.nan])


def test_predictions_survive_their_file() -> None:
    before = make_predictions(z_spec=np.array([np.nan, 0.2]))

    after = Predictions.from_npz(before.to_npz())

    for name, dtype in PREDICTED.items():
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
        assert getattr(after, name).dtype == dtype


def infer(num_rows: int, *, calibration: Calibration | None = None, **arrays: np.ndarray) -> Predictions:
    """Infer one shard; name an array to replace it."""
    reader = MemoryReader(**{"d/0.safetensors": make_shard_bytes(num_rows, **arrays)})
    return infer_rank(
        make_task(num_samples=num_rows), reader, FakeEngine(), PhaseClock(), CARD, calibration
    ).predictions


def test_a_rejected_galaxy_keeps_its_row_without_numbers() -> None:
    magnitudes = make_arrays(5)["magnitudes"]
    magnitudes[3, 2] = -9999.0

    found = infer(5, magnitudes=magnitudes, calibration=make_calibration())

    others = np.array([0, 1, 2, 4])
    np.testing.assert_array_equal(np.isnan(found.z_phot), [False, False, False, True, False])
    np.testing.assert_array_equal(np.isnan(found.sigma), np.isnan(found.z_phot))
    assert found.quality[3] & Quality.REFUSED
    assert not found.quality[3] & Quality.OUT_OF_DOMAIN
    np.testing.assert_array_equal(found.z_phot[others], FakeEngine().predict(np.zeros(4), magnitudes[others]))
    np.testing.assert_array_equal(found.object_id, make_arrays(5)["object_id"])


def test_a_galaxy_with_an_imputed_band_or_filled_pixels_gets_a_redshift_and_a_flag() -> None:
    arrays = make_arrays(3)
    arrays["magnitudes"][0, 0] = np.nan
    arrays["images"][1, 2, 0, :5] = np.nan

    found = infer(3, magnitudes=arrays["magnitudes"], images=arrays["images"])

    assert np.isfinite(found.z_phot).all()
    assert found.quality[0] & Quality.IMPUTED_BAND
    assert found.quality[1] & Quality.FILLED_PIXELS
    assert not found.quality[2] & (Quality.IMPUTED_BAND | Quality.FILLED_PIXELS)


def test_a_model_with_a_posterior_gives_every_galaxy_its_distribution() -> None:
    magnitudes = make_arrays(5)["magnitudes"]
    magnitudes[3, 2] = -9999.0
    posterior = make_posterior()

    found = infer(5, magnitudes=magnitudes, calibration=replace(make_calibration(), posterior=posterior))
    plain = infer(5, magnitudes=magnitudes, calibration=make_calibration())

    assert found.pz is not None
    assert (found.pz.shape, found.pz.dtype) == ((5, NUM_NUMBERS), np.float32)
    assert np.isnan(found.pz).all(axis=1).tolist() == [False, False, False, True, False]
    others = np.array([0, 1, 2, 4])
    np.testing.assert_array_equal(found.pz[others], posterior.posteriors(magnitudes[others], found.z_phot[others]))
    assert plain.pz is None
    for name in PREDICTED:
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))


def test_distributions_survive_their_file_and_the_record_names_their_form() -> None:
    calibration = replace(make_calibration(), posterior=make_posterior())
    reader = MemoryReader(**{"d/0.safetensors": make_shard_bytes(3)})
    clock = PhaseClock()
    outcome = infer_rank(make_task(), reader, FakeEngine(), clock, CARD, calibration)

    content = outcome.predictions.to_npz()
    again = Predictions.from_npz(content)
    stored = bind(outcome.predictions, content, "")
    record = make_record(
        make_task(), outcome, FakeEngine(), clock, INVOCATION, model=CARD, stored=stored, request_times_s=[0.1]
    )

    np.testing.assert_array_equal(again.pz, outcome.predictions.pz)
    assert record.pz == "mixture"
    assert record.ratio_95 == outcome.ratio_95 == calibration.errors.ratio_95


def test_parts_keep_their_distributions_where_all_have_the_same_form() -> None:
    z = np.linspace(0.1, 0.2, 3)
    mixture, quantiles = make_pz(z), np.zeros((3, 15), np.float32)

    def joined(*pz: np.ndarray | None) -> np.ndarray | None:
        return Predictions.joined([replace(make_predictions(), pz=one) for one in pz]).pz

    np.testing.assert_array_equal(joined(mixture, mixture), np.concatenate([mixture, mixture]))
    assert joined(mixture, quantiles) is None
    assert joined(mixture, None) is None
    assert joined(None, None) is None


def test_without_a_calibration_no_sigma_is_made_up() -> None:
    found = infer(3)

    assert np.isnan(found.sigma).all()
    assert not (found.quality & Quality.OUT_OF_DOMAIN).any()


def test_with_a_calibration_every_redshift_has_a_sigma_and_strangers_are_flagged() -> None:
    # The calibration knows galaxies of r = 17 with the light that their magnitudes imply; pixel noise is none.
    found = infer(3, calibration=make_calibration())

    assert (found.sigma > 0).all()
    assert (found.quality & Quality.OUT_OF_DOMAIN).all()


def test_no_cut_between_ranks_or_blocks_changes_a_single_bit() -> None:
    arrays = make_arrays(600)
    density = make_calibration().domain.log_density(domain_features(arrays["images"], arrays["magnitudes"]))
    calibration = make_calibration(threshold=float(np.median(density)))
    whole = infer(600, **arrays, calibration=calibration)

    reader = MemoryReader(**{"d/0.safetensors": make_shard_bytes(600, **arrays)})
    cuts = [0, 1, 8, 75, 331, 600]
    parts = [
        infer_rank(
            make_task(
                rows=(RowRange(key="d/0.safetensors", start_row=start, stop_row=stop, etag='"e"'),),
                num_samples=stop - start,
            ),
            reader,
            FakeEngine(),
            PhaseClock(),
            CARD,
            calibration,
        ).predictions
        for start, stop in pairwise(cuts)
    ]

    assert np.count_nonzero(whole.quality & Quality.OUT_OF_DOMAIN) == 300
    for name in PREDICTED:
        np.testing.assert_array_equal(getattr(Predictions.joined(parts), name), getattr(whole, name))


def test_the_record_counts_flags_and_leaves_rejected_galaxies_out_of_the_accuracy() -> None:
    refused, odd = Quality.REFUSED.value, Quality.OUT_OF_DOMAIN.value | Quality.COLOR_OUTLIER.value
    predictions = make_predictions(
        z_phot=np.array([0.1, np.nan, 0.3], dtype=np.float32), quality=np.array([0, refused, odd], dtype=np.uint8)
    )

    assert count_flags(predictions.quality) == {"COLOR_OUTLIER": 1, "OUT_OF_DOMAIN": 1, "REFUSED": 1}
    assert accuracy_sums(predictions.z_phot, predictions.z_spec, predictions.sigma, ratio_95=2.0).num_labelled == 2


def test_the_phases_of_a_rank_are_counted() -> None:
    clock = PhaseClock()

    infer_rank(make_task(), MemoryReader(**{"d/0.safetensors": make_shard_bytes(3)}), FakeEngine(), clock, CARD)

    assert clock.seconds("download") > 0
    assert clock.seconds("inference") > 0
    assert clock.seconds("download") + clock.seconds("inference") <= clock.total


def test_a_bad_shard_stops_the_rank() -> None:
    with pytest.raises(ShardFormatError):
        infer_rank(make_task(), MemoryReader(**{"d/0.safetensors": b"x"}), FakeEngine(), PhaseClock(), CARD)


@pytest.mark.parametrize("micro_batch", [1, 2, 64])
def test_the_micro_batch_does_not_change_which_galaxy_gets_which_redshift(micro_batch: int) -> None:
    arrays = make_arrays(5)

    z_phot = predict_values(FakeEngine(), arrays["images"], arrays["magnitudes"], micro_batch=micro_batch)

    np.testing.assert_array_equal(z_phot, FakeEngine().predict(arrays["images"], arrays["magnitudes"]))


@pytest.mark.parametrize(("profile", "sizes"), [(False, [5, 5, 5, 5]), (True, [7, 7, 6])])
def test_only_under_the_profiler_a_call_is_a_batch_as_it_was_asked_for(profile: bool, sizes: list[int]) -> None:
    engine = Watched(micro_batch=5)
    reader = MemoryReader(**{"d/0.safetensors": make_shard_bytes(20)})
    task = make_task(num_samples=20, batch_size=7, profile=profile)

    outcome = infer_rank(task, reader, engine, PhaseClock(), CARD)

    assert engine.sizes == sizes
    assert (outcome.profile is not None) == profile


def test_a_network_with_a_distribution_of_its_own_needs_no_calibration_for_it() -> None:
    card = make_card(output=BinnedPz(edges=(0.0, 0.1, 0.2, 0.3)))
    calibration = replace(make_calibration(), posterior=make_posterior())
    reader = MemoryReader(**{"d/0.safetensors": make_shard_bytes(3)})

    engine = Watched(values=(0.0, 1.0, 0.0))
    outcome = infer_rank(make_task(), reader, engine, PhaseClock(), card, calibration)

    found = outcome.predictions
    assert found.z_phot == pytest.approx([0.15] * 3)
    assert found.sigma == pytest.approx([0.034] * 3)
    assert found.pz.shape == (3, 15)
    assert (found.quality & Quality.OUT_OF_DOMAIN).all()
    assert outcome.ratio_95 is None


def test_as_many_numbers_per_galaxy_as_the_card_says_and_all_finite() -> None:
    arrays = make_arrays(3)

    three = Watched(values=(0.1, 0.2, 0.3))
    assert predict_values(three, arrays["images"], arrays["magnitudes"], num_values=3).shape == (3, 3)
    with pytest.raises(EngineError, match=r"fake 1 gave numbers of shape \(3,\) per galaxy, not \(\)"):
        predict_values(three, arrays["images"], arrays["magnitudes"])
    with pytest.raises(EngineError, match="gave 3 redshifts that are not finite, the first for row 0"):
        predict_values(Watched(values=(0.1, np.inf)), arrays["images"], arrays["magnitudes"], num_values=2)


def test_a_redshift_that_is_not_finite_is_never_written() -> None:
    arrays = make_arrays(5)
    arrays["magnitudes"][3, 2] = np.inf

    with pytest.raises(EngineError, match="1 redshifts that are not finite, the first for row 3"):
        predict_values(FakeEngine(), arrays["images"], arrays["magnitudes"])


def test_a_record_says_what_its_process_was_and_what_it_did() -> None:
    rows = tuple(
        RowRange(key=f"d/{n}.pt", start_row=0, stop_row=2, etag='"e"', crc32=b"1234", size_bytes=9) for n in (0, 1)
    )
    task = make_task(rank=2, world_size=4, num_samples=4, batch_size=3, rows=rows)
    predictions = make_predictions(object_id=np.array([7, 8, 9, 6]), quality=np.array([0, 1, 64, 65], np.uint8))
    content = predictions.to_npz()
    clock, engine = PhaseClock(), FakeEngine()
    engine.note, engine.num_threads, engine.precision = "why", 3, "int8"
    for phase in ("model_load", "download", "inference", "upload"):
        with clock.phase(phase):
            pass
    here = Invocation(
        request_id="r",
        attempt=2,
        cold_start=True,
        queue_s=1.5,
        init_s=2.5,
        function_memory_mb=3008,
        image_digest="digest",
        code_version="9",
        resident_memory_bytes=100 * 2**20,
        peak_memory_bytes=200 * 2**20,
    )

    record = make_record(
        task,
        Outcome(predictions, ratio_95=2.0),
        engine,
        clock,
        here,
        model=make_card(name="mine", inputs=msgspec.structs.replace(CARD.inputs, side_px=64)),
        stored=bind(predictions, content, "etag"),
        request_times_s=[0.5, 0.25, 0.75],
        sigma_note="No sigma.",
    )

    assert (record.run_id, record.rank, record.world_size, record.num_samples) == (task.run_id, 2, 4, 4)
    assert (record.attempt, record.cold_start, record.request_id) == (2, True, "r")
    assert (record.engine, record.engine_note, record.num_threads, record.precision) == ("fake 1", "why", 3, "int8")
    assert (record.model, record.weights_sha256) == ("mine", engine.weights_sha256)
    assert (record.code_version, record.image_digest, record.function_memory_mb) == ("9", "digest", 3008)
    assert (record.peak_memory_bytes, record.total_process_memory_mb) == (200 * 2**20, 100.0)
    images_mb, model_mb = 3 * 81_960 / 2**20, engine.num_parameters * 4 / 2**20
    assert record.library_overhead_memory_mb == pytest.approx(100.0 - model_mb - images_mb)
    assert record.total_cpu_memory_mb is None
    requests = (
        record.s3_num_requests,
        record.s3_total_time,
        record.s3_avg_time,
        record.s3_min_time,
        record.s3_max_time,
    )
    assert requests == (3, 1.5, 0.5, 0.25, 0.75)
    assert (record.result_path, record.data_path, record.predictions_key) == (
        task.run_prefix,
        "d/0.pt",
        task.predictions_key,
    )
    assert (record.started_at_s, record.clock.queue, record.clock.init) == (clock.started_at_s, 1.5, 2.5)
    phases = ("model_load", "download", "inference", "upload", "record")
    assert [getattr(record.clock, phase) for phase in phases] == [clock.seconds(phase) for phase in phases]
    assert min(clock.seconds(phase) for phase in phases) > 0
    assert sum(clock.seconds(phase) for phase in phases) <= record.clock.total <= clock.total
    assert record.sample_persec == pytest.approx(4 / clock.seconds("inference"))
    assert record.inputs == tuple(msgspec.structs.replace(one, crc32=b"", size_bytes=None) for one in rows)
    assert record.num_flagged == {"IMPUTED_BAND": 2, "REFUSED": 2}
    assert (record.ratio_95, record.sigma_note, record.bits_per_row, record.pz) == (2.0, "No sigma.", 655_680, None)
    assert record.accuracy == accuracy_sums(predictions.z_phot, predictions.z_spec, predictions.sigma, ratio_95=2.0)
    assert len(record.residuals) == 4 * 4
    bound = record.predictions
    assert (bound.size_bytes, bound.sha256, bound.etag) == (len(content), hashlib.sha256(content).hexdigest(), "etag")
    assert (bound.num_rows, bound.first_id, bound.last_id) == (4, 7, 6)


def test_a_profiled_rank_reports_what_the_profiler_saw() -> None:
    outcome = Outcome(make_predictions(), Profile(cpu_time_s=2.0, allocated_bytes=3_000_000))

    record = make_record(
        make_task(),
        outcome,
        FakeEngine(),
        PhaseClock(),
        INVOCATION,
        model=CARD,
        stored=bind(outcome.predictions, b"", ""),
        request_times_s=[],
    )

    assert (record.total_cpu_time_s, record.total_cpu_memory_mb, record.sample_persec) == (2.0, 3.0, 1.5)
    assert (record.s3_num_requests, record.s3_avg_time, record.s3_min_time, record.s3_max_time) == (0, 0.0, 0.0, 0.0)
    assert record.accuracy.num_within_95 is None


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
