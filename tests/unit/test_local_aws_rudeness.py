"""What a rude AWS refuses, and when: pure, on a clock of the test."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial

import pytest

from scripts.local_aws.rudeness import NO_ANSWER, SLOW_ANSWER_S, RefusedError, Rude, Rudeness


def test_no_more_run_at_the_same_time_than_there_is_room_for() -> None:
    rude = Rude(Rudeness(concurrency=2))

    with rude.invocation("a"), rude.invocation("b"):
        with pytest.raises(RefusedError, match="Rate Exceeded") as refused, rude.invocation("a"):
            pass
        assert (refused.value.status, refused.value.code) == (429, "TooManyRequestsException")
    with rude.invocation("a"), rude.invocation("a"):
        pass


def refused(action: Callable[[], AbstractContextManager[None] | None]) -> tuple[int, str] | None:
    """Return status and code of a refusal; None where there is none."""
    try:
        with action() or nullcontext():
            return None
    except RefusedError as error:
        return error.status, error.code


def test_a_function_wakes_some_time_after_its_first_invocation() -> None:
    times_s = iter((0, 59, 59, 60, 61))
    rude = Rude(Rudeness(inactive_s=60), now=lambda: next(times_s))
    asleep = (409, "CodeArtifactUserPendingException")

    answers = [refused(partial(rude.invocation, function)) for function in "aabab"]

    assert answers == [asleep, asleep, asleep, None, asleep]


def test_every_fifth_request_to_s3_fails_in_one_way_after_another() -> None:
    waited_s: list[float] = []
    rude = Rude(Rudeness(s3_failure_every=5), sleep=waited_s.append)
    slow, broken, gone = (503, "SlowDown"), (500, "InternalError"), (NO_ANSWER, "ConnectionReset")

    answers = [refused(rude.answer_s3) for _ in range(26)]

    # The twentieth is answered, late.
    assert answers == [{5: slow, 10: broken, 15: gone, 25: slow}.get(number) for number in range(1, 27)]
    assert waited_s == [SLOW_ANSWER_S]


def test_ranks_start_one_after_another_at_the_rate_of_the_map() -> None:
    waited: list[float] = []
    rude = Rude(Rudeness(starts_per_s=100), now=lambda: 5.0, sleep=waited.append)

    for _ in range(4):
        rude.start_rank()

    assert waited == pytest.approx([0.01, 0.02, 0.03])


def test_ranks_that_come_late_do_not_start_all_at_once() -> None:
    times_s = iter((5.0, 9.0, 9.0))
    waited: list[float] = []
    rude = Rude(Rudeness(starts_per_s=100), now=lambda: next(times_s), sleep=waited.append)

    for _ in range(3):
        rude.start_rank()

    assert waited == pytest.approx([0.01])


def test_a_function_gets_so_many_environments_more_every_ten_seconds_and_keeps_them() -> None:
    times_s = iter((0, 0, 0, 9, 10, 10, 10, 10))
    rude = Rude(Rudeness(environments_per_10_s=2), now=lambda: next(times_s))
    no_room = (429, "TooManyRequestsException")
    with ExitStack() as running:

        def begin() -> tuple[int, str] | None:
            return refused(lambda: running.enter_context(rude.invocation("a")))

        assert [begin() for _ in range(4)] == [None, None, no_room, no_room]
        assert [begin() for _ in range(3)] == [None, None, no_room]
    assert refused(partial(rude.invocation, "a")) is None


def test_a_session_ends_after_so_many_requests() -> None:
    rude = Rude(Rudeness(session_requests=2))

    answers = [refused(rude.answer_session) for _ in range(4)]

    assert answers == [None, None, (400, "ExpiredToken"), (400, "ExpiredToken")]


def test_nothing_is_refused_unless_it_is_asked_for() -> None:
    rude = Rude(Rudeness())
    for _ in range(100):
        rude.answer_s3()

        rude.answer_session()
        rude.start_rank()

    with rude.invocation("a"), rude.invocation("a"), rude.invocation("a"):
        pass


def test_a_refusal_is_worded_as_the_service_words_it() -> None:
    refusal = RefusedError(429, "TooManyRequests", "Rate Exceeded.")

    kind, xml = refusal.as_xml()
    assert kind == "application/xml"
    assert xml == b"<Error><Code>TooManyRequests</Code><Message>Rate Exceeded.</Message></Error>"
    kind, document = refusal.as_json()
    assert (kind, json.loads(document)) == (
        "application/json",
        {"__type": "TooManyRequestsException", "message": "Rate Exceeded."},
    )
