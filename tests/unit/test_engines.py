"""Which engine computes, what replaces a missing one, and which precision is rejected."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from inference import engines
from inference.checksum import file_sha256
from inference.engines import exported
from inference.engines.exported import Accuracy, Agreement, ExportCard, Rounding
from inference.errors import EngineError, ModelError, WeightsError
from inference.models import Model
from inference.models.card import Graph
from scripts.command.errors import CommandError
from scripts.models.export.judge import compare
from tests.factories import FakeEngine, make_arrays, make_card

ROOT = Path(__file__).parents[2]
AGREED = Agreement(version="1", num_rows=512, max_abs=1e-7, mean_abs=1e-8)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights in name only; loading torch is replaced by saying so."""
    path = tmp_path / "astromae.safetensors"
    path.write_bytes(b"weights")

    class Torch(FakeEngine):
        def __init__(self, _checkpoint: Path, _sha256: str, **settings: object) -> None:
            self.name, self.note, self.settings = "torch 0", settings["note"], settings

    monkeypatch.setitem(sys.modules, "inference.engines.torch", type("module", (), {"TorchEngine": Torch}))
    return path


def put_card(checkpoint: Path, *, graph: bytes | None = b"graph", **changes: object) -> str:
    sha256 = file_sha256(checkpoint)
    card = ExportCard(
        weights_sha256=sha256,
        weights_name=checkpoint.name,
        num_parameters=15_902_889,
        engines={"onnxruntime": AGREED},
        precisions={},
    )
    content = msgspec.json.encode(msgspec.structs.replace(card, **changes))
    exported.card_path(checkpoint, sha256).write_bytes(content)
    if graph is not None:
        exported.graph_path(checkpoint, sha256).write_bytes(graph)
    return sha256


def accuracy(**changes: float | str) -> Accuracy:
    return msgspec.structs.replace(Accuracy(engine="openvino", nmad=0.01, bias=-0.001, outlier_005=0.01), **changes)


def test_torch_replaces_a_missing_graph_and_says_so(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        engine = engines.load("auto", checkpoint, num_threads=1)

    assert engine.name == "torch 0"
    assert "have no exported graph; `make engines` makes it" in str(engine.note)
    assert "engine fell back to torch" in caplog.text
    (record,) = caplog.records
    assert (record.engine, record.reason) == ("auto", engine.note)  # type: ignore[attr-defined]


def test_torch_replaces_an_engine_that_was_never_compared(checkpoint: Path) -> None:
    put_card(checkpoint, engines={})

    assert "onnxruntime was not compared" in str(engines.load("onnxruntime", checkpoint, num_threads=1).note)


def test_torch_replaces_an_engine_that_is_not_installed(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_card(checkpoint)
    monkeypatch.setattr(exported, "find_spec", lambda _name: None)

    assert "openvino is not installed" in str(engines.load("openvino", checkpoint, num_threads=1).note)


def test_an_image_without_torch_says_what_it_lacks(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)

    with pytest.raises(EngineError, match=r"torch is not in this image, and engine native fell back to torch: "):
        engines.load("native", checkpoint, num_threads=1)
    with pytest.raises(EngineError, match=r"torch is not in this image\.$"):
        engines.load("torch", checkpoint, num_threads=1)


@pytest.mark.parametrize("content", [b"{}", b"not JSON"])
def test_torch_replaces_a_graph_whose_card_is_unreadable(checkpoint: Path, content: bytes) -> None:
    sha256 = put_card(checkpoint)
    exported.card_path(checkpoint, sha256).write_bytes(content)

    assert "is not an export card" in str(engines.load("auto", checkpoint, num_threads=1).note)


def test_a_card_without_its_graph_counts_for_nothing(checkpoint: Path) -> None:
    put_card(checkpoint, graph=None)

    assert "has lost its graph" in str(engines.load("auto", checkpoint, num_threads=1).note)


def test_a_graph_that_reads_another_file_counts_for_nothing(checkpoint: Path) -> None:
    put_card(checkpoint, weights_name="other.safetensors")

    assert "reads its weights from other.safetensors" in str(engines.load("auto", checkpoint, num_threads=1).note)


def test_other_weights_never_meet_an_old_graph(checkpoint: Path) -> None:
    put_card(checkpoint)
    checkpoint.write_bytes(b"new weights")

    assert "have no exported graph" in str(engines.load("auto", checkpoint, num_threads=1).note)


def test_torch_asked_for_is_no_replacement(checkpoint: Path) -> None:
    engine = engines.load("torch", checkpoint, num_threads=3)

    assert engine.note is None
    assert (engine.settings["num_threads"], engine.settings["as_published"]) == (3, False)  # type: ignore[attr-defined]


def test_the_profiler_sees_the_published_network(checkpoint: Path) -> None:
    put_card(checkpoint)

    engine = engines.load("onnxruntime", checkpoint, num_threads=1, as_published=True)

    assert engine.settings["as_published"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("precisions", "why"),
    [({}, "was not checked"), ({"bf16": accuracy(rejected="it changes the bias")}, "it changes the bias")],
)
def test_a_precision_is_rejected_unless_it_was_found_accurate(
    checkpoint: Path, precisions: dict[str, Accuracy], why: str
) -> None:
    put_card(checkpoint, precisions=precisions)

    with pytest.raises(EngineError, match=rf"precision bf16 cannot be used: .*{why}.* Use fp32"):
        engines.load("auto", checkpoint, num_threads=1, precision="bf16")


def test_int8_has_a_graph_of_its_own(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OnnxRuntime(FakeEngine):
        def __init__(self, graph: Path, _card: ExportCard, **settings: object) -> None:
            self.note, self.graph, self.precision = None, graph, settings["precision"]

    module = type("module", (), {"OnnxRuntimeEngine": OnnxRuntime})
    monkeypatch.setitem(sys.modules, "inference.engines.onnxruntime", module)
    sha256 = put_card(checkpoint, precisions={"int8": accuracy(engine="onnxruntime")})
    graph = exported.graph_path(checkpoint, sha256, "int8")

    with pytest.raises(EngineError, match=r"precision int8 cannot be used: .*int8\.onnx is missing"):
        engines.load("auto", checkpoint, num_threads=1, precision="int8")
    graph.write_bytes(b"graph")
    engine = engines.load("auto", checkpoint, num_threads=1, precision="int8")

    assert (engine.graph, engine.precision) == (graph, "int8")  # type: ignore[attr-defined]


def test_torch_computes_in_full_precision_only(checkpoint: Path) -> None:
    with pytest.raises(EngineError, match="torch computes in fp32, not int8"):
        engines.load("torch", checkpoint, num_threads=1, precision="int8")
    with pytest.raises(EngineError, match="torch computes in fp32, not bf16"):
        engines.load("auto", checkpoint, num_threads=1, precision="bf16", as_published=True)


def test_a_precision_was_checked_with_one_engine(checkpoint: Path) -> None:
    put_card(checkpoint, precisions={"bf16": accuracy()})

    with pytest.raises(EngineError, match="it was checked with openvino, not with onnxruntime"):
        engines.load("onnxruntime", checkpoint, num_threads=1, precision="bf16")


def test_why_a_precision_will_be_rejected_is_known_where_the_graph_was_checked(checkpoint: Path) -> None:
    weights = {"weights_name": checkpoint.name, "weights_sha256": file_sha256(checkpoint)}
    model = Model(checkpoint.parent, make_card(**weights))
    onnx = Model(checkpoint.parent, make_card(**weights, kind="onnx", graph=Graph(output="z")))
    assert engines.why_rejected(model, "int8") == "", "only the ranks know"

    rounding = Rounding(num_rows=1, ranges={}, shift=0.0, accuracy=accuracy())
    put_card(checkpoint, precisions={"int8": accuracy(rejected="too coarse")})
    assert engines.why_rejected(model, "int8") == "too coarse"
    assert engines.why_rejected(model, "bf16") == engines.NOT_CHECKED
    assert engines.why_rejected(model, "fp32") == engines.why_rejected(onnx, "int8") == ""
    put_card(checkpoint, precisions={"int8": accuracy(rejected="too coarse")}, native_int8=rounding)
    assert engines.why_rejected(model, "int8") == ""
    assert engines.why_rejected(model, "bf16") == engines.NOT_CHECKED
    rejected = msgspec.structs.replace(rounding, accuracy=accuracy(rejected="native is, too"))
    put_card(checkpoint, precisions={"int8": accuracy()}, native_int8=rejected)
    assert engines.why_rejected(model, "int8") == ""


@pytest.mark.parametrize("kind", ["astromae", "onnx"])
def test_weights_of_a_model_that_are_missing_are_named(checkpoint: Path, kind: str) -> None:
    checkpoint.rename(checkpoint.with_name("other"))
    graph = Graph(output="z") if kind == "onnx" else None
    card = make_card(kind=kind, graph=graph, weights_name=checkpoint.name, weights_sha256="b" * 64)

    with pytest.raises(WeightsError, match=rf"{checkpoint.name} does not exist"):
        engines.load_model("auto", Model(checkpoint.parent, card), num_threads=1)


def test_a_model_is_loaded_as_it_was_asked_for_and_by_its_checksum(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}

    def load(name: str, path: Path, **settings: object) -> FakeEngine:
        asked.update(settings, name=name, path=path)
        return FakeEngine()

    monkeypatch.setattr(engines, "load", load)
    model = Model(checkpoint.parent, make_card(weights_name=checkpoint.name, weights_sha256="0" * 64))

    engines.load_model("native", model, num_threads=3, precision="int8", as_published=True)

    assert asked == {
        "name": "native",
        "path": checkpoint,
        "num_threads": 3,
        "precision": "int8",
        "as_published": True,
    }
    other = Model(checkpoint.parent, make_card(weights_name=checkpoint.name, weights_sha256="b" * 64))
    with pytest.raises(ModelError, match="has the checksum 000000000000 and its card says bbbbbbbbbbbb"):
        engines.load_model("auto", other, num_threads=1)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="make train"):
        engines.load("auto", tmp_path / "none.safetensors", num_threads=1)


@pytest.mark.parametrize(
    ("offset", "num_off", "agrees"),
    [
        (0.0, 0, True),
        (0.9e-6, 512, True),
        (1.2e-6, 512, False),
        (-1.2e-6, 512, False),
        (0.9e-4, 1, True),
        (1.2e-4, 1, False),
        (np.nan, 1, False),
    ],
)
def test_an_engine_that_differs_from_torch_is_not_exported(offset: float, num_off: int, agrees: bool) -> None:
    """On average by a millionth, or anywhere by a hundred of them."""
    arrays = make_arrays(512, side=1)
    reference = FakeEngine().predict(arrays["images"], arrays["magnitudes"])
    reference[:num_off] += np.float32(offset)

    if agrees:
        found = compare(FakeEngine(), arrays, reference)
        assert (found.version, found.num_rows) == ("1", 512)
        # Half a unit in the last place of a redshift of 0.2.
        assert found.max_abs == pytest.approx(offset, abs=1e-8)
        assert found.mean_abs == pytest.approx(offset * num_off / 512, abs=1e-8)
    else:
        with pytest.raises(CommandError, match="No graph was left behind"):
            compare(FakeEngine(), arrays, reference)


def test_the_fast_engines_never_import_torch() -> None:
    program = "import sys, json, handlers.infer, inference.engines.onnxruntime; print(json.dumps(sorted(sys.modules)))"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)

    assert not {"torch", "boto3"} & set(json.loads(loaded.stdout))
