"""Every row of the table, and one judge."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from inference.errors import RunError
from inference.fmi.wire import ProtocolError
from tests.fake_s3 import FakeS3
from tests.faults import document
from tests.faults.rows import Row, table
from tests.faults.world import LOST_BY_RECORD, World, judge, subclasses

ROWS = table()
TESTS = Path(__file__).parents[1]
ELSEWHERE = {
    "AuthError": "integration/test_fmi_failures.py",
    "FmiError": "unit/test_fmi_config.py",
    "FmiTimeout": "integration/test_fmi_failures.py",
    "InputError": "unit/test_library.py",
    "MessageMismatchError": "integration/test_fmi_failures.py",
    "PeerLost": "integration/test_fmi_failures.py",
    ProtocolError.__name__: "unit/test_fmi_wire.py",
    "RunFolderError": "unit/test_run_folder.py",
    "WeightsError": "unit/test_model_weights.py",
}
"""Errors that no run of this model raises, and the tests in which they occur."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_fault_ends_as_it_must(
    row: Row, functions: FakeS3, undisturbed: Sequence[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    row.arrange(world)
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    functions.otherwise = world.bucket.answer
    functions.asked.clear()

    outcome = world.run()

    assert outcome.words == row.end, outcome.message
    judge(outcome, row.names, undisturbed)


def test_a_judge_that_is_shown_a_lie_does_not_believe_it(functions: FakeS3, undisturbed: Sequence[bytes]) -> None:
    world = World()
    functions.otherwise = world.bucket.answer
    outcome = world.run()
    key = world.own("predictions/00002.npz")
    true = world.bucket.objects[key]

    for lie in (world.bucket.objects[world.own("predictions/00001.npz")], true[:-1] + b"x"):
        world.bucket.objects[key] = lie
        with pytest.raises(AssertionError, match="other bits"):
            judge(outcome, "", undisturbed)
    world.bucket.objects[key] = true
    for said in (replace(outcome, seconds=100.0), replace(outcome, error="KeyError"), replace(outcome, summary=None)):
        with pytest.raises(AssertionError):
            judge(said, "", undisturbed)
    with pytest.raises(AssertionError):
        judge(outcome, "a name that no one said", undisturbed)


def test_every_error_of_a_run_occurs_in_the_table_or_where_it_is_said_to() -> None:
    in_table = {name for row in ROWS for name in re.findall(r"[A-Za-z.]+", row.end)}
    errors = {error.__name__ for error in subclasses(RunError)} - {"RunError"}

    assert in_table >= LOST_BY_RECORD
    assert errors - in_table == ELSEWHERE.keys() | {"IncompleteRunError"}
    for name, file in ELSEWHERE.items():
        assert name in (TESTS / file).read_text(), f"{file} has no {name} any more"


def test_the_rows_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len({row.id for row in ROWS}) == len(ROWS) >= 120


def test_the_table_in_the_documentation_is_this_one() -> None:
    assert document.PATH.read_text() == document.text(), "`make faults` writes it"
