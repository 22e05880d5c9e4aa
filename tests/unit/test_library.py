"""The network as a library: any arrays of galaxies in, what a run would write out, or one clear error."""

import subprocess
import sys
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest

import inference
from inference import Quality, RedshiftModel, engines
from inference.block import Block
from inference.calibration import calibration_path
from inference.errors import EngineError, InputError, ModelError, RunError, WeightsError
from inference.loading import load_model
from inference.models import Model, shipped, without_images
from inference.models.card import BinnedPz
from inference.pipeline import Predictions, predict_block
from inference.predict import MICRO_BATCH
from inference.shard import BLOCK_ROWS
from tests.factories import FakeEngine, make_arrays, make_calibration, make_card, write_model

ROOT = Path(__file__).parents[2]


def make_model() -> RedshiftModel:
    return RedshiftModel(FakeEngine(), make_calibration())


def as_a_run(arrays: dict[str, np.ndarray]) -> Predictions:
    return predict_block(Block(**arrays), FakeEngine(), make_calibration())


def test_the_result_is_what_a_run_predicts() -> None:
    arrays = make_arrays(5)
    arrays["magnitudes"][1, 0] = np.nan
    arrays["magnitudes"][2, 2] = -9999.0
    arrays["images"][3, 0, 0, 0] = np.inf
    expected = as_a_run(arrays)

    result = make_model().predict(arrays["images"], arrays["magnitudes"])

    for found, wanted, dtype in (
        (result.redshift, expected.z_phot, np.float32),
        (result.sigma, expected.sigma, np.float32),
        (result.flags, expected.quality, np.uint8),
    ):
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == dtype
    assert (result.flags & Quality.REFUSED != 0).tolist() == [False, False, True, False, False]
    assert np.isnan(result.redshift).tolist() == [False, False, True, False, False]


def test_more_galaxies_than_one_block_are_predicted_in_their_order() -> None:
    arrays = make_arrays(BLOCK_ROWS + MICRO_BATCH + 1)

    result = make_model().predict(arrays["images"], arrays["magnitudes"])

    np.testing.assert_array_equal(result.redshift, as_a_run(arrays).z_phot)


def test_no_galaxies_give_no_redshifts() -> None:
    result = make_model().predict(np.empty((0, 5, 32, 32)), np.empty((0, 5)))

    assert (len(result.redshift), len(result.sigma), len(result.flags)) == (0, 0, 0)


def test_the_given_arrays_stay_as_they_are() -> None:
    arrays = make_arrays(3)
    arrays["magnitudes"][0, 0] = arrays["images"][1, 0, 0, 0] = np.nan
    before = {name: array.copy() for name, array in arrays.items()}

    make_model().predict(arrays["images"], arrays["magnitudes"])

    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


def test_other_numbers_are_converted() -> None:
    arrays = make_arrays(3)
    whole = np.round(arrays["images"] * 50), np.round(arrays["magnitudes"])
    expected = make_model().predict(whole[0].astype(np.float32), whole[1])

    for kind in (np.int16, np.float64, ">f4"):
        found = make_model().predict(whole[0].astype(kind), whole[1].astype(kind).tolist())
        np.testing.assert_array_equal(found.redshift, expected.redshift)
        np.testing.assert_array_equal(found.flags, expected.flags)


def test_a_number_too_large_for_a_pixel_is_a_missing_pixel() -> None:
    images = make_arrays(2)["images"].astype(np.float64)
    images[1, 0, 0, 0] = 1e39

    flags = make_model().predict(images, make_arrays(2)["magnitudes"]).flags

    assert (flags & Quality.FILLED_PIXELS != 0).tolist() == [False, True]


def test_what_is_masked_is_missing() -> None:
    arrays = make_arrays(3)
    mask = np.zeros((3, 5), dtype=bool)
    mask[1, 0] = mask[2, 2] = True

    flags = make_model().predict(arrays["images"], np.ma.array(arrays["magnitudes"], mask=mask)).flags

    assert (flags & Quality.IMPUTED_BAND != 0).tolist() == [False, True, True]
    assert (flags & Quality.REFUSED != 0).tolist() == [False, False, True]


def test_the_centre_is_cut_out_of_larger_cutouts() -> None:
    large = make_arrays(2, side=64)
    small = large["images"][:, :, 16:48, 16:48]

    found = make_model().predict(large["images"], large["magnitudes"])

    np.testing.assert_array_equal(found.flags, make_model().predict(small, large["magnitudes"]).flags)
    np.testing.assert_array_equal(found.flags, as_a_run({**large, "images": small}).quality)


class Summing(FakeEngine):
    """Gives the sum of the further columns, and keeps what it was given."""

    def predict(self, images: np.ndarray, magnitudes: np.ndarray, columns: np.ndarray) -> np.ndarray:
        self.given = images, magnitudes, columns
        return columns.sum(axis=1).astype(np.float32)


def with_columns(**inputs: object) -> RedshiftModel:
    reads = msgspec.structs.replace(shipped().card.inputs, columns=("ebv", "size"), **inputs)
    return RedshiftModel(Summing(), card=make_card(inputs=reads))


def test_a_model_without_images_asks_for_none() -> None:
    magnitudes = make_arrays(3)["magnitudes"]
    model = RedshiftModel(FakeEngine(), card=without_images().card)

    found = model.predict(magnitudes=magnitudes)

    np.testing.assert_array_equal(found.redshift, FakeEngine().predict(magnitudes, magnitudes))
    with pytest.raises(InputError, match="magnitudes are missing, which the model reads"):
        model.predict()
    with pytest.raises(InputError, match=r"magnitudes have the shape \(\)"):
        model.predict(magnitudes=17.0)


def test_further_columns_reach_a_model_that_reads_them_and_a_galaxy_without_one_is_rejected() -> None:
    arrays, columns = make_arrays(3), [[1, 2], [3, 4], [5, 6]]

    found = with_columns().predict(arrays["images"], arrays["magnitudes"], columns)
    lacking = with_columns().predict(arrays["images"], arrays["magnitudes"], [[1, 2], [np.nan, 4], [5, 6]])

    assert found.redshift.tolist() == [3, 7, 11]
    assert np.isnan(lacking.redshift).tolist() == [False, True, False]
    assert (lacking.flags & Quality.REFUSED != 0).tolist() == [False, True, False]
    with pytest.raises(InputError, match=r"columns have the shape \(3,\); the model reads \(3, 2\): ebv, size of each"):
        with_columns().predict(arrays["images"], arrays["magnitudes"], [1, 2, 3])
    with pytest.raises(InputError, match="columns are missing"):
        with_columns().predict(arrays["images"], arrays["magnitudes"])


def test_magnitudes_that_a_model_does_not_read_are_not_missed() -> None:
    images = make_arrays(2)["images"]
    model = with_columns(magnitudes=None)

    found = model.predict(images, None, [[1, 2], [3, 4]])

    assert found.redshift.tolist() == [3, 7]
    assert not found.flags.any()
    pixels, magnitudes, columns = model.engine.given  # type: ignore[attr-defined]
    np.testing.assert_array_equal(pixels, images)
    assert magnitudes.shape == (2, 5)
    assert columns.dtype == np.float64


@pytest.mark.parametrize(
    ("images", "magnitudes", "message"),
    [
        (np.zeros((3, 32, 32, 5)), np.zeros((3, 5)), r"\(3, 32, 32, 5\); the model reads \(N, 5, 32, 32\).*moveaxis"),
        (np.zeros((5, 32, 32)), np.zeros(5), r"\(5, 32, 32\).*images\[None\]"),
        (np.zeros((3, 5, 32, 64)), np.zeros((3, 5)), r"images have the shape"),
        (np.zeros((3, 4, 32, 32)), np.zeros((3, 4)), r"images have the shape"),
        (0.0, np.zeros((3, 5)), r"images have the shape \(\)"),
        (np.zeros((3, 5, 32, 32)), np.zeros((2, 5)), r"magnitudes have the shape \(2, 5\).*reads \(3, 5\)"),
        (np.zeros((3, 5, 32, 32)), np.zeros((3, 4)), r"\(3, 4\).*u, g, r, i, z"),
        (np.zeros((3, 5, 32, 32)), [[17.0] * 5, [17.0], [17.0]], r"magnitudes cannot be read as an array"),
        (np.zeros((1, 5, 32, 32)), [["17"] * 5], r"magnitudes hold <U2 and not numbers"),
        (np.zeros((1, 5, 32, 32), dtype=complex), [[17] * 5], r"images hold complex128"),
    ],
)
def test_arrays_that_cannot_be_galaxies_are_refused(images: object, magnitudes: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        make_model().predict(images, magnitudes)  # type: ignore[arg-type]
    assert isinstance(refused.value, ValueError)
    assert isinstance(refused.value, RunError)


def test_the_shipped_weights_start_without_torch_and_with_their_calibration() -> None:
    program = (
        "import sys; from inference import load_model; import numpy as np; model = load_model();"
        "result = model.predict(np.zeros((2, 5, 32, 32)), np.full((2, 5), 17.0));"
        "print(model.engine.name.split()[0], model.ratio_95 > 1, 'torch' in sys.modules, len(result.sigma))"
    )

    ended = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, cwd=ROOT)

    assert (ended.stdout, ended.stderr) == ("native True False 2\n", "")


def test_weights_without_a_calibration_predict_and_warn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def load(name: str, model: Model, **settings: object) -> FakeEngine:
        asked.update(settings, name=name, folder=model.folder)
        return FakeEngine()

    monkeypatch.setattr(engines, "load_model", load)

    folder = write_model(tmp_path / "m", weights_name="w.safetensors").folder
    with pytest.warns(UserWarning, match=r"No sigma.*calibration\.safetensors does not exist") as warned:
        model = load_model(str(folder), engine="auto", precision="int8", num_threads=3)

    arrays = make_arrays(2)
    result = model.predict(arrays["images"], arrays["magnitudes"])
    assert warned[0].filename == __file__
    assert model.ratio_95 is None
    assert np.isnan(result.sigma).all()
    assert not np.isnan(result.redshift).any()
    assert asked == {
        "name": "auto",
        "folder": folder,
        "precision": "int8",
        "num_threads": 3,
    }
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0, 2, 5, 7}, raising=False)
    with pytest.warns(UserWarning, match="No sigma"):
        load_model(folder)
    assert asked == {"name": "auto", "folder": folder, "precision": "fp32", "num_threads": 4}
    monkeypatch.delattr("os.sched_getaffinity")
    for num_cpus, num_threads in ((7, 7), (None, 1)):
        monkeypatch.setattr("os.cpu_count", lambda found=num_cpus: found)
        with pytest.warns(UserWarning, match="No sigma"):
            load_model(folder)
        assert asked["num_threads"] == num_threads


def test_a_network_with_its_own_sigma_needs_no_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "load_model", lambda *_name, **_settings: FakeEngine())
    model = write_model(tmp_path / "m", output=BinnedPz(edges=(0.0, 0.1, 0.2)))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model(model.folder).ratio_95 is None


def test_an_engine_that_was_replaced_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Replaced(FakeEngine):
        note = "engine auto fell back to torch: because"

    model = write_model(tmp_path / "m")
    calibration_path(model.weights).write_bytes(make_calibration().to_bytes())
    monkeypatch.setattr(engines, "load_model", lambda *_name, **_settings: Replaced())

    with pytest.warns(UserWarning, match="fell back to torch: because"):
        assert load_model(model.folder).ratio_95 == pytest.approx(2.5 / 1.1)


def test_weights_that_are_missing_and_engines_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.safetensors does not exist"):
        load_model(write_model(tmp_path / "m", weights_name="none.safetensors").folder)
    with pytest.raises(ModelError, match=r"nowhere is no model"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(EngineError, match="tensorflow"):
        load_model(engine="tensorflow")


def test_the_package_has_only_the_names_it_says() -> None:
    assert inference.Quality is Quality
    with pytest.raises(AttributeError, match="has no attribute 'load'"):
        _ = inference.load
