"""What a deployment holds is told before it is deleted, and deleted with every version of it."""

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from scripts.deployment.holdings import Holdings
from scripts.deployment.image.registry import MANIFEST_TYPES
from scripts.deployment.terraform import DeployError

REGION = "eu-central-1"
BUCKET = "photo-z-data"
ROLE = {"Version": "2012-10-17", "Statement": []}
DEFINITION = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 900, "End": True}}}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield


def client(service: str) -> Any:
    return boto3.client(service, REGION)


def make_bucket() -> None:
    client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    client("s3").put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})


def put(key: str, size_bytes: int) -> None:
    client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"0" * size_bytes)


def make_role() -> str:
    role = client("iam").create_role(RoleName="any", AssumeRolePolicyDocument=json.dumps(ROLE))
    return str(role["Role"]["Arn"])


def test_a_bucket_is_described_by_folder_with_all_versions_and_emptied_of_them(aws: None) -> None:
    make_bucket()
    holdings = Holdings(REGION)
    assert holdings.is_empty(BUCKET)
    for key, size_bytes in (("runs/a/x", 100_000), ("runs/a/x", 250_000), ("datasets/y", 1)):
        put(key, size_bytes)

    assert list(holdings.describe_bucket(BUCKET)) == [
        f"s3://{BUCKET}/datasets/: 1 objects with their versions, 0.0 MB",
        f"s3://{BUCKET}/runs/: 2 objects with their versions, 0.3 MB",
    ]
    assert not holdings.is_empty(BUCKET)
    client("s3").delete_object(Bucket=BUCKET, Key="datasets/y")

    holdings.empty(BUCKET)

    assert holdings.is_empty(BUCKET)
    client("s3").delete_bucket(Bucket=BUCKET)


def test_the_mark_of_a_deleted_object_keeps_a_bucket_from_being_empty(aws: None) -> None:
    make_bucket()
    put("runs/a", 1)
    client("s3").delete_object(Bucket=BUCKET, Key="runs/a")
    (version,) = client("s3").list_object_versions(Bucket=BUCKET)["Versions"]
    client("s3").delete_object(Bucket=BUCKET, Key="runs/a", VersionId=version["VersionId"])

    assert not Holdings(REGION).is_empty(BUCKET)


def test_an_object_that_cannot_be_deleted_is_named(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bucket()
    put("runs/a", 1)
    holdings = Holdings(REGION)
    refused = {"Errors": [{"Key": "runs/a", "Message": "Access Denied"}]}
    monkeypatch.setattr(holdings._s3, "delete_objects", lambda **_: refused)

    with pytest.raises(DeployError, match=r"^s3://photo-z-data/runs/a could not be deleted: Access Denied\.$"):
        holdings.empty(BUCKET)


@pytest.mark.parametrize("name", [None, "never-made"])
def test_what_is_not_there_holds_nothing(name: str | None, aws: None) -> None:
    holdings = Holdings(REGION)
    machine = name and f"arn:aws:states:{REGION}:123456789012:stateMachine:{name}"

    assert holdings.is_empty(name)
    assert list(holdings.describe_bucket(name)) == []
    assert list(holdings.describe_images(name and f"registry/{name}")) == []
    assert holdings.running_executions(machine) == []
    holdings.empty(name)
    holdings.delete_functions([f"arn:aws:lambda:{REGION}:123456789012:function:{name}"])


def test_a_bucket_that_may_not_be_read_is_not_taken_for_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    holdings = Holdings(REGION)
    with Stubber(holdings._s3) as stub:
        stub.add_client_error("list_object_versions", "AccessDenied", http_status_code=403)
        with pytest.raises(holdings._s3.exceptions.ClientError, match="AccessDenied"):
            holdings.is_empty(BUCKET)


def test_images_are_counted(aws: None) -> None:
    url = client("ecr").create_repository(repositoryName="team/redshift")["repository"]["repositoryUri"]
    assert list(Holdings(REGION).describe_images(url)) == []

    for tag in ("a", "b"):
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPES[0], "config": {"digest": tag}, "layers": []}
        client("ecr").put_image(repositoryName="team/redshift", imageManifest=json.dumps(manifest), imageTag=tag)

    assert list(Holdings(REGION).describe_images(url)) == [f"{url}: 2 images"]


def test_runs_that_are_under_way_are_found_and_stopped(aws: None) -> None:
    states = client("stepfunctions")
    arn = states.create_state_machine(name="m", definition=json.dumps(DEFINITION), roleArn=make_role())
    first, second = (
        states.start_execution(stateMachineArn=arn["stateMachineArn"], name=name)["executionArn"]
        for name in ("one", "two")
    )
    holdings = Holdings(REGION)

    assert set(holdings.running_executions(arn["stateMachineArn"])) == {first, second}
    holdings.stop([first])

    assert holdings.running_executions(arn["stateMachineArn"]) == [second]


def test_functions_are_deleted_and_those_that_are_gone_keep_none_from_it(aws: None) -> None:
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("a.py", "")
    made = client("lambda").create_function(
        FunctionName="infer", Runtime="python3.11", Role=make_role(), Handler="a.b", Code={"ZipFile": code.getvalue()}
    )
    arn = made["FunctionArn"]

    Holdings(REGION).delete_functions([arn.replace("infer", "gone"), arn])

    assert client("lambda").list_functions()["Functions"] == []
