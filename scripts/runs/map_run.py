"""A run on AWS from outside: DescribeMapRun, which costs nothing, and the manifest once."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from scripts.runs.observe import Progress, Store


@dataclass
class MapRunObserver:
    """Looks at the Map Run of an execution.

    Notes
    -----
    Retried ranks cannot be distinguished from running ones: only the history of every child execution could.
    """

    states: Any
    """Client of Step Functions."""

    execution_arn: str
    store: Store
    """The bucket of the results."""

    items_key: str
    """Object key of what the Map reads."""

    started_at_s: float
    """When the execution was started [s since the epoch]."""

    now: Callable[[], float] = time.time
    """The time [s since the epoch]."""

    _map_run_arn = ""
    _world_size = 0
    _num_rows = 0

    def look(self) -> Progress:
        """Look at the run once."""
        elapsed_s = max(0.0, self.now() - self.started_at_s)
        if not self._is_mapping():
            return Progress(elapsed_s)
        map_run = self.states.describe_map_run(mapRunArn=self._map_run_arn)
        counts = map_run["itemCounts"]
        done = counts["succeeded"]
        # Loads differ by one row when rows can be read by range: between looks, the ranks are precise enough. A run
        # that is resumed may lack nothing but its summary.
        rows_done = round(self._num_rows * done / max(self._world_size, 1))
        mapping_s = (map_run.get("stopDate") or map_run["startDate"]).timestamp() - map_run["startDate"].timestamp()
        if "stopDate" not in map_run:
            mapping_s = self.now() - map_run["startDate"].timestamp()
        return Progress(
            elapsed_s,
            world_size=self._world_size,
            num_rows=self._num_rows,
            done=done,
            failed=counts["failed"] + counts["timedOut"] + counts["aborted"],
            running=counts["running"],
            rows_done=rows_done,
            rows_per_s=rows_done / mapping_s if mapping_s > 0 else 0.0,
        )

    def _is_mapping(self) -> bool:
        """Return whether the Map Run has begun; its manifest is there then."""
        if not self._map_run_arn:
            map_runs = self.states.list_map_runs(executionArn=self.execution_arn)["mapRuns"]
            manifest = self.store.read(self.items_key) if map_runs else None
            if manifest is None:
                return False
            rows = [task["num_samples"] for task in msgspec.json.decode(manifest)]
            self._world_size, self._num_rows = len(rows), sum(rows)
            self._map_run_arn = map_runs[0]["mapRunArn"]
        return True
