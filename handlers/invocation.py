"""Facts about this process and this invocation: cold or warm, start-up time, memory."""

import logging
import os
import resource
import sys
import time
from datetime import datetime
from pathlib import Path

logger = logging.getLogger(__name__)

_READY_AT_S = time.time()
_num_invocations = 0
_is_restored = False


def count() -> int:
    """Count this invocation and return how many came before it in this process; 0 means a cold start."""
    global _num_invocations
    _num_invocations += 1
    return _num_invocations - 1


def restored() -> None:
    """Note that this process comes from a snapshot."""
    global _is_restored
    _is_restored = True


def init_s() -> float:
    """Return the time from the start of the process to the import of this module [s]; 0 where it cannot be known.

    A process that was restored from a snapshot started when that was taken; Lambda logs how long restoring took.
    """
    if _is_restored:
        return 0.0
    try:
        fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return 0.0
    age_s = uptime_s - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, age_s - (time.time() - _READY_AT_S))


def queue_s(entered_at: str | None, started_at_s: float) -> float:
    """Return the time from the state machine's `entered_at` (ISO 8601) to `started_at_s` [s]; 0 when it is no time."""
    if entered_at is None:
        return 0.0
    try:
        return max(0.0, started_at_s - datetime.fromisoformat(entered_at).timestamp())
    except (ValueError, OverflowError):
        logger.warning("entered_at is no time: the queue counts as 0", extra={"entered_at": entered_at[:100]})
        return 0.0


def resident_memory_bytes() -> int:
    """Return the memory of the process now [bytes]; its peak where now cannot be known."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return peak_memory_bytes()


def peak_memory_bytes() -> int:
    """Return the highest memory of the process so far [bytes]."""
    # Not getrusage on Linux: it starts a child's maximum at the size of the parent that forked it.
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) * 1024
