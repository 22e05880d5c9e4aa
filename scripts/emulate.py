"""`make emulate`: the local AWS in the foreground, for the AWS CLI, boto3 or Terraform."""

import socket
import sys
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from scripts.command.errors import UsageError
from scripts.command.program import start
from scripts.command.variables import Flag, Variables, Whole
from scripts.local_aws.rudeness import Rudeness
from scripts.local_aws.server import LocalAws, stop_signals


class EmulateVariables(Variables, frozen=True, kw_only=True):
    """What `make emulate` reads."""

    port: Annotated[int, Meta(ge=0, le=65535, description="a port from 0 to 65535")] = 0
    """Port to listen on; 0 takes a free one."""

    workers: Whole = 0
    """Invocations of one function at the same time; 0 takes the number of cores."""

    log_dir: str = "runs/emulate"
    """Folder of the logs."""

    concurrency: Whole = 0
    """Invocations at the same time beyond which it refuses, as an account does; 0 takes any number."""

    inactive_s: Whole = 0
    """How long each function takes to wake, as one that was not called for weeks [s]."""

    s3_failure_every: Whole = 0
    """Every which request S3 fails; 0 none."""

    starts_per_s: Whole = 0
    """Ranks that a Map starts in a second; 0 takes any number."""

    all_cold: Flag = False
    """Whether every invocation starts a process of its own."""


def main(variables: EmulateVariables) -> None:
    """Serve AWS on 127.0.0.1 until Ctrl-C."""
    _refuse_taken(variables.port)
    stop = stop_signals()
    rudeness = Rudeness(
        concurrency=variables.concurrency,
        inactive_s=variables.inactive_s,
        s3_failure_every=variables.s3_failure_every,
        starts_per_s=variables.starts_per_s,
        all_cold=variables.all_cold,
    )
    log_dir, workers = Path(variables.log_dir), variables.workers or None
    with LocalAws(log_dir=log_dir, workers=workers, port=variables.port, rudeness=rudeness) as aws:
        for name, value in aws.environment.items():
            print(f"export {name}={value}")
        print(f"Local AWS at {aws.endpoint_url}, logs in {variables.log_dir}. Ctrl-C ends it.", file=sys.stderr)
        sys.stdout.flush()
        aws.wait(stop)


def _refuse_taken(port: int) -> None:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return
    except OSError as error:
        raise UsageError(
            f"PORT={port}: {error.strerror or error}. Another program may listen there; PORT=0 takes a free one."
        ) from error


if __name__ == "__main__":
    start(main)
