"""The onnxruntime engine: small, quick to start, and without torch."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from inference.engines.exported import ExportCard
from inference.predict import MICRO_BATCH


def open_session(graph: Path, *, num_threads: int) -> Any:
    """Load a graph to compute with on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    # A thread that spins for work uses up the CPU quota of the one that has it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights outside the arena: the arena grows in powers of two.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class OnnxRuntimeEngine:
    """The exported network in ONNX Runtime; see `inference.predict.Engine`."""

    note: str | None = None
    micro_batch = MICRO_BATCH

    def __init__(self, graph: Path, card: ExportCard, *, num_threads: int, precision: str = "fp32") -> None:
        self._session = open_session(graph, num_threads=num_threads)
        self.name = f"onnxruntime {onnxruntime.__version__}"
        self.precision = precision
        self.num_threads = num_threads
        self.weights_sha256 = card.weights_sha256
        self.num_parameters = card.num_parameters

    def predict(self, images: NDArray[np.float32], magnitudes: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return one redshift per galaxy of one batch; see `inference.predict.predict_values` for the arrays."""
        inputs = {"images": np.ascontiguousarray(images), "magnitudes": magnitudes.astype(np.float32)}
        (redshifts,) = self._session.run(["redshifts"], inputs)
        return np.asarray(redshifts, dtype=np.float32)
