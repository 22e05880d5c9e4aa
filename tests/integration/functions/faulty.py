"""The handlers with a fault that the run's name chooses: ``raise-3-…``, ``hang-3-…``, ``die-3-…`` in Infer's rank 3.

In a run ``stages-3-…`` Initialize and Summarize are killed the first time.
"""

import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from handlers import infer, model, settings
from handlers import initialize as initialize_stage
from handlers import summarize as summarize_stage
from tests.fake_engine import FakeEngine

SHORT_S = 1
"""Deadline of the rank in a run ``deaf-3-…``, in which two invocations do not answer in time [s]."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    # Many workers die here, and each one started anew would load the network.
    model.engine = lambda *_name, **_mode: FakeEngine()
    fault, rank, *_ = event["task"]["run_id"].split("-")
    if event["task"]["rank"] == int(rank):
        if fault == "raise":
            raise ValueError("a bug that was not expected")
        if fault == "shout":
            raise ValueError("a" * 2**20)
        if fault == "hang":
            time.sleep(600)
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault == "exit":
            os._exit(0)
        if fault == "quit":
            sys.exit(3)
        if fault == "deaf" and event["attempt"] < 2:
            time.sleep(3 * SHORT_S)
            raise ValueError("too late for anyone to hear")
        if fault == "once" and event["attempt"] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "after" and event["attempt"] == 0:
            infer.handler(event, context)
            os.kill(os.getpid(), signal.SIGKILL)
    return infer.handler(event, context)


def initialize(event: dict[str, Any], context: Any) -> dict[str, Any]:
    _die_once(event["execution_name"], "initialize")
    plan = initialize_stage.handler(event, context)
    fault, rank, *_ = plan["run_id"].split("-")
    if fault == "deaf":
        store = settings.object_store(plan["bucket"])
        tasks = json.loads(store.read(plan["manifest_key"]))
        tasks[int(rank)]["deadline_s"] = SHORT_S
        content = json.dumps(tasks).encode()
        store.write(plan["manifest_key"], content)
        plan |= {"manifest_sha256": hashlib.sha256(content).hexdigest()}
    return plan


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
