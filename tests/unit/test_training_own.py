"""A model trained on one's own galaxies is a whole folder that predicts, calibrated, and says how good it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.calibration import load_calibration
from inference.contract import Accuracy
from inference.model.weights import load_astromae
from inference.models import read_model, shipped
from inference.posterior import load_posterior_model
from scripts.command.errors import CommandError, UsageError
from scripts.models.training import own
from scripts.models.training.fit import Candidate, Entry, FitRecipe, Fitted
from scripts.models.training.own import Order, train_own
from scripts.models.training.supervised import Stage
from tests.unit.test_training_labelled import make_folder

ACCURACY = Accuracy(
    num_labelled=600,
    bias=0.001,
    nmad=0.0131,
    outlier_005=0.02,
    outlier_015=0.0,
    mae=0.01,
    mse=0.001,
    r2=0.8,
    std_z_spec=0.1,
)


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """An order whose training is a matter of milliseconds: the shipped weights win as they are."""

    def fit(galaxies, group, start, recipe: FitRecipe, *_: object) -> Fitted:  # type: ignore[no-untyped-def]
        generator = np.random.default_rng(0)
        z_phot = galaxies.redshift + 0.01 * generator.standard_normal(len(galaxies))
        winner = Candidate("last layers, boldly", Stage("last", 1))
        entries = [Entry(winner.name, 0.01, ACCURACY), Entry("boosted trees", 0.02, ACCURACY)]
        return Fitted(start, winner, entries, z_phot.astype(np.float32), np.arange(len(galaxies)) % 4, ACCURACY)

    monkeypatch.setattr(own, "fit", fit)
    (tmp_path / "galaxies").mkdir()
    return Order(make_folder(tmp_path / "galaxies"), "mine", shipped())


def test_folder_holds_a_model_that_belongs_together(order: Order, tmp_path: Path) -> None:
    exported: list[Path] = []

    model = train_own(order, root=tmp_path, device=torch.device("cpu"), export=exported.append)

    assert model.folder == tmp_path / "models" / "mine"
    assert read_model(model.folder).card.name == "mine"
    sha256 = model.card.weights_sha256
    assert load_calibration(model.folder / "calibration.safetensors", sha256).errors.ratio_95 > 1
    assert load_posterior_model(model.folder / "posterior.safetensors", sha256).weights_sha256 == sha256
    assert load_astromae(model.weights).final[-1].out_features == 1
    assert [path.name for path in exported] == [model.card.weights_name]


def test_card_says_how_good_it_is_beside_its_controls(order: Order, tmp_path: Path) -> None:
    model = train_own(order, root=tmp_path, device=torch.device("cpu"))

    text = (model.folder / "CARD.md").read_text()
    assert "| **this model, cross-validated** | 600 | 0.0131 (" in text
    assert "| boosted trees | 600 | 0.0131 |" in text
    known = model.card.knowledge
    assert known.training[0].num_rows == 600
    assert known.numbers[0].nmad_95 is not None


def test_nothing_is_left_where_an_engine_differs(order: Order, tmp_path: Path) -> None:
    def refuse(_: Path) -> None:
        raise CommandError("it differs")

    with pytest.raises(CommandError, match="it differs"):
        train_own(order, root=tmp_path, device=torch.device("cpu"), export=refuse)

    assert not list((tmp_path / "models").iterdir())


def test_a_name_that_is_taken_is_refused_before_anything_is_read(order: Order, tmp_path: Path) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)

    with pytest.raises(UsageError, match=r"^MODEL=mine is taken"):
        train_own(replace(order, dataset=tmp_path / "nowhere"), root=tmp_path, device=torch.device("cpu"))
