"""The machine that a local run's times belong to."""

import os
import platform
from pathlib import Path


def machine_in_words(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return processor, architecture, CPUs and system, without the machine's name."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    facts = dict(line.partition(":")[::2] for line in lines)
    model = next((value.strip() for key, value in facts.items() if key.strip() == "model name"), "")
    cpus = f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}"
    return f"{model or platform.processor()}, {cpus}".lstrip(", ")
