"""Training begins with the weights that FROM names, wherever they are."""

from pathlib import Path

import pytest
import torch

from inference.checksum import file_sha256
from inference.model.astromae import AstroMAE, Variant
from inference.model.weights import load_astromae
from inference.models import shipped
from scripts.command.errors import UsageError
from scripts.command.variables import read_variables
from scripts.models.training.network import Batch, predict
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
