"""A function that does what its event asks: the stand-in for the real handlers."""

import os
import signal
import threading
import time
from typing import Any

_calls = 0


class EchoError(Exception):
    """What ``{"raise": …}`` raises."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    global _calls
    _calls += 1
    print("echo says", event.get("say", "nothing"))
    if "raise" in event:
        raise EchoError(event["raise"])
    if event.get("exit"):
        os._exit(event["exit"])
    if event.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if "answer" in event:
        return dict(event["answer"])
    if "result_mb" in event:
        return {"result": "x" * (event["result_mb"] * 2**20)}
    ballast = b"x" * (event.get("allocate_mb", 0) * 2**20)
    time.sleep(event.get("sleep", 0))
    while "until" in event and not os.path.exists(event["until"]):
        time.sleep(0.01)
    return {
        "event": event,
        "pid": os.getpid(),
        "calls": _calls,
        "ballast": len(ballast),
        "remaining_s": context.get_remaining_time_in_millis() / 1000,
        "arn": context.invoked_function_arn,
        "environment": dict(os.environ),
        "threads": threading.active_count(),
    }
