"""A network that is none, for workers of tests too: they start without importing torch."""

import numpy as np

from inference.predict import MICRO_BATCH


class FakeEngine:
    """Predicts a tenth of the r magnitude: exact, instant, and different for every galaxy."""

    name = "fake 1"
    num_threads = 1
    weights_sha256 = "0" * 64
    num_parameters = 15_902_889
    precision = "fp32"
    micro_batch = MICRO_BATCH
    note: str | None = None

    def predict(self, images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
        assert len(images) == len(magnitudes)
        return (magnitudes[:, 2] / 100).astype(np.float32)
