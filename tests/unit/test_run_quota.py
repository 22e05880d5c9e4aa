import pytest

from scripts.deployment.quota import waves_note
from tests.unit.test_doctor import StubbedAccount, concurrency


@pytest.mark.parametrize(("limit", "world_size", "num_notes"), [(10, 64, 1), (1000, 64, 0), (10, 10, 0), (10, None, 0)])
def test_ranks_that_do_not_fit_the_account_are_told_before_the_run(
    limit: int, world_size: int | None, num_notes: int
) -> None:
    account = StubbedAccount().answers("lambda", "get_account_settings", concurrency(limit))

    notes = waves_note(account, world_size)

    assert len(notes) == num_notes
    assert all("10 invocations at a time: 64 ranks wait in turns" in note for note in notes)


def test_an_account_that_may_not_be_asked_is_no_reason_to_stop() -> None:
    account = StubbedAccount().refuses("lambda", "get_account_settings", "AccessDeniedException", 403)

    assert waves_note(account, 64) == []
