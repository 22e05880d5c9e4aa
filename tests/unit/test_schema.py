import json
from pathlib import Path

import pytest

from inference import contract
from scripts import schema
from scripts.command.program import exit_status


def test_the_written_schemas_are_up_to_date() -> None:
    assert schema.outdated(schema.schemas(), schema.SCHEMA_DIR) == []


def test_every_field_of_a_schema_is_described() -> None:
    definitions = [json.loads(text)["$defs"] for text in schema.schemas().values()]
    fields = [field for found in definitions for struct in found.values() for field in struct["properties"].values()]

    assert all("description" in field for field in fields)


def test_a_record_is_described_under_its_published_keys() -> None:
    properties = json.loads(schema.schema_text(contract.RankRecord))["$defs"]["RankRecord"]["properties"]

    assert properties["total_cpu_time (seconds)"]["description"].startswith("Wall time T")


@pytest.mark.parametrize(
    ("wanted", "present"),
    [({"A.json": "new"}, {"A.json": "old"}), ({"A.json": "new"}, {}), ({}, {"A.json": "old"})],
    ids=["changed", "missing", "left over"],
)
def test_a_schema_file_that_differs_is_named(wanted: dict[str, str], present: dict[str, str], tmp_path) -> None:
    for name, text in present.items():
        (tmp_path / name).write_text(text)

    assert schema.outdated(wanted, tmp_path) == ["A.json"]


def test_schemas_are_written_where_they_differ_and_then_are_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "docs" / "schema"
    monkeypatch.setattr(schema, "SCHEMA_DIR", folder)
    wanted = schema.schemas()

    assert exit_status(schema.write, {}) == 0
    assert {path.name: path.read_text() for path in folder.iterdir()} == wanted
    capsys.readouterr()
    (folder / "Old.json").write_text("{}")
    (folder / "RunRequest.json").write_text("{}")
    assert exit_status(schema.check, {}) == 1
    assert "is not up to date (Old.json, RunRequest.json): run `make schema`" in capsys.readouterr().err
    assert exit_status(schema.write, {}) == 0
    assert capsys.readouterr().out == "removed docs/schema/Old.json\nwrote docs/schema/RunRequest.json\n"
    assert exit_status(schema.check, {}) == 0
    assert capsys.readouterr().out == f"docs/schema is up to date: {len(wanted)} schemas.\n"


def test_a_schema_is_read_by_people() -> None:
    text = schema.schema_text(contract.RunRequest)

    assert text.startswith('{\n  "$schema": "https://json-schema.org/draft/2020-12/schema",\n')
    assert text.endswith("}\n")
