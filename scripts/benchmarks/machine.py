"""What a reader must know of the machine to judge a measurement."""

import os
import platform
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from scripts.command.machine import processor_facts

INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
LIBRARIES = ("numpy", "onnxruntime", "openvino", "torch")

AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
}
"""Limits torch to AVX2, and the native engine. The kernels of onnxruntime and openvino choose by the CPU alone."""


def describe_machine(load_before: float) -> dict[str, Any]:
    """Return processor, instructions, libraries with their versions, and load before and after."""
    facts = processor_facts()
    flags = facts.get("flags", "").split()
    return {
        "cpu": facts.get("model name", platform.processor()),
        "num_cpus": os.cpu_count(),
        "instructions": [flag for flag in INSTRUCTIONS if flag in flags],
        "isa_limits": {name: os.environ[name] for name in AVX2 if name in os.environ},
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES if find_spec(name)},
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
    }
