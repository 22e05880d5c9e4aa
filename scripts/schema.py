"""Write the JSON Schema of every published payload to `docs/schema/`, or check that it is up to date."""

import ast
import inspect
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from inference import contract
from scripts.command.errors import CommandError
from scripts.command.program import start_one_of
from scripts.command.variables import Variables
from scripts.runs import smoke_report

SCHEMA_DIR = Path(__file__).parents[1] / "docs" / "schema"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class SchemaVariables(Variables, frozen=True, kw_only=True):
    """It has none."""


def write(_: SchemaVariables) -> None:
    """Write the JSON Schema of every published payload to docs/schema/."""
    wanted = schemas()
    SCHEMA_DIR.mkdir(parents=True, exist_ok=True)
    for name in outdated(wanted, SCHEMA_DIR):
        target = SCHEMA_DIR / name
        if name in wanted:
            target.write_text(wanted[name], encoding="utf-8")
        else:
            target.unlink()
        print(f"{'wrote' if name in wanted else 'removed'} docs/schema/{name}")


def check(_: SchemaVariables) -> None:
    """Write nothing; fail when a file of docs/schema is not up to date."""
    wanted = schemas()
    if differing := outdated(wanted, SCHEMA_DIR):
        raise CommandError(f"docs/schema is not up to date ({', '.join(differing)}): run `make schema`.")
    print(f"docs/schema is up to date: {len(wanted)} schemas.")


def schemas() -> dict[str, str]:
    """Return name of the file to its content, of every published payload."""
    kinds: tuple[type[msgspec.Struct], ...] = (*contract.SCHEMAS, smoke_report.SmokeReport)
    return {f"{kind.__name__}.json": schema_text(kind) for kind in kinds}


def outdated(wanted: dict[str, str], folder: Path) -> list[str]:
    """Return the names of the schema files in `folder` that differ, are missing or are left over."""
    present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def schema_text(kind: type[msgspec.Struct]) -> str:
    """Return the JSON Schema of `kind`, with the docstring below each field as its description."""
    schema: dict[str, Any] = {"$schema": DIALECT, **msgspec.json.schema(kind)}
    for name, definition in schema["$defs"].items():
        struct = getattr(contract, name, None) or getattr(smoke_report, name)
        spelling = dict(zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True))
        for field, description in _documented_fields(struct):
            definition["properties"][spelling[field]]["description"] = description
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _documented_fields(struct: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    """Yield each field and the docstring below it; Python itself drops those."""
    definition = ast.parse(inspect.getsource(struct)).body[0]
    assert isinstance(definition, ast.ClassDef), "the source of a class is one"
    for field, below in pairwise(definition.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)


if __name__ == "__main__":
    start_one_of({"write": write, "check": check})
