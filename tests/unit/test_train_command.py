"""Training begins with the weights that FROM names, wherever they are, and learns from the galaxies that are named."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from inference.checksum import file_sha256
from inference.model.astromae import AstroMAE, Variant
from inference.model.weights import load_astromae
from inference.models import shipped, without_images
from scripts import train as command
from scripts.command.errors import UsageError
from scripts.command.program import exit_status
from scripts.command.variables import read_variables
from scripts.models.training.further import FurtherRecipe
from scripts.models.training.network import Batch, predict
from scripts.models.training.own import Order
from scripts.models.training.recipe import FULL, QUICK, Recipe
from scripts.train import TrainVariables, find_start
from tests.factories import write_model
from tests.published_network import random_network, save


def test_a_model_is_found_by_its_name_and_scratch_means_none(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "mine")

    assert find_start("", tmp_path, tmp_path, trusted=False) is shipped()
    found = find_start("mine", tmp_path, tmp_path, trusted=False)
    assert found is not None
    assert found.folder == tmp_path / "models" / "mine"
    assert find_start("scratch", tmp_path, tmp_path, trusted=False) is None


def test_published_weights_are_converted_when_they_are_trusted(tmp_path: Path) -> None:
    path = save(random_network(), tmp_path / "published.pt")
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    found = find_start(str(path), tmp_path, scratch, trusted=True)

    assert found is not None
    assert found.weights.parent == scratch
    assert load_astromae(found.weights).variant.pools_first
    assert (found.card.name, found.card.weights_sha256) == ("published.pt", file_sha256(found.weights))


@pytest.mark.parametrize(
    "variant", [Variant(), Variant(num_heads=12, has_joint_relus=False, pools_first=True)], ids=str
)
def test_training_sees_the_network_that_predicts(variant: Variant) -> None:
    torch.manual_seed(0)
    model = AstroMAE(variant).eval()
    images, magnitudes = torch.randn(2, 5, 32, 32), torch.randn(2, 5)

    with torch.no_grad():
        in_training, expected = predict(model, Batch(magnitudes, images), "all"), model(images, magnitudes)

    torch.testing.assert_close(in_training, expected, atol=1e-5, rtol=1e-5)


def test_weights_of_ones_own_are_read_where_they_are() -> None:
    found = find_start(str(shipped().weights), Path(), Path(), trusted=False)

    assert found is not None
    assert found.weights == shipped().weights
    assert found.card.weights_sha256 == shipped().card.weights_sha256


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("published.pt", r"^FROM=.*published\.pt is a pickle: .* TRUST_PICKLE=1 opens it"),
        ("nowhere.pt", r"^FROM=.*nowhere\.pt: there is no such file"),
        ("nowhere.safetensors", r"^FROM=.*nowhere\.safetensors: there is no such file"),
        ("magnitudes", "^FROM=magnitudes is a network as ONNX, which cannot be trained here"),
        ("mime", "^FROM=mime: there is no such model"),
    ],
)
def test_what_training_cannot_begin_with_is_named(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "published.pt").write_bytes(b"a pickle")
    given = str(tmp_path / name) if "." in name else name

    with pytest.raises(UsageError, match=message):
        find_start(given, tmp_path, tmp_path, trusted=False)


def test_from_is_a_variable_although_python_keeps_the_word() -> None:
    assert read_variables(TrainVariables, {"FROM": "scratch"}).from_ == "scratch"


# ------------------------------------------------------------------------------------- which galaxies teach


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Work where nothing is, and note what a training would be told instead of doing it."""
    done: dict[str, Any] = {"exported": []}

    def note(name: str, returned: Any = None) -> Any:
        return lambda *given, **named: done.update({name: (*given, *named.values())}) or returned

    def own(order: Order, *, root: Path, device: str, export: Any) -> Any:
        done.update(order=order, root=root, device=device)
        export("weights")
        (tmp_path / "CARD.md").write_text("the card")
        return SimpleNamespace(folder=tmp_path)

    def write_model(folder: Path, name: str, trained: str, export: Any, **of: Any) -> None:
        done["written"] = (name, trained, of)
        export("weights")
        (folder / "CARD.md").write_text("the card")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "find_dataset", lambda name, *, asked, root: SimpleNamespace(folder=Path(name, asked)))
    monkeypatch.setattr(command, "train_own", own)
    monkeypatch.setattr(command, "choose_device", lambda asked: f"the {asked}")
    monkeypatch.setattr(command, "export", lambda *given, **named: done["exported"].append((*given, named)))
    monkeypatch.setattr(command, "ensure_sample", lambda: "sample")
    monkeypatch.setattr(
        command, "load_astromae", lambda weights: SimpleNamespace(variant=done.get("variant", Variant()))
    )
    monkeypatch.setattr(command, "train", note("recipe", "trained"))
    monkeypatch.setattr(command, "write_model", write_model)
    monkeypatch.setattr(command, "draw_curves", note("curves"))
    surveys = [SimpleNamespace(sha256="c" * 64)]
    monkeypatch.setattr(command, "read_surveys", note("tables", surveys))
    monkeypatch.setattr(command, "read_network", lambda weights: f"network of {weights.parent.name}")
    monkeypatch.setattr(command, "train_further", note("further", "model"))
    monkeypatch.setattr(command, "of_surveys", note("trained", "trained further"))
    monkeypatch.setattr(torch, "set_num_threads", note("threads"))
    return done


def train(**variables: str) -> int:
    return exit_status(command.main, variables)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"DATASET": "d", "TABLES": "a.csv", "MODEL": "m"}, "DATASET trains on your galaxies, TABLES on the sample"),
        ({"FROM": "x.pt"}, 'FROM goes with DATASET=name, or TABLES="a.csv b.csv"'),
        ({"DATASET": "d"}, "MODEL is missing: DATASET=d MODEL=name writes models/name/."),
        ({"TABLES": "a.csv"}, 'MODEL is missing: TABLES="a.csv b.csv" MODEL=name writes models/name/.'),
        ({"TABLES": "a.csv", "MODEL": "m", "FROM": "scratch"}, "FROM=scratch: TABLES begins with weights of this"),
        ({"TABLES": "a.csv", "MODEL": "taken"}, "MODEL=taken is taken"),
        ({"MODEL": "taken"}, "MODEL=taken is taken"),
    ],
)
def test_a_training_that_cannot_be_meant_is_refused_before_it_begins(
    variables: dict[str, str], said: str, done: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models" / "taken").mkdir(parents=True)

    assert train(**variables) == 2

    assert said in " ".join(capsys.readouterr().err.split())
    assert not done.keys() & {"order", "recipe", "further"}


def test_published_weights_learn_from_no_further_tables(done: dict[str, Any]) -> None:
    done["variant"] = Variant(pools_first=True)

    assert train(TABLES="a.csv", MODEL="m", FROM="astromae") == 2


@pytest.mark.parametrize("is_quick", [False, True])
def test_a_model_learns_from_one_s_own_galaxies(
    is_quick: bool, done: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = {"QUICK": "1"} if is_quick else {}

    assert train(DATASET="d", MODEL="mine", SEED="7", DEVICE="cpu", THREADS="3", **quick) == 0

    folder = Path("d", "DATASET=d")
    assert done["order"] == Order(folder, "mine", shipped(), 7, 0.05 if is_quick else 1.0)
    assert (done["root"], done["device"], done["threads"]) == (Path(), "the cpu", (3,))
    assert done["exported"] == [("weights", folder, {"reduced": False})]
    assert capsys.readouterr().out == f"the card\n{tmp_path}/: make run DATASET=… MODEL={tmp_path.name}\n"


def test_the_published_variant_has_no_graphs(done: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    done["variant"] = Variant(pools_first=True)

    assert train(DATASET="d", MODEL="mine", FROM="scratch") == 0

    assert done["order"].start is None
    assert done["exported"] == []
    assert "no graph for the faster engines: torch computes it" in capsys.readouterr().err


def test_final_layers_learn_from_the_sample_and_further_tables(
    done: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(TABLES="a.csv b.csv", MODEL="mine", SEED="7") == 0

    names, _ = done["tables"]
    model, network, surveys, recipe, journal = done["further"]
    assert names == [Path("a.csv"), Path("b.csv")]
    assert (model.variant, network) == (Variant(), "network of magnitudes")
    sums = (shipped().card.weights_sha256, without_images().card.weights_sha256)
    assert recipe == FurtherRecipe(*sums, ("c" * 64,), 7)
    assert journal.folder == Path("training/mine")
    assert done["trained"] == ("model", shipped(), network, surveys)
    assert done["written"] == ("mine", "trained further", {"surveys": surveys})
    assert done["exported"] == [("weights", "sample", {})]
    assert (tmp_path / "models" / "mine" / "CARD.md").exists()
    assert capsys.readouterr().out.endswith("the card\nmodels/mine/: make run DATASET=… MODEL=mine\n")


@pytest.mark.parametrize(
    ("variables", "name", "recipe"),
    [
        ({}, "anew", FULL),
        ({"QUICK": "1", "FROM": "scratch"}, "rehearsal", QUICK),
        ({"MODEL": "mine", "SEED": "7"}, "mine", dataclasses.replace(FULL, seed=7)),
    ],
)
def test_all_layers_learn_from_the_sample_where_nothing_else_is_named(
    variables: dict[str, str], name: str, recipe: Recipe, done: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(**variables) == 0

    assert done["recipe"][0] == recipe
    assert done["recipe"][1].folder == Path("training") / name
    assert done["written"] == (name, "trained", {"recipe": recipe})
    log, picture = done["curves"]
    assert (log, picture.name) == (Path("training") / name / "log.csv", "training_curves.png")
    said = capsys.readouterr()
    assert said.out.endswith(f"the card\nmodels/{name}/: make run DATASET=… MODEL={name}\n")
    assert "measuring on the test set" in said.out + said.err
