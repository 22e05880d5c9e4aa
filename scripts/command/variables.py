"""The variables behind `make`: one struct per command says which there are and what each must be."""

import difflib
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from inference.contract import PUBLISHED_ROWS
from inference.models.card import NAME
from scripts.command.errors import UsageError

V = TypeVar("V", bound="Variables")

GIVEN = "GIVEN_VARIABLES"
"""Where make says which names were written behind it."""
IGNORED = "IGNORED_VARIABLES"
"""Where make says which of its names other programs have set."""
OF_SYSTEMS = ("NAME",)
"""What some systems set for every program."""
OF_EVERY_COMMAND = ("PYTHON", "VENV", "YES")
"""What the set-up of `.venv` reads, before any command."""
OF_PROGRAMS = re.compile(
    r"(AWS|PIP|UV|TF|DOCKER|XDG|OMP)_.*|((HTTPS?|ALL|NO)_PROXY)|NO_COLOR|SHELL|PATH|HOME|TMPDIR", re.IGNORECASE
)
"""Names that are meant for the programs below a command, to which make hands them too."""

Flag = Annotated[bool, Meta(description="1 or 0")]
Whole = Annotated[int, Meta(ge=0, description="a whole number from 0")]

NumRows = Annotated[
    Literal["small", "medium", "large"] | Annotated[int, Meta(ge=1)],
    Meta(description="a whole number of rows from 1, or small, medium, large: 250, 626, 1253"),
]
"""See `rows_asked`."""

FolderName = Annotated[
    str, Meta(pattern=NAME, description="letters, digits, dots, dashes and underscores, the name of a folder")
]


def rows_asked(rows: int | str) -> int:
    """Return a number of rows, of which some have the names of published sizes."""
    return PUBLISHED_ROWS[rows] if isinstance(rows, str) else rows


def _variable(field: str) -> str:
    """Return the variable of a field: `from_` is FROM, a name that Python keeps for itself."""
    return field.upper().rstrip("_")


class Variables(msgspec.Struct, frozen=True, kw_only=True, rename=_variable):
    """Base of the variables of a command: a field per variable, absent ones keep their default.

    The description of a field's type says what a value must be, for the message about one that is not.
    """

    @property
    def given(self) -> dict[str, Any]:
        """Name to value of every variable that has another value than its default."""
        return {
            field.encode_name: value
            for field in msgspec.structs.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }


def read_variables(kind: type[V], environment: Mapping[str, str]) -> V:
    """Read the variables of a command; an empty one counts as not given.

    Parameters
    ----------
    kind : type
        The command's struct.
    environment : mapping
        Name to text, where make puts what was written behind it; other names are not looked at.

    Raises
    ------
    UsageError
        If a value has the wrong type or range; the message names the variable and what it must be. Or if something was
        written behind make that is no variable of the command; the message names the nearest.
    """
    _refuse_unknown(environment.get(GIVEN, "").split(), kind)
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        text = environment.get(field.encode_name, "").strip()
        if text:
            values[field.name] = read_value(field.encode_name, text, hints[field.name])
    return kind(**values)


def ignored_variables(kind: type[V], environment: Mapping[str, str]) -> list[str]:
    """Return the variables of a command that are set in the environment, where they do not count."""
    known = {field.encode_name for field in msgspec.structs.fields(kind)}.difference(OF_SYSTEMS)
    return [name for name in environment.get(IGNORED, "").split() if name in known]


def _refuse_unknown(given: Sequence[str], kind: type[V]) -> None:
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    for name in given:
        if name in (*known, *OF_EVERY_COMMAND) or OF_PROGRAMS.fullmatch(name):
            continue
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.65)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(f"{name} is no variable of this command.{meant} It takes {', '.join(known) or 'none'}.")


def read_value(name: str, text: str, kind: Any, *, words: str = "") -> Any:
    """Read the value of one variable.

    Parameters
    ----------
    name, text : str
        The variable as it was given.
    kind : type
        What it must be; see `Variables`.
    words : str
        Where it was given, for the message; its name when empty.

    Raises
    ------
    UsageError
        As `read_variables`.
    """
    # 100,000 and 100_000 are numbers to a person.
    value = re.sub(r"[,_]", "", text) if int in _plain(kind) and re.fullmatch(r"\d[\d,_]*", text) else text
    try:
        return msgspec.convert(value, kind, strict=False, dec_hook=lambda kind, text: kind(text))  # a Path
    except msgspec.ValidationError as error:
        raise UsageError(f"{words or name}={text} is not valid: {name} is {expected(kind)}.") from error


def expected(kind: Any) -> str:
    """Say what a value of this type must be."""
    for part in _parts(kind):
        for meta in getattr(part, "__metadata__", ()):
            if isinstance(meta, Meta) and meta.description:
                return meta.description
        if get_origin(part) is Literal:
            return " or ".join(map(str, get_args(part)))
    raise TypeError(f"{kind} says not what it must be: give its type a description.")


def _parts(kind: Any) -> Iterator[Any]:
    yield kind
    if get_origin(kind) in (Annotated, Union, types.UnionType):
        for part in get_args(kind):
            yield from _parts(part)


def _plain(kind: Any) -> list[Any]:
    return [part for part in _parts(kind) if isinstance(part, type)]


def read_text(variable: str, source: Path) -> str:
    """Read the file that a variable names.

    Raises
    ------
    UsageError
        If it is missing or cannot be read as text.
    """
    try:
        return source.expanduser().read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"{variable}={source}: there is no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{variable}={source} cannot be read: {error}.") from error
