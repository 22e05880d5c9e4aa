import json
import os
from pathlib import Path
from typing import Any

import pytest

from scripts.deployment.account import check_owner, other_region
from scripts.deployment.stack import Stack, StackError, read_stack
from scripts.runs.execution import execution_arn

STAGES = {name: {"memory_mb": 1769, "timeout_s": 900} for name in ("initialize", "infer", "summarize")}
VALUES: dict[str, Any] = {
    "name": "redshift",
    "region": "us-east-1",
    "account_id": "123456789012",
    "bucket": "redshift-data",
    "state_machine_arn": "arn:aws:states:us-east-1:123456789012:stateMachine:redshift",
    "function_names": {stage: f"redshift-{stage}" for stage in STAGES},
    "stages": STAGES,
    "max_concurrency": 1000,
}


def write_outputs(folder: Path, **changes: Any) -> str:
    values = {**VALUES, **changes}
    path = folder / "outputs.json"
    path.write_text(json.dumps({name: {"sensitive": False, "value": value} for name, value in values.items()}))
    return str(path)


def fake_terraform(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "bin" / "terraform"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def test_a_stack_is_read_from_a_file_of_outputs(tmp_path: Path) -> None:
    stack = read_stack(tmp_path, outputs=write_outputs(tmp_path, data_bucket=None, image_uri=None, dashboard_url="u"))

    assert (
        execution_arn(stack.state_machine_arn, "run-a")
        == "arn:aws:states:us-east-1:123456789012:execution:redshift:run-a"
    )
    assert (stack.architecture, stack.data_bucket) == ("x86_64", None)
    assert stack.rates.memory_mb["infer"] == 1769


def test_an_output_that_is_not_used_here_does_no_harm(tmp_path: Path) -> None:
    assert read_stack(tmp_path, outputs=write_outputs(tmp_path, alarm_topic_arn="arn", stages=dict(STAGES))).name


def test_terraform_is_asked_for_its_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = write_outputs(tmp_path)
    fake_terraform(tmp_path, f'[ "$2 $3" = "output -json" ] && cat {outputs}', monkeypatch)

    assert read_stack(tmp_path).bucket == "redshift-data"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo '╷\n│ Error: no credentials\n╵' >&2; exit 1",
            "terraform output failed: Error: no credentials. Without it, OUTPUTS=file.json",
        ),
        ("echo '{}'", "the stack is not deployed"),
        ("echo 'not JSON'", "does not hold what `terraform output -json` prints"),
    ],
    ids=["failed", "nothing applied", "no JSON"],
)
def test_what_terraform_says_instead_is_told_in_one_line(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_terraform(tmp_path, script, monkeypatch)

    with pytest.raises(StackError) as refused:
        read_stack(tmp_path)

    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_terraform_the_message_says_how_to_do_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(StackError, match=r"terraform is not installed.*OUTPUTS=file\.json"):
        read_stack(tmp_path)


def test_outputs_of_another_version_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"`bucket`.*`make apply` brings it up to date"):
        read_stack(tmp_path, outputs=write_outputs(tmp_path, bucket=None))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"OUTPUTS=.*nothing\.json cannot be read"):
        read_stack(tmp_path, outputs=str(tmp_path / "nothing.json"))


def make_stack(tmp_path: Path) -> Stack:
    return read_stack(tmp_path, outputs=write_outputs(tmp_path))


def test_credentials_of_another_account_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"account 1, the stack redshift to 123456789012\. Set AWS_PROFILE"):
        check_owner(make_stack(tmp_path), "1")


def test_another_region_in_the_environment_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert other_region(make_stack(tmp_path)) == "AWS_REGION=eu-west-1 is not where the stack is: us-east-1 is used."

    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert other_region(make_stack(tmp_path)) == ""
