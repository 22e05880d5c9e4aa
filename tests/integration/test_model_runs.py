"""Models of one's own run through the whole state machine, under their names."""

import json
import shutil
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from inference import load_model
from inference.errors import InputError
from inference.models import read_model, shipped
from inference.models.card import encode_card
from inference.pipeline import Predictions
from inference.pz import LEVELS, MEDIAN, answer
from inference.run_folder import RunFolder
from scripts.models.importing import import_model
from tests.commands import run_command
from tests.integration.test_run import environment, make_dataset, run_folder
from tests.networks import GRZ_CARD, PASQUET_CARD, Grz, Pasquet, export, write_dataset
from tests.unit.test_sources_model import stamps, table


def copy_of_the_shipped(root: Path, name: str) -> Path:
    """The same files under another name."""
    folder = root / "models" / name
    shutil.copytree(shipped().folder, folder)
    (folder / "card.json").write_bytes(encode_card(msgspec.structs.replace(shipped().card, name=name)))
    return folder


def test_a_run_predicts_with_the_model_that_is_named(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    copy_of_the_shipped(tmp_path, "mine")

    done = run(tmp_path, MODEL="mine", WORLD="2")

    assert done.returncode == 0, done.stderr
    summary = json.loads((run_folder(tmp_path) / "summary.json").read_text())
    assert f"model mine ({shipped().card.weights_sha256[:12]})" in done.stderr
    assert summary["models"] == ["mine"]
    assert (summary["request"]["model"], summary["request"]["model_sha256"]) == ("mine", shipped().card.weights_sha256)


def test_a_request_for_another_model_than_is_deployed_is_refused_in_a_line(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    (tmp_path / "request.json").write_text('{"bucket": "b", "model": "astromae", "model_sha256": "%s"}' % ("b" * 64))

    done = run(tmp_path, PAYLOAD="request.json")

    assert done.returncode == 1
    said = f"ModelError: The request is for the model astromae (bbbbbbbbbbbb); deployed is {shipped().in_words}"
    assert said in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", ["mime", "a/b"])
def test_a_model_that_is_not_there_starts_nothing(tmp_path: Path, name: str) -> None:
    make_dataset(tmp_path)

    done = run(tmp_path, MODEL=name)

    assert done.returncode == 2
    assert f"MODEL={name}" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two networks as ONNX, imported, and datasets for them."""
    root = tmp_path_factory.mktemp("networks")
    pasquet = export(Pasquet(), {"images": (5, 64, 64), "columns": (1,)}, root / "pasquet.onnx")
    grz = export(Grz(), {"images": (3, 32, 32), "magnitudes": (3,)}, root / "grz.onnx")
    for path, card in ((pasquet, PASQUET_CARD), (grz, GRZ_CARD)):
        path.with_suffix(".toml").write_text(card)
        import_model(str(path), path.stem, str(path.with_suffix(".toml")), root=root)
    write_dataset(root / "datasets" / "large" / "10MB", "ugriz", 64)
    write_dataset(root / "datasets" / "three" / "10MB", "gry", 32)
    return root


def run_once(root: Path, **variables: str) -> tuple[RunFolder, str]:
    before = set((root / "runs").glob("*"))
    done = run(root, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = set((root / "runs").glob("*")) - before
    return RunFolder(folder), done.stdout


def test_a_network_with_a_binned_pz_runs_on_cutouts_of_64_pixels(networks: Path) -> None:
    found, printed = run_once(networks, MODEL="pasquet", DATASET="large", WORLD="3")

    predictions = Predictions.joined([found.predictions(task) for task in found.tasks])
    (shards,) = [[load_file(path) for path in sorted((networks / "datasets/large/10MB").glob("*.safetensors"))]]
    rows = {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}
    with torch.inference_mode():
        bins = Pasquet().eval()(torch.from_numpy(rows["images"]), torch.from_numpy(rows["ebv"][:, None]).float())
    expected = answer(read_model(networks / "models" / "pasquet").card.output, bins.numpy())
    np.testing.assert_array_equal(predictions.object_id, rows["object_id"])
    np.testing.assert_allclose(predictions.z_phot, expected.z_phot, atol=1e-4)
    np.testing.assert_allclose(predictions.sigma, expected.sigma, atol=1e-4)
    assert predictions.pz is not None
    assert predictions.pz.shape == (80, len(LEVELS))
    assert predictions.pz[0].nbytes <= 64
    assert {record.pz for record in found.records} == {"quantiles"}
    assert found.summary.models == ("pasquet",)
    assert found.summary.throughput.bits_per_row == 8 * (5 * 64 * 64 * 4 + 8)
    assert "within sigma" in printed


def test_a_network_of_three_bands_reads_them_from_a_dataset_of_five(networks: Path) -> None:
    found, _ = run_once(networks, MODEL="grz", DATASET="large")

    rows = load_file(networks / "datasets/large/10MB/0.safetensors")
    bands = [1, 2, 4]
    pixels = np.arcsinh(rows["images"][:, bands, 16:48, 16:48] * 3630.78 / 100)
    with torch.inference_mode():
        expected = Grz().eval()(
            torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(rows["magnitudes"][:, bands]).float()
        )
    predictions = found.predictions(found.tasks[0])
    np.testing.assert_allclose(predictions.z_phot, expected[:, 0].numpy()[: len(predictions.z_phot)], atol=1e-5)
    assert np.isnan(predictions.sigma).all()
    assert predictions.pz is None
    assert any("No sigma" in note for note in found.summary.notes)


def run(root: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`make run` as a user starts it."""
    return run_command("run", cwd=root, env=environment(**variables))


def dataset(root: Path, **variables: str) -> str:
    """`make dataset` as a user starts it; return what it printed."""
    done = run_command("dataset", cwd=root, env=environment(**variables))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cutouts_in_three_bands_go_through_make_dataset_to_a_network_that_reads_these(networks: Path) -> None:
    pixels = stamps(networks / "stamps", "zrg", 40, as_cube=False, scale_arcsec=0.396)

    printed = dataset(networks, SOURCE="stamps", MODEL="grz", FIELDS="dereddened=yes")
    found, _ = run_once(networks, MODEL="grz", DATASET="stamps")

    assert "extinction mag_g to mag_z are corrected, as FIELDS says" in printed
    read = np.arcsinh(pixels[:, ::-1, 4:36, 4:36] * 3630.78 / 100)
    magnitudes = load_file(networks / "datasets/stamps/10MB/0.safetensors")["magnitudes"]
    with torch.inference_mode():
        expected = Grz().eval()(torch.from_numpy(read.astype(np.float32)), torch.from_numpy(magnitudes).float())
    np.testing.assert_allclose(found.predictions(found.tasks[0]).z_phot, expected[:, 0].numpy(), atol=1e-5)
    assert [note for note in found.summary.notes if "extinction" in note] == []


def test_a_table_without_images_is_predicted_by_the_model_that_needs_none(networks: Path) -> None:
    path = table(networks)
    printed = dataset(networks, SOURCE=str(path))

    found, said = run_once(networks, DATASET="my", WORLD="2")

    assert "whether the magnitudes are corrected for it is not known" in printed
    assert found.summary.models == ("magnitudes",)
    assert found.summary.complete
    assert "holds no images: the model magnitudes predicts" in " ".join(said.split())
    assert any("is not known; the model magnitudes was trained on" in note for note in found.summary.notes)
    predictions = Predictions.joined([found.predictions(task) for task in found.tasks])
    assert np.isfinite(predictions.sigma).all()


def test_a_dataset_without_a_band_of_the_model_is_refused_before_any_rank(networks: Path) -> None:
    done = run(networks, MODEL="grz", DATASET="three")

    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert "datasets/three/10MB/ has the bands g r y; the model grz reads g r z: z is missing" in said


def test_the_catalog_and_the_library_name_and_read_the_same_model(networks: Path) -> None:
    model = load_model(networks / "models" / "pasquet")
    rows = load_file(networks / "datasets/large/10MB/0.safetensors")

    result = model.predict(rows["images"], columns=rows["ebv"][:, None])

    assert model.card.name == "pasquet"
    assert result.pz is not None
    np.testing.assert_array_equal(result.redshift, result.pz[:, MEDIAN])
    with pytest.raises(InputError, match=r"the model reads \(N, 5, 64, 64\)"):
        model.predict(rows["images"][:, :3], columns=rows["ebv"][:, None])
    with pytest.raises(InputError, match="columns are missing"):
        model.predict(rows["images"])
