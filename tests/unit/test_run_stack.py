import json
import os
from pathlib import Path
from typing import Any

import pytest

from scripts.deployment.account import Account, check_owner, other_region
from scripts.deployment.stack import Stack, StackError, has_applied, read_stack
from scripts.deployment.stages import function_variables, read_stages
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
    assert (stack.rates.ephemeral_mb["infer"], stack.rates.architecture, stack.rates.child_type) == (
        512,
        "x86_64",
        "STANDARD",
    )


def test_what_is_deployed_decides_the_price(tmp_path: Path) -> None:
    stages = {"infer": {"memory_mb": 3008, "timeout_s": 900, "ephemeral_mb": 1024}}
    changes = {"stages": stages, "architecture": "arm64", "map_child_type": "EXPRESS"}

    rates = read_stack(tmp_path, outputs=write_outputs(tmp_path, **changes)).rates

    assert (rates.memory_mb, rates.ephemeral_mb) == ({"infer": 3008}, {"infer": 1024})
    assert (rates.architecture, rates.child_type) == ("arm64", "EXPRESS")


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
    with pytest.raises(
        StackError, match=r"^OUTPUTS=.*outputs\.json is not of this .*`bucket`.*`make apply` brings it up to date"
    ):
        read_stack(tmp_path, outputs=write_outputs(tmp_path, bucket=None))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"OUTPUTS=.*nothing\.json cannot be read"):
        read_stack(tmp_path, outputs=str(tmp_path / "nothing.json"))


STATE = "terraform.tfstate"
APPLIED = {"outputs": {"state_machine_arn": {"value": "arn"}}}


@pytest.mark.parametrize(
    ("files", "is_applied"),
    [
        ({}, False),
        ({STATE: APPLIED}, True),
        ({STATE: {"outputs": {"repository_url": {"value": "made first"}}}}, False),
        ({STATE: {"outputs": None}}, False),
        ({STATE: "no JSON"}, False),
        ({STATE: ["no state"]}, False),
        ({f".terraform/{STATE}": {"backend": {"type": "s3"}}}, True),
        ({f".terraform/{STATE}": {"backend": {"type": "local"}}}, False),
        ({f".terraform/{STATE}": {"backend": None}, STATE: APPLIED}, True),
        ({".terraform/environment": "survey\n", STATE: APPLIED}, False),
        ({".terraform/environment": "survey\n", f"{STATE}.d/survey/{STATE}": APPLIED}, True),
        ({".terraform/environment": "default", STATE: APPLIED}, True),
    ],
    ids=str,
)
def test_what_was_applied_here_shows_in_terraforms_files(
    files: dict[str, Any], is_applied: bool, tmp_path: Path
) -> None:
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    assert has_applied(tmp_path) is is_applied


def test_functions_are_told_what_they_run_in() -> None:
    there = {"code_version": "1.2.3", "image_digest": "sha256:0"}

    few = function_variables({"summarize": {}}, **there, max_concurrency=5)
    alone = function_variables(read_stages(), **there, model=Path("/"))
    together = function_variables(read_stages(), **there, max_concurrency=5, rendezvous="meet.example.org:10000")

    infer = read_stages()["infer"]
    assert few == {"CODE_VERSION": "1.2.3", "IMAGE_DIGEST": "sha256:0"}
    limits = {"INFER_MEMORY_MB": str(infer["memory_mb"]), "INFER_TIMEOUT_S": str(infer["timeout_s"])}
    assert alone == {**few, **limits, "INFER_QUALIFIER": "$LATEST", "MODEL_FOLDER": "/"}
    assert together == {
        **few,
        **limits,
        "INFER_QUALIFIER": "$LATEST",
        "INFER_MAX_CONCURRENCY": "5",
        "INFER_STARTS_PER_S": "100",
        "RENDEZVOUS_ENDPOINT": "meet.example.org:10000",
    }


def test_an_account_has_one_client_of_each_service_in_its_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    account = Account("eu-west-1")

    assert account.client("s3") is account.client("s3")
    assert (account.region, account.client("lambda").meta.region_name) == ("eu-west-1", "eu-west-1")
    assert Account().region == "us-east-1"


def test_aws_is_asked_again_by_as_many_threads_as_ask_and_not_waited_for_where_nobody_answers() -> None:
    config = Account("eu-west-1").client("s3").meta.config

    assert config.retries["total_max_attempts"] > 3
    assert config.max_pool_connections > 10
    assert config.connect_timeout < 10


def make_stack(tmp_path: Path) -> Stack:
    return read_stack(tmp_path, outputs=write_outputs(tmp_path))


def test_credentials_of_another_account_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"account 1, the stack redshift to 123456789012\. Set AWS_PROFILE"):
        check_owner(make_stack(tmp_path), "1")


def test_credentials_of_the_stacks_account_are_welcome(tmp_path: Path) -> None:
    check_owner(make_stack(tmp_path), "123456789012")


def test_another_region_in_the_environment_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert other_region(make_stack(tmp_path)) == "AWS_REGION=eu-west-1 is not where the stack is: us-east-1 is used."

    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert other_region(make_stack(tmp_path)) == ""
