"""How a command ends: one line for an error, and an exit status that says whose it is."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from botocore.exceptions import BotoCoreError, ClientError

from inference.errors import RunError
from scripts.command.aws_errors import explain
from scripts.command.errors import FAILED, INTERRUPTED, CommandError


def settle_terminal() -> None:
    """Let SIGTERM end a command in order, as Ctrl-C does, and no terminal be too old for what it prints."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """End the command with a line on stderr and its exit status when the block raises."""
    settle_terminal()
    try:
        yield
    except CommandError as error:
        _end(str(error), error.status, error)
    except (RunError, OSError) as error:
        _end(str(error), FAILED, error)
    except (BotoCoreError, ClientError) as error:
        _end(explain(error), FAILED, error)
    except KeyboardInterrupt as error:
        _end("Interrupted.", INTERRUPTED, error)


def _end(line: str, status: int, error: BaseException) -> None:
    print(line, file=sys.stderr)
    raise typer.Exit(status) from error
