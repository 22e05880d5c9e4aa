"""A graph that tests keep is taken again only for what it was made from, and only whole."""

from pathlib import Path

import pytest

from tests import kept_graph
from tests.kept_graph import origin_sha256, write_graph_once


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The targets of all exports, each of which writes what the checkpoint holds."""
    done: list[Path] = []

    def write_graph(model: object, checkpoint: Path, target: Path) -> None:
        done.append(target)
        target.write_bytes(checkpoint.read_bytes())

    monkeypatch.setattr(kept_graph, "write_graph", write_graph)
    return done


def write(tmp_path: Path, name: str, weights: bytes = b"weights") -> bytes:
    checkpoint = tmp_path / "weights.safetensors"
    checkpoint.write_bytes(weights)
    write_graph_once(None, checkpoint, tmp_path / name, folder=tmp_path / "kept")
    return (tmp_path / name).read_bytes()


def test_the_same_weights_are_exported_once(tmp_path: Path, exports: list[Path]) -> None:
    assert write(tmp_path, "first") == write(tmp_path, "second") == b"weights"
    assert exports == [tmp_path / "first"]


def test_other_weights_are_exported_anew(tmp_path: Path, exports: list[Path]) -> None:
    write(tmp_path, "first")

    assert write(tmp_path, "second", b"others") == b"others"
    assert len(exports) == 2


def test_a_damaged_graph_is_exported_anew(tmp_path: Path, exports: list[Path]) -> None:
    write(tmp_path, "first")
    (kept,) = (tmp_path / "kept").glob("*.onnx")
    kept.write_bytes(b"weight")

    assert write(tmp_path, "second") == b"weights"
    assert len(exports) == 2


@pytest.mark.parametrize("changed", ["inference/model/network.py", "scripts/models/export/graph.py"])
def test_other_code_is_another_origin(tmp_path: Path, changed: str) -> None:
    checkpoint = tmp_path / "weights.safetensors"
    checkpoint.write_bytes(b"")
    before = origin_sha256(checkpoint, tmp_path)
    (tmp_path / changed).parent.mkdir(parents=True)
    (tmp_path / changed).write_text("")

    assert origin_sha256(checkpoint, tmp_path) != before


def test_other_libraries_are_another_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tmp_path / "weights.safetensors"
    checkpoint.write_bytes(b"")
    before = origin_sha256(checkpoint, tmp_path)
    monkeypatch.setattr(kept_graph.metadata, "distributions", list)

    assert origin_sha256(checkpoint, tmp_path) != before


def test_only_the_newest_are_kept(tmp_path: Path, exports: list[Path]) -> None:
    for number in range(kept_graph.NUM_KEPT + 2):
        write(tmp_path, "graph", bytes([number]))

    assert len(list((tmp_path / "kept").iterdir())) == kept_graph.NUM_KEPT
