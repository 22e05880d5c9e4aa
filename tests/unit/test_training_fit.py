"""Ways to train compete on galaxies that did not teach, and the winner's redshifts are all of that kind."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from torch import Tensor

from inference.metrics import redshift_accuracy
from inference.model.astromae import AstroMAE
from scripts.models.training import fit as training
from scripts.models.training.fit import (
    IMAGES_MIN_GALAXIES,
    SCRATCH_MIN_GALAXIES,
    Candidate,
    FitRecipe,
    Fitted,
    candidates,
    fit,
    modest,
)
from scripts.models.training.journal import Journal
from scripts.models.training.pretrain import initialise_encoder
from scripts.models.training.split import folds
from scripts.models.training.supervised import Rows, Stage
from tests.networks import build_small

RECIPE = FitRecipe(galaxies="x", start="y", pace=0.01)
NUM = 24
LAST_RESORT = "zero points, then the magnitude branch too"


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """What training does to the parts of a network is the same at every size."""
    with pytest.MonkeyPatch.context() as patch:
        build_small(patch)
        yield


@dataclass(frozen=True)
class Few:
    """Galaxies whose redshift shows in a colour."""

    images: Tensor
    magnitudes: np.ndarray
    redshift: np.ndarray

    def __len__(self) -> int:
        return len(self.redshift)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.images[rows]


def make_galaxies() -> Few:
    generator = np.random.default_rng(0)
    magnitudes = 18 + 0.3 * generator.standard_normal((NUM, 5))
    redshift = np.clip(0.15 + 0.1 * (magnitudes[:, 1] - magnitudes[:, 2]), 0.02, None)
    images = torch.randn(NUM, 5, 32, 32, generator=torch.Generator().manual_seed(0))
    return Few(images, magnitudes, redshift)


def make_start() -> AstroMAE:
    torch.manual_seed(0)
    model = AstroMAE().eval().requires_grad_(False)
    initialise_encoder(model.encoder)
    model.magnitude_center += 18
    return model


def journal_of(folder: Path) -> Journal:
    """A journal without the checkpoints of 200 MB, which another test reads."""
    journal = Journal(folder, RECIPE)
    journal.checkpoint = lambda *_, **__: None  # type: ignore[method-assign]
    return journal


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    folder = tmp_path_factory.mktemp("fit")
    names = np.arange(NUM).astype(str)
    return fit(make_galaxies(), names, make_start(), RECIPE, journal_of(folder), torch.device("cpu"))


def test_every_way_to_train_and_every_control_is_in_the_table(fitted: Fitted) -> None:
    names = [entry.name for entry in fitted.entries]

    assert set(names) - {LAST_RESORT} == {
        "magnitudes only, from nothing",
        "zero points alone",
        "zero points, then the final layers, gently",
        "zero points, then the final layers, boldly",
        "the weights it began with",
        "boosted trees, magnitudes and colours",
    }
    assert [entry.loss for entry in fitted.entries] == sorted(entry.loss for entry in fitted.entries)


def test_the_table_holds_the_errors_on_the_selection_part(fitted: Fitted) -> None:
    redshift = make_galaxies().redshift
    is_chosen = fitted.fold == 0
    winner = next(one for one in fitted.entries if one.name == fitted.winner.name)

    dz = np.abs(fitted.z_phot[is_chosen].astype(float) - redshift[is_chosen]) / (1 + redshift[is_chosen])
    assert winner.loss == pytest.approx(dz.mean())
    assert winner.accuracy == redshift_accuracy(fitted.z_phot[is_chosen].astype(float), redshift[is_chosen])
    assert fitted.accuracy == redshift_accuracy(fitted.z_phot.astype(float), redshift)
    assert {one.accuracy.num_labelled for one in fitted.entries} == {is_chosen.sum()}
    assert fitted.fold.tolist() == folds(np.arange(NUM).astype(str), 4, seed=1).tolist()
    is_of_start = fitted.winner.begins == "start"
    assert len(fitted.zero_points) == (5 if is_of_start else 0)


def test_trees_of_magnitudes_and_colours_are_a_control() -> None:
    generator = np.random.default_rng(0)
    magnitudes = 18 + generator.standard_normal((300, 5))
    galaxies = Few(torch.empty(0), magnitudes, 0.1 + 0.02 * np.abs(magnitudes[:, 1] - magnitudes[:, 2]))
    taught, asked = np.arange(200), np.arange(200, 300)

    found = training.boosted_trees(galaxies, taught, 7)(asked)

    features = np.column_stack([magnitudes, -np.diff(magnitudes, axis=1)])
    trees = HistGradientBoostingRegressor(learning_rate=0.05, max_iter=400, early_stopping=True, random_state=7)
    expected = trees.fit(features[:200], galaxies.redshift[:200]).predict(features[200:])
    assert found.tolist() == pytest.approx(expected.tolist())
    assert found.dtype == torch.float32


def test_a_new_network_fits_the_galaxies_that_it_is_for_and_follows_from_the_seed(tmp_path: Path) -> None:
    galaxies, names = make_galaxies(), np.arange(NUM).astype(str)

    def begin(seed: int) -> AstroMAE:
        recipe = FitRecipe("x", "", seed=seed)
        contest = training._Contest(galaxies, names, None, recipe, journal_of(tmp_path), torch.device("cpu"))
        return contest.begin(Candidate("a", Stage("magnitudes", 1), "new"))

    one, again, other = begin(1), begin(1), begin(2)

    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(one.final[0].weight, other.final[0].weight)
    assert one.magnitude_center.flatten().tolist() == pytest.approx(galaxies.magnitudes.mean(axis=0), rel=1e-5)
    assert one.redshift_center.item() == pytest.approx(galaxies.redshift.mean(), rel=1e-5)
    assert not any(parameter.requires_grad for parameter in one.parameters())


def test_controls_do_not_win(fitted: Fitted) -> None:
    ways = {candidate.name for candidate in candidates(NUM, has_start=True, recipe=RECIPE)}

    assert fitted.winner.name in ways


def test_of_ways_that_are_as_good_the_one_that_risks_the_least_wins() -> None:
    hard = np.abs(np.random.default_rng(0).normal(0, 0.02, 100))
    errors = {"worse": hard + 0.005, "little": hard + 0.0001 * np.resize([-9, 11], 100), "much": hard, "all": hard}

    assert modest(errors) == "little"
    assert modest(errors | {"all": hard - 0.0005}) == "all"


@pytest.mark.parametrize("is_enough", [True, False])
def test_the_last_resort_is_tried_where_the_first_way_is_not_enough(
    is_enough: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tried: list[str] = []

    def predicted(contest, candidate, fold):  # type: ignore[no-untyped-def]
        tried.append(candidate.name)
        error = 0.05 if not is_enough and candidate.name.endswith("gently") else 0.0
        return torch.from_numpy(contest.galaxies.redshift[contest.fold == fold] + error).float()

    monkeypatch.setattr(training._Contest, "predicted", predicted)
    monkeypatch.setattr(training._Contest, "trained", lambda contest, _: (contest.start, contest.plain))
    monkeypatch.setattr(training._Contest, "zero_points", lambda _: torch.zeros(5))
    monkeypatch.setattr(training, "_controls", lambda *_: [])

    names = np.arange(NUM).astype(str)
    fit(make_galaxies(), names, make_start(), RECIPE, Journal(tmp_path, RECIPE), torch.device("cpu"))

    assert (LAST_RESORT in tried) != is_enough


def test_images_teach_where_galaxies_are_many() -> None:
    few, many = (
        {candidate.stage.learning for candidate in candidates(num, has_start=True, recipe=RECIPE)}
        for num in (IMAGES_MIN_GALAXIES - 1, IMAGES_MIN_GALAXIES)
    )

    assert many - few == {"heads", "behind", "all"}


def test_every_galaxy_has_a_redshift_from_a_network_that_had_not_learned_from_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[tuple[set[int], set[int]]] = []
    original = training.train_stage

    def record(model, sample, rows, stage, journal, name):  # type: ignore[no-untyped-def]
        seen.append((set(torch.cat(list(rows.taught)).tolist()), set(rows.chosen.tolist())))
        return original(model, sample, rows, stage, journal, name)

    monkeypatch.setattr(training, "train_stage", record)
    names = np.repeat(np.arange(NUM // 2), 2).astype(str)
    result = fit(make_galaxies(), names, None, RECIPE, journal_of(tmp_path), torch.device("cpu"))

    *folds, last = seen
    assert all(not taught & judged for taught, judged in folds)
    assert set().union(*(judged for _, judged in folds)) == set(range(NUM)) == last[0]
    assert np.isfinite(result.z_phot).all()
    assert (result.fold[::2] == result.fold[1::2]).all()
    # Magnitudes alone won, so images are nothing to the model.
    magnitudes = torch.from_numpy(make_galaxies().magnitudes).float()
    with torch.no_grad():
        one, other = (result.model(torch.randn(NUM, 5, 32, 32), magnitudes) for _ in range(2))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_model_is_the_winner_and_predicts_on_the_cpu(fitted: Fitted) -> None:
    galaxies = make_galaxies()

    with torch.no_grad():
        predicted = fitted.model(galaxies.images, torch.from_numpy(galaxies.magnitudes).float())

    assert torch.isfinite(predicted).all()
    assert not fitted.model.training


def test_what_begins_with_weights_has_the_zero_points_of_the_galaxies_that_teach(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    added = torch.tensor([0.1, 0.0, 0.2, 0.0, -0.1])
    taught: list[int] = []
    monkeypatch.setattr(
        training, "fit_zero_points", lambda _model, _sample, rows: taught.extend(rows.tolist()) or added
    )
    names, start = np.arange(NUM).astype(str), make_start()
    contest = training._Contest(make_galaxies(), names, start, RECIPE, Journal(tmp_path, RECIPE), torch.device("cpu"))

    alone = next(one for one in candidates(NUM, has_start=True, recipe=RECIPE) if not one.stage.num_steps)
    model, _ = contest.trained(alone, 1)

    torch.testing.assert_close(model.magnitude_center, start.magnitude_center - added)
    assert taught == np.flatnonzero(contest.fold != 1).tolist()


def test_a_selection_part_that_the_user_names_is_the_one_that_chooses(tmp_path: Path) -> None:
    selection = np.arange(NUM) % 5 == 0
    names = np.arange(NUM).astype(str)

    contest = training._Contest(
        make_galaxies(), names, None, RECIPE, journal_of(tmp_path), torch.device("cpu"), selection
    )

    assert np.array_equal(contest.fold == 0, selection)
    assert set(contest.fold[~selection]) == {1, 2, 3}


def listed(num: int, *, has_start: bool = True, pace: float = 1.0) -> dict[str, tuple[object, ...]]:
    """Return each way to train by its name: what learns, steps, batch, rate, what it begins with."""
    found = candidates(num, has_start=has_start, recipe=FitRecipe("", "", seed=7, pace=pace))
    assert {(one.stage.seed, one.stage.ema_decay, one.stage.check_every >= one.stage.num_steps) for one in found} == {
        (7, 0.99, True)
    }
    return {
        one.name.removeprefix("zero points, then "): (
            *(one.stage.learning, one.stage.num_steps, one.stage.batch_size, one.stage.learning_rate),
            one.begins,
        )
        for one in found
    }


def test_how_long_and_how_boldly_is_trained_follows_from_the_number_of_galaxies() -> None:
    few = {
        "the final layers, gently": ("final", 80, 256, 2e-4, "start"),
        "zero points alone": ("final", 0, 256, 0.0, "start"),
        "the final layers, boldly": ("final", 160, 256, 1e-3, "start"),
        "the magnitude branch too": ("last", 160, 256, 1e-3, "start"),
        "magnitudes only, from nothing": ("magnitudes", 160, 256, 1e-3, "new"),
    }
    assert listed(2_000) == few
    assert listed(2_000, has_start=False) == dict([list(few.items())[-1]])
    assert listed(2_000, pace=0.5)["the final layers, boldly"][1] == 80
    assert listed(100)["the final layers, boldly"][1:3] == (36, 100)
    assert listed(50, pace=0.001)["the final layers, gently"][1] == 2

    many = listed(80_000)
    assert many == {
        "the final layers, gently": ("final", 506, 512, 2e-4, "start"),
        "zero points alone": ("final", 0, 512, 0.0, "start"),
        "the final layers, boldly": ("final", 1_012, 512, 1e-3, "start"),
        "the magnitude branch too": ("last", 1_012, 512, 1e-3, "start"),
        "dense layers behind the images too": ("heads", 1_012, 512, 5e-4, "start"),
        "all behind the transformer": ("behind", 506, 128, 4e-4, "start"),
        "everything": ("all", 253, 64, 1e-4, "start"),
        "magnitudes only, from nothing": ("magnitudes", 1_012, 512, 1e-3, "new"),
        "everything, from nothing": ("behind", 2_024, 512, 5e-4, "scratch"),
    }
    # At most so many, however many galaxies there are.
    assert listed(10_000_000)["the final layers, boldly"][1] == 3_000
    assert [listed(num)["zero points alone"][2] for num in (19_999, 20_000)] == [256, 512]


@pytest.mark.parametrize(("num", "is_last"), [(IMAGES_MIN_GALAXIES - 1, True), (IMAGES_MIN_GALAXIES, False)])
def test_the_magnitude_branch_is_a_last_resort_where_galaxies_are_few(num: int, is_last: bool) -> None:
    found = candidates(num, has_start=True, recipe=RECIPE)

    assert [one.name for one in found if one.is_last_resort] == ([LAST_RESORT] if is_last else [])


def test_only_a_transformer_of_ones_own_moves_what_norms_count() -> None:
    found = candidates(SCRATCH_MIN_GALAXIES, has_start=True, recipe=RECIPE)

    assert [one.begins for one in found if one.stage.moves_norms] == ["scratch"]


def test_a_transformer_of_ones_own_is_trained_once_and_prepared_on_galaxies_from_first_to_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[Tensor] = []
    epochs: list[int] = []
    settled: list[int] = []
    monkeypatch.setattr(
        training, "pretrain", lambda model, galaxies, recipe, journal: epochs.append(recipe.pretrain_epochs)
    )
    monkeypatch.setattr(training, "settle_batch_norms", lambda model, galaxies: settled.append(len(galaxies)))
    monkeypatch.setattr(
        training, "pooled_features", lambda model, images: looked_at.append(images) or torch.randn(len(images), 192)
    )
    galaxies, recipe = make_galaxies(), FitRecipe("x", "", pace=0.5)
    contest = training._Contest(
        galaxies, np.arange(NUM).astype(str), None, recipe, journal_of(tmp_path), torch.device("cpu")
    )

    models = [contest.begin(Candidate("a", Stage("behind", 1), "scratch")) for _ in range(2)]

    (images,) = looked_at
    assert (epochs, settled, len(images)) == ([3], [NUM], 4_000)
    assert torch.equal(images[0], galaxies.images[0])
    assert torch.equal(images[-1], galaxies.images[-1])
    assert models[0] is not models[1]
    assert not any(parameter.requires_grad for parameter in models[0].parameters())


def test_a_transformer_of_ones_own_needs_many_cutouts() -> None:
    few, many = (
        [candidate.begins for candidate in candidates(num, has_start=True, recipe=RECIPE)]
        for num in (SCRATCH_MIN_GALAXIES - 1, SCRATCH_MIN_GALAXIES)
    )

    assert "scratch" not in few
    assert "scratch" in many


def test_without_weights_to_begin_with_only_new_networks_compete() -> None:
    found = candidates(1_000, has_start=False, recipe=RECIPE)

    assert {candidate.begins for candidate in found} == {"new"}


def test_more_galaxies_are_trained_on_longer() -> None:
    few, many = (candidates(num, has_start=True, recipe=FitRecipe("", ""))[0].stage for num in (300, 8_000))

    assert many.num_steps > 4 * few.num_steps


@pytest.mark.parametrize("fold", [2, None])
def test_a_way_to_train_learns_from_the_other_folds_or_from_all(
    fold: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[Rows, Stage, str]] = []
    monkeypatch.setattr(
        training, "train_stage", lambda model, sample, rows, stage, journal, name: asked.append((rows, stage, name))
    )
    monkeypatch.setattr(training, "EVALUATION_ROWS", 5)
    galaxies, journal, said = make_galaxies(), journal_of(tmp_path), list[str]()
    journal.say = said.append  # type: ignore[method-assign]
    contest = training._Contest(
        galaxies, np.arange(NUM).astype(str), make_start(), RECIPE, journal, torch.device("cpu")
    )
    candidate = Candidate("gently", Stage("final", 3))

    model, sample = contest.trained(candidate, fold)
    contest.trained(candidate, fold)

    (rows, stage, name), _ = asked
    taught = np.flatnonzero(contest.fold != 2) if fold else np.arange(NUM)
    judged = np.flatnonzero(contest.fold == 2) if fold else np.arange(5)
    assert [one.tolist() for one in rows.taught] == [taught.tolist()]
    assert rows.shares == [1.0]
    assert rows.chosen.tolist() == judged.tolist()
    assert rows.truth.tolist() == pytest.approx(galaxies.redshift[judged].tolist())
    assert (stage, name) == (candidate.stage, "gently 2" if fold else "gently all")
    assert sample.joined is not None
    # The zero points are found once, and told.
    of_them = [line for line in said if line.startswith("zero points")]
    added = " ".join(f"{value:+.3f}" for value in contest.zero_points(fold).tolist())
    assert of_them == [f"zero points {'without fold 2' if fold else 'of all'}: {added} mag"]
    assert [phase for phase, _ in journal.seconds()] == ["features", "zero points", "gently"]
    torch.testing.assert_close(model.magnitude_center, make_start().magnitude_center - contest.zero_points(fold))
    assert model is not contest.start


def test_what_is_as_good_within_one_standard_error_is_as_good() -> None:
    best = np.zeros(4)
    # A mean of 1 and a standard deviation of 2: one standard error of four galaxies.
    just = 1 + np.array([2.0, -2.0, 2.0, -2.0])

    assert modest({"just": just, "best": best}) == "just"
    assert modest({"worse": just + 0.001, "best": best}) == "best"
