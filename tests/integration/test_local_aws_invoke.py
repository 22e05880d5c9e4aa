"""`make invoke`: one handler through the Lambda runtime."""

import os
import subprocess
from pathlib import Path

import pytest

from scripts.command.repository import REPOSITORY
from tests.commands import run_command


def invoke(function: str, event: str | Path) -> subprocess.CompletedProcess[str]:
    return run_command("invoke", cwd=REPOSITORY, env={**os.environ, "FUNCTION": function, "EVENT": str(event)})


def test_a_handler_that_refuses_its_event_ends_with_status_1(tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text('{"nonsense": true}')

    done = invoke("infer", event)

    assert done.returncode == 1
    assert '"errorType": "InvalidRequestError"' in done.stdout
    assert "REPORT RequestId" in done.stderr


@pytest.mark.parametrize(
    ("function", "content", "complaint"),
    [
        ("nobody", "{}", "initialize, infer, summarize"),
        ("infer", None, "no such file"),
        ("infer", "{", "is not JSON"),
        ("infer", "[]", "no JSON object"),
        ("infer", '{"bucket": "elsewhere"}', "'elsewhere' does not exist"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_one_line(
    tmp_path: Path, function: str, content: str | None, complaint: str
) -> None:
    event = tmp_path / "event.json"
    if content is not None:
        event.write_text(content)

    done = invoke(function, event)

    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1
