import io
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import ClientError
from msgspec import structs
from rich.console import Console

from inference import contract
from scripts.command.errors import CommandError
from scripts.local_aws.admission import KEY_HEADER
from scripts.local_aws.deploy import DEFINITION_PATH
from scripts.runs import execution
from scripts.runs.ending import Ending
from scripts.runs.follow import LiveLine, live_line
from scripts.runs.map_run import MapRunObserver
from scripts.runs.observe import Invocations, Observer, Progress, local_invocations
from scripts.runs.patience import longest_quiet_s
from tests.factories import make_task
from tests.fake_s3 import Answer, serve

PREFIX = "runs/run-a/"


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class FakeStore:
    """A bucket in memory."""

    def __init__(self, *keys: str, manifest: list[contract.RankTask] | None = None) -> None:
        self.objects = dict.fromkeys(keys, b"")
        if manifest:
            self.objects[PREFIX + "manifest.json"] = contract.encode(manifest)

    def list_keys(self, prefix: str) -> list[str]:
        return [key for key in self.objects if key.startswith(prefix)]

    def read(self, key: str) -> bytes | None:
        return self.objects.get(key)


class FakeStates:
    """Step Functions that answers DescribeExecution from a list, and keeps what it is asked to start and to stop."""

    def __init__(self, *descriptions: dict[str, Any]) -> None:
        self.descriptions = list(descriptions)
        self.asked: list[dict[str, Any]] = []

    def describe_execution(self, **_: str) -> dict[str, Any]:
        return self.descriptions.pop(0)

    def start_execution(self, **asked: str) -> dict[str, str]:
        self.asked.append(asked)
        return {"executionArn": "arn"}

    def stop_execution(self, **asked: str) -> None:
        self.asked.append(asked)


def make_progress(**changes: Any) -> Progress:
    fields = {"world_size": 8, "num_rows": 3071, "done": 5, "running": 2, "rows_done": 1920, "rows_per_s": 412.4}
    return Progress(**{"elapsed_s": 12.0, **fields, **changes})


def make_console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None)


def printed(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()


# ----------------------------------------------------------------------------------- what is looked at


def test_before_the_manifest_nothing_is_known_but_the_time() -> None:
    clock = Clock()
    clock.now_s = 100.0
    observer = Observer(FakeStore(), PREFIX, invocations=Invocations, now=clock)
    later = Observer(FakeStore(), PREFIX, invocations=Invocations, now=clock, elapsed_s=7.0)
    clock.now_s = 103.0

    found = observer.look()
    assert found == Progress(3.0)
    assert (found.world_size, found.num_rows, found.done, found.failed, found.running) == (None, 0, 0, 0, 0)
    assert (found.retried, found.rows_done, found.rows_per_s, found.is_talking) == (0, 0, 0.0, False)
    assert later.look().elapsed_s == 10.0


def test_ranks_and_rows_are_counted_from_the_keys_of_the_run() -> None:
    tasks = [make_task(rank=rank, world_size=3, num_samples=10 + rank) for rank in range(3)]
    strange = PREFIX + "ranks/note.json"
    store = FakeStore(tasks[0].record_key, tasks[2].failure_key, strange, manifest=tasks)
    observer = Observer(store, PREFIX, invocations=lambda: Invocations(running=1, failed=3), now=Clock())

    progress = observer.look()

    assert (progress.world_size, progress.num_rows) == (3, 33)
    assert (progress.done, progress.rows_done, progress.failed) == (1, 10, 1)
    assert (progress.running, progress.retried) == (1, 2)


@pytest.mark.parametrize(
    ("num_done", "running", "is_talking"), [(1, 2, False), (2, 2, True), (2, 1, True), (2, 0, False)]
)
def test_ranks_that_are_done_and_still_run_are_meeting(num_done: int, running: int, is_talking: bool) -> None:
    comm = contract.CommTask(endpoint="localhost:1", token="a token", meet_by_s=1.0)
    tasks = [structs.replace(make_task(rank=rank, world_size=2), comm=comm) for rank in range(2)]
    store = FakeStore(*(task.record_key for task in tasks[:num_done]), manifest=tasks)

    assert Observer(store, PREFIX, lambda: Invocations(running=running), Clock()).look().is_talking is is_talking


def test_ranks_that_do_not_talk_are_never_meeting() -> None:
    task = make_task()
    store = FakeStore(task.record_key, manifest=[task])

    assert not Observer(store, PREFIX, lambda: Invocations(running=1), Clock()).look().is_talking


def test_rows_per_second_count_from_the_manifest() -> None:
    tasks = [make_task(num_samples=10)]
    store, clock = FakeStore(manifest=tasks), Clock()
    observer = Observer(store, PREFIX, invocations=Invocations, now=clock)
    observer.look()
    store.objects[tasks[0].record_key] = b""
    rates = []
    for clock.now_s in (0.0, 0.5, 2.0):
        rates.append(observer.look().rows_per_s)

    assert rates == [0.0, 20.0, 5.0]


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        (b'{"infer": {"running": 2, "failed": 3}}', Invocations(running=2, failed=3)),
        (b'{"infer": {}}', Invocations(running=0, failed=0)),
        (b'{"initialize": {"running": 1, "failed": 1}}', Invocations(running=0, failed=0)),
    ],
    ids=["ranks", "no counts yet", "no ranks yet"],
)
def test_the_local_aws_is_asked_for_the_counts_of_its_ranks(body: bytes, counts: Invocations) -> None:
    with serve() as server:
        server.script = [Answer(body=body)]

        assert local_invocations(server.url, "secret") == counts

    (asked,) = server.asked
    assert (asked.path, asked.headers[KEY_HEADER.lower()]) == ("/_local/functions", "secret")


# --------------------------------------------------------------------------------------- the live line


def test_the_line_says_everything_when_there_is_room() -> None:
    line = live_line(make_progress(), 200)

    assert line == "ranks 5/8 done · 2 running · 0 failed · 0 retried · rows 1,920/3,071 · 412 rows/s · 0:12"


@pytest.mark.parametrize("width", [80, 60, 40])
def test_the_line_fits_its_width(width: int) -> None:
    assert len(live_line(make_progress(world_size=10_000, num_rows=5_113_000), width)) <= width


def test_a_narrow_line_keeps_failures_rather_than_zeros() -> None:
    line = live_line(make_progress(failed=1), 50)

    assert "1 failed" in line
    assert "retried" not in line


WORDS = {
    "ranks 5/8 done": 0,
    "2 running": 3,
    "0 failed": 5,
    "0 retried": 6,
    "rows 1,920/3,071": 4,
    "412 rows/s": 2,
    "0:12": 1,
}
"""What a line says, and how soon a narrower one goes without it: the highest goes first."""

TROUBLE = {"9 failed": 1, "5 retried": 2, "9:05": 1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [({}, WORDS), ({"failed": 9, "retried": 5, "elapsed_s": 545.0}, {**WORDS, **TROUBLE})],
    ids=["well", "trouble"],
)
def test_a_line_that_gets_narrower_loses_the_least_important_words_first(
    changes: dict[str, int], words: dict[str, int]
) -> None:
    lines = [live_line(make_progress(**changes), width) for width in range(100, 0, -1)]

    lost = []
    for before, after in pairwise(lines):
        lost += [word for word in before.split(" · ") if word not in after.split(" · ")]
    said = [word for word in lines[0].split(" · ") if words[word]]
    assert [words[word] for word in lost] == sorted((words[word] for word in said), reverse=True)
    # What fits exactly is not shortened, and how many ranks are done is said on any screen.
    assert live_line(make_progress(**changes), len(lines[0])) == lines[0]
    assert lines[-1] == "ranks 5/8 done"


def test_when_every_rank_is_settled_the_line_says_what_happens_then() -> None:
    assert "summarizing" in live_line(make_progress(done=7, failed=1, running=0), 200)
    assert "meeting" in live_line(make_progress(done=8, running=3, is_talking=True), 200)


def test_hours_are_told() -> None:
    assert live_line(Progress(3725.0), 80) == "planning · 1:02:05"


def test_without_a_terminal_a_line_is_printed_every_few_seconds_at_most() -> None:
    console, clock = make_console(), Clock()
    with LiveLine(console, now=clock) as line:
        for second in range(8):
            clock.now_s = float(second)
            line.show(make_progress(done=second))

    assert [text.split()[1] for text in printed(console)] == ["0/8", "3/8", "6/8", "7/8"]


def test_a_line_that_a_program_reads_arrives_at_once() -> None:
    pipe = io.BytesIO()
    console = Console(file=io.TextIOWrapper(pipe), width=80)

    LiveLine(console, now=Clock()).show(make_progress())

    assert pipe.getvalue().startswith(b"ranks 5/8 done")


def test_without_a_terminal_nothing_is_repeated_while_only_time_passes() -> None:
    console, clock = make_console(), Clock()
    with LiveLine(console, now=clock) as line:
        for second in range(31):
            clock.now_s = float(second)
            line.show(make_progress(elapsed_s=clock.now_s))

    assert [text.split(" · ")[-1] for text in printed(console)] == ["0:00", "0:15", "0:30"]


def test_on_a_terminal_the_line_is_rewritten_and_removed() -> None:
    console = make_console(terminal=True)
    with LiveLine(console) as line:
        line.show(make_progress(done=1))
        assert "ranks 1/8 done" in console.file.getvalue()
        line.show(make_progress(done=2))

    assert "ranks 2/8 done" in console.file.getvalue()
    assert console.file.getvalue().endswith("\x1b[2K")


# ------------------------------------------------------------------------------------- the execution


def follow(*descriptions: dict[str, Any]) -> Ending:
    observer = Observer(FakeStore(), PREFIX, invocations=Invocations, now=Clock())
    with LiveLine(make_console()) as line:
        return execution.follow(FakeStates(*descriptions), "arn", observer, line, sleep=lambda _: None)


def test_an_execution_is_started_under_the_name_of_its_run_and_stopped_with_a_reason() -> None:
    states = FakeStates()

    assert execution.start(states, "machine", "run-a", {"bucket": "b"}) == "arn"
    execution.stop(states, "arn")

    assert states.asked == [
        {"stateMachineArn": "machine", "name": "run-a", "input": '{"bucket": "b"}'},
        {"executionArn": "arn", "error": "Interrupted", "cause": "The user stopped the run."},
    ]


def test_a_run_is_followed_until_its_execution_has_ended() -> None:
    assert follow({"status": "RUNNING"}, {"status": "RUNNING"}, {"status": "SUCCEEDED"}) == Ending("SUCCEEDED")


def test_the_error_of_a_function_is_told_without_its_json() -> None:
    cause = json.dumps(
        {"errorMessage": "world_size 9 is more than 3 rows.", "errorType": "PlanError", "stackTrace": []}
    )

    ending = follow({"status": "FAILED", "error": "PlanError", "cause": cause})

    assert ending == Ending("FAILED", "PlanError", "world_size 9 is more than 3 rows.")


def test_a_function_that_was_killed_says_that_memory_is_what_it_most_often_lacked() -> None:
    cause = json.dumps({"errorMessage": "RequestId: 1 Error: Runtime exited with error: signal: killed"})

    message = follow({"status": "FAILED", "error": "Runtime.ExitError", "cause": cause}).message

    assert "signal: killed" in message
    assert "its memory was used up: give it more" in message


@pytest.mark.parametrize("cause", ["the state timed out", "12", ""])
def test_the_cause_of_a_state_is_told_as_it_is(cause: str) -> None:
    assert follow({"status": "FAILED", "error": "States.Timeout", "cause": cause}).message == cause


def throttled() -> ClientError:
    return ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, "DescribeMapRun")


def test_a_throttled_look_doubles_the_pause_until_one_succeeds() -> None:
    pauses: list[float] = []
    answers: list[Any] = [*(throttled() for _ in range(6)), Progress(3.0), Progress(4.0)]

    class Watcher:
        def look(self) -> Progress:
            answer = answers.pop(0)
            if isinstance(answer, ClientError):
                raise answer
            return answer

    running = [{"status": "RUNNING"}] * 7
    with LiveLine(make_console()) as line:
        execution.follow(FakeStates(*running, {"status": "SUCCEEDED"}), "arn", Watcher(), line, sleep=pauses.append)

    assert pauses == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 1.0]


def test_an_error_that_is_no_throttling_ends_the_following() -> None:
    class Denied:
        def look(self) -> Progress:
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "DescribeMapRun")

    with LiveLine(make_console()) as line, pytest.raises(ClientError):
        execution.follow(FakeStates({"status": "RUNNING"}), "arn", Denied(), line, sleep=lambda _: None)


# ---------------------------------------------------------------------------------------- the Map Run

BEGAN = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


class FakeMapRun:
    """Step Functions with one Map Run, which begins when a test says so."""

    def __init__(self, **counts: int) -> None:
        self.arns: list[str] = []
        self.counts = dict.fromkeys(("succeeded", "failed", "timedOut", "aborted", "running", "pending"), 0) | counts
        self.running_children = ["child-1", "child-2"]
        self.status = "RUNNING"
        self.stopped: list[str] = []
        self.ended: dict[str, Any] = {}
        self.refusal = ""

    def list_map_runs(self, *, executionArn: str) -> dict[str, Any]:  # noqa: N803 -- boto3's name
        assert executionArn == "arn"
        return {"mapRuns": [{"mapRunArn": arn} for arn in self.arns]}

    def describe_map_run(self, *, mapRunArn: str) -> dict[str, Any]:  # noqa: N803
        assert mapRunArn in self.arns
        return {"itemCounts": self.counts, "startDate": BEGAN, "status": self.status, **self.ended}

    def get_paginator(self, _: str) -> "FakeMapRun":
        return self

    def paginate(self, *, mapRunArn: str, statusFilter: str) -> list[dict[str, Any]]:  # noqa: N803
        assert mapRunArn in self.arns
        assert statusFilter == "RUNNING"
        if self.refusal:
            raise ClientError({"Error": {"Code": self.refusal}}, "ListExecutions")
        return [{"executions": [{"executionArn": child}]} for child in self.running_children]

    def stop_execution(self, *, executionArn: str, **_: str) -> None:  # noqa: N803 -- boto3's name
        self.stopped.append(executionArn)


def look_at(states: FakeMapRun, *, elapsed_s: float = 10.0) -> Progress:
    tasks = [make_task(rank=rank, world_size=4, num_samples=10) for rank in range(4)]
    started_at_s = BEGAN.timestamp()
    observer = MapRunObserver(
        states,
        "arn",
        FakeStore(manifest=tasks),
        PREFIX + "manifest.json",
        started_at_s=started_at_s,
        now=lambda: started_at_s + elapsed_s,
    )
    return observer.look()


def test_before_the_map_run_a_run_on_aws_is_planning() -> None:
    assert look_at(FakeMapRun()) == Progress(10.0)


def test_a_map_run_tells_ranks_and_rows() -> None:
    states = FakeMapRun(succeeded=2, failed=1, running=1)
    states.arns = ["map-run"]

    progress = look_at(states)

    assert (progress.world_size, progress.num_rows) == (4, 40)
    assert (progress.done, progress.failed, progress.running) == (2, 1, 1)
    assert (progress.rows_done, progress.rows_per_s) == (20, 2.0)
    assert look_at(states, elapsed_s=0.5).rows_per_s == 40.0


def test_whatever_ends_a_rank_on_aws_it_is_lost() -> None:
    states = FakeMapRun(failed=1, timedOut=2, aborted=4)
    states.arns = ["map-run"]

    assert look_at(states).failed == 7


def test_a_map_run_that_has_ended_counts_its_rows_per_second_to_its_end() -> None:
    states = FakeMapRun(succeeded=4)
    states.arns, states.ended = ["map-run"], {"stopDate": BEGAN + timedelta(seconds=5)}

    assert look_at(states, elapsed_s=100.0).rows_per_s == 8.0
    assert look_at(states, elapsed_s=-1.0).elapsed_s == 0.0  # the clock here is behind AWS's


def test_a_map_run_that_begins_now_has_no_rows_per_second_yet() -> None:
    states = FakeMapRun()
    states.arns = ["map-run"]

    assert look_at(states, elapsed_s=0.0).rows_per_s == 0.0


def test_the_ranks_of_a_stopped_run_are_left_to_step_functions_when_it_ends_them() -> None:
    states = FakeMapRun()
    states.arns, states.status = ["map-run"], "ABORTED"

    assert execution.stop_children(states, "arn", sleep=lambda _: None) == 0
    assert states.stopped == []


def test_ranks_that_go_on_after_their_run_was_stopped_are_stopped() -> None:
    states = FakeMapRun()
    states.arns = ["map-run"]
    pauses: list[float] = []

    assert execution.stop_children(states, "arn", sleep=pauses.append) == 2
    assert states.stopped == ["child-1", "child-2"]
    assert sum(pauses) == 10.0
    assert execution.stop_children(states, "arn", wait_s=3.0, sleep=pauses.append) == 2
    assert sum(pauses) == 13.0


def test_ranks_of_an_express_map_end_by_themselves_and_no_other_refusal_is_taken_for_theirs() -> None:
    states = FakeMapRun()
    states.arns, states.refusal = ["map-run"], "StateMachineTypeNotSupported"

    assert execution.stop_children(states, "arn", sleep=lambda _: None) == 0
    states.refusal = "AccessDeniedException"
    with pytest.raises(ClientError):
        execution.stop_children(states, "arn", sleep=lambda _: None)


def test_looks_are_at_least_a_second_apart() -> None:
    pauses: list[float] = []
    states = FakeStates({"status": "RUNNING"}, {"status": "SUCCEEDED"})
    observer = Observer(FakeStore(), PREFIX, invocations=Invocations, now=Clock())
    with LiveLine(make_console()) as line:
        execution.follow(states, "arn", observer, line, sleep=pauses.append)

    assert min(pauses) >= 1.0


class Hanging:
    """A run that is always the same, seen by a clock that every pause moves on."""

    def __init__(self, look_s: float = 0.0) -> None:
        self.now_s, self.look_s = 0.0, look_s
        self.pauses: list[float] = []

    def look(self) -> Progress:
        self.now_s += self.look_s
        return make_progress()

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds

    def follow(self) -> None:
        states = FakeStates(*[{"status": "RUNNING"}] * 10_000)
        with LiveLine(make_console()) as line:
            execution.follow(states, "arn", self, line, sleep=self.sleep, now=lambda: self.now_s)


def test_a_run_of_which_nothing_changes_is_given_up_with_a_reason() -> None:
    hanging = Hanging()

    with pytest.raises(CommandError, match=r"Nothing of the run has changed for \d{3} minutes"):
        hanging.follow()

    assert longest_quiet_s() < hanging.now_s < longest_quiet_s() + 5


def test_a_run_is_followed_for_longer_than_its_state_machine_waits_for_room() -> None:
    definition = json.loads(DEFINITION_PATH.read_text())
    infer = definition["States"]["InferRanks"]["ItemProcessor"]["States"]["Infer"]
    throttled = next(one for one in infer["Retry"] if one["ErrorEquals"] == ["Lambda.TooManyRequestsException"])
    waits_s = [min(1.5**attempt, throttled["MaxDelaySeconds"]) for attempt in range(throttled["MaxAttempts"])]

    assert (throttled["IntervalSeconds"], throttled["BackoffRate"]) == (1, 1.5)
    assert sum(waits_s) + contract.NO_DEADLINE_S < longest_quiet_s() < 4 * 3600


def test_a_look_that_hung_makes_no_pause_of_minutes() -> None:
    hanging = Hanging(look_s=20.0)

    with pytest.raises(CommandError):
        hanging.follow()

    assert max(hanging.pauses) == execution.MAX_POLL_S
