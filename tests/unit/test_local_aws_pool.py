"""Who runs where: workers that are reused, replaced and waited for, without a process."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.local_aws import pool as module
from scripts.local_aws.pool import Pool
from scripts.local_aws.worker import FunctionSettings, Outcome, WorkerStartError

INFER = FunctionSettings(
    name="infer",
    arn="arn:infer",
    version="$LATEST",
    region="us-east-1",
    handler="handlers.infer.handler",
    timeout_s=20,
    memory_mb=256,
    environment=(),
    revision="",
)


def function(name: str, **changes: Any) -> FunctionSettings:
    return replace(INFER, name=name, arn=f"arn:{name}", **changes)


class FakeWorker:
    """Answers with its number and its log, once it may."""

    made: list["FakeWorker"]

    def __init__(self, settings: FunctionSettings, *, log_path: Path, slot: int, **given: Any) -> None:
        self.settings, self.slot, self.log_path, self.given = settings, slot, log_path, given
        self.may_end = threading.Event()
        self.is_stopped = self.is_lost = False
        self.pid: int | None = None
        self.made.append(self)

    def is_usable(self) -> bool:
        return not self.is_lost

    def invoke(self, payload: bytes, *, with_log: bool = False) -> Outcome:
        self.pid = 100 + self.made.index(self)
        if payload == b"wait":
            assert self.may_end.wait(30)
            self.may_end.clear()
        if payload == b"raise":
            raise WorkerStartError("No memory.")
        return Outcome(payload=str(self.pid).encode(), is_error=payload == b"fail", log_tail=b"log" * with_log)

    def stop(self) -> None:
        assert not self.is_stopped
        self.is_stopped = True


class FakeGuardian:
    is_closed = False

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture(autouse=True)
def workers(monkeypatch: pytest.MonkeyPatch) -> list[FakeWorker]:
    """Return the workers that a pool makes, in their order."""
    monkeypatch.setattr(FakeWorker, "made", [], raising=False)
    monkeypatch.setattr(module, "Worker", FakeWorker)
    monkeypatch.setattr(module, "Guardian", FakeGuardian)
    return FakeWorker.made


def make_pool(workers_per_function: int = 1, **given: Any) -> Pool:
    return Pool(environment={"A": "1"}, log_dir=Path("logs"), workers_per_function=workers_per_function, **given)


@pytest.fixture
def later(workers: list[FakeWorker]) -> Iterator[Callable[..., Any]]:
    """Invoke in another thread; return what comes of it."""
    with ThreadPoolExecutor(8) as threads:
        yield lambda pool, *invocation: threads.submit(pool.invoke, *invocation)
        for worker in workers:
            worker.may_end.set()


def test_a_worker_is_reused_and_writes_one_log(workers: list[FakeWorker]) -> None:
    pool = make_pool()

    outcomes = [pool.invoke(INFER, b"", with_log=True), pool.invoke(INFER, b"")]

    assert outcomes == [Outcome(payload=b"100", is_error=False, log_tail=log) for log in (b"log", b"")]
    [worker] = workers
    assert worker.log_path == Path("logs/infer-0.log")
    assert worker.given == {"environment": {"A": "1"}, "guardian": pool._guardian}


def test_every_invocation_has_a_worker_of_its_own_where_all_are_cold(workers: list[FakeWorker]) -> None:
    pool = make_pool(all_cold=True)
    for _ in range(2):
        pool.invoke(INFER, b"")

    assert [worker.is_stopped for worker in workers] == [True, True]
    assert pool.statistics()["infer"]["workers"] == []


@pytest.mark.parametrize("change", ["revision", "loss"])
def test_a_worker_that_is_changed_or_lost_is_replaced_under_its_number(workers: list[FakeWorker], change: str) -> None:
    pool = make_pool()
    pool.invoke(INFER, b"")
    workers[0].is_lost = change == "loss"

    assert pool.invoke(replace(INFER, revision="new") if change == "revision" else INFER, b"").payload == b"101"
    assert [worker.is_stopped for worker in workers] == [True, False]
    assert [worker.slot for worker in workers] == [0, 0]


def test_what_waits_is_served_in_turn_and_counted(workers: list[FakeWorker], later: Callable[..., Any]) -> None:
    pool = make_pool(2)
    results = []
    for number in range(4):
        results.append(later(pool, INFER, b"wait"))
        running = min(number + 1, 2)
        wait_for(pool, queued=number + 1 - running, running=running)
    assert pool.statistics()["infer"] == {
        "queued": 2,
        "running": 2,
        "started": 2,
        "succeeded": 0,
        "failed": 0,
        "workers": [100, 101],
    }
    assert [worker.slot for worker in workers] == [0, 1]

    for turn in (1, 2):
        workers[1].may_end.set()
        assert results[turn].result(10).payload == b"101"
        wait_for(pool, queued=2 - turn, running=2)
    assert not results[0].done()


def wait_for(pool: Pool, name: str = "infer", *, queued: int = 0, running: int) -> None:
    """Return once so many invocations of a function wait and run; if they never do, the test takes too long."""
    while True:
        counts = pool.statistics().get(name, {})
        if (counts.get("queued"), counts.get("running")) == (queued, running):
            return
        time.sleep(0.001)


def test_an_invocation_that_fails_is_counted_and_gives_its_worker_back(workers: list[FakeWorker]) -> None:
    pool = make_pool()

    pool.invoke(INFER, b"")
    assert pool.invoke(INFER, b"fail").is_error
    with pytest.raises(WorkerStartError):
        pool.invoke(INFER, b"raise")

    counts = pool.statistics()["infer"]
    assert (counts["started"], counts["succeeded"], counts["failed"]) == (3, 1, 2)
    assert (counts["queued"], counts["running"], counts["workers"]) == (0, 0, [100])


def test_versions_have_workers_of_their_own_and_share_the_numbers_of_their_logs(workers: list[FakeWorker]) -> None:
    pool = make_pool()
    versions = [replace(INFER, arn=f"arn:infer:{number}", version=str(number)) for number in (1, 2)]

    payloads = [pool.invoke(version, b"").payload for version in versions * 2]

    assert payloads == [b"100", b"101"] * 2
    assert [worker.log_path.name for worker in workers] == ["infer-0.log", "infer-1.log"]


def test_an_idle_worker_makes_room_for_another_function_the_longest_idle_first(workers: list[FakeWorker]) -> None:
    pool = make_pool()
    for name in "abcda":
        pool.invoke(function(name), b"")
    assert not any(worker.is_stopped for worker in workers)

    pool.invoke(function("e"), b"")

    # Twice those of a function, and two: the fifth is one too many, and a has run again.
    assert [worker.settings.name for worker in workers if worker.is_stopped] == ["b"]
    assert pool.statistics()["b"]["workers"] == []
    assert pool.statistics()["a"]["workers"] == [100]


def test_where_all_are_busy_another_function_waits(workers: list[FakeWorker], later: Callable[..., Any]) -> None:
    pool = make_pool()
    for name in "abcde":
        later(pool, function(name), b"wait")
        wait_for(pool, name, queued=int(name == "e"), running=int(name != "e"))

    workers[2].may_end.set()
    wait_for(pool, "e", running=1)

    assert [worker.settings.name for worker in workers if worker.is_stopped] == ["c"]


def test_a_closed_pool_has_stopped_what_is_idle(workers: list[FakeWorker]) -> None:
    pool = make_pool()
    for name in "ab":
        pool.invoke(function(name), b"")

    pool.close()

    assert [worker.is_stopped for worker in workers] == [True, True]
    assert pool._guardian.is_closed  # type: ignore[attr-defined]
