"""The handlers with a fault that the run's name chooses: ``raise-3-…``, ``hang-3-…``, ``die-3-…`` in Infer's rank 3.

``slow-3-…`` loses the rank; when it is tried again with a short deadline, two invocations do not answer in time.
In a run ``stages-0-…`` Initialize and Summarize are killed the first time.
"""

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from handlers import infer
from handlers import initialize as initialize_stage
from handlers import summarize as summarize_stage

SHORT_S = 1
"""A deadline that a test gives to a rank [s]."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    fault, rank, *_ = event["task"]["run_id"].split("-")
    if event["task"]["rank"] == int(rank):
        if fault == "raise":
            raise ValueError("a bug that was not expected")
        if fault == "hang":
            time.sleep(600)
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "slow" and event["task"]["deadline_s"] > SHORT_S:
            raise ValueError("lost, to be resumed")
        if fault == "slow" and event["attempt"] < 2:
            time.sleep(3 * SHORT_S)
            raise ValueError("too late for anyone to hear")
        if fault == "once" and event["attempt"] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return infer.handler(event, context)


def initialize(event: dict[str, Any], context: Any) -> dict[str, Any]:
    _die_once(event["execution_name"], "initialize")
    return initialize_stage.handler(event, context)


def summarize(event: dict[str, Any], context: Any) -> dict[str, Any]:
    _die_once(event["run_id"], "summarize")
    return summarize_stage.handler(event, context)


def _die_once(run_id: str, stage: str) -> None:
    # The server that started us is another one in every test session.
    has_died = Path(tempfile.gettempdir()) / f"{run_id}-{stage}-{os.getppid()}"
    if run_id.startswith("stages-") and not has_died.exists():
        has_died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    has_died.unlink(missing_ok=True)
