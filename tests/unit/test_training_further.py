"""A second training begins as the networks of magnitudes, and nothing that is tested on teaches."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from inference.block import Block
from inference.calibration import load_calibration
from inference.checksum import file_sha256
from inference.errors import WeightsError
from inference.model.astromae import AstroMAE
from inference.model.weights import load_astromae
from inference.models import shipped, without_images
from inference.models.card import Knowledge, Measured
from scripts.command.errors import SourceError, UsageError
from scripts.command.variables import read_variables
from scripts.models.card_text import card_text
from scripts.models.numbers import number_of
from scripts.models.training import further, sample_model
from scripts.models.training.controls import Predict
from scripts.models.training.further import FurtherRecipe, begin, harmless_way, train_further
from scripts.models.training.journal import Journal
from scripts.models.training.magnitudes import MagnitudesNetwork, predict_magnitudes, read_network
from scripts.models.training.network import Sample, predict_rows
from scripts.models.training.recipe import FULL
from scripts.models.training.rows import TrainingRows, real_test_rows
from scripts.models.training.sample_model import (
    MAGNITUDES,
    TREES,
    Trained,
    boosted_trees,
    of_surveys,
    paired_nmad,
    write_model,
)
from scripts.models.training.supervised import Rows, Stage, redshift_loss
from scripts.models.training.surveys import Catalogue, Survey, read_surveys
from scripts.simulation.sdss import load_sources
from scripts.train import TrainVariables, main
from tests.factories import FakeEngine

NUM_NEW = 240


@pytest.fixture(scope="module")
def networks() -> MagnitudesNetwork:
    return read_network(without_images().weights)


@pytest.fixture(scope="module")
def start() -> AstroMAE:
    return load_astromae(shipped().weights)


def write_table(path: Path, first: int, *, moved_deg: float) -> Path:
    """Write galaxies of the sample as a survey would, some degrees from where they are."""
    sources = load_sources()
    rows = slice(first, first + NUM_NEW)
    columns = [(sources.ra_deg[rows] + moved_deg) % 360, sources.dec_deg[rows], sources.redshift[rows]]
    table = np.column_stack([*columns, sources.photometry.magnitudes[rows]])
    np.savetxt(path, table, delimiter=",", fmt="%.6f", header="ra,dec,z_spec,u,g,r,i,z", comments="")
    return path


@pytest.fixture(scope="module")
def surveys(tmp_path_factory: pytest.TempPathFactory) -> list[Survey]:
    folder = tmp_path_factory.mktemp("surveys")
    tables = [
        write_table(folder / "one.csv", 0, moved_deg=0.5),
        write_table(folder / "two.csv", NUM_NEW - 20, moved_deg=0.5),
    ]
    scratch = folder / "scratch"
    scratch.mkdir()
    return read_surveys(tables, scratch)


def test_the_network_begins_as_the_mean_of_the_networks_of_magnitudes(
    start: AstroMAE, networks: MagnitudesNetwork
) -> None:
    sources = load_sources().of("held_out").first(8)
    magnitudes = torch.from_numpy(sources.photometry.magnitudes).float()

    model = begin(start, networks, 1)
    with torch.no_grad():
        found = [model(noise, magnitudes) for noise in torch.randn(2, 8, 5, 32, 32)]

    expected = predict_magnitudes(networks, magnitudes)
    assert expected.std() > 0.01
    # Sums in another order.
    torch.testing.assert_close(found[0], expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(found[1], expected, atol=2e-6, rtol=0)


def test_what_reads_the_images_is_kept(start: AstroMAE, networks: MagnitudesNetwork) -> None:
    before, after = start.state_dict(), begin(start, networks, 1).state_dict()

    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}

    assert not changed & {"encoder", "inception", "encoder_projection", "inception_projection", "image_softening"}


def test_another_graph_is_no_network_of_magnitudes() -> None:
    graph = next(shipped().folder.glob("*.int8.onnx"))

    with pytest.raises(WeightsError, match="is not a network of magnitudes that this version knows"):
        read_network(graph)


def test_a_galaxy_is_in_one_catalogue_and_a_patch_of_sky_in_one_part(surveys: list[Survey]) -> None:
    first, second = surveys

    assert len(first.row) > 200
    assert second.row.min() >= 20  # the first twenty are in the table before
    patches: dict[tuple[int, int], set[str]] = {}
    for survey in surveys:
        assert set(survey.part.tolist()) == {"train", "selection", "held_out"}
        for ra, dec, part in zip(survey.ra_deg, survey.dec_deg, survey.part.tolist(), strict=True):
            patches.setdefault((int(ra // 0.25), int(dec // 0.25)), set()).add(f"{survey.name} {part}")
    shared = [parts for parts in patches.values() if len(parts) > 1 and len({one.split()[0] for one in parts}) == 1]
    # A patch of .25 degrees can touch two of the .5 degrees that are dealt.
    assert len(shared) < 0.1 * len(patches)


def test_a_table_of_the_sample_itself_has_nothing_new(tmp_path: Path) -> None:
    table = write_table(tmp_path / "same.csv", 0, moved_deg=0.0)
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    with pytest.raises(SourceError, match=r"same\.csv has no clean galaxy .* that is not in the sample"):
        read_surveys([table], scratch)


def test_no_catalogue_is_harmed_and_a_resumed_training_gives_the_same_weights(
    start: AstroMAE, networks: MagnitudesNetwork, surveys: list[Survey], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.models.training.surveys.load_sources", lambda: load_sources().first(60))
    recipe = FurtherRecipe("a", "b", ("c", "d"), num_repeats=2, num_steps=3, batch_size=16, check_every=3)

    found = train_further(start, networks, surveys, recipe, Journal(tmp_path, recipe)).state_dict()
    again = train_further(start, networks, surveys, recipe, Journal(tmp_path, recipe)).state_dict()

    assert all(torch.equal(found[name], again[name]) for name in found)
    assert {path.name for path in tmp_path.glob("final*.pt")} == {"final-layers-1.pt", "final-layers-2.pt"}


def test_the_difference_of_two_methods_is_surer_than_each() -> None:
    generator = np.random.default_rng(0)
    z_spec = generator.uniform(0.05, 0.3, 2_000)
    z_phot = z_spec + 0.02 * generator.standard_normal(2_000)

    better = z_spec + 0.9 * (z_phot - z_spec)
    interval = paired_nmad(better, z_phot, z_spec)

    assert -0.0025 < interval.low < interval.high < -0.0010
    same = paired_nmad(z_phot, z_phot, z_spec)
    assert same == (0, 0)


@pytest.mark.parametrize(
    ("growth", "way"),
    [((-0.1, 0.0049), 1.0), ((-1.0, 0.0051), 0.75), ((0.009, -1.0), 0.5), ((0.021, 0.0), 0.0), ((-0.5, 0.5), 0.0)],
)
def test_it_is_gone_as_far_as_no_catalogue_loses_half_a_percent(growth: tuple[float, float], way: float) -> None:
    """The loss of each catalogue grows so much by the end of the way, as a share."""
    found = harmless_way(lambda part: torch.tensor([0.5, 2.0]) * (1 + part * torch.tensor(growth)))

    assert found == way


def test_the_trees_learn_from_training_parts(surveys: list[Survey]) -> None:
    predict = boosted_trees(surveys)
    block = surveys[0].rendered("selection", 0).to_block()

    z_phot = predict(block)

    assert np.median(np.abs(z_phot - block.redshifts)) < 0.03


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"TABLES": "a.csv"}, "^MODEL is missing: TABLES="),
        ({"TABLES": "a.csv", "DATASET": "mine", "MODEL": "new"}, "^DATASET trains on your galaxies"),
        ({"TABLES": "nowhere.csv", "MODEL": "new"}, r"nowhere\.csv does not exist"),
        ({"TABLES": "a.csv", "MODEL": "new", "FROM": "scratch"}, "^FROM=scratch: TABLES begins with weights"),
        ({"FROM": "mine"}, "^FROM goes with DATASET=name, or TABLES="),
    ],
    ids=["no name", "both", "no file", "no weights", "no galaxies"],
)
def test_what_tables_cannot_do_is_one_line(
    given: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match=message):
        main(read_variables(TrainVariables, given))


def test_the_folder_of_the_model_is_whole_and_its_card_says_what_it_is_worth(
    start: AstroMAE, networks: MagnitudesNetwork, surveys: list[Survey], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.models.training.surveys.load_sources", lambda: load_sources().first(100))
    monkeypatch.setattr("scripts.models.training.sample_model.load_sources", lambda: load_sources().first(100))
    for module in ("calibrate", "sample_model"):
        for name in ("real_test_rows", "borrowed_structure_rows"):
            monkeypatch.setattr(
                f"scripts.models.training.{module}.{name}", lambda **_: real_test_rows(at_most=60), raising=False
            )
    monkeypatch.setattr(
        "scripts.models.training.calibrate.synthetic_test_rows", lambda _: surveys[0].rendered("selection", 9)
    )
    monkeypatch.setattr("scripts.models.training.sample_model.boosted_trees", lambda _: lambda block: block.redshifts)
    folder = tmp_path / "further"
    folder.mkdir()
    engine = FakeEngine()
    monkeypatch.setattr("inference.engines.load", lambda *_, **__: engine)
    monkeypatch.setattr(engine, "weights_sha256", shipped().card.weights_sha256, raising=False)
    monkeypatch.setattr(
        "scripts.models.training.sample_model.save_weights", lambda _, path: shutil.copy(shipped().weights, path)
    )
    exported: list[Path] = []

    trained = of_surveys(begin(start, networks, 1), shipped(), networks, surveys)

    few = replace(FULL, num_real=100, renderings=1, num_synthetic=100)

    card = write_model(folder, "further", trained, exported.append, surveys=surveys, recipe=few)

    assert exported == [folder / "astromae.safetensors"]
    assert (card.name, card.weights_sha256) == ("further", file_sha256(exported[0]))
    assert {path.name for path in folder.iterdir()} >= {"card.json", "CARD.md", "CALIBRATION.md"}
    assert load_calibration(folder / "calibration.safetensors", card.weights_sha256).posterior is not None
    known = card.knowledge
    assert [data.name for data in known.training[-2:]] == ["one.csv", "two.csv"]
    assert known.recipe.count("Then (`make train TABLES") == 1  # the weights it began with were trained so, too
    of_it, trees = known.numbers[0], next(one for one in known.controls if one.method == TREES)
    assert (of_it.num_rows, of_it.rows, trees.rows) == (60, "real, test set", "real, test set")
    assert of_it.nmad > trees.nmad == 0
    assert of_it.pz is not None
    assert of_it.coverage_68 is not None
    text = (folder / "CARD.md").read_text(encoding="utf-8")
    assert text == card_text(card)
    assert f"| {of_it.rows} | 60 |" in text


def make_block(r: list[float], redshift: list[float]) -> Block:
    """Galaxies of which a method is asked the r magnitude."""
    magnitudes = np.repeat(np.array(r)[:, None], 5, axis=1)
    return Block(np.zeros((len(r), 5, 1, 1), np.float32), magnitudes, np.array(redshift), np.arange(len(r)))


def test_parts_of_the_tests_are_looked_at_where_they_say_something(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    borrowed = make_block([15.0], [0.1])
    monkeypatch.setattr(
        sample_model,
        "borrowed_structure_rows",
        lambda *, at_most: asked.append(at_most) or SimpleNamespace(to_block=lambda: borrowed),
    )
    sample = make_block([15.0] * 4, [0.1, 0.25, 0.251, 0.3])

    def bright(num: int, num_all: int) -> Block:
        return make_block([17.79] * num + [17.8] * (num_all - num), [0.1] * num_all)

    survey = {"101 of 200": (101, 200), "100 of 200": (100, 200), "160 of 200": (160, 200), "159 of 200": (159, 200)}
    tests = {"real, test set": sample, **{name: bright(*nums) for name, nums in survey.items()}}

    found = sample_model._all_tests(tests, replace(FULL, num_test_real=11))

    assert list(found) == [
        *tests,
        "real, structure of other galaxies",
        "real, test set, z > 0.25",
        "101 of 200, r < 17.8",
        "159 of 200, r < 17.8",
    ]
    assert asked == [11]
    assert found["real, structure of other galaxies"] is borrowed
    assert found["real, test set, z > 0.25"].redshifts.tolist() == [0.251, 0.3]
    assert found["101 of 200, r < 17.8"].magnitudes[:, 2].tolist() == [17.79] * 101
    near = sample_model._all_tests({"real, test set": make_block([15.0], [0.2])}, FULL)
    assert list(near) == ["real, test set", "real, structure of other galaxies"]


def test_the_network_and_what_it_must_beat_are_measured_on_the_same_galaxies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    z_spec = generator.uniform(0.05, 0.3, 400)
    error = 0.02 * generator.standard_normal(400)
    block = make_block([17.0] * 400, z_spec.tolist())

    def off_by(factor: float) -> Predict:
        return lambda block: block.redshifts + factor * error[: len(block.redshifts)]

    monkeypatch.setattr(sample_model, "_engine", lambda weights: {tmp_path: off_by(0.9)}[weights])
    monkeypatch.setattr(sample_model, "_all_tests", lambda tests, recipe: {**tests, "a part": block[np.arange(300)]})
    before = Measured(method="limits", rows="x", num_rows=1, nmad=0.1)
    known = Knowledge(description="It is new.", controls=(before,), licence="free")
    methods = {"rival": off_by(1.0), "control": off_by(2.0)}

    found = sample_model._measured(tmp_path, Trained(AstroMAE(), known, methods, ("rival",)), {"real": block}, FULL)

    def number(factor: float, rows: str, method: str, num: int) -> Measured:
        return number_of((z_spec + factor * error)[:num], z_spec[:num], rows, method)

    assert found.numbers == (number(0.9, "real", "", 400), number(0.9, "a part", "", 300))
    assert found.controls == (
        before,
        *(number(1.0, "real", "rival", 400), number(2.0, "real", "control", 400)),
        *(number(1.0, "a part", "rival", 300), number(2.0, "a part", "control", 300)),
    )
    interval = paired_nmad(z_spec + 0.9 * error, z_spec + error, z_spec)
    assert found.description == (
        "It is new. Difference of the NMAD on the same galaxies, 95 % interval of the paired bootstrap:\n\n"
        f"- real: {interval.low:+.4f} to {interval.high:+.4f} against rival"
    )
    assert found.licence == "free"


def test_the_network_of_magnitudes_and_the_start_are_rivals_and_trees_a_control(
    networks: MagnitudesNetwork, surveys: list[Survey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_model, "_engine", lambda weights: weights)
    monkeypatch.setattr(sample_model, "boosted_trees", lambda given: given)
    network = AstroMAE()

    trained = of_surveys(network, shipped(), networks, surveys)

    assert trained.network is network
    assert trained.rivals == ("the weights it began with", MAGNITUDES)
    assert list(trained.methods) == [*trained.rivals, TREES]
    assert trained.methods["the weights it began with"] == shipped().weights
    assert trained.methods[TREES] == surveys
    block = surveys[0].rendered("selection", 0).to_block()
    magnitudes = torch.from_numpy(block.magnitudes).float()
    assert trained.methods[MAGNITUDES](block).tolist() == predict_magnitudes(networks, magnitudes).tolist()
    assert trained.known.training[-2:] == tuple(survey.training_data for survey in surveys)


def test_trees_are_taught_the_sample_and_the_training_parts_of_surveys(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = SimpleNamespace(photometry=SimpleNamespace(magnitudes=np.full((300, 5), 17.0)), redshift=np.full(300, 0.1))
    monkeypatch.setattr(sample_model, "load_sources", lambda: SimpleNamespace(of=lambda part: {"train": sample}[part]))
    part = np.array(["train"] * 200 + ["held_out"] * 400)
    survey = SimpleNamespace(
        part=part, magnitudes=np.full((600, 5), 18.0), redshift=np.where(part == "train", 0.3, 0.9)
    )

    predict = boosted_trees([survey])  # type: ignore[list-item]

    # 400 trees of a rate of .05 leave .95^400 of a difference.
    assert predict(make_block([17.0, 18.0], [0.0, 0.0])).tolist() == pytest.approx([0.1, 0.3], abs=1e-3)


def test_a_second_training_learns_from_shares_of_catalogues_and_keeps_the_mean(
    start: AstroMAE, networks: MagnitudesNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Rows, Stage, str]] = []
    firsts: list[float] = []

    def train_stage(model: AstroMAE, sample: Sample, rows: Rows, stage: Stage, journal: Journal, name: str) -> None:
        firsts.append(model.final[-1].bias.item())
        asked.append((rows, stage, name))
        model.final[-1].bias += float(len(asked))

    def with_branches(model: AstroMAE, galaxies: Sample, name: str, journal: Journal) -> Sample:
        names.append(name)
        return galaxies

    def catalogue(num: int, value: float) -> Sample:
        return Sample(torch.zeros(num, 5), torch.full((num,), value), joined=torch.zeros(num, 3216))

    names: list[str] = []
    told = {
        "train": [catalogue(3, 0.1), catalogue(2, 0.2), catalogue(4, 0.3)],
        "selection": [catalogue(1, redshift) for redshift in (0.4, 0.5, 0.6)],
    }
    seeds: list[int] = []
    monkeypatch.setattr(further, "train_stage", train_stage)
    monkeypatch.setattr(further, "_with_branches", with_branches)
    monkeypatch.setattr(further, "catalogues", lambda part, surveys, seed: seeds.append(seed) or told[part])
    at_half: list[torch.Tensor] = []
    monkeypatch.setattr(further, "harmless_way", lambda losses: at_half.append(losses(0.5)) or losses(1.0).numel() / 6)
    recipe = FurtherRecipe("a", "b", ("c", "d"), seed=3, num_repeats=2, num_steps=9, batch_size=8, check_every=5)
    surveys: list[Any] = [SimpleNamespace(part=np.array(["train"] * num + ["selection"])) for num in (4, 9)]

    found = train_further(start, networks, surveys, recipe, Journal(tmp_path, recipe))

    assert names == [f"{part} {number}" for part in ("train", "selection") for number in range(3)]
    assert seeds == [3, 3]
    rows = asked[0][0]
    assert [one.tolist() for one in rows.taught] == [[0, 1, 2], [3, 4], [5, 6, 7, 8]]
    assert rows.shares == pytest.approx([0.4, 0.6 * 2 / 5, 0.6 * 3 / 5])
    assert (rows.chosen.tolist(), rows.truth.tolist()) == ([9, 10, 11], pytest.approx([0.4, 0.5, 0.6]))
    stage = Stage("final", 9, 8, 1e-3, check_every=5, ema_decay=0.99, seed=3)
    assert [(one, name) for _, one, name in asked] == [
        (stage, "final layers 3"),
        (replace(stage, seed=4), "final layers 4"),
    ]
    # Both begin at -4, the mean of what they add is 1.5, and half of the way is gone.
    assert firsts == [-4.0, -4.0]
    assert found.final[-1].bias.item() == pytest.approx(-3.25)
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())
    predicted = predict_rows(found, catalogue(1, 0.0), torch.arange(1), "final")
    expected = [redshift_loss(predicted, torch.tensor([redshift]), stage).item() for redshift in (0.4, 0.5, 0.6)]
    assert at_half[0].tolist() == pytest.approx(expected)
    begun = begin(start, networks, 3).final[0].weight
    assert torch.equal(found.final[0].weight[4:, :2192], 4 * begun[4:, :2192])
    assert torch.equal(found.final[0].weight[:, 2192:], begun[:, 2192:])


def test_features_of_a_catalogue_are_computed_once_from_its_images(
    start: AstroMAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[int] = []
    rows = real_test_rows(at_most=2)

    def render() -> TrainingRows:
        rendered.append(1)
        return rows

    galaxies = Catalogue(rows.magnitudes.double().numpy(), rows.redshifts.double().numpy(), render)
    recipe = FurtherRecipe("a", "b", ())

    first, again = (further._with_branches(start, galaxies, "train 0", Journal(tmp_path, recipe)) for _ in range(2))

    assert rendered == [1]
    assert (tmp_path / "features-train-0.pt").exists()
    assert first.joined is not None
    assert again.joined is not None
    assert torch.equal(first.joined, again.joined)
    assert torch.equal(first.redshifts, rows.redshifts)
    # The transformer's products may be in bfloat16.
    whole = start(rows.images, rows.magnitudes)
    torch.testing.assert_close(predict_rows(start, first, torch.arange(2), "final"), whole, atol=3e-3, rtol=0)
