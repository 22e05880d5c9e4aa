"""What Terraform makes on AWS, made here: the functions of the stages, and the state machine's placeholders."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from scripts.local_aws import deploy as module
from scripts.local_aws.deploy import DEFINITION_PATH, deploy, make_role, render_definition, upload_sample

VALUES = {"initialize_arn": "arn:i", "infer_arn": "arn:f", "summarize_arn": "arn:s"}


def test_a_placeholder_is_replaced_quotes_included() -> None:
    assert render_definition('{"a": "${n}", "b": "${arn}"}', {"n": 3, "arn": "x"}) == '{"a": 3, "b": "x"}'


def test_a_value_is_written_as_json() -> None:
    assert json.loads(render_definition('["${text}"]', {"text": 'a "quoted" \\ one'})) == ['a "quoted" \\ one']


@pytest.mark.parametrize("values", [{}, {"n": 1, "m": 2}], ids=["missing", "unknown"])
def test_values_that_do_not_match_the_placeholders_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(KeyError, match="without"):
        render_definition('["${n}"]', values)


def test_the_definition_of_the_repository_is_valid_json_before_and_after() -> None:
    text = DEFINITION_PATH.read_text()

    rendered = json.loads(render_definition(text, VALUES))

    assert json.loads(text).keys() == rendered.keys()
    assert rendered["States"]["Initialize"]["Parameters"]["FunctionName"] == "arn:i"


AWS: Any = SimpleNamespace(credentials={"region_name": "us-east-1"}, workers=4)
STAGES = {
    "infer": {"handler": "handlers.infer.handler", "memory_mb": 300, "timeout_s": 7, "ephemeral_mb": 600},
    "summarize": {"handler": "handlers.summarize.handler", "memory_mb": 128, "timeout_s": 3, "ephemeral_mb": 512},
}
ONE_STATE = '{"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "${infer_arn}", "End": true}}}'
BOTH = ONE_STATE.replace('"Type"', '"Comment": "${summarize_arn}", "Type"')


@pytest.fixture
def mocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let moto answer, and only who asks with the credentials of the local AWS."""

    def new_client(service: str, **given: str) -> Any:
        assert given == AWS.credentials
        return boto3.client(service, **given)

    monkeypatch.setattr(module, "new_client", new_client)
    with mock_aws():
        yield


@pytest.mark.usefixtures("mocked")
def test_every_stage_becomes_a_function_with_its_limits_and_the_state_machine_names_them(tmp_path: Path) -> None:
    made = deploy(
        AWS,
        bucket="mine",
        code_version="abc",
        rendezvous="127.0.0.1:9",
        stages=STAGES,
        definition=BOTH,
        model=tmp_path,
    )

    functions = boto3.client("lambda", **AWS.credentials)
    for stage, arn in made.function_arns.items():
        found = functions.get_function(FunctionName=arn)["Configuration"]
        settings = STAGES[stage]
        assert (found["FunctionName"], found["PackageType"]) == (stage, "Image")
        assert found["ImageConfigResponse"]["ImageConfig"]["Command"] == [settings["handler"]]
        assert (found["MemorySize"], found["Timeout"]) == (settings["memory_mb"], settings["timeout_s"])
        assert found["EphemeralStorage"] == {"Size": settings["ephemeral_mb"]}
        assert found["Environment"]["Variables"] == {
            "CODE_VERSION": "abc",
            "IMAGE_DIGEST": "local",
            "MODEL_FOLDER": str(tmp_path),
            "INFER_MEMORY_MB": "300",
            "INFER_QUALIFIER": "$LATEST",
            "INFER_TIMEOUT_S": "7",
            "INFER_MAX_CONCURRENCY": "4",
            "INFER_STARTS_PER_S": "0.5",
            "RENDEZVOUS_ENDPOINT": "127.0.0.1:9",
        }
    machines = boto3.client("stepfunctions", **AWS.credentials)
    machine = machines.describe_state_machine(stateMachineArn=made.state_machine_arn)
    assert json.loads(machine["definition"])["States"]["A"] == {
        "Type": "Task",
        "Resource": made.function_arns["infer"],
        "Comment": made.function_arns["summarize"],
        "End": True,
    }
    assert made.bucket == "mine"
    assert [bucket["Name"] for bucket in boto3.client("s3", **AWS.credentials).list_buckets()["Buckets"]] == ["mine"]
    # Again, it is found.
    assert make_role(AWS.credentials) == machine["roleArn"] == found["Role"]


@pytest.mark.usefixtures("mocked")
@pytest.mark.parametrize(("asked", "at_once"), [(2, "2"), (9, "4")])
def test_no_more_ranks_run_at_once_than_there_are_workers(asked: int, at_once: str) -> None:
    deploy(AWS, max_concurrency=asked, stages={"infer": STAGES["infer"]}, definition=ONE_STATE)

    functions = boto3.client("lambda", **AWS.credentials)
    found = functions.get_function_configuration(FunctionName="infer")["Environment"]["Variables"]
    assert found["INFER_MAX_CONCURRENCY"] == at_once
    assert found["CODE_VERSION"] == "local"
    assert not {"MODEL_FOLDER", "RENDEZVOUS_ENDPOINT"} & found.keys()


@pytest.mark.usefixtures("mocked")
def test_the_sample_is_where_requests_look_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("0.safetensors", "card.toml"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(module, "ensure_sample", lambda: tmp_path)
    s3 = boto3.client("s3", **AWS.credentials)
    s3.create_bucket(Bucket="mine")

    upload_sample(AWS, "mine")

    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="mine")["Contents"]]
    assert keys == [f"{module.SAMPLE_PREFIX}0.safetensors", f"{module.SAMPLE_PREFIX}card.toml"]
    assert s3.get_object(Bucket="mine", Key=keys[0])["Body"].read() == b"0.safetensors"
