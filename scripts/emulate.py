"""`make emulate`: the local AWS in the foreground, for the AWS CLI, boto3 or Terraform."""

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from scripts.local_aws.rie import EmulatorUnavailableError
from scripts.local_aws.server import LocalAws, LocalAwsError


def main(
    port: Annotated[int, typer.Option(envvar="PORT", help="Port to listen on; 0 takes a free one.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Workers per function; the number of cores by default.")] = None,
    log_dir: Annotated[Path, typer.Option(help="Folder of the logs.")] = Path("runs/emulate"),
) -> None:
    """Serve AWS on 127.0.0.1 until Ctrl-C."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with LocalAws(log_dir=log_dir, workers=workers, port=port) as aws:
            for name, value in aws.environment.items():
                print(f"export {name}={value}")
            print(f"Local AWS at {aws.endpoint_url}, logs in {log_dir}. Ctrl-C ends it.", file=sys.stderr)
            sys.stdout.flush()
            while aws.is_running() and not stop.wait(timeout=1):
                pass
    except (EmulatorUnavailableError, LocalAwsError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    typer.run(main)
