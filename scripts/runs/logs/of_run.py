"""The log of a run: the files in its folder, or what CloudWatch has, which is kept there."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from scripts.runs.logs.cloudwatch import collect, log_groups, save
from scripts.runs.logs.invocations import Log, read_log
from scripts.runs.logs.sources import CollectedEvent, events_of_run
from scripts.runs.run_folder import Run
from scripts.runs.target import connect_aws


def log_of_run(folder: Run) -> Log:
    """Return the log of a run: the files here, or what CloudWatch has, which is kept in the run's folder."""
    # What is in the folder is the run's own: its workers wrote it, or it was collected for it.
    here = read_log(events_of_run(folder.path), rank_of=folder.rank_of, is_all_ours=True)
    if folder.stack is None or (_is_whole(here, folder) and not folder.is_running):
        return here
    there, events = _collect(folder)
    # CloudWatch forgets after the retention of the log groups.
    if len(there.invocations) < len(here.invocations):
        return here
    count = save(folder.path / "logs", events)
    print(f"collected  {count:,} events of {len(there.invocations):,} invocations from CloudWatch", file=sys.stderr)
    return there


def _is_whole(log: Log, folder: Run) -> bool:
    """Return whether every record's invocation has its REPORT line: CloudWatch takes the last ones in late."""
    reported = {one.request_id for one in log.invocations if one.billed_ms is not None}
    return bool(reported) and reported.issuperset(record.request_id for record in folder.records)


def _collect(folder: Run) -> tuple[Log, dict[str, list[CollectedEvent]]]:
    assert folder.stack is not None, "only a deployment has logs elsewhere"
    assert folder.entry is not None, "the stack is noted in it"
    account = connect_aws(folder.stack).account
    started_s = folder.entry.started_at_s
    ended_s = time.time()
    if (folder.path / "summary.json").exists():
        ended_s = folder.entry.began_at_s + folder.summary.clock.end_to_end
    with _counter() as tick:
        return collect(
            account.client("logs"),
            log_groups(folder.stack),
            window_s=(started_s, ended_s),
            rank_of=folder.rank_of,
            run_id=folder.run_id,
            tick=tick,
        )


@contextmanager
def _counter() -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many events were read."""
    total = 0
    with Console(stderr=True).status("CloudWatch") as status:

        def tick(count: int) -> None:
            nonlocal total
            total += count
            status.update(f"CloudWatch: {total:,} events")

        yield tick
