"""`make calibrate` calibrates a model on galaxies that it did not learn from, and on no others."""

import dataclasses
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from inference import engines
from inference.calibration import Calibration, load_calibration
from inference.contract import DatasetCard, ShardEntry, encode
from inference.domain import domain_features
from inference.models import Model, read_model, shipped, without_images
from inference.models.card import BinnedPz, EvenEdges, ModelCard, TrainingData
from scripts import calibrate as command
from scripts.calibrate import CalibrateVariables, main
from scripts.command.errors import SourceError, UsageError
from scripts.command.variables import read_variables
from scripts.models.card_text import card_text, write_card
from scripts.models.training import own_calibration
from scripts.models.training.own_calibration import calibrate_on
from scripts.models.training.split import folds, groups
from tests.factories import make_calibration, make_posterior
from tests.unit.test_training_labelled import make_folder


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """The network of magnitudes as a user's, without a calibration."""
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    shutil.copy(without_images().weights, folder)
    write_card(folder, replace(without_images().card, name="mine"))
    return read_model(folder)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "galaxies"
    folder.mkdir()
    return make_folder(folder)


def test_a_network_gets_sigma_and_pz_from_galaxies_of_the_users(model: Model, dataset: Path) -> None:
    number = calibrate_on(model, dataset)

    found = load_calibration(model.folder / "calibration.safetensors", model.card.weights_sha256)
    assert found.posterior is not None
    assert number.coverage_68 == pytest.approx(0.68, abs=0.06)
    stated = read_model(model.folder).card
    assert stated.knowledge.numbers == (*without_images().card.knowledge.numbers, number)
    assert (model.folder / "CARD.md").read_text(encoding="utf-8") == card_text(stated)


def test_galaxies_that_it_learned_from_are_refused(model: Model, dataset: Path) -> None:
    shards = (ShardEntry(name="0.safetensors", num_rows=600, size_bytes=1, sha256="a" * 64),)
    facts = {"partition": "1MB", "num_rows": 600, "arrays": {"magnitudes": ""}, "seed": 0, "provenance": "p"}
    card = DatasetCard(name="galaxies", shards=shards, **facts)  # type: ignore[arg-type]
    (dataset / "dataset.json").write_bytes(encode(card))
    learned = (TrainingData(name="galaxies", num_rows=600, sha256=card.sha256),)
    knowledge = replace(model.card.knowledge, training=learned)

    with pytest.raises(SourceError, match=r"galaxies is what mine was trained on: .* other galaxies does it again"):
        calibrate_on(Model(model.folder, replace(model.card, knowledge=knowledge)), dataset)

    assert not (model.folder / "calibration.safetensors").exists()


OF_BINS = replace(
    without_images().card, name="mine", output=BinnedPz(edges=EvenEdges(start=0.0, stop=0.4, num_bins=180))
)
IMAGES = replace(without_images().card.inputs, side_px=32)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (shipped().card, "^MODEL=astromae comes with its calibration, which stays"),
        (OF_BINS, "^MODEL=mine gives sigma and p\\(z\\) itself"),
        (replace(OF_BINS, output=shipped().card.output, inputs=IMAGES), r"^MODEL=mine: .* with \[domain\] in CARD"),
        (
            replace(shipped().card, name="mine", inputs=replace(IMAGES, magnitudes=None)),
            "^MODEL=mine reads no magnitudes in u g r i z; sigma and p\\(z\\) are functions of 5",
        ),
    ],
    ids=["shipped", "p(z) of its own", "no domain", "no magnitudes"],
)
def test_what_has_no_calibration_is_one_line(card: ModelCard, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        calibrate_on(Model(Path(), card), Path())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"MODEL": "magnitudes"}, "^MODEL=magnitudes is not calibrated on the galaxies of the sample.*DATASET=name"),
        ({}, '^MODEL=astromae learned from further tables too: TABLES="a.csv b.csv" names them'),
        ({"DATASET": "a", "TABLES": "b.csv"}, "^DATASET is for a model of yours"),
    ],
    ids=["of magnitudes", "no tables", "both"],
)
def test_other_galaxies_than_those_of_the_training_are_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        main(read_variables(CalibrateVariables, given))


def test_the_command_says_what_it_found(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = SimpleNamespace(coverage_68=0.6834, nmad=0.01234, pz="p(z)", rows="600 galaxies")
    monkeypatch.setattr(command, "calibrate_on", lambda model, folder: found if folder == dataset else None)
    monkeypatch.setattr(command, "pz_table", lambda rows: f"table of {rows}")

    main(read_variables(CalibrateVariables, {"DATASET": str(dataset)}))

    said = capsys.readouterr()
    assert said.err == "predicting the galaxies to calibrate on: some minutes\n"
    assert said.out == (
        f"{shipped().folder}/: within sigma 68.3 %, NMAD 0.0123\n\ntable of {{'600 galaxies': 'p(z)'}}\n"
    )


def test_weights_of_the_sample_are_calibrated_on_it_and_on_the_tables_that_they_learned_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [one.name for one in shipped().card.knowledge.training if one.sha256 != command.SHA256]
    surveys = [SimpleNamespace(sha256=one.sha256) for one in shipped().card.knowledge.training]
    given: list[object] = []

    def write(weights: Path, surveys: list[object]) -> tuple[object, object]:
        given.append((weights, surveys))
        errors = SimpleNamespace(ratio_95=1.9876)
        return SimpleNamespace(weights_sha256="ab" * 32, errors=errors), SimpleNamespace(to_table=lambda: "the table")

    monkeypatch.setattr(command, "read_surveys", lambda paths, scratch: given.append(paths) or surveys)
    monkeypatch.setattr(command, "write", write)

    main(read_variables(CalibrateVariables, {"TABLES": "a.csv b.csv"}))

    assert names
    assert given == [[Path("a.csv"), Path("b.csv")], (shipped().weights, surveys)]
    assert capsys.readouterr().out == (
        f"{shipped().folder}/: calibration of the weights abababababab; CALIBRATION.md\n"
        "95 % interval: z_phot ± 1.988 sigma\n\nthe table\n"
    )
    surveys.pop()
    with pytest.raises(UsageError, match=f"Lacking: {re.escape(shipped().card.knowledge.training[-1].name)}\\."):
        main(read_variables(CalibrateVariables, {"TABLES": "a.csv"}))


def test_each_clean_galaxy_calibrates_once_and_a_fold_sets_the_threshold(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 600 rows the second 360 repeat identifiers, and a few have no redshift or a colour that is odd."""
    magnitudes = 17 + np.array([1.8, 0.9, 0, -0.4, -0.7]) + 0.1 * np.random.default_rng(0).random((360, 5))
    magnitudes[7, 1] += 3
    magnitudes[9, 0] = np.nan
    redshifts = 0.05 + 0.001 * np.arange(360)
    redshifts[:3] = [np.nan, 0, -1]
    folder = tmp_path / "galaxies"
    folder.mkdir()
    make_folder(folder, redshifts=redshifts, object_id=np.arange(360)[::-1] + 1, magnitudes=magnitudes)
    asked: list[Any] = []

    def calibrate_by_folds(*given: object) -> Calibration:
        asked.extend(given)
        return dataclasses.replace(make_calibration(), posterior=make_posterior())

    monkeypatch.setattr(own_calibration, "calibrate_by_folds", calibrate_by_folds)
    monkeypatch.setattr(own_calibration, "ROWS_AT_ONCE", 130)

    number = calibrate_on(model, folder)

    predicted, fold, (taught, kept_back), sha256 = asked
    # The identifiers of the first shard are 360 to 121; the second begins with the same and has 120 more.
    good = np.setdiff1d(np.arange(360), [0, 1, 2, 7, 9])
    assert predicted.z_spec.tolist() == redshifts[good].tolist()
    assert np.array_equal(predicted.magnitudes, magnitudes[good])
    engine = engines.load_model("auto", model, num_threads=1)
    expected = engine.predict(np.zeros((len(good), 5, 0, 0), np.float32), magnitudes[good].astype(np.float32))
    np.testing.assert_allclose(predicted.z_phot, expected, atol=1e-5)
    unknown = np.full(len(good), np.nan)
    assert np.array_equal(fold, folds(groups(360 - good, unknown, unknown, magnitudes[good]), 4))
    features = domain_features(np.zeros((len(good), 5, 0, 0), np.float32), magnitudes[good], model.card.domain)
    np.testing.assert_allclose(taught, features[:, fold != 0])
    np.testing.assert_allclose(kept_back, features[:, fold == 0])
    assert sha256 == model.card.weights_sha256
    assert (number.rows, number.num_rows) == ("galaxies, which sigma and p(z) were fitted to", len(good))


def test_a_second_calibration_replaces_its_number_and_a_dataset_has_its_own_name(
    model: Model, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = (ShardEntry(name="0.safetensors", num_rows=600, size_bytes=1, sha256="a" * 64),)
    facts = {"partition": "1MB", "num_rows": 600, "arrays": {"magnitudes": ""}, "seed": 0, "provenance": "p"}
    monkeypatch.setattr(
        own_calibration,
        "calibrate_by_folds",
        lambda *_: dataclasses.replace(make_calibration(), posterior=make_posterior()),
    )
    first = calibrate_on(model, dataset)
    (dataset / "dataset.json").write_bytes(
        encode(DatasetCard(name="mine too", shards=shards, dereddened=True, **facts))  # type: ignore[arg-type]
    )

    second = calibrate_on(read_model(model.folder), dataset)
    third = calibrate_on(read_model(model.folder), dataset)

    assert second == third
    assert second.rows == "mine too, which sigma and p(z) were fitted to"
    before = without_images().card.knowledge.numbers
    assert read_model(model.folder).card.knowledge.numbers == (*before, first, third)
    assert read_model(model.folder).card == replace(
        without_images().card, name="mine", knowledge=read_model(model.folder).card.knowledge
    )


def test_galaxies_of_too_few_patches_are_refused(model: Model, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_calibration, "folds", lambda group, num: np.arange(len(group)) % (num - 1))

    with pytest.raises(SourceError, match=r"galaxies: its galaxies are in fewer than 4 patches of sky; more are"):
        calibrate_on(model, dataset)


def test_galaxies_of_which_none_is_clean_are_too_few(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "galaxies"
    folder.mkdir()

    with pytest.raises(SourceError, match="has 0 clean galaxies with a redshift, of 600"):
        calibrate_on(model, make_folder(folder, redshifts=np.array([np.nan])))
