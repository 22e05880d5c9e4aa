"""Lambda Invoke: the semantics of AWS, from real runtimes."""

import base64
import contextlib
import json
import math
import os
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from scripts.local_aws.admission import KEY_HEADER
from scripts.local_aws.deploy import deploy
from scripts.local_aws.server import client_arguments
from scripts.runs.logs.lines import LogEvent, parse
from tests.forked import LocalAws
from tests.integration.conftest import ECHO, LocalCloud, is_running, stage, wait_until

ONE_TASK = """{
    "StartAt": "Invoke",
    "States": {
        "Invoke": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {"FunctionName": "${infer_arn}", "Payload": {}},
            "End": true
        }
    }
}"""


def statistics(cloud: LocalCloud) -> Any:
    url, headers = f"{cloud.aws.endpoint_url}/_local/functions", {KEY_HEADER: cloud.aws.key}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return json.load(answer)


@pytest.fixture
def function(cloud: LocalCloud, request: pytest.FixtureRequest) -> str:
    """Deploy a function of the test's own, so that its workers are fresh."""
    settings: dict[str, Any] = {"Timeout": 1, "MemorySize": 256} | getattr(request, "param", {})
    name = f"echo-{uuid.uuid4().hex[:8]}"
    cloud.functions.create_function(
        FunctionName=name,
        Role="arn:aws:iam::123456789012:role/redshift-local",
        PackageType="Image",
        Code={"ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/any:latest"},
        ImageConfig={"Command": [ECHO]},
        Environment={"Variables": {"COLOUR": "red"}},
        **settings,
    )
    return name


def test_a_result_comes_back(cloud: LocalCloud) -> None:
    error, payload = cloud.invoke(number=7)

    assert error is None
    assert payload["event"] == {"number": 7}


def test_a_function_is_deployed_with_the_ephemeral_storage_of_its_stage(cloud: LocalCloud) -> None:
    found = cloud.functions.get_function_configuration(FunctionName="infer")

    assert found["EphemeralStorage"]["Size"] == stage(ECHO)["ephemeral_mb"] == 600


def test_a_function_is_found_by_its_arn(cloud: LocalCloud) -> None:
    arn = cloud.deployment.function_arns["infer"]

    assert cloud.invoke(arn)[1]["arn"] == arn


def test_an_unknown_function_is_refused(cloud: LocalCloud) -> None:
    with pytest.raises(cloud.functions.exceptions.ResourceNotFoundException, match="nobody"):
        cloud.invoke("nobody")


def test_a_payload_that_is_no_json_is_refused(cloud: LocalCloud) -> None:
    with pytest.raises(cloud.functions.exceptions.InvalidRequestContentException):
        cloud.functions.invoke(FunctionName="infer", Payload=b"{")


def test_an_exception_becomes_a_function_error(cloud: LocalCloud) -> None:
    error, payload = cloud.invoke(**{"raise": "boom"})

    assert error == "Unhandled"
    assert (payload["errorType"], payload["errorMessage"]) == ("EchoError", "boom")


def test_a_function_that_cannot_be_imported_says_so(cloud: LocalCloud, function: str) -> None:
    cloud.functions.update_function_configuration(FunctionName=function, ImageConfig={"Command": ["nowhere.handler"]})

    error, payload = cloud.invoke(function)

    assert (error, payload["errorType"]) == ("Unhandled", "Runtime.ImportModuleError")


def test_a_timeout_ends_the_invocation(cloud: LocalCloud, function: str) -> None:
    error, payload = cloud.invoke(function, sleep=30)

    assert (error, payload["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    assert payload["errorMessage"].endswith("Task timed out after 1.00 seconds")


def test_a_worker_that_timed_out_is_replaced(cloud: LocalCloud, function: str) -> None:
    before = cloud.invoke(function)[1]["pid"]
    cloud.invoke(function, sleep=30)

    error, after = cloud.invoke(function)

    assert error is None
    assert after["pid"] != before


def test_init_does_not_count_against_the_timeout(cloud: LocalCloud, function: str) -> None:
    cloud.functions.update_function_configuration(
        FunctionName=function, ImageConfig={"Command": ["tests.integration.functions.slow_init.handler"]}
    )

    error, payload = cloud.invoke(function)

    assert error is None
    assert payload["remaining_s"] > 0.9


def test_a_runtime_that_exits_is_reported(cloud: LocalCloud) -> None:
    error, payload = cloud.invoke(exit=3)

    assert (error, payload["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert payload["errorMessage"].endswith("Runtime exited with error: exit status 3")


@pytest.mark.parametrize("function", [{"Timeout": 60}], indirect=True)
def test_a_worker_killed_in_the_middle_is_reported(cloud: LocalCloud, function: str) -> None:
    def kill() -> None:
        wait_until(lambda: statistics(cloud).get(function, {}).get("workers"))
        os.kill(statistics(cloud)[function]["workers"][0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    error, payload = cloud.invoke(function, sleep=50)
    killer.join()

    assert (error, payload["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert payload["errorMessage"].endswith("signal: killed")


def test_a_worker_killed_while_idle_costs_nothing(cloud: LocalCloud, function: str) -> None:
    pid = cloud.invoke(function)[1]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))

    assert cloud.invoke(function)[0] is None


@pytest.mark.parametrize("function", [{"Timeout": 60, "MemorySize": 128}], indirect=True)
def test_more_memory_than_configured_kills_the_runtime(cloud: LocalCloud, function: str) -> None:
    error, payload = cloud.invoke(function, allocate_mb=300, sleep=30)

    assert (error, payload["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert payload["errorMessage"].endswith("signal: killed")


def test_invocations_at_the_same_time_never_share_a_worker(cloud: LocalCloud, function: str) -> None:
    with ThreadPoolExecutor(2) as clients:
        pids = {payload["pid"] for _, payload in clients.map(lambda _: cloud.invoke(function, sleep=0.5), range(2))}

    assert len(pids) == 2


def test_more_invocations_than_workers_wait_their_turn(cloud: LocalCloud, function: str) -> None:
    with ThreadPoolExecutor(8) as clients:
        payloads = [payload for _, payload in clients.map(lambda _: cloud.invoke(function, sleep=0.05), range(8))]

    assert len({payload["pid"] for payload in payloads}) == 2
    assert sorted(payload["calls"] for payload in payloads)[-1] >= 4


def test_a_changed_function_gets_new_workers(cloud: LocalCloud, function: str) -> None:
    before = cloud.invoke(function)[1]
    cloud.functions.update_function_configuration(FunctionName=function, Environment={"Variables": {"COLOUR": "blue"}})

    after = cloud.invoke(function)[1]

    assert (before["environment"]["COLOUR"], after["environment"]["COLOUR"]) == ("red", "blue")
    assert before["pid"] != after["pid"]


def published(cloud: LocalCloud, function: str, *, alias: str, memory_mb: int) -> str:
    """Publish the function with this memory under an alias; return the alias's ARN."""
    cloud.functions.update_function_configuration(FunctionName=function, MemorySize=memory_mb)
    version = cloud.functions.publish_version(FunctionName=function)["Version"]
    return cloud.functions.create_alias(FunctionName=function, Name=alias, FunctionVersion=version)["AliasArn"]


def test_two_aliases_run_with_their_own_memory(cloud: LocalCloud, function: str) -> None:
    arns = [published(cloud, function, alias=f"m{memory_mb}", memory_mb=memory_mb) for memory_mb in (300, 400)]

    answers = [cloud.invoke(arn)[1] for arn in (*arns, f"{function}:m300")]

    memory = [answer["environment"]["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] for answer in answers]
    versions = [answer["environment"]["AWS_LAMBDA_FUNCTION_VERSION"] for answer in answers]
    assert (memory, versions) == (["300", "400", "300"], ["1", "2", "1"])
    assert [answer["arn"] for answer in answers] == [*arns, arns[0]]
    # Each has kept its worker while the other ran.
    assert answers[0]["pid"] == answers[2]["pid"]


def test_a_version_stays_what_it_was_when_the_function_changes(cloud: LocalCloud, function: str) -> None:
    cloud.functions.publish_version(FunctionName=function)
    cloud.functions.update_function_configuration(
        FunctionName=function, MemorySize=512, Environment={"Variables": {"COLOUR": "blue"}}
    )

    answer = cloud.functions.invoke(FunctionName=function, Qualifier="1", Payload=b"{}")

    environment = json.load(answer["Payload"])["environment"]
    assert answer["ExecutedVersion"] == "1"
    assert (environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], environment["COLOUR"]) == ("256", "red")


def test_a_version_has_a_number_of_its_own_whatever_was_deleted(cloud: LocalCloud, function: str) -> None:
    def publish() -> tuple[str, int]:
        version = cloud.functions.publish_version(FunctionName=function)
        return version["Version"], version["MemorySize"]

    for memory_mb in (300, 400):
        cloud.functions.update_function_configuration(FunctionName=function, MemorySize=memory_mb)
        publish()
    assert publish() == ("2", 400)  # nothing has changed
    cloud.functions.delete_function(FunctionName=function, Qualifier="1")
    cloud.functions.update_function_configuration(FunctionName=function, MemorySize=500)
    assert publish() == ("3", 500)
    cloud.functions.delete_function(FunctionName=function, Qualifier="3")
    assert publish() == ("4", 500)


def test_a_state_machine_invokes_the_alias_that_its_input_names(cloud: LocalCloud, function: str) -> None:
    arns = [published(cloud, function, alias=f"m{memory_mb}", memory_mb=memory_mb) for memory_mb in (300, 400)]
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName.$": "$.function", "Payload": {}},
        "End": True,
    }
    machine = cloud.state_machine(f"alias-{function}", {"Invoke": task})

    outputs = [json.loads(cloud.execute(machine, arn[-4:], {"function": arn})["output"]) for arn in arns]

    memory = [output["Payload"]["environment"]["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] for output in outputs]
    assert (memory, [output["ExecutedVersion"] for output in outputs]) == (["300", "400"], ["1", "2"])


def test_an_unknown_alias_is_refused(cloud: LocalCloud, function: str) -> None:
    with pytest.raises(cloud.functions.exceptions.ResourceNotFoundException):
        cloud.invoke(f"{function}:nowhere")


def test_the_environment_is_the_one_of_lambda(cloud: LocalCloud, function: str) -> None:
    environment = cloud.invoke(function)[1]["environment"]

    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == function
    assert environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert environment["AWS_REGION"] == "us-east-1"
    assert environment["AWS_ENDPOINT_URL"] == cloud.aws.endpoint_url
    assert environment["OMP_NUM_THREADS"] == "1"


def log_of(cloud: LocalCloud, function: str, **event: Any) -> list[str]:
    """Return the log that comes with an invocation."""
    answer = cloud.functions.invoke(FunctionName=function, Payload=json.dumps(event), LogType="Tail")
    answer["Payload"].read()
    return base64.b64decode(answer["LogResult"]).decode().splitlines()


def test_the_log_ends_with_an_honest_report(cloud: LocalCloud, function: str) -> None:
    began_s = time.monotonic()
    log = log_of(cloud, function, say="hello")
    took_ms = 1000 * (time.monotonic() - began_s)

    report = read_report(log[-1])
    assert log[0].startswith("START RequestId: ")
    assert log[1:-1] == ["echo says hello", f"END RequestId: {report['request_id']}"]
    assert report["memory_mb"] == 256
    assert 5 < report["max_memory_mb"] < 128
    assert report["init_ms"] > 1, "a process is started"
    assert 0 < report["duration_ms"] < took_ms - report["init_ms"]
    assert report["billed_ms"] == math.ceil(report["init_ms"] + report["duration_ms"])


def test_the_most_memory_used_is_reported(cloud: LocalCloud, function: str) -> None:
    before = read_report(log_of(cloud, function)[-1])["max_memory_mb"]

    after = read_report(log_of(cloud, function, allocate_mb=100, sleep=0.2)[-1])["max_memory_mb"]

    assert 95 < after - before < 110


def test_only_the_first_invocation_has_an_init(cloud: LocalCloud, function: str) -> None:
    reports = [read_report(log_of(cloud, function)[-1]) for _ in range(2)]

    assert ["init_ms" in report for report in reports] == [True, False]


def test_a_lost_invocation_is_reported_too(cloud: LocalCloud, function: str) -> None:
    log = log_of(cloud, function, sleep=30)

    assert log[-3].endswith("Error: Task timed out after 1.00 seconds")
    assert log[-1].endswith("\tStatus: timeout")
    assert 1000 <= read_report(log[-1])["duration_ms"] < 1500


def read_report(line: str) -> dict[str, Any]:
    """Return the numbers of a REPORT line, by name."""
    parsed = parse(LogEvent(stream="", message=line))
    return {"request_id": parsed.request_id, **parsed.numbers}


def test_a_result_too_large_for_lambda_is_an_error(cloud: LocalCloud, function: str) -> None:
    error, payload = cloud.invoke(function, result_mb=7)

    assert (error, payload["errorType"]) == ("Unhandled", "Function.ResponseSizeTooLarge")


def test_a_result_that_looks_like_an_error_is_none(cloud: LocalCloud, function: str) -> None:
    said = {"errorMessage": "none", "errorType": "None"}

    assert cloud.invoke(function, answer=said) == (None, said)


def test_a_worker_that_cannot_start_is_an_error_of_the_service(tmp_path: Path) -> None:
    with LocalAws(log_dir=tmp_path / "logs", workers=1) as aws:
        cloud = LocalCloud(aws, deploy(aws, stages={"infer": stage(ECHO)}, definition=ONE_TASK))
        shutil.rmtree(tmp_path / "logs")

        with pytest.raises(cloud.functions.exceptions.ServiceException, match=r"infer cannot be started.*No such file"):
            cloud.invoke()
        execution = cloud.execute(cloud.deployment.state_machine_arn, "no-worker", {})

    assert (execution["status"], execution["error"]) == ("FAILED", "Lambda.ServiceException")


def test_every_worker_writes_a_log(cloud: LocalCloud) -> None:
    answer = cloud.functions.invoke(FunctionName="infer", Payload=b'{"say": "logged"}', LogType="Tail")
    answer["Payload"].read()

    assert any("echo says logged" in path.read_text() for path in cloud.aws.log_dir.glob("infer-*.log"))


def test_an_event_is_accepted_and_run_later(cloud: LocalCloud, function: str) -> None:
    answer = cloud.functions.invoke(FunctionName=function, InvocationType="Event", Payload=b"{}")

    assert answer["StatusCode"] == 202
    wait_until(lambda: statistics(cloud)[function]["succeeded"] == 1)


def test_a_dry_run_runs_nothing(cloud: LocalCloud, function: str) -> None:
    answer = cloud.functions.invoke(FunctionName=function, InvocationType="DryRun")

    assert answer["StatusCode"] == 204
    assert function not in statistics(cloud)


def test_a_rank_refuses_an_object_that_was_replaced(cloud: LocalCloud) -> None:
    """Ranged reads with If-Match are what protects a run from a shard that changes under it."""
    etag = cloud.s3.put_object(Bucket=cloud.deployment.bucket, Key="k", Body=b"first")["ETag"]
    cloud.s3.put_object(Bucket=cloud.deployment.bucket, Key="k", Body=b"second")

    with pytest.raises(ClientError, match=r"412|PreconditionFailed"):
        cloud.s3.get_object(Bucket=cloud.deployment.bucket, Key="k", IfMatch=etag, Range="bytes=0-3")


def test_a_thousand_functions_need_no_thousand_workers(cloud: LocalCloud, function: str) -> None:
    """More functions than workers fit: idle ones of other functions make room."""
    names = [f"{function}-{number}" for number in range(8)]
    for name in names:
        cloud.functions.create_function(
            FunctionName=name,
            Role="arn:aws:iam::123456789012:role/redshift-local",
            PackageType="Image",
            Code={"ImageUri": "any"},
            ImageConfig={"Command": [ECHO]},
        )

    assert [cloud.invoke(name)[0] for name in names] == [None] * 8
    assert sum(len(entry["workers"]) for entry in statistics(cloud).values()) <= 6


def test_an_idle_server_takes_no_processor_time(cloud: LocalCloud) -> None:
    def ticks() -> int:
        with open(f"/proc/{cloud.aws.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(1)

    assert ticks() - before <= 0.1 * os.sysconf("SC_CLK_TCK")


def test_boto3_needs_only_the_environment(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cloud.aws.environment.items():
        monkeypatch.setenv(name, value)

    with contextlib.closing(boto3.Session().client("s3")) as s3:
        assert cloud.deployment.bucket in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


def test_without_the_servers_key_nothing_is_read_run_or_reset(cloud: LocalCloud) -> None:
    url = cloud.aws.endpoint_url
    other = {name: boto3.client(name, **client_arguments(url, "testing")) for name in ("s3", "lambda", "iam")}
    code = {"PackageType": "Image", "Code": {"ImageUri": "any"}, "ImageConfig": {"Command": ["os.system"]}}
    attempts: dict[str, Callable[[], Any]] = {
        "list": other["s3"].list_buckets,
        "put": lambda: other["s3"].put_object(Bucket=cloud.deployment.bucket, Key="k", Body=b"x" * 1_000_000),
        "create": lambda: other["lambda"].create_function(FunctionName="theirs", Role="r" * 20, **code),
        "invoke": lambda: other["lambda"].invoke(FunctionName="infer"),
        "roles": other["iam"].list_roles,
    }
    for name, attempt in attempts.items():
        with pytest.raises(ClientError) as refused:
            attempt()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403, name
    for path in ("/_local/functions", "/moto-api/reset", "/moto-api/data.json"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(url + path, method="POST"))
    assert cloud.invoke()[0] is None
