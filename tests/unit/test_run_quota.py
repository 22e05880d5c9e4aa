"""No more ranks run at the same time than the account has room for."""

import pytest

from scripts.deployment.quota import room, waves_note
from scripts.runs.target import AwsTarget
from tests.unit.test_doctor import StubbedAccount, concurrency, make_stack


def account(unreserved: int, reserved: int | None = None) -> StubbedAccount:
    kept = {} if reserved is None else {"ReservedConcurrentExecutions": reserved}
    there = StubbedAccount().answers("lambda", "get_function_concurrency", kept)
    return there if kept else there.answers("lambda", "get_account_settings", concurrency(unreserved))


def test_a_function_has_what_is_reserved_for_it_or_else_what_the_account_has_left() -> None:
    assert room(account(10), "infer") == 10
    assert room(account(10, reserved=64), "infer") == 64


def test_an_account_that_may_not_be_asked_is_no_reason_to_stop() -> None:
    def refusing() -> StubbedAccount:
        return StubbedAccount().refuses("lambda", "get_function_concurrency", "AccessDeniedException", 403)

    assert room(refusing(), "infer") is None
    assert AwsTarget(make_stack(), refusing()).within_account().max_concurrency == make_stack().max_concurrency


@pytest.mark.parametrize(("unreserved", "expected"), [(10, 10), (5_000, 1_000), (0, 1)])
def test_a_run_asks_for_what_is_deployed_or_less_where_the_account_has_no_room(unreserved: int, expected: int) -> None:
    stack = make_stack(max_concurrency=1_000)

    assert AwsTarget(stack, account(unreserved)).within_account().max_concurrency == expected


@pytest.mark.parametrize(("limit", "world_size", "num_notes"), [(10, 64, 1), (1000, 64, 0), (10, 10, 0), (10, None, 0)])
def test_ranks_that_wait_in_turns_are_announced(limit: int, world_size: int | None, num_notes: int) -> None:
    notes = waves_note(limit, world_size)

    assert len(notes) == num_notes
    assert all("10 of 64 ranks run at a time, the others wait in turns" in note for note in notes)
