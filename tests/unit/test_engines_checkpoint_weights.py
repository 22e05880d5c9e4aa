"""An exported graph reads from the checkpoint what is there, bit for bit, and keeps what is not."""

import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from torch import Tensor, nn

from inference.model.astromae import WIDTH
from scripts.models.export import graph
from scripts.models.export.checkpoint_weights import SMALLEST_BYTES, forget_origin, refer_to_checkpoint

Arrays = dict[str, NDArray[np.generic]]
QUERY_SCALE = np.float64(np.float32((WIDTH // 6) ** -0.5))


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float16]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float16)


def make_checkpoint(folder: Path) -> tuple[Path, Arrays]:
    tensors = {
        "final.0.weight": numbers(64, WIDTH),
        "final.0.bias": numbers(64, seed=1),
        "encoder.blocks.3.mlp.0.weight": numbers(768, WIDTH, seed=2),
        "encoder.blocks.3.norm2.weight": numbers(WIDTH, seed=3),
        "encoder.blocks.11.attention.qkv.weight": numbers(3 * WIDTH, WIDTH, seed=4),
        "encoder.blocks.11.norm1.weight": numbers(WIDTH, seed=5),
    }
    save_file(tensors, folder / "astromae.safetensors")
    return folder / "astromae.safetensors", tensors


def make_graph(weights: Arrays) -> onnx.ModelProto:
    """Return a graph whose outputs are its weights."""
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    nodes = [helper.make_node("Identity", [name], [f"{name}.out"]) for name in weights]
    outputs = [helper.make_tensor_value_info(f"{name}.out", TensorProto.FLOAT, None) for name in weights]
    graph = helper.make_graph(nodes, "weights", [], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def folded(tensors: Arrays) -> Arrays:
    """Return the weights as `inference.engines.folded` folds them."""
    doubles = {name: value.astype(np.float64) for name, value in tensors.items()}
    expand = doubles["encoder.blocks.3.mlp.0.weight"] * doubles["encoder.blocks.3.norm2.weight"]
    qkv = doubles["encoder.blocks.11.attention.qkv.weight"] * doubles["encoder.blocks.11.norm1.weight"]
    return {
        "final.0.weight": tensors["final.0.weight"].astype(np.float32),
        "encoder.blocks.3.expand.weight": expand.astype(np.float32),
        "encoder.last.attention.query.weight": (qkv[:WIDTH] * QUERY_SCALE).astype(np.float32),
        "encoder.last.attention.key.weight": qkv[WIDTH : 2 * WIDTH].astype(np.float32),
        "encoder.last.attention.value.weight": qkv[2 * WIDTH :].astype(np.float32),
    }


def compute(model: onnx.ModelProto, folder: Path) -> Arrays:
    """Write a graph next to its checkpoint and return what an engine makes of it."""
    (folder / "graph.onnx").write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(folder / "graph.onnx", providers=["CPUExecutionProvider"])
    names = [output.name.removesuffix(".out") for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {}), strict=True))


def held(model: onnx.ModelProto) -> set[str]:
    """Return the weights whose numbers are in the graph itself."""
    inside = {weight.name for weight in model.graph.initializer if weight.data_location != TensorProto.EXTERNAL}
    return {name for name in inside if not name.endswith(".number")}


def test_what_the_checkpoint_gives_is_read_there_bit_for_bit(tmp_path: Path) -> None:
    path, tensors = make_checkpoint(tmp_path)
    model = make_graph(folded(tensors))

    refer_to_checkpoint(model, path)

    found = compute(model, tmp_path)
    assert held(model) == set()
    for name, value in folded(tensors).items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("name", ["final.0.weight", "encoder.blocks.3.expand.weight"])
def test_a_weight_that_differs_in_its_last_bit_stays_in_the_graph(tmp_path: Path, name: str) -> None:
    path, tensors = make_checkpoint(tmp_path)
    weights = folded(tensors)
    weights[name].flat[7] = np.nextafter(weights[name].flat[7], np.float32(9))
    model = make_graph(weights)

    refer_to_checkpoint(model, path)

    assert held(model) == {name}
    np.testing.assert_array_equal(compute(model, tmp_path)[name], weights[name])


def test_small_tensors_stay_in_the_graph(tmp_path: Path) -> None:
    path, tensors = make_checkpoint(tmp_path)
    small = {"final.0.bias": tensors["final.0.bias"].astype(np.float32)}
    model = make_graph(small)

    refer_to_checkpoint(model, path)

    assert small["final.0.bias"].nbytes < SMALLEST_BYTES
    assert held(model) == {"final.0.bias"}


def test_the_graph_forgets_where_it_was_made() -> None:
    model = make_graph({"a": np.zeros(3, np.float32)})
    model.graph.node[0].metadata_props.add(key="stack_trace", value="/home/someone/folded.py")
    model.graph.node[0].doc_string = "/home/someone"

    forget_origin(model)

    assert b"someone" not in model.SerializeToString()


def test_a_graph_that_an_optimizer_wrote_is_read_by_the_engine_too(tmp_path: Path) -> None:
    tensor = numbers(64, WIDTH).astype(np.float32)
    save_file({"magnitude_branch.0.weight": tensor}, tmp_path / "astromae.safetensors")
    # Of a tensor in float32 an optimizer takes the cast away: what is left has the tensor's own name.
    model = make_graph({"checkpoint.magnitude_branch.0.weight": tensor})

    refer_to_checkpoint(model, tmp_path / "astromae.safetensors")

    (found,) = compute(model, tmp_path).values()
    np.testing.assert_array_equal(found, tensor)
    assert not held(model)


class Folded(nn.Module):
    """In place of the network, whose export takes a minute: one weight that the checkpoint has."""

    def __init__(self, model: nn.Linear) -> None:
        super().__init__()
        self.magnitude_branch = nn.Sequential(model)

    def forward(self, images: Tensor, magnitudes: Tensor) -> Tensor:
        return self.magnitude_branch(magnitudes).mean(dim=1) + images.mean(dim=(1, 2, 3))


def test_an_exported_network_takes_any_number_of_galaxies_and_says_nothing_of_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(graph, "FoldedAstroMAE", Folded)
    weight = numbers(1024, 5)
    save_file({"magnitude_branch.0.weight": weight}, tmp_path / "w.safetensors")
    layer = nn.Linear(5, 1024, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.from_numpy(weight))

    graph.write_graph(layer, tmp_path / "w.safetensors", tmp_path / "g.onnx")  # type: ignore[arg-type]

    model = onnx.load(tmp_path / "g.onnx", load_external_data=False)
    assert held(model) & {"magnitude_branch.0.weight"} == set()
    assert str(Path(__file__).parents[2]).encode() not in model.SerializeToString()
    assert (*capfd.readouterr(), [one for one in caplog.records if one.levelno >= logging.INFO]) == ("", "", [])
    session = onnxruntime.InferenceSession(tmp_path / "g.onnx", providers=["CPUExecutionProvider"])
    for num in (1, 7, 300):
        images, magnitudes = np.ones((num, 5, 32, 32), np.float32), numbers(num, 5).astype(np.float32)
        (found,) = session.run(["redshifts"], {"images": images, "magnitudes": magnitudes})
        wanted = 1 + (magnitudes @ weight.astype(np.float32).T).mean(axis=1)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
