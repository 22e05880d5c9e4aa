"""The libraries that compute an exported graph keep to the vCPUs of their function, and get the pixels they expect."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inference.engines.exported import ExportCard
from inference.engines.network import NetworkEngine, pixels_as, refuse_other
from inference.engines.onnxruntime import OnnxRuntimeEngine
from inference.engines.unavailable import UnavailableError
from inference.errors import EngineError, WeightsError
from inference.models.card import Graph
from inference.predict import MICRO_BATCH
from scripts.models.export import engines as exporting
from tests.factories import make_arrays, make_card

CARD = ExportCard(
    weights_sha256="a" * 64, weights_name="astromae.safetensors", num_parameters=7, engines={}, precisions={}
)
IMAGES, MAGNITUDES = (make_arrays(3)[name] for name in ("images", "magnitudes"))


def write_graph(path: Path, **inputs: tuple[list[int | str], int]) -> Path:
    """Write a network whose output is the sum of each galaxy's numbers, whatever arrays it reads."""
    values = [helper.make_tensor_value_info(name, kind, shape) for name, (shape, kind) in inputs.items()]
    nodes, sums = [], []
    for name in inputs:
        nodes += [
            helper.make_node("Cast", [name], [f"{name}.float"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", [f"{name}.float"], [f"{name}.flat"], axis=1),
            helper.make_node("ReduceSum", [f"{name}.flat", "axes"], [f"{name}.sum"], keepdims=0),
        ]
        sums.append(f"{name}.sum")
    nodes.append(helper.make_node("Sum", sums, ["redshifts"]))
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    output = helper.make_tensor_value_info("redshifts", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph(nodes, "sums", values, [output], [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def exported(folder: Path) -> Path:
    return write_graph(
        folder / "graph.onnx",
        images=(["n", 5, 32, 32], TensorProto.FLOAT),
        magnitudes=(["n", 5], TensorProto.FLOAT),
    )


def sums(*arrays: np.ndarray) -> Any:
    """What `write_graph` computes, as far as float32 goes."""
    return pytest.approx(sum(array.reshape(len(array), -1).sum(axis=1) for array in arrays), rel=1e-4, abs=1e-3)


def test_onnxruntime_takes_the_threads_it_is_given_and_does_not_spin(tmp_path: Path) -> None:
    engine = OnnxRuntimeEngine(exported(tmp_path), CARD, num_threads=2)

    options = engine._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.use_device_allocator_for_initializers") == "1"
    assert engine._session.get_providers() == ["CPUExecutionProvider"]
    assert engine.name.startswith("onnxruntime ")
    assert (engine.num_threads, engine.precision, engine.weights_sha256) == (2, "fp32", "a" * 64)
    assert (engine.num_parameters, engine.micro_batch) == (7, MICRO_BATCH)
    # Bands that were picked lie elsewhere in memory.
    found = engine.predict(IMAGES[:, ::-1], MAGNITUDES[:, ::-1])
    assert found == sums(IMAGES, MAGNITUDES)
    assert found.dtype == np.float32


def test_openvino_takes_the_threads_it_is_given_and_leaves_the_cores_to_the_system(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    from inference.engines.openvino import OpenVinoEngine

    engine = OpenVinoEngine(exported(tmp_path), CARD, num_threads=2)

    compiled = engine._request.get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 2
    assert compiled.get_property("NUM_STREAMS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert engine.name.startswith("openvino ")
    assert "-" not in engine.name
    assert (engine.num_threads, engine.precision, engine.weights_sha256) == (2, "fp32", "a" * 64)
    assert (engine.num_parameters, engine.micro_batch) == (7, MICRO_BATCH)
    found = engine.predict(IMAGES[:, ::-1], MAGNITUDES[:, ::-1])
    assert found == sums(IMAGES, MAGNITUDES)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "precision"), [("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("openvino", "fp32")]
)
def test_an_export_compares_and_judges_on_one_thread(name: str, precision: str, tmp_path: Path) -> None:
    pytest.importorskip(name)

    engine = exporting._open(name, exported(tmp_path), CARD, precision)

    assert engine.name.startswith(f"{name} ")
    assert (engine.num_threads, engine.precision) == (1, precision)
    assert engine.predict(IMAGES, MAGNITUDES) == sums(IMAGES, MAGNITUDES)


@pytest.mark.parametrize(("capabilities", "computes"), [(["FP32", "BF16"], True), (["FP32"], False)])
def test_openvino_computes_in_bf16_where_the_cpu_does(
    capabilities: list[str], computes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino")
    from inference.engines.openvino import OpenVinoEngine

    core = openvino.Core

    class Core:
        """Of a CPU with these capabilities."""

        get_property = staticmethod(lambda *_: capabilities)
        compile_model = staticmethod(lambda *arguments: core().compile_model(*arguments))

    graph = exported(tmp_path)
    monkeypatch.setattr(openvino, "Core", Core)

    if computes:
        assert OpenVinoEngine(graph, CARD, num_threads=1, precision="bf16").precision == "bf16"
    else:
        with pytest.raises(UnavailableError, match="this CPU does not compute in bf16"):
            OpenVinoEngine(graph, CARD, num_threads=1, precision="bf16")
    OpenVinoEngine(graph, CARD, num_threads=1)


# ------------------------------------------------------------------------------------ networks of any origin


@pytest.mark.parametrize(
    ("unit", "factor"), [("nanomaggy", 1.0), ("maggy", 1e-9), ("nJy", 3631.0), ("Jy", 3631e-9), ("uJy", 3.631)]
)
def test_pixels_are_converted_to_the_unit_that_a_network_expects(unit: str, factor: float) -> None:
    inputs = msgspec.structs.replace(make_card().inputs, pixel_unit=unit)
    softened = msgspec.structs.replace(inputs, stretch="asinh", softening=(1.0, 2.0, 3.0, 4.0, 5.0))

    np.testing.assert_allclose(pixels_as(inputs)(IMAGES), IMAGES * factor, rtol=1e-3)
    softening = np.arange(1, 6)[:, None, None]
    np.testing.assert_allclose(pixels_as(softened)(IMAGES), np.arcsinh(IMAGES * factor / softening), rtol=1e-3)


def test_nanomaggies_that_are_not_stretched_are_not_copied() -> None:
    assert pixels_as(make_card().inputs)(IMAGES) is IMAGES


def test_a_network_is_given_the_arrays_of_its_card_in_their_types(tmp_path: Path) -> None:
    path = write_graph(
        tmp_path / "any.onnx",
        pixels=(["n", 32, 32, 5], TensorProto.FLOAT16),
        light=(["n", 5], TensorProto.DOUBLE),
        more=(["n", 2], TensorProto.FLOAT),
    )
    graph = Graph(images="pixels", bands_last=True, magnitudes="light", columns="more", output="redshifts")
    columns = np.arange(6.0).reshape(3, 2)

    engine = NetworkEngine(path, make_card(kind="onnx", graph=graph), "b" * 64, num_threads=2)

    assert engine.predict(IMAGES, MAGNITUDES, columns).tolist() == pytest.approx(
        (IMAGES.sum(axis=(1, 2, 3)) + MAGNITUDES.sum(axis=1) + columns.sum(axis=1)).tolist(), rel=1e-2, abs=0.5
    )
    assert engine._session.get_session_options().intra_op_num_threads == 2
    assert (engine.num_threads, engine.weights_sha256, engine.micro_batch) == (2, "b" * 64, MICRO_BATCH)
    assert engine.name.startswith("onnxruntime ")
    assert engine.num_parameters == make_card().num_parameters


def test_a_file_that_is_no_network_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "any.onnx"
    path.write_bytes(b"no graph")

    with pytest.raises(WeightsError, match=r"any\.onnx cannot be loaded: \S"):
        NetworkEngine(path, make_card(kind="onnx", graph=Graph(output="z")), "b" * 64, num_threads=1)


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("torch", {}, "engine torch is for weights of AstroMAE; the model mine"),
        ("auto", {"precision": "int8"}, "precision int8 is for weights of AstroMAE"),
        ("auto", {"as_published": True}, "PROFILE=1 is for weights of AstroMAE"),
    ],
)
def test_what_is_for_astromae_alone_is_refused_for_other_networks(
    name: str, asked: dict[str, Any], message: str
) -> None:
    for usual in ("auto", "onnxruntime"):
        refuse_other(usual, make_card(name="mine"), precision="fp32", as_published=False)

    with pytest.raises(EngineError, match=message):
        refuse_other(name, make_card(name="mine"), **{"precision": "fp32", "as_published": False, **asked})
