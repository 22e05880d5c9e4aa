"""What moto does not answer: Lambda Invoke, from the pool of real runtimes, and this server's own statistics."""

import base64
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

from botocore.exceptions import ClientError
from moto.awslambda.exceptions import UnknownFunctionException
from moto.awslambda.models import lambda_backends
from moto.core.models import DEFAULT_ACCOUNT_ID
from werkzeug.wrappers import Request, Response

from scripts.local_aws.calls import CallLog
from scripts.local_aws.keeper import Keeper
from scripts.local_aws.pool import Pool
from scripts.local_aws.rudeness import RefusedError, Rude
from scripts.local_aws.worker import FunctionSettings, WorkerStartError

INVOKE = re.compile(r"^/2015-03-31/functions/(?P<function>.+)/invocations$")
CREDENTIAL_REGION = re.compile(r"Credential=[^/]+/\d+/(?P<region>[a-z0-9-]+)/lambda/")
MAX_PAYLOAD_BYTES = 6 * 1024 * 1024
MAX_CAUSE = 32_768
"""Characters that Step Functions keeps of why a task failed:
https://docs.aws.amazon.com/step-functions/latest/apireference/API_TaskFailedEventDetails.html"""

WSGIApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


class LambdaFront:
    """A WSGI application around moto's.

    Parameters
    ----------
    moto : WSGI application
        Answers everything else.
    pool : Pool
        Runs the invocations.
    region : str
        Region of requests that do not name one.
    rude : Rude
        Refuses invocations as AWS may.
    calls : CallLog
        Records the invocations that come by no request.
    """

    def __init__(self, moto: WSGIApp, pool: Pool, *, region: str, rude: Rude, calls: CallLog) -> None:
        self._moto = moto
        self._pool = pool
        self._rude = rude
        self._calls = calls
        self._region = region
        self._keeper = Keeper()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one HTTP request."""
        path = environ.get("PATH_INFO", "")
        if path == "/_local/functions":
            return _json(self._pool.statistics())(environ, start_response)
        method = environ["REQUEST_METHOD"]
        if path == "/_local/keep" and method == "POST":
            self._keeper.keep(**json.loads(Request(environ).get_data()))
            return Response(status=204)(environ, start_response)
        if method == "PUT":
            return self._put(environ, start_response)
        invoke = INVOKE.match(unquote(path)) if method == "POST" else None
        if invoke is None:
            return self._moto(environ, start_response)
        return self._invoke(invoke["function"], Request(environ))(environ, start_response)

    def _put(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Let moto store an object; what is to be kept is on disk before the answer."""
        statuses: list[str] = []

        def start(status: str, *others: Any) -> Any:
            statuses.append(status)
            return start_response(status, *others)

        answer = self._moto(environ, start)
        if statuses and statuses[-1].startswith("200"):
            self.keep(environ["PATH_INFO"].encode("latin-1").decode(errors="replace"))
        return answer

    def keep(self, path: str) -> None:
        """Let what has been stored under a path be on disk, too, if it is to be kept."""
        self._keeper.take(path)

    def invoke_task(self, parameters: dict[str, Any], region: str, **_: object) -> dict[str, Any]:
        """Run the Lambda task of a state machine, without the way through boto3 and HTTP.

        Raises
        ------
        ClientError
            As boto3 would.
        """
        name, qualifier = parameters["FunctionName"], parameters.get("Qualifier")
        self._calls.invocation(name)
        try:
            settings = deployed_function(name, qualifier, region=region or self._region)
            with self._rude.invocation(settings.name):
                outcome = self._pool.invoke(settings, parameters.get("Payload") or b"{}")
        except RefusedError as error:
            raise _client_error(error.status, error.code, error.message) from error
        except UnknownFunctionException as error:
            raise _client_error(404, "ResourceNotFoundException", f"Function not found: {name}") from error
        except WorkerStartError as error:
            raise _client_error(500, "ServiceException", str(error)) from error
        failed = {"FunctionError": "Unhandled"} if outcome.is_error else {}
        payload = json.loads(outcome.payload)
        if outcome.is_error and len(outcome.payload) > MAX_CAUSE:
            payload |= {"errorMessage": str(payload.get("errorMessage"))[: MAX_CAUSE // 2], "stackTrace": []}
        answer = {"ExecutedVersion": settings.version, "Payload": payload, "StatusCode": 200}
        return answer | failed

    def _invoke(self, name: str, request: Request) -> Response:
        payload = request.get_data() or b"{}"
        try:
            signed = CREDENTIAL_REGION.search(request.headers.get("Authorization", ""))
            region = signed["region"] if signed else self._region
            settings = deployed_function(name, request.args.get("Qualifier"), region=region)
            json.loads(payload)
        except UnknownFunctionException:
            return _refusal(404, "ResourceNotFoundException", f"Function not found: {name}")
        except ValueError as error:
            message = f"Could not parse request body into json: {error}"
            return _refusal(400, "InvalidRequestContentException", message)
        if len(payload) > MAX_PAYLOAD_BYTES:
            message = f"{len(payload)} byte payload is too large for the RequestResponse invocation type"
            return _refusal(413, "RequestTooLargeException", message)
        invocation_type = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        if invocation_type == "DryRun":
            return Response(status=204)
        if invocation_type == "Event":
            threading.Thread(target=self._pool.invoke, args=(settings, payload), daemon=True).start()
            return Response(status=202)
        return self._run(settings, payload, with_log=request.headers.get("X-Amz-Log-Type") == "Tail")

    def _run(self, settings: FunctionSettings, payload: bytes, *, with_log: bool) -> Response:
        try:
            with self._rude.invocation(settings.name):
                outcome = self._pool.invoke(settings, payload, with_log=with_log)
        except RefusedError as error:
            return _refusal(error.status, error.code, error.message)
        except WorkerStartError as error:
            return _refusal(500, "ServiceException", str(error))
        response = Response(outcome.payload, status=200, content_type="application/json")
        response.headers["X-Amz-Executed-Version"] = settings.version
        response.headers["X-Amzn-RequestId"] = str(uuid.uuid4())
        if outcome.is_error:
            response.headers["X-Amz-Function-Error"] = "Unhandled"
        if with_log:
            response.headers["X-Amz-Log-Result"] = base64.b64encode(outcome.log_tail).decode()
        return response


def deployed_function(name: str, qualifier: str | None, *, region: str) -> FunctionSettings:
    """Read from moto's Lambda what was deployed, so that what was deployed is what runs.

    Parameters
    ----------
    name : str
        Name or ARN, either one with ``:VERSION`` or ``:ALIAS`` behind it if they are not the qualifier.
    qualifier : str, optional
        Version or alias; the function as it is now when absent.
    region : str
        Region of a name.

    Raises
    ------
    UnknownFunctionException
        If there is no such function, version or alias.
    """
    if name.startswith("arn:"):
        region = name.split(":")[3]
    name, _, own_qualifier = name.rpartition(":function:")[2].partition(":")
    qualifier = own_qualifier or qualifier
    if qualifier == "$LATEST":
        qualifier = None
    functions = lambda_backends[DEFAULT_ACCOUNT_ID][region]
    function = functions.get_function(name, qualifier)
    handler = function.image_config.cmd[0] if function.image_config.cmd else function.handler
    arn = functions.get_function(name).function_arn
    return FunctionSettings(
        name=function.function_name,
        arn=f"{arn}:{qualifier}" if qualifier else arn,
        version=str(function.version) if qualifier else "$LATEST",
        region=region,
        handler=str(handler),
        timeout_s=float(function.timeout),
        memory_mb=int(function.memory_size),
        environment=tuple(sorted(function.environment_vars.items())),
        revision=str(function.code_sha_256),
    )


def _json(content: object) -> Response:
    return Response(json.dumps(content), content_type="application/json")


def _refusal(status: int, error_type: str, message: str) -> Response:
    response = Response(json.dumps({"Type": "User", "Message": message}), status=status)
    response.content_type = "application/json"
    response.headers["x-amzn-ErrorType"] = error_type
    return response


def _client_error(status: int, code: str, message: str) -> ClientError:
    metadata: Any = {"HTTPStatusCode": status, "RequestId": str(uuid.uuid4())}
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}, "Invoke")
