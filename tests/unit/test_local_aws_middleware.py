"""What stands in front of moto: Lambda Invoke as AWS answers it, whatever runs the functions, and what is kept."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Request, Response

from scripts.local_aws.calls import CallLog
from scripts.local_aws.middleware import MAX_CAUSE, MAX_PAYLOAD_BYTES, LambdaFront, deployed_function
from scripts.local_aws.rudeness import Rude, Rudeness
from scripts.local_aws.worker import FunctionSettings, Outcome, WorkerStartError

ELSEWHERE = "AWS4-HMAC-SHA256 Credential=KEY/20260101/eu-central-1/lambda/aws4_request, Signature=0"
ARN = f"arn:aws:lambda:us-east-1:{DEFAULT_ACCOUNT_ID}:function:infer"


@pytest.fixture(scope="module", autouse=True)
def deployed() -> Iterator[None]:
    """Deploy a function of an image with a version and an alias, one of an archive, and one in another region."""
    with mock_aws():
        iam = boto3.client("iam", region_name="us-east-1")
        role = iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        image: dict[str, Any] = {"Role": role, "PackageType": "Image", "Code": {"ImageUri": "any"}}
        image |= {"ImageConfig": {"Command": ["infer.handler"]}, "MemorySize": 300, "Timeout": 7}
        image |= {"Environment": {"Variables": {"B": "2", "A": "1"}}}
        here, there = (boto3.client("lambda", region_name=region) for region in ("us-east-1", "eu-central-1"))
        here.create_function(FunctionName="infer", **image)
        here.publish_version(FunctionName="infer")
        here.create_alias(FunctionName="infer", Name="now", FunctionVersion="1")
        here.create_function(
            FunctionName="zipped", Role=role, Runtime="python3.12", Handler="a.handler", Code={"ZipFile": b"archive"}
        )
        there.create_function(FunctionName="remote", **image)
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="kept")
        yield


class FakePool:
    """Answers every invocation alike and remembers what it was asked to run."""

    def __init__(self) -> None:
        self.outcome: Outcome | Exception = Outcome(payload=b'{"z": 0.1}', is_error=False, log_tail=b"the end\xff")
        self.asked: list[tuple[FunctionSettings, bytes]] = []
        self.has_run = threading.Event()

    def invoke(self, settings: FunctionSettings, payload: bytes, *, with_log: bool = False) -> Outcome:
        self.asked.append((settings, payload))
        self.has_run.set()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return Outcome(payload=self.outcome.payload, is_error=self.outcome.is_error, log_tail=b"end\xff" * with_log)

    def statistics(self) -> dict[str, int]:
        return {"infer": len(self.asked)}


class Front:
    """The front, with a moto that stores what is put."""

    def __init__(self, rudeness: Rudeness, call_log: Path) -> None:
        self.pool = FakePool()
        self.call_log = call_log
        self.calls = CallLog(call_log)
        rude = Rude(rudeness)
        self.app = LambdaFront(self.moto, self.pool, region="us-east-1", rude=rude, calls=self.calls)  # type: ignore[arg-type]
        self.client = Client(self.app)

    def moto(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        if request.method == "PUT" and "refused" not in request.path:
            _, bucket, key = request.path.split("/", 2)
            s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, key, request.get_data())
        return Response("moto", status=403 if "refused" in request.path else 200)(environ, start_response)

    def invoke(self, function: str = "infer", payload: bytes = b"{}", query: str = "", **headers: str) -> TestResponse:
        return self.client.post(
            f"/2015-03-31/functions/{function}/invocations{query}",
            data=payload,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )


@pytest.fixture
def make_front(tmp_path: Path) -> Iterator[Callable[..., Front]]:
    fronts: list[Front] = []

    def make(**rudeness: Any) -> Front:
        fronts.append(Front(Rudeness(**rudeness), tmp_path / "calls.jsonl"))
        return fronts[-1]

    yield make
    for front in fronts:
        assert front.calls._file
        front.calls._file.close()


@pytest.fixture
def front(make_front: Callable[..., Front]) -> Front:
    return make_front()


# ---------------------------------------------------------------------------------------------------------- by HTTP


def test_a_result_comes_with_the_version_that_made_it(front: Front) -> None:
    answers = [front.invoke(payload=b'{"rank": 3}'), front.invoke(query="?Qualifier=now")]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.json for answer in answers] == [{"z": 0.1}] * 2
    assert {answer.content_type for answer in answers} == {"application/json"}
    assert [answer.headers["X-Amz-Executed-Version"] for answer in answers] == ["$LATEST", "1"]
    assert len({answer.headers["X-Amzn-RequestId"] for answer in answers}) == 2
    assert not {"X-Amz-Function-Error", "X-Amz-Log-Result"} & set(answers[0].headers.keys())
    assert [(settings.arn, payload) for settings, payload in front.pool.asked] == [
        (ARN, b'{"rank": 3}'),
        (f"{ARN}:now", b"{}"),
    ]


def test_an_invocation_without_a_payload_has_an_empty_one(front: Front) -> None:
    front.invoke(payload=b"")

    assert [payload for _, payload in front.pool.asked] == [b"{}"]


def test_the_error_of_a_function_is_a_result_with_a_mark(front: Front) -> None:
    front.pool.outcome = Outcome(payload=b'{"errorType": "E"}', is_error=True)

    answer = front.invoke()

    assert (answer.status_code, answer.json) == (200, {"errorType": "E"})
    assert answer.headers["X-Amz-Function-Error"] == "Unhandled"


def test_the_log_comes_with_an_invocation_that_asks_for_it(front: Front) -> None:
    answer = front.invoke(X_Amz_Log_Type="Tail")

    assert base64.b64decode(answer.headers["X-Amz-Log-Result"]) == b"end\xff"
    assert "X-Amz-Log-Result" not in front.invoke(X_Amz_Log_Type="None").headers


@pytest.mark.parametrize(
    ("function", "payload", "status", "error", "words"),
    [
        ("nobody", b"{}", 404, "ResourceNotFoundException", "Function not found: nobody"),
        ("infer:never", b"{}", 404, "ResourceNotFoundException", "Function not found: infer:never"),
        ("infer", b"{", 400, "InvalidRequestContentException", "Could not parse request body into json: "),
        ("infer", b"\xff", 400, "InvalidRequestContentException", "Could not parse request body into json: "),
        (
            "infer",
            b" " * MAX_PAYLOAD_BYTES + b"1",
            413,
            "RequestTooLargeException",
            "6291457 byte payload is too",
        ),
    ],
    ids=["function", "alias", "json", "text", "size"],
)
def test_what_lambda_refuses_runs_nothing(
    front: Front, function: str, payload: bytes, status: int, error: str, words: str
) -> None:
    answer = front.invoke(function, payload)

    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (status, error)
    assert answer.content_type == "application/json"
    assert answer.json is not None
    assert answer.json["Type"] == "User"
    assert answer.json["Message"].startswith(words)
    assert front.pool.asked == []


def test_a_payload_may_be_as_large_as_on_lambda(front: Front) -> None:
    # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    assert MAX_PAYLOAD_BYTES == 6 * 2**20

    assert front.invoke(payload=b" " * (MAX_PAYLOAD_BYTES - 1) + b"1").status_code == 200


def test_a_worker_that_cannot_start_is_an_error_of_the_service(front: Front) -> None:
    front.pool.outcome = WorkerStartError("No memory.")

    answer = front.invoke()

    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (500, "ServiceException")
    assert answer.json == {"Type": "User", "Message": "No memory."}


def test_a_function_asleep_refuses_by_either_way(make_front: Callable[..., Front]) -> None:
    front = make_front(inactive_s=60)

    answer = front.invoke()
    with pytest.raises(ClientError, match="Pending") as refused:
        front.app.invoke_task({"FunctionName": "infer"}, "us-east-1")

    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (409, "CodeArtifactUserPendingException")
    assert answer.json == {"Type": "User", "Message": "infer is in the Pending state."}
    assert refused.value.response["Error"] == {
        "Code": "CodeArtifactUserPendingException",
        "Message": "infer is in the Pending state.",
    }
    assert front.pool.asked == []


def test_a_dry_run_runs_nothing_and_an_event_is_run_by_itself(front: Front) -> None:
    assert front.invoke(X_Amz_Invocation_Type="DryRun").status_code == 204
    assert front.pool.asked == []

    assert front.invoke(payload=b"[1]", X_Amz_Invocation_Type="Event").status_code == 202
    assert front.pool.has_run.wait(10)
    assert [(settings.name, payload) for settings, payload in front.pool.asked] == [("infer", b"[1]")]


def test_a_function_is_looked_for_in_the_region_that_the_request_is_signed_for(front: Front) -> None:
    assert front.invoke("remote").status_code == 404
    assert front.invoke("remote", Authorization=ELSEWHERE).status_code == 200
    assert front.pool.asked[0][0].region == "eu-central-1"


def test_what_is_no_invocation_is_motos(front: Front) -> None:
    paths = ("/2015-03-31/functions/infer/invocations", "/_local/keep", "/bucket/key")

    assert [front.client.get(path).text for path in paths] == ["moto"] * 3
    assert front.client.post("/2015-03-31/functions").text == "moto"
    assert front.client.get("/_local/functions").json == {"infer": 0}


def test_what_is_stored_is_kept_where_it_is_asked_for_and_stored(front: Front, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for prefix, folder in (("runs/1/", tmp_path / "run"), ("runs/2/", tmp_path / "file")):
        asked = {"bucket": "kept", "prefix": prefix, "folder": str(folder)}
        assert front.client.post("/_local/keep", json=asked).status_code == 204
    keys = ("runs/1/ranks/0", "runs/1/ü", "runs/1/ranks/", "runs/1/../out", "runs/1/", "runs/10/x", "runs/2/x")

    assert [front.client.put(f"/kept/{key}", data=key.encode()).status_code for key in keys] == [200] * len(keys)
    assert front.client.put("/kept/runs/1/refused", data=b"x").status_code == 403
    front.app.keep("/kept/runs/1/gone")

    written = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }
    del written[front.call_log.name]
    assert written == {"run/ranks/0": b"runs/1/ranks/0", "run/ü": "runs/1/ü".encode(), "file": b""}


# ----------------------------------------------------------------------------------------------- of a state machine


def test_a_task_gets_what_boto3_would_return_and_is_written_down(front: Front) -> None:
    answers = [
        front.app.invoke_task({"FunctionName": "infer", "Qualifier": "1", "Payload": b"[2]"}, "us-east-1"),
        front.app.invoke_task({"FunctionName": f"{ARN}:now"}, ""),
        front.app.invoke_task({"FunctionName": "remote"}, "eu-central-1"),
    ]

    latest = {"ExecutedVersion": "$LATEST", "Payload": {"z": 0.1}, "StatusCode": 200}
    assert answers == [latest | {"ExecutedVersion": "1"}] * 2 + [latest]
    assert [payload for _, payload in front.pool.asked] == [b"[2]", b"{}", b"{}"]
    lines = front.call_log.read_text().splitlines()
    assert [json.loads(line)["resource"] for line in lines] == ["infer", f"{ARN}:now", "remote"]


@pytest.mark.parametrize(
    ("function", "outcome", "status", "code", "message"),
    [
        ("nobody", Exception(), 404, "ResourceNotFoundException", "Function not found: nobody"),
        ("infer", WorkerStartError("No memory."), 500, "ServiceException", "No memory."),
    ],
)
def test_a_task_that_cannot_run_fails_as_boto3_would(
    front: Front, function: str, outcome: Exception, status: int, code: str, message: str
) -> None:
    front.pool.outcome = outcome

    with pytest.raises(ClientError) as failed:
        front.app.invoke_task({"FunctionName": function}, "us-east-1")

    assert failed.value.response["Error"] == {"Code": code, "Message": message}
    assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert len(failed.value.response["ResponseMetadata"]["RequestId"]) == 36
    assert failed.value.operation_name == "Invoke"


@pytest.mark.parametrize("is_long", [False, True])
def test_of_the_error_of_a_task_no_more_is_kept_than_by_step_functions(front: Front, is_long: bool) -> None:
    said: dict[str, Any] = {"errorType": "E", "errorMessage": "", "stackTrace": ["line"]}
    said["errorMessage"] = "x" * (MAX_CAUSE - len(json.dumps(said)) + is_long)
    front.pool.outcome = Outcome(payload=json.dumps(said).encode(), is_error=True)

    answer = front.app.invoke_task({"FunctionName": "infer"}, "us-east-1")

    assert MAX_CAUSE == 32_768
    cut = {"errorType": "E", "errorMessage": "x" * 16_384, "stackTrace": []}
    assert answer == {
        "ExecutedVersion": "$LATEST",
        "Payload": cut if is_long else said,
        "StatusCode": 200,
        "FunctionError": "Unhandled",
    }


def test_a_result_of_a_task_is_never_cut(front: Front) -> None:
    result = {"errorMessage": "x" * 2 * MAX_CAUSE}
    front.pool.outcome = Outcome(payload=json.dumps(result).encode(), is_error=False)

    answer = front.app.invoke_task({"FunctionName": "infer"}, "us-east-1")

    assert (answer["Payload"], "FunctionError" in answer) == (result, False)


# -------------------------------------------------------------------------------------------------- what is deployed


@pytest.mark.parametrize(
    ("name", "qualifier", "arn", "version"),
    [
        ("infer", None, ARN, "$LATEST"),
        ("infer", "$LATEST", ARN, "$LATEST"),
        ("infer:$LATEST", None, ARN, "$LATEST"),
        ("infer", "1", f"{ARN}:1", "1"),
        ("infer:now", None, f"{ARN}:now", "1"),
        (f"{ARN}:now", "1", f"{ARN}:now", "1"),
        (ARN, "now", f"{ARN}:now", "1"),
    ],
)
def test_what_was_deployed_is_what_runs(name: str, qualifier: str | None, arn: str, version: str) -> None:
    # An ARN names its region.
    found = deployed_function(name, qualifier, region="eu-central-1" if name.startswith("arn:") else "us-east-1")

    assert len(found.revision) == 64
    assert found == FunctionSettings(
        name="infer",
        arn=arn,
        version=version,
        region="us-east-1",
        handler="infer.handler",
        timeout_s=7.0,
        memory_mb=300,
        environment=(("A", "1"), ("B", "2")),
        revision=found.revision,
    )


def test_a_function_of_an_archive_has_the_handler_that_it_names() -> None:
    assert deployed_function("zipped", None, region="us-east-1").handler == "a.handler"
