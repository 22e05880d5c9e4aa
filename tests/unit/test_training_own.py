"""A model trained on one's own galaxies is a whole folder that predicts, calibrated, and says how good it is."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from msgspec.structs import replace as changed

from inference.calibration import load_calibration
from inference.checksum import file_sha256
from inference.contract import Accuracy, DatasetCard, encode
from inference.domain import domain_features
from inference.model.weights import load_astromae
from inference.models import Model, read_model, shipped
from inference.models.card import Knowledge, Measured, TrainingData
from inference.posterior import load_posterior_model
from scripts.command.errors import CommandError, SourceError, UsageError
from scripts.models.training import own
from scripts.models.training.by_folds import number_with_errors
from scripts.models.training.error_model import Predicted
from scripts.models.training.fit import Candidate, Entry, FitRecipe, Fitted
from scripts.models.training.labelled import read_labelled
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
ZERO_POINTS = (0.096, -0.006, 0.1, 0.0, 0.0)


DATASET = DatasetCard(
    name="galaxies",
    partition="10MB",
    num_rows=600,
    shards=(),
    arrays={},
    image_origin="measured",
    pixel_scale_arcsec=0.4,
    dereddened=False,
    seed=0,
    provenance="p",
)


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """An order whose training is a matter of milliseconds: the shipped weights win as they are."""
    return place_order(tmp_path, monkeypatch)


def place_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    def fit(galaxies, group, start, recipe: FitRecipe, *_: object) -> Fitted:  # type: ignore[no-untyped-def]
        generator = np.random.default_rng(0)
        z_phot = galaxies.redshift + 0.01 * generator.standard_normal(len(galaxies))
        winner = Candidate("zero points alone", Stage("last", 1))
        entries = [Entry(winner.name, 0.01, ACCURACY), Entry("boosted trees", 0.02, ACCURACY)]
        return Fitted(
            start, winner, entries, z_phot.astype(np.float32), np.arange(len(galaxies)) % 4, ACCURACY, ZERO_POINTS
        )

    monkeypatch.setattr(own, "fit", fit)
    (folder / "galaxies").mkdir()
    return Order(make_folder(folder / "galaxies"), "mine", shipped())


class Made(NamedTuple):
    """A model from 600 galaxies that have a card."""

    model: Model
    root: Path
    exported: list[Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root, exported = tmp_path_factory.mktemp("own"), list[Path]()
    with pytest.MonkeyPatch.context() as patch:
        order = place_order(root, patch)
        (order.dataset / "dataset.json").write_bytes(encode(DATASET))
        model = train_own(order, root=root, device=torch.device("cpu"), export=exported.append)
    return Made(model, root, exported)


def test_folder_holds_a_model_that_belongs_together(made: Made) -> None:
    model = made.model

    assert model.folder == made.root / "models" / "mine"
    assert read_model(model.folder).card.name == "mine"
    sha256 = model.card.weights_sha256
    assert load_calibration(model.folder / "calibration.safetensors", sha256).errors.ratio_95 > 1
    assert load_posterior_model(model.folder / "posterior.safetensors", sha256).weights_sha256 == sha256
    assert load_astromae(model.weights).final[-1].out_features == 1
    assert [path.name for path in made.exported] == [model.card.weights_name]


def test_card_says_how_good_it_is_beside_its_controls(made: Made) -> None:
    model = made.model

    text = (model.folder / "CARD.md").read_text()
    assert "| all galaxies, each by a network that had not learned from it | 600 | 0.0" in text
    assert "| boosted trees | selection part | 600 | 0.01310 |" in text
    known = model.card.knowledge
    assert known.training[0].num_rows == 600
    assert "to their magnitudes, u +0.096, g -0.006, r +0.100, i +0.000, z +0.000 mag" in text
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


def write_split(folder: Path, parts: list[str]) -> None:
    """Write the table of a dataset that names the part of each galaxy."""
    num = len(parts)
    unknown = np.full(num, np.nan)
    quality = np.zeros(num, dtype=np.uint8)
    columns = {"ra_deg": unknown, "dec_deg": unknown, "quality": quality, "split": parts}
    pyarrow.parquet.write_table(pa.table(columns), folder / "table.parquet")


def test_a_split_that_the_user_names_is_kept_and_its_test_part_is_on_the_card(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, np.ndarray | None]] = []
    stub = own.fit

    def fit(galaxies, group, start, recipe, journal, device, selection) -> Fitted:  # type: ignore[no-untyped-def]
        asked.append((len(galaxies), selection))
        return stub(galaxies, group, start, recipe, journal, device, selection)

    monkeypatch.setattr(own, "fit", fit)
    write_split(order.dataset, ["train", "selection", "test", "train", "train", "train"] * 100)

    model = train_own(order, root=tmp_path, device=torch.device("cpu"))

    ((num, selection),) = asked
    assert num == 500
    assert selection is not None
    assert np.flatnonzero(selection).tolist() == list(range(1, 500, 5))
    known = model.card.knowledge
    assert [(one.rows, one.num_rows) for one in known.numbers][1] == ("the test part of the split", 100)
    assert known.training[0].num_rows == 500
    assert "three folds" in known.split
    assert "| the test part of the split | 100 |" in (model.folder / "CARD.md").read_text()


def test_a_test_part_that_leaves_too_few_to_learn_from_is_refused(order: Order, tmp_path: Path) -> None:
    write_split(order.dataset, ["test"] * 401 + ["train"] * 199)

    with pytest.raises(SourceError, match="has 199 clean galaxies with a redshift, of 600; training needs 200"):
        train_own(order, root=tmp_path, device=torch.device("cpu"))


def test_a_card_states_what_the_galaxies_were(made: Made) -> None:
    reads = made.model.card.inputs

    assert (reads.image_origin, reads.pixel_scale_arcsec) == ("measured", 0.4)
    assert reads.magnitudes is not None
    assert not reads.magnitudes.dereddened


def test_every_field_of_the_card_comes_from_the_training(made: Made) -> None:
    card, known, like = made.model.card, made.model.card.knowledge, shipped().card

    (number,) = known.numbers
    galaxies = read_labelled(made.root / "galaxies")
    z_phot = (galaxies.redshift + 0.01 * np.random.default_rng(0).standard_normal(600)).astype(np.float32)
    calibration = load_calibration(made.model.folder / "calibration.safetensors", card.weights_sha256)
    assert number == number_with_errors(
        calibration, Predicted(galaxies.magnitudes, z_phot, galaxies.redshift), own.CROSS_VALIDATED
    )
    assert number.coverage_68 == pytest.approx(0.68, abs=0.05)
    assert number.coverage_95 == pytest.approx(0.95, abs=0.03)
    control = Measured(
        rows="selection part", num_rows=600, nmad=0.0131, bias=0.001, outlier_005=0.02, outlier_015=0.0, r2=0.8
    )
    assert known == Knowledge(
        description="Trained on galaxies (zero points alone; began with astromae).",
        training=(TrainingData(name="galaxies", num_rows=600, sha256=DATASET.sha256),),
        split="Four folds of patches of sky, an object and its duplicates in one; fold 0 is the selection part.",
        recipe=known.recipe,
        numbers=(number,),
        controls=tuple(changed(control, method=method) for method in ("zero points alone", "boosted trees")),
        not_for=("galaxies unlike those it was trained on", "inputs that are flagged as out of domain"),
    )
    assert " ".join(known.recipe.split()) == (
        "Ways to train competed on the selection part, with controls: they are the other methods below. *zero points "
        "alone* won: of those as good as the best, within one standard error, it risks the least. It was then trained "
        "on all galaxies, seed 1. It adds zero points that these galaxies ask for to their magnitudes, u +0.096, "
        "g -0.006, r +0.100, i +0.000, z +0.000 mag: how they differ from band to band is well known, what all bands "
        "share hardly. Sigma, the 95 % interval and p(z), four Gaussians per galaxy, come from all galaxies, each by a "
        "network that had not learned from it."
    )
    assert like.inputs.magnitudes is not None
    inputs = changed(
        like.inputs,
        image_origin="measured",
        pixel_scale_arcsec=0.4,
        magnitudes=changed(like.inputs.magnitudes, dereddened=False),
    )
    sha256 = file_sha256(made.model.weights)
    assert card == changed(like, name="mine", weights_sha256=sha256, inputs=inputs, knowledge=known)


@pytest.mark.parametrize(("stated", "dereddened"), [(None, True), (True, True), (False, False)])
def test_inputs_are_those_of_the_dataset_as_far_as_it_says(stated: bool | None, dereddened: bool) -> None:
    like = shipped().card.inputs
    silent = changed(DATASET, image_origin="none", pixel_scale_arcsec=None, dereddened=stated)

    found = own._inputs(like, silent)

    assert (found.image_origin, found.pixel_scale_arcsec) == (None, None)
    assert found.magnitudes is not None
    assert found.magnitudes.dereddened == dereddened
    assert own._inputs(like, None) is like


def test_a_network_that_began_with_nothing_says_so_and_has_no_zero_points(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []
    stub = own.fit

    def fit(galaxies, group, start, recipe, journal, device, selection) -> Fitted:  # type: ignore[no-untyped-def]
        asked.append((len(galaxies), len(group), start, recipe.start, recipe.seed, recipe.pace, device, selection))
        assert recipe.galaxies == galaxies.fingerprint
        found = stub(galaxies, group, load_astromae(shipped().weights), recipe)
        return replace(found, zero_points=())

    monkeypatch.setattr(own, "fit", fit)

    model = train_own(replace(order, start=None, seed=5, pace=0.5), root=tmp_path, device=torch.device("cpu"))

    assert asked == [(600, 600, None, "", 5, 0.5, torch.device("cpu"), None)]
    known = model.card.knowledge
    assert known.description == "Trained on galaxies (zero points alone; began with nothing)."
    assert "seed 5.\nSigma" in known.recipe
    assert known.training[0].sha256 is None
    assert (model.card.inputs, known.numbers[0].rows) == (shipped().card.inputs, own.CROSS_VALIDATED)


def test_the_domain_is_that_of_galaxies_from_first_to_last(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "DOMAIN_GALAXIES", 7)
    monkeypatch.setattr(own, "ROWS_AT_ONCE", 3)
    galaxies, card = read_labelled(order.dataset), shipped().card

    found = own._features(galaxies, np.arange(600) % 2 == 1, card)

    rows = 1 + 2 * np.linspace(0, 299, 7).astype(int)
    expected = domain_features(galaxies[torch.from_numpy(rows)].numpy(), galaxies.magnitudes[rows], card.domain)
    np.testing.assert_array_equal(found, expected)


def test_redshifts_of_the_test_part_are_those_of_the_finished_network(order: Order) -> None:
    galaxies = read_labelled(order.dataset)
    some, model = galaxies.among(np.arange(600) < 5), load_astromae(shipped().weights)

    found = own._predict(model, some)

    with torch.no_grad():
        expected = model(some[torch.arange(5)], torch.from_numpy(some.magnitudes).float())
    assert found.tolist() == pytest.approx(expected.flatten().tolist(), rel=1e-5)
