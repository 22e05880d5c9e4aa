"""A network that is brought in is one that its card describes, or one line says what is wrong; nothing is left then."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from inference.model.astromae import AstroMAE
from inference.model.weights import save_weights
from inference.models import read_model
from scripts.command.errors import CommandError, UsageError
from scripts.models.importing import import_model
from tests.networks import GRZ_CARD, Grz, export

MAGNITUDES_CARD = """
[inputs]
bands = ["u", "g", "r", "i", "z"]
side_px = 0
magnitudes = {dereddened = true}
"""


def graph_of(nodes: list[onnx.NodeProto], path: Path, *, outputs: int | str = 1, **weights: np.ndarray) -> Path:
    """Write a network of five magnitudes from its nodes."""
    galaxies = helper.make_tensor_value_info("magnitudes", TensorProto.FLOAT, ["n", 5])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", outputs])
    kept = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [galaxies], [out], kept)
    domains = {node.domain for node in nodes} | {""}
    versions = [helper.make_opsetid(domain, 17 if domain == "" else 1) for domain in domains]
    onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=8), path)
    return path


def linear(path: Path, weight: np.ndarray) -> Path:
    return graph_of(
        [helper.make_node("MatMul", ["magnitudes", "w"], ["out"])],
        path,
        outputs=weight.shape[1],
        w=weight.astype(np.float32),
    )


def bring(tmp_path: Path, file: Path, card: str = MAGNITUDES_CARD, name: str = "theirs") -> None:
    (tmp_path / "card.toml").write_text(card)
    import_model(str(file), name, str(tmp_path / "card.toml"), root=tmp_path)


def test_a_network_becomes_a_folder_with_what_was_found_and_measured(tmp_path: Path) -> None:
    bring(tmp_path, linear(tmp_path / "n.onnx", np.full((5, 1), 0.01)))

    card = read_model(tmp_path / "models" / "theirs").card
    assert card.graph is not None
    assert (card.graph.magnitudes, card.graph.images, card.graph.output) == ("magnitudes", "", "out")
    assert card.num_parameters == 5
    assert card.rows_per_s is not None
    assert "Gives a redshift" in (tmp_path / "models" / "theirs" / "CARD.md").read_text()


def test_weights_in_a_file_of_their_own_come_into_the_folder(tmp_path: Path) -> None:
    file = linear(tmp_path / "n.onnx", np.full((5, 1), 0.01))
    onnx.save(onnx.load(file), file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").exists()

    bring(tmp_path, file)

    (tmp_path / "weights.bin").unlink()
    assert onnx.load(tmp_path / "models" / "theirs" / "network.onnx").graph.initializer[0].raw_data
    with pytest.raises(UsageError, match=r"keeps weights in weights\.bin, which is not next to it"):
        bring(tmp_path, file, name="again")


def test_weights_of_astromae_need_no_card(tmp_path: Path) -> None:
    save_weights(AstroMAE(), tmp_path / "w.safetensors")

    import_model(str(tmp_path / "w.safetensors"), "mine", "", root=tmp_path)

    model = read_model(tmp_path / "models" / "mine")
    assert (model.card.kind, model.weights.name) == ("astromae", "weights.safetensors")


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("[inputs", "CARD=.*is not valid"),
        (MAGNITUDES_CARD.replace("side_px", "size"), r"unknown field `size` - at `\$\.inputs`"),
        (
            MAGNITUDES_CARD.replace('"u", ', ""),
            r"magnitudes of shape \(N, 4\) are read; the network reads magnitudes \(N, 5\)",
        ),
        (MAGNITUDES_CARD.replace("side_px = 0", "side_px = 32"), r"images of shape \(N, 5, 32, 32\) are read"),
        (
            MAGNITUDES_CARD + '[output]\nkind = "binned"\nedges = [0.0, 0.1, 0.2]',
            r"gives 2 numbers per galaxy; its output out has the shape \(N, 1\)",
        ),
        (MAGNITUDES_CARD + '[output]\nkind = "votes"', "Invalid value 'votes'"),
        (MAGNITUDES_CARD + '[photometry]\nreference_band = "y"', "missing required field"),
    ],
)
def test_a_card_that_is_wrong_or_contradicts_the_graph_is_refused(tmp_path: Path, card: str, message: str) -> None:
    file = linear(tmp_path / "n.onnx", np.full((5, 1), 0.01))

    with pytest.raises(UsageError, match=message) as refused:
        bring(tmp_path, file, card)

    assert "\n" not in str(refused.value)
    assert list((tmp_path / "models").glob("*")) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.pt", "is a pickle, which runs code"),
        ("none.onnx", "there is no such file"),
        ("n.onnx", "is no network as ONNX"),
        ("n.json", "is no network as ONNX"),
    ],
)
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, name: str, message: str) -> None:
    for present in ("x.pt", "n.onnx", "n.json"):
        (tmp_path / present).write_bytes(b"no network")

    with pytest.raises(UsageError, match=message):
        bring(tmp_path, tmp_path / name)


def test_operators_of_others_and_a_fixed_number_of_galaxies_are_refused(tmp_path: Path) -> None:
    custom = graph_of([helper.make_node("Magic", ["magnitudes"], ["out"], domain="their.own")], tmp_path / "c.onnx")
    fixed = export(Grz(), {"images": (3, 32, 32), "magnitudes": (3,)}, tmp_path / "f.onnx", fixed=True)

    with pytest.raises(UsageError, match=r"does not bring: Magic of their\.own"):
        bring(tmp_path, custom)
    with pytest.raises(UsageError, match="a fixed number of galaxies"):
        bring(tmp_path, fixed, GRZ_CARD)


class OfItsNeighbours(nn.Module):
    def forward(self, magnitudes: torch.Tensor) -> torch.Tensor:
        return (magnitudes - magnitudes.mean(dim=0)).mean(dim=1, keepdim=True)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", "not finite"),
        ("neighbours", "changes with its neighbours in the batch"),
        ("units", "its redshifts are from .*: is the output in other units"),
        ("bins", "these are no probabilities. Logits are said with"),
    ],
)
def test_a_network_that_computes_nonsense_is_refused_and_leaves_nothing(
    tmp_path: Path, kind: str, message: str
) -> None:
    card, path = MAGNITUDES_CARD, tmp_path / "n.onnx"
    if kind == "nan":
        graph_of(
            [helper.make_node("MatMul", ["magnitudes", "w"], ["m"]), helper.make_node("Log", ["m"], ["out"])],
            path,
            w=np.full((5, 1), -1, np.float32),
        )
    elif kind == "neighbours":
        export(OfItsNeighbours(), {"magnitudes": (5,)}, path)
    elif kind == "units":
        linear(path, np.full((5, 1), 100.0))
    else:
        linear(path, np.full((5, 3), 1.0))
        card += '[output]\nkind = "binned"\nedges = {start = 0.0, stop = 0.3, num_bins = 3}'

    with pytest.raises(CommandError, match=message) as refused:
        bring(tmp_path, path, card)

    assert "\n" not in str(refused.value)
    assert list((tmp_path / "models").iterdir()) == []
