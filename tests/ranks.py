"""Ranks as threads of a test, and as processes that can be killed."""

import itertools
import multiprocessing
import multiprocessing.process
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from inference import fmi
from inference.fmi import Communicator, Config

PATIENCE_S = 60.0
"""Waits end when what is waited for is there; only a failure takes this long."""

_numbers = itertools.count()


def run_ranks(
    size: int, job: Callable[[Communicator], Any], address: tuple[str, int], *, name: str = "", **config: Any
) -> list[Any]:
    """Run a job on every rank, each in a thread of its own; return what came of it, errors of `fmi` included."""
    name = name or f"test-{next(_numbers)}"
    outcomes: list[Any] = [None] * size
    settings = Config(host=address[0], port=address[1], **{"timeout_s": PATIENCE_S, **config})

    def run(rank: int) -> None:
        try:
            with Communicator(rank, size, settings, name) as comm:
                outcomes[rank] = job(comm)
        except BaseException as error:
            outcomes[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads), "a call hangs"
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, fmi.FmiError):
            raise outcome
    return outcomes


@dataclass
class RankProcess:
    """A rank in a process of its own, which repeats a collective until it fails."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection

    def wait_until_it_is_at_work(self) -> None:
        """Return once the collective has succeeded for the first time."""
        assert self.pipe.poll(PATIENCE_S), "the rank did not start"
        assert self.pipe.recv() == "at work"

    def error(self) -> tuple[str, tuple[int, ...], str]:
        """Return class, ranks and message of what ended it."""
        assert self.pipe.poll(PATIENCE_S), "the rank hangs"
        found: tuple[str, tuple[int, ...], str] = self.pipe.recv()
        return found

    def kill(self) -> None:
        """End it as kill -9 does."""
        assert self.process.pid
        os.kill(self.process.pid, signal.SIGKILL)


@contextmanager
def rank_processes(size: int, call: str, address: tuple[str, int]) -> Iterator[list[RankProcess]]:
    """Start ranks that repeat a collective; none outlives the block."""
    context = multiprocessing.get_context("forkserver")
    # pytest too: every child imports the main module of its parent.
    context.set_forkserver_preload(["pytest", "tests.ranks", "inference.fmi.communicator"])
    name = f"test-{os.getpid()}-{next(_numbers)}"
    ranks = []
    for rank in range(size):
        ours, theirs = context.Pipe()
        process = context.Process(target=_repeat, args=(rank, size, call, address, name, theirs), daemon=True)
        process.start()
        ranks.append(RankProcess(process, ours))
    try:
        yield ranks
    finally:
        for one in ranks:
            one.process.kill()
            one.process.join()
            one.pipe.close()


def _repeat(rank: int, size: int, call: str, address: tuple[str, int], name: str, pipe: Connection) -> None:
    job = CALLS[call]
    config = Config(host=address[0], port=address[1], timeout_s=PATIENCE_S)
    try:
        with Communicator(rank, size, config, name) as comm:
            job(comm)
            pipe.send("at work")
            while True:
                job(comm)
    except fmi.FmiError as error:
        pipe.send((type(error).__name__, error.ranks, str(error)))


SMALL, LARGE = np.ones(3), np.ones(100_000)

CALLS: dict[str, Callable[[Communicator], None]] = {
    "barrier": lambda comm: comm.Barrier(),
    "bcast": lambda comm: comm.Bcast(SMALL.copy(), root=1),
    "bcast of much": lambda comm: comm.Bcast(LARGE.copy(), root=1),
    "reduce": lambda comm: comm.Reduce(SMALL, SMALL.copy(), root=1),
    "reduce of much": lambda comm: comm.Reduce(LARGE, LARGE.copy(), root=1),
    "allreduce": lambda comm: comm.Allreduce(SMALL, SMALL.copy()),
    "allreduce of much": lambda comm: comm.Allreduce(LARGE, LARGE.copy()),
    "gather": lambda comm: comm.Gather(SMALL, np.zeros((comm.size, 3)), root=1),
    "scatter": lambda comm: comm.Scatter(np.zeros((comm.size, 3)), SMALL.copy(), root=1),
    "allgather": lambda comm: comm.Allgather(SMALL, np.zeros((comm.size, 3))),
    "allgather of much": lambda comm: comm.Allgather(LARGE, np.zeros((comm.size, len(LARGE)))),
    "scan": lambda comm: comm.Scan(SMALL, SMALL.copy()),
}
"""Collectives to interrupt, by name."""
