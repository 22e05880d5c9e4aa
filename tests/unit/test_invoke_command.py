"""`make invoke`: which events it takes, and what it shows of an answer."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inference.contract import SAMPLE_PREFIX
from scripts import invoke
from scripts.command.program import exit_status
from scripts.local_aws.rie import Answer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Return what is asked of the local AWS, of which the clone refuses and the image answers."""
    asked: list[tuple[object, ...]] = []

    @contextmanager
    def local_aws(**options: object) -> Iterator[str]:
        asked.append(("start", options))
        yield "aws"
        asked.append(("end",))

    def answer(name: str, *answered: Any) -> None:
        monkeypatch.setattr(invoke, name, lambda *given: asked.append((name, *given)) or answered)

    monkeypatch.setattr(invoke, "LocalAws", local_aws)
    monkeypatch.setattr(invoke, "deploy", lambda aws: SimpleNamespace(bucket="redshift-local"))
    answer("upload_sample")
    answer("answer_from_clone", Answer("PlanError", {"errorType": "PlanError"}), "log\nREPORT\n")
    answer("answer_from_image", Answer(None, {"z": 0.1}), "log of the image\n")
    return asked


def run(tmp_path: Path, content: object, **variables: str) -> int:
    path = tmp_path / "event.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return exit_status(invoke.main, {"FUNCTION": "infer", "EVENT": str(path), **variables})


def test_an_answer_and_a_log_go_their_own_ways(
    tmp_path: Path, asked: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, {"bucket": "redshift-local"}, IMAGE="1") == 0
    assert capsys.readouterr() == ('{\n  "z": 0.1\n}\n', "log of the image\n")
    assert asked == [
        ("start", {"log_dir": invoke.LOG_DIR, "workers": 1}),
        ("answer_from_image", "aws", "infer", {"bucket": "redshift-local"}),
        ("end",),
    ]

    assert run(tmp_path, {"bucket": None}) == 1
    assert capsys.readouterr() == ('{\n  "errorType": "PlanError"\n}\n', "log\nREPORT\n")
    assert ("answer_from_clone", "aws", "infer", {"bucket": None}) in asked


@pytest.mark.parametrize(
    ("event", "reads_it"),
    [
        ({"request": {}}, True),
        ({"request": {"data_prefix": "mine/"}}, False),
        ({"request": {"dataset_path": "mine/"}}, False),
        ({"request": "text"}, False),
        ({"request": {"data_prefix": SAMPLE_PREFIX}}, True),
        ({"shards": [{"key": f"/{SAMPLE_PREFIX}0.safetensors"}]}, True),
        ({"keys": ["mine/0", f"{SAMPLE_PREFIX}0"]}, True),
        ({"key": f"mine/{SAMPLE_PREFIX}"}, False),
    ],
)
def test_the_sample_is_there_for_an_event_that_reads_it(
    event: dict[str, Any], reads_it: bool, tmp_path: Path, asked: list[tuple[object, ...]]
) -> None:
    run(tmp_path, event)

    assert (("upload_sample", "aws", "redshift-local") in asked) == reads_it


@pytest.mark.parametrize(
    ("content", "variables", "said"),
    [
        ("{}", {"FUNCTION": "nobody"}, "There is no function 'nobody'. FUNCTION is one of: initialize, infer"),
        ("{}", {"EVENT": ""}, "No event is given: EVENT="),
        ("{", {}, "event.json is not JSON: "),
        ("[]", {}, "event.json holds no JSON object."),
        (
            '{"tasks": [{"data_bucket": "b"}, {"bucket": "a"}]}',
            {},
            "bucket 'a' does not exist here; the local S3 holds",
        ),
        ('{"request": {"bucket_name": 7}}', {}, "bucket '7' does not exist here; the local S3 holds 'redshift-local'"),
    ],
)
def test_an_event_that_cannot_be_read_or_names_another_bucket_is_refused(
    content: str,
    variables: dict[str, str],
    said: str,
    tmp_path: Path,
    asked: list[tuple[object, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(tmp_path, content, **variables) == 2

    assert said in " ".join(capsys.readouterr().err.split())
    assert not [call for call in asked if str(call[0]).startswith("answer")]
