"""A graph that tests keep is taken again only for what it was made from, and only whole."""

import re
import shutil
from pathlib import Path

import pytest

from scripts.command.repository import REPOSITORY
from tests import kept_graph
from tests.kept_graph import SOURCES, origin_sha256, write_graph_once


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


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A clone with nothing but what a graph is made from, and weights."""
    for source in SOURCES:
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / source, tmp_path / source)
    (tmp_path / "weights.safetensors").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize("changed", SOURCES)
def test_other_code_is_another_origin(copied: Path, changed: str) -> None:
    before = origin_sha256(copied / "weights.safetensors", copied)
    with (copied / changed).open("a") as file:
        file.write("\n")

    assert origin_sha256(copied / "weights.safetensors", copied) != before


def test_other_libraries_are_another_origin(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = origin_sha256(copied / "weights.safetensors", copied)
    monkeypatch.setattr(kept_graph.metadata, "distributions", list)

    assert origin_sha256(copied / "weights.safetensors", copied) != before


def test_nothing_else_of_ours_makes_a_graph() -> None:
    imported = set().union(*(ours_in(REPOSITORY / source) for source in SOURCES))

    # Errors, a number that is in the origin by itself, and the type of another network.
    others = {"inference.errors", "inference.predict", "scripts.models.training.magnitudes"}
    assert imported - {source.removesuffix(".py").replace("/", ".") for source in SOURCES} == others


def ours_in(path: Path) -> set[str]:
    return set(re.findall(r"^ *from ((?:inference|scripts)[\w.]*) import", path.read_text(), re.MULTILINE))


def test_only_the_newest_are_kept(tmp_path: Path, exports: list[Path]) -> None:
    for number in range(kept_graph.NUM_KEPT + 2):
        write(tmp_path, "graph", bytes([number]))

    assert len(list((tmp_path / "kept").iterdir())) == kept_graph.NUM_KEPT
