import json

import pytest

from inference import contract
from scripts import schema


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
