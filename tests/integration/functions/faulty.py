"""The Infer handler with one faulty rank; the run's name says which fault: ``raise-3-…``, ``hang-3-…``, ``die-3-…``."""

import os
import signal
import time
from typing import Any

from handlers import infer


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    fault, rank, *_ = event["task"]["run_id"].split("-")
    if event["task"]["rank"] == int(rank):
        if fault == "raise":
            raise ValueError("a bug nobody expected")
        if fault == "hang":
            time.sleep(600)
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "once" and event["attempt"] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return infer.handler(event, context)
