"""The workers of all functions: who runs, who waits, who is replaced."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from scripts.local_aws.guardian import Guardian
from scripts.local_aws.worker import FunctionSettings, Outcome, Worker


@dataclass
class _Ticket:
    """One invocation waiting for a worker."""

    settings: FunctionSettings
    worker: Worker | None = None
    served: threading.Event = field(default_factory=threading.Event)


class Pool:
    """Serves invocations from workers that are started on demand and reused, first come first served.

    Parameters
    ----------
    environment : dict
        Environment of every worker, without the functions' own variables.
    log_dir : Path
        Folder of the worker logs, ``FUNCTION-SLOT.log``.
    workers_per_function : int
        How many invocations of one function, or of one version or alias of it, run at the same time.
    all_cold : bool
        Whether every invocation has a worker of its own.
    """

    def __init__(
        self, *, environment: dict[str, str], log_dir: Path, workers_per_function: int, all_cold: bool = False
    ) -> None:
        self._all_cold = all_cold
        self._environment = environment
        self._log_dir = log_dir
        self._workers_per_function = workers_per_function
        # A state machine keeps one function busy at a time; the others keep their warm workers.
        self._max_workers = 2 * workers_per_function + 2
        self._guardian = Guardian()
        self._lock = threading.Lock()
        self._queue: list[_Ticket] = []
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []
        self._counts: dict[str, Counter[str]] = {}

    def invoke(self, settings: FunctionSettings, payload: bytes, *, with_log: bool = False) -> Outcome:
        """Run one invocation, waiting for a free worker if need be."""
        worker = self._acquire(settings)
        is_error = True
        try:
            outcome = worker.invoke(payload, with_log=with_log)
            is_error = outcome.is_error
        finally:
            self._release(worker, "failed" if is_error else "succeeded")
        return outcome

    def statistics(self) -> dict[str, dict[str, object]]:
        """Return, per function, how many invocations wait, run, were started, succeeded and failed, and the pids."""
        with self._lock:
            return {
                name: {
                    "queued": sum(ticket.settings.name == name for ticket in self._queue),
                    "running": sum(worker.settings.name == name for worker in self._busy),
                    "started": counts["started"],
                    "succeeded": counts["succeeded"],
                    "failed": counts["failed"],
                    "workers": [
                        worker.pid for worker in self._busy + self._idle if worker.settings.name == name and worker.pid
                    ],
                }
                for name, counts in self._counts.items()
            }

    def close(self) -> None:
        """End every worker; invocations still running fail."""
        self._guardian.close()
        with self._lock:
            for worker in self._idle:
                worker.stop()

    # ------------------------------------------------------------------------------------------------ who runs where

    def _acquire(self, settings: FunctionSettings) -> Worker:
        ticket = _Ticket(settings)
        with self._lock:
            self._counts.setdefault(settings.name, Counter())
            self._queue.append(ticket)
            self._dispatch()
        ticket.served.wait()
        assert ticket.worker is not None
        return ticket.worker

    def _release(self, worker: Worker, result: str) -> None:
        with self._lock:
            self._counts[worker.settings.name][result] += 1
            self._busy.remove(worker)
            if self._all_cold:
                worker.stop()
            else:
                self._idle.append(worker)
            self._dispatch()

    def _dispatch(self) -> None:
        """Give workers to the waiting, the longest waiting first."""
        for ticket in list(self._queue):
            worker = self._find_idle(ticket.settings) or self._make_room(ticket.settings)
            if worker is not None:
                self._queue.remove(ticket)
                self._busy.append(worker)
                self._counts[ticket.settings.name]["started"] += 1
                ticket.worker = worker
                ticket.served.set()

    def _find_idle(self, settings: FunctionSettings) -> Worker | None:
        for worker in [worker for worker in self._idle if worker.settings.arn == settings.arn]:
            if worker.settings != settings or not worker.is_usable():
                self._discard(worker)
            else:
                self._idle.remove(worker)
                return worker
        return None

    def _make_room(self, settings: FunctionSettings) -> Worker | None:
        """Return a worker not yet started, in place of another function's idle one if there are too many."""
        siblings = [worker for worker in self._busy + self._idle if worker.settings.arn == settings.arn]
        if len(siblings) >= self._workers_per_function:
            return None
        if len(self._busy) + len(self._idle) >= self._max_workers:
            if not self._idle:
                return None
            self._discard(self._idle[0])
        # The versions of a function share its numbers, which name the logs.
        taken = {worker.slot for worker in self._busy + self._idle if worker.settings.name == settings.name}
        slot = next(number for number in range(self._max_workers) if number not in taken)
        return Worker(
            settings,
            environment=self._environment,
            guardian=self._guardian,
            log_path=self._log_dir / f"{settings.name}-{slot}.log",
            slot=slot,
        )

    def _discard(self, worker: Worker) -> None:
        self._idle.remove(worker)
        worker.stop()
