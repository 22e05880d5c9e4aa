"""A function of variables as a program: how it starts, and how it ends."""

import gc
import inspect
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, get_type_hints

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from inference.errors import RunError
from scripts.command.aws_errors import explain
from scripts.command.errors import COMPLETE, FAILED, INTERRUPTED, WRONG_USAGE, CommandError
from scripts.command.exhausted import out_of_memory, with_remedy
from scripts.command.variables import GIVEN, IGNORED, V, Variables, expected, ignored_variables, read_variables

Main = Callable[[V], int | None]
"""What a command does; its exit status, None for 0."""


def start(main: Main[V]) -> NoReturn:
    """Run a command with the variables of the environment and end the process."""
    _collect_garbage_of_the_command()
    if len(sys.argv) > 1:
        _end_with_help(sys.argv[1:], usage(main))
    sys.exit(exit_status(main, _environment()))


def start_one_of(mains: Mapping[str, Main[V]]) -> NoReturn:
    """Run the command that the first argument names and end the process."""
    _collect_garbage_of_the_command()
    name, *others = sys.argv[1:] or [""]
    if name not in mains or others:
        _end_with_help(sys.argv[1:], f"There are: {', '.join(mains)}.")
    sys.exit(exit_status(mains[name], _environment()))


def _collect_garbage_of_the_command() -> None:
    """Look for garbage from now on, and never in what was imported."""
    gc.freeze()
    gc.enable()


def exit_status(main: Main[V], environment: Mapping[str, str]) -> int:
    """Run a command to its end; an error that a user can do something about becomes one message on stderr.

    Parameters
    ----------
    main : callable
        Takes one argument, whose annotation is the command's struct.
    environment : mapping
        Where its variables are.
    """
    _settle_terminal()
    given: dict[str, object] = {}
    try:
        variables = read_variables(_kind_of(main), environment)
        for name in ignored_variables(_kind_of(main), environment):
            _said(f"{name} is set in the environment, where it does not count: write {name}=… behind make.", COMPLETE)
        given = variables.given
        return main(variables) or COMPLETE
    except CommandError as error:
        return _said(with_remedy(str(error)), error.status)
    except (RunError, OSError) as error:
        return _said(with_remedy(str(error)), FAILED)
    except MemoryError as error:
        return _said(out_of_memory(error, given), FAILED)
    except (BotoCoreError, ClientError) as error:
        return _said(explain(error), FAILED)
    except KeyboardInterrupt:
        return _said("Interrupted.", INTERRUPTED)


def usage(main: Main[V]) -> str:
    """Return what a command does and its variables, one a line."""
    kind = _kind_of(main)
    hints = get_type_hints(kind, include_extras=True)
    lines = [f"  {field.encode_name:<16} {expected(hints[field.name])}" for field in msgspec.structs.fields(kind)]
    return "\n".join([inspect.cleandoc(main.__doc__ or ""), "", "Variables, in the environment:", *lines])


def _environment() -> Mapping[str, str]:
    """Return the environment, and keep from programs started below what was written behind this one's make."""
    environment = dict(os.environ)
    for name in (GIVEN, IGNORED):
        os.environ.pop(name, None)
    return environment


def _kind_of(main: Main[V]) -> type[V]:
    kind: type[V] = next(iter(get_type_hints(main).values()))
    assert issubclass(kind, Variables), f"{main} takes its variables"
    return kind


def _settle_terminal() -> None:
    """Let SIGTERM end a command in order, as Ctrl-C does, and no terminal be too old for what it prints."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as it was while the command was imported
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def _said(line: str, status: int) -> int:
    from rich.console import Console

    from scripts.command.console import say

    say(Console(stderr=True, highlight=False), line)
    return status


def _end_with_help(arguments: Sequence[str], text: str) -> NoReturn:
    asked = list(arguments) in (["--help"], ["-h"])
    print(text, file=sys.stdout if asked else sys.stderr)
    sys.exit(COMPLETE if asked else WRONG_USAGE)
