"""`make invoke FUNCTION=infer EVENT=event.json`: one handler, run as Lambda runs it."""

import base64
import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import boto3
import typer

from inference.contract import SAMPLE_PREFIX
from scripts.command.repository import REPOSITORY
from scripts.deployment.image.engine import EngineError
from scripts.deployment.stages import read_stages
from scripts.local_aws.container import answer_from_image
from scripts.local_aws.deploy import deploy, upload_sample
from scripts.local_aws.rie import EmulatorUnavailableError
from scripts.local_aws.server import LocalAws, LocalAwsError

BUCKET_KEYS = {"bucket", "data_bucket", "bucket_name"}
LOG_DIR = REPOSITORY / "runs" / "invoke"


def main(
    function: Annotated[str, typer.Option(envvar="FUNCTION", help="Stage: initialize, infer or summarize.")] = "",
    event: Annotated[str, typer.Option(envvar="EVENT", help="File with the event, JSON.")] = "",
    image: Annotated[bool, typer.Option(envvar="IMAGE", help="Run the handler of the built image.")] = False,
) -> None:
    """Invoke one handler through the Lambda runtime: its result goes to stdout, its log and REPORT line to stderr.

    The local S3 holds the bucket `redshift-local`, with the sample dataset when the event reads it.
    """
    stages = read_stages()
    if function not in stages:
        _refuse(f"There is no function {function!r}. FUNCTION is one of: {', '.join(stages)}.")
    payload = _read_event(event)
    try:
        with LocalAws(log_dir=LOG_DIR, workers=1) as aws:
            deployment = deploy(aws)
            _check_buckets(payload, deployment.bucket)
            if _reads_sample(payload):
                upload_sample(aws, deployment.bucket)
            answer = (answer_from_image if image else _invoke)(aws, function, payload)
    except (EngineError, EmulatorUnavailableError, LocalAwsError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    raise typer.Exit(_print(answer))


def _read_event(path: str) -> dict[str, Any]:
    if not path:
        _refuse("No event is given: EVENT=tests/events/rank_task.json")
    try:
        event = json.loads(Path(path).read_text())
    except OSError as error:
        _refuse(f"The event file {path} cannot be read: {error.strerror}.")
    except ValueError as error:
        _refuse(f"The event file {path} is not JSON: {error}.")
    if not isinstance(event, dict):
        _refuse(f"The event file {path} holds no JSON object.")
    return event


def _refuse(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(2)


def _invoke(aws: LocalAws, function: str, payload: dict[str, Any]) -> dict[str, Any]:
    functions = boto3.client("lambda", **aws.credentials)
    answer: dict[str, Any] = functions.invoke(FunctionName=function, Payload=json.dumps(payload), LogType="Tail")
    return answer | {"Payload": answer["Payload"].read().decode()}


def _print(answer: dict[str, Any]) -> int:
    """Print log and result; return the exit status."""
    sys.stderr.write(base64.b64decode(answer["LogResult"]).decode(errors="replace"))
    print(json.dumps(json.loads(answer["Payload"]), indent=2))
    return 1 if "FunctionError" in answer else 0


# ------------------------------------------------------------------------------------------------ the local S3


def _check_buckets(event: dict[str, Any], bucket: str) -> None:
    named = {str(value) for key, value in _pairs(event) if key in BUCKET_KEYS and value is not None}
    if strangers := sorted(named - {bucket}):
        _refuse(f"The event's bucket {strangers[0]!r} does not exist here; the local S3 holds {bucket!r} only.")


def _reads_sample(event: dict[str, Any]) -> bool:
    """Return whether the event names an object of the sample dataset, or a request that defaults to it."""
    names = {key for key, _ in _pairs(event)}
    has_default = isinstance(event.get("request"), dict) and not names & {"data_prefix", "dataset_path"}
    return has_default or any(str(value).strip("/").startswith(SAMPLE_PREFIX.strip("/")) for _, value in _pairs(event))


def _pairs(value: Any, key: str = "") -> list[tuple[str, Any]]:
    """Return every key and value of nested JSON."""
    if isinstance(value, dict):
        return [pair for name, inner in value.items() for pair in _pairs(inner, name)]
    if isinstance(value, list):
        return [pair for inner in value for pair in _pairs(inner, key)]
    return [(key, value)]


if __name__ == "__main__":
    typer.run(main)
