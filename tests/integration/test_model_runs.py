"""Models of one's own run through the whole state machine, under their names."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from inference.models import shipped
from inference.models.card import encode_card
from tests.integration.test_run import make_dataset, run, run_folder


def copy_of_the_shipped(root: Path, name: str) -> Path:
    """The same files under another name."""
    folder = root / "models" / name
    shutil.copytree(shipped().folder, folder)
    (folder / "card.json").write_bytes(encode_card(msgspec.structs.replace(shipped().card, name=name)))
    return folder


def test_a_run_predicts_with_the_model_that_is_named(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    copy_of_the_shipped(tmp_path, "mine")

    done = run(tmp_path, MODEL="mine", WORLD="2")

    assert done.returncode == 0, done.stderr
    summary = json.loads((run_folder(tmp_path) / "summary.json").read_text())
    assert "model mine (9edea121fb2f)" in done.stderr
    assert summary["models"] == ["mine"]
    assert (summary["request"]["model"], summary["request"]["model_sha256"]) == ("mine", shipped().card.weights_sha256)


def test_a_request_for_another_model_than_is_deployed_is_refused_in_a_line(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    (tmp_path / "request.json").write_text('{"bucket": "b", "model": "astromae", "model_sha256": "%s"}' % ("b" * 64))

    done = run(tmp_path, PAYLOAD="request.json")

    assert done.returncode == 1
    assert "ModelError: The request is for the model astromae (bbbbbbbbbbbb); deployed is astromae (9ed" in " ".join(
        done.stdout.split()
    )


@pytest.mark.parametrize("name", ["mime", "a/b"])
def test_a_model_that_is_not_there_starts_nothing(tmp_path: Path, name: str) -> None:
    make_dataset(tmp_path)

    done = run(tmp_path, MODEL=name)

    assert done.returncode == 2
    assert f"MODEL={name}" in done.stderr
    assert not (tmp_path / "runs").exists()
