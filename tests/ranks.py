"""Ranks as threads of a test, and as processes that can be killed."""

import itertools
import threading
from collections.abc import Callable
from typing import Any

from inference import fmi
from inference.fmi import Communicator, Config

_numbers = itertools.count()


def run_ranks(
    size: int, job: Callable[[Communicator], Any], address: tuple[str, int], *, name: str = "", **config: Any
) -> list[Any]:
    """Run a job on every rank, each in a thread of its own; return what came of it, errors of `fmi` included."""
    name = name or f"test-{next(_numbers)}"
    outcomes: list[Any] = [None] * size
    settings = Config(host=address[0], port=address[1], **{"timeout_s": 20.0, **config})

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
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a call hangs"
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, fmi.FmiError):
            raise outcome
    return outcomes
