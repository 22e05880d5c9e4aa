"""The machine that one works on: its cores, its processor, and how Lambda names it."""

import os
import platform
from pathlib import Path

ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}
"""What the system calls a processor, and what Lambda calls it."""


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Return what the system says of its last processor; nothing where it says nothing."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def machine_in_words(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return processor, architecture, CPUs and system, without the machine's name."""
    model = processor_facts(cpuinfo).get("model name", "")
    cpus = f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}"
    return f"{model or platform.processor()}, {cpus}".lstrip(", ")
