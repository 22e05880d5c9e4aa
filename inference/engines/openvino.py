"""The openvino engine: the fastest on x86."""

from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from inference.engines.exported import ExportCard
from inference.engines.unavailable import UnavailableError
from inference.predict import MICRO_BATCH

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
"""Our names of the precisions this engine computes in, and its own."""


class OpenVinoEngine:
    """The exported network in OpenVINO; see `inference.predict.Engine`."""

    note: str | None = None
    micro_batch = MICRO_BATCH

    def __init__(self, graph: Path, card: ExportCard, *, num_threads: int, precision: str = "fp32") -> None:
        settings = {
            "INFERENCE_NUM_THREADS": num_threads,
            "NUM_STREAMS": 1,
            # Left alone, it takes bfloat16 wherever the CPU has it.
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            # Pinning to a core of the host would fight with the other functions on it.
            "ENABLE_CPU_PINNING": False,
        }
        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise UnavailableError("this CPU does not compute in bf16")
        compiled = core.compile_model(graph, "CPU", settings)
        self._request = compiled.create_infer_request()
        self.name = f"openvino {openvino.__version__.split('-')[0]}"
        self.precision = precision
        self.num_threads = num_threads
        self.weights_sha256 = card.weights_sha256
        self.num_parameters = card.num_parameters

    def predict(self, images: NDArray[np.float32], magnitudes: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return one redshift per galaxy of one batch; see `inference.predict.predict_values` for the arrays."""
        inputs = {"images": np.ascontiguousarray(images), "magnitudes": magnitudes.astype(np.float32)}
        return np.array(self._request.infer(inputs)[0], dtype=np.float32)
