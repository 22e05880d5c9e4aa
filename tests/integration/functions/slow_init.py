"""A function whose init takes longer than its timeout."""

import time
from typing import Any

time.sleep(1.5)


def handler(_event: dict[str, Any], context: Any) -> dict[str, float]:
    return {"remaining_s": context.get_remaining_time_in_millis() / 1000}
