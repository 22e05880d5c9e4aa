"""Lambda Invoke: the semantics of AWS, from real runtimes."""

import base64
import contextlib
import json
import os
import signal
import threading
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.integration.conftest import ECHO, LocalCloud, is_running, wait_until


def statistics(cloud: LocalCloud) -> Any:
    with urllib.request.urlopen(f"{cloud.aws.endpoint_url}/_local/functions") as answer:
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


@pytest.mark.parametrize("victim", [0, 1], ids=["emulator", "runtime"])
@pytest.mark.parametrize("function", [{"Timeout": 60}], indirect=True)
def test_a_worker_killed_in_the_middle_is_reported(cloud: LocalCloud, function: str, victim: int) -> None:
    def kill() -> None:
        wait_until(lambda: statistics(cloud).get(function, {}).get("running", 0) == 1)
        wait_until(lambda: len(statistics(cloud)[function]["workers"][0]) == 2)
        os.kill(statistics(cloud)[function]["workers"][0][victim], signal.SIGKILL)

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


def test_the_environment_is_the_one_of_lambda(cloud: LocalCloud, function: str) -> None:
    environment = cloud.invoke(function)[1]["environment"]

    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == function
    assert environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert environment["AWS_REGION"] == "us-east-1"
    assert environment["AWS_ENDPOINT_URL"] == cloud.aws.endpoint_url
    assert environment["OMP_NUM_THREADS"] == "1"


def test_the_log_ends_with_an_honest_report(cloud: LocalCloud, function: str) -> None:
    answer = cloud.functions.invoke(FunctionName=function, Payload=b'{"say": "hello"}', LogType="Tail")

    log = base64.b64decode(answer["LogResult"]).decode().splitlines()
    assert log[0].startswith("START RequestId: ")
    assert "echo says hello" in log
    assert "Init Duration" in log[-1]
    assert "Max Memory Used: 256 MB" not in log[-1]


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

    with contextlib.closing(boto3.client("s3")) as s3:
        assert cloud.deployment.bucket in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
