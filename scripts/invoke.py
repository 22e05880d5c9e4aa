"""`make invoke FUNCTION=infer EVENT=event.json`: one handler, run as Lambda runs it."""

import json
import sys
from pathlib import Path
from typing import Any

from inference.contract import SAMPLE_PREFIX
from scripts.command.errors import COMPLETE, FAILED, UsageError
from scripts.command.program import start
from scripts.command.repository import REPOSITORY
from scripts.command.variables import Flag, Variables, read_text
from scripts.deployment.stages import read_stages
from scripts.local_aws.clone import answer_from_clone
from scripts.local_aws.container import answer_from_image
from scripts.local_aws.deploy import deploy, upload_sample
from scripts.local_aws.server import LocalAws

BUCKET_KEYS = {"bucket", "data_bucket", "bucket_name"}
LOG_DIR = REPOSITORY / "runs" / "invoke"


class InvokeVariables(Variables, frozen=True, kw_only=True):
    """What `make invoke` reads."""

    function: str = ""
    """Stage: initialize, infer or summarize."""

    event: str = ""
    """File with the event, JSON."""

    image: Flag = False
    """Run the handler of the built image."""


def main(variables: InvokeVariables) -> int:
    """Invoke one handler under the Lambda Runtime Interface Emulator.

    Its result goes to stdout, its log and REPORT line to stderr. The local S3 holds the bucket `redshift-local`, with
    the sample dataset when the event reads it.
    """
    stages = read_stages()
    if variables.function not in stages:
        raise UsageError(f"There is no function {variables.function!r}. FUNCTION is one of: {', '.join(stages)}.")
    event = _read_event(variables.event)
    with LocalAws(log_dir=LOG_DIR, workers=1) as aws:
        deployment = deploy(aws)
        _check_buckets(event, deployment.bucket)
        if _reads_sample(event):
            upload_sample(aws, deployment.bucket)
        answer, log = (answer_from_image if variables.image else answer_from_clone)(aws, variables.function, event)
    sys.stderr.write(log)
    print(json.dumps(answer.payload, indent=2))
    return FAILED if answer.error else COMPLETE


def _read_event(path: str) -> dict[str, Any]:
    if not path:
        raise UsageError("No event is given: EVENT=tests/events/rank_task.json")
    try:
        event = json.loads(read_text("EVENT", Path(path)))
    except ValueError as error:
        raise UsageError(f"EVENT={path} is not JSON: {error}.") from error
    if not isinstance(event, dict):
        raise UsageError(f"EVENT={path} holds no JSON object.")
    return event


# ------------------------------------------------------------------------------------------------ the local S3


def _check_buckets(event: dict[str, Any], bucket: str) -> None:
    named = {str(value) for key, value in _pairs(event) if key in BUCKET_KEYS and value is not None}
    if unknown := sorted(named - {bucket}):
        raise UsageError(f"The event's bucket {unknown[0]!r} does not exist here; the local S3 holds {bucket!r} only.")


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
    start(main)
