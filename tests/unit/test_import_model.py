"""A network that is brought in is one that its card describes, or one line says what is wrong; nothing is left then."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from inference.checksum import file_sha256
from inference.model.astromae import NUM_PARAMETERS, AstroMAE
from inference.model.weights import save_weights
from inference.models import read_model, shipped
from inference.models.card import Graph
from scripts.command.errors import CommandError, UsageError
from scripts.models import importing
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
    card, like = model.card, shipped().card
    assert (card.kind, model.weights.name) == ("astromae", "weights.safetensors")
    assert (card.inputs, card.photometry, card.domain) == (like.inputs, like.photometry, like.domain)
    assert (card.max_extinction_r, card.num_parameters) == (like.max_extinction_r, NUM_PARAMETERS)
    assert card.weights_sha256 == file_sha256(model.weights)
    assert card.knowledge.description == "AstroMAE with the weights of w.safetensors; inputs as the shipped model's."


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
    magic = [helper.make_node(f"Magic{i}", [f"m{i}"], [f"m{i + 1}"], domain=name) for i, name in enumerate(("b", "a"))]
    plain = [helper.make_node("Identity", ["magnitudes"], ["m0"]), helper.make_node("Identity", ["m2"], ["out"])]
    custom = graph_of([plain[0], *magic, plain[1]], tmp_path / "c.onnx")
    fixed = export(Grz(), {"images": (3, 32, 32), "magnitudes": (3,)}, tmp_path / "f.onnx", fixed=True)

    with pytest.raises(UsageError, match=r"does not bring: Magic0, Magic1 of a, b\. Export it without"):
        bring(tmp_path, custom)
    with pytest.raises(UsageError, match="a fixed number of galaxies"):
        bring(tmp_path, fixed, GRZ_CARD)


# ------------------------------------------------------------------------------------------ what the graph says


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are taken without being tried, which needs a process of its own."""
    monkeypatch.setattr(importing, "_try_out", lambda _: {"rows_per_s": 5.0})


def stated(path: Path, inputs: dict[str, Sequence[int | str]], outputs: dict[str, Sequence[int | str]]) -> Path:
    """Write a network that states these shapes; it computes nothing of use."""
    given, gives = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in some.items()]
        for some in (inputs, outputs)
    )
    nodes = [helper.make_node("Identity", [next(iter(inputs))], [name]) for name in outputs]
    graph = helper.make_graph(nodes, "g", given, gives)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


CARD = """
[inputs]
bands = ["g", "r", "z"]
"""
IMAGES = CARD + "side_px = 32\n"
ALL = CARD + 'side_px = 32\ncolumns = ["ebv", "size"]\nmagnitudes = {dereddened = true}\n'
MAGNITUDES = CARD + "side_px = 0\nmagnitudes = {dereddened = true}\n"
BINNED = '[output]\nkind = "binned"\nedges = {start = 0.0, stop = 0.4, num_bins = 4}\n'
FIRST, LAST, LIGHT, MORE = ["n", 3, 32, 32], ["n", 32, 32, 3], ["n", 3], ["n", 2]


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize(
    ("card", "inputs", "outputs", "found"),
    [
        (MAGNITUDES, {"x": LIGHT}, {"y": ["n"]}, Graph(magnitudes="x", output="y")),
        (MAGNITUDES, {"x": LIGHT}, {"y": ["n", 1]}, Graph(magnitudes="x", output="y")),
        (MAGNITUDES, {"x": ["n", "bands"]}, {"y": ["n", "m"]}, Graph(magnitudes="x", output="y")),
        (MAGNITUDES + BINNED, {"x": LIGHT}, {"y": ["n", 4]}, Graph(magnitudes="x", output="y")),
        (IMAGES, {"x": FIRST}, {"y": ["n"]}, Graph(images="x", output="y")),
        (IMAGES, {"x": LAST}, {"y": ["n"]}, Graph(images="x", bands_last=True, output="y")),
        (IMAGES, {"x": ["n", "b", "h", "w"]}, {"y": ["n"]}, Graph(images="x", output="y")),
        (
            ALL,
            {"a": FIRST, "b": MORE, "c": LIGHT},
            {"y": ["n"]},
            Graph(images="a", magnitudes="c", columns="b", output="y"),
        ),
        # Names decide where shapes do not.
        (
            ALL,
            {"columns": ["n", "a"], "magnitudes": ["n", "b"], "images": ["n", "b", "h", "w"]},
            {"y": ["n"]},
            Graph(images="images", magnitudes="magnitudes", columns="columns", output="y"),
        ),
        (
            ALL + '[graph]\nimages = "a"\nmagnitudes = "b"\ncolumns = "c"\noutput = "z"\n',
            {"c": ["n", "a"], "b": ["n", "b"], "a": ["n", "b", "h", "w"]},
            {"y": ["n"], "z": ["n"]},
            Graph(images="a", magnitudes="b", columns="c", output="z"),
        ),
        (
            ALL + '[graph]\nimages = "a"\noutput = "z"\n',
            {"a": ["n", "b", "h", "w"], "b": ["n", 3], "c": ["n", 2]},
            {"z": ["n"]},
            Graph(images="a", magnitudes="b", columns="c", output="z"),
        ),
        # What is found already is not looked for again.
        (
            CARD + 'side_px = 0\ncolumns = ["a", "b", "c"]\nmagnitudes = {dereddened = true}\n',
            {"magnitudes": LIGHT, "x": ["n", 3]},
            {"y": ["n"]},
            Graph(magnitudes="magnitudes", columns="x", output="y"),
        ),
    ],
)
def test_which_input_is_which_is_found_by_name_or_shape(
    card: str, inputs: dict[str, Any], outputs: dict[str, Any], found: Graph, tmp_path: Path
) -> None:
    bring(tmp_path, stated(tmp_path / "n.onnx", inputs, outputs), card)

    brought = read_model(tmp_path / "models" / "theirs").card
    assert brought.graph == found
    assert (brought.rows_per_s, brought.num_parameters) == (5.0, 1)


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize(
    ("card", "inputs", "outputs", "said"),
    [
        (
            ALL,
            {"a": FIRST, "b": LIGHT, "c": ["n", "m"]},
            {"y": ["n"]},
            r"magnitudes of shape \(N, 3\) are read; .* reads a \(N, 3, 32, 32\); b \(N, 3\); c \(N, N\)\. Name the",
        ),
        (IMAGES, {"x": ["n", 3, 32, 31]}, {"y": ["n"]}, r"reads x \(N, 3, 32, 31\)\. One of them is wrong\.$"),
        (IMAGES, {"x": ["n", 3, 32]}, {"y": ["n"]}, r"reads x \(N, 3, 32\)\. One of them is wrong\.$"),
        (
            IMAGES + '[graph]\nimages = "no"\noutput = "y"\n',
            {"x": FIRST},
            {"y": ["n"]},
            r"images of shape \(N, 3, 32, 32\) are read; .* One of them is wrong\.$",
        ),
        (IMAGES, {"x": FIRST, "t": ["n", 7], "s": []}, {"y": ["n"]}, "network also reads t, s, of which the card says"),
        (IMAGES, {"x": [4, 3, 32, 32]}, {"y": ["n"]}, "takes a fixed number of galaxies at a time"),
        (IMAGES, {"x": FIRST}, {"y": ["n"], "z": ["n"]}, "The network gives y, z: name the one to read as `output`"),
        (
            IMAGES + '[graph]\noutput = "x"\n',
            {"x": FIRST},
            {"y": ["n"], "z": ["n"]},
            "The network gives y, z: name the one to read",
        ),
        (IMAGES, {"x": FIRST}, {"y": ["n", 2]}, r"gives 1 numbers per galaxy; its output y has the shape \(N, 2\)"),
        (IMAGES + BINNED, {"x": FIRST}, {"y": ["n"]}, r"gives 4 numbers per galaxy; its output y has the shape \(N\)"),
        (IMAGES.replace("32", "8"), {"x": FIRST}, {"y": ["n"]}, "cutouts of 8 pixels; 16 to 128 are read"),
    ],
)
def test_a_graph_that_is_not_that_of_the_card_is_refused(
    card: str, inputs: dict[str, Any], outputs: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        bring(tmp_path, stated(tmp_path / "n.onnx", inputs, outputs), card)

    assert list((tmp_path / "models").glob("*")) == []


@pytest.mark.usefixtures("untried")
def test_what_the_card_says_comes_into_the_folder(tmp_path: Path) -> None:
    said = 'max_extinction_r = 0.3\nmin_pixel = -5.0\n[knowledge]\ndescription = "Ours."\nnot_for = ["Stars."]\n'
    head, _, tail = said.partition("[")

    bring(tmp_path, linear(tmp_path / "n.onnx", np.zeros((5, 1))), head + MAGNITUDES_CARD + "[" + tail)

    card = read_model(tmp_path / "models" / "theirs").card
    assert (card.max_extinction_r, card.min_pixel, card.knowledge.not_for) == (0.3, -5.0, ("Stars.",))
    assert card.weights_sha256 == file_sha256(tmp_path / "models" / "theirs" / "network.onnx")
    assert "Ours." in (tmp_path / "models" / "theirs" / "CARD.md").read_text()


@pytest.mark.usefixtures("untried")
def test_weights_are_not_inputs_and_all_are_counted(tmp_path: Path) -> None:
    file = linear(tmp_path / "n.onnx", np.zeros((5, 1)))
    network = onnx.load(file)
    network.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 3, 4), np.float32), "unused"))
    network.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [5, 1]))
    onnx.save(network, file)

    bring(tmp_path, file)

    assert read_model(tmp_path / "models" / "theirs").card.num_parameters == 5 + 2 * 3 * 4


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize(
    ("name", "file", "card", "said"),
    [
        ("", "n.onnx", "card.toml", r"^FILE=.*n\.onnx needs a NAME for the model, as in NAME=theirs\.$"),
        ("theirs", "n.onnx", "", r"needs a CARD that says what the network reads and gives"),
        ("theirs", "n.onnx", "gone.toml", r"^CARD=.*gone\.toml"),
        ("theirs", "folder.onnx", "card.toml", r"folder\.onnx: there is no such file"),
        *(("theirs", f"n{ending}", "card.toml", "is a pickle, which runs code") for ending in importing.PICKLES),
    ],
)
def test_what_is_missing_is_asked_for(name: str, file: str, card: str, said: str, tmp_path: Path) -> None:
    linear(tmp_path / "n.onnx", np.zeros((5, 1)))
    (tmp_path / "folder.onnx").mkdir()
    for ending in importing.PICKLES:
        (tmp_path / f"n{ending}").touch()
    (tmp_path / "card.toml").write_text(MAGNITUDES_CARD)

    with pytest.raises(UsageError, match=said):
        import_model(str(tmp_path / file), name, str(tmp_path / card) if card else "", root=tmp_path)


@pytest.mark.usefixtures("untried")
def test_a_graph_that_is_none_and_weights_outside_of_its_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = graph_of([helper.make_node("MatMul", ["magnitudes", "nothing"], ["out"])], tmp_path / "b.onnx")
    with pytest.raises(UsageError, match=r"b\.onnx is no network as ONNX: [^\n]*[^.]\.$"):
        bring(tmp_path, broken)

    file = linear(tmp_path / "n.onnx", np.zeros((5, 1)))
    onnx.save(onnx.load(file), file, save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(UsageError, match=r"n\.onnx: its weights in w\.bin cannot be read: .*[^.]\.$"):
        bring(tmp_path, file)

    monkeypatch.setattr(importing, "MAX_BYTES", 50)
    with pytest.raises(UsageError, match=r"has 0\.0 GB of weights; a model has at most 2 GB"):
        bring(tmp_path, linear(tmp_path / "l.onnx", np.zeros((5, 1))))


@pytest.mark.parametrize(
    ("status", "out", "err", "said"),
    [
        (1, "", "a\nlast words\n", "The network ended the process that tried it, with status 1: last words"),
        (-11, '{"rows_per_s": 1}', "", "with status -11: it printed nothing"),
        (0, "", "", "with status 0: it printed nothing"),
        (0, 'noise\n{"problem": "it is odd"}\n', "", "^The network was tried on galaxies: it is odd$"),
    ],
)
def test_how_a_network_ended_its_trial_is_told(
    status: int, out: str, err: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess([], status, out, err)
    monkeypatch.setattr(importing.subprocess, "run", lambda *_, **__: done)

    with pytest.raises(CommandError, match=said):
        bring(tmp_path, linear(tmp_path / "n.onnx", np.zeros((5, 1))))


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
