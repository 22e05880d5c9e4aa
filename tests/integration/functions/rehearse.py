"""A stand-in for Infer: the whole handler but for the network, which is instant; slow for a dataset named slow."""

import time
from typing import Any

from handlers import infer, model
from tests.fake_engine import FakeEngine

SLOW_S = 8
"""Long enough for a command to be started meanwhile on a busy machine [s]."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    model.engine = lambda *_name, **_mode: FakeEngine()
    if "/slow/" in event["task"]["rows"][0]["key"]:
        time.sleep(SLOW_S)
    return infer.handler(event, context)
