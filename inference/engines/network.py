"""A network of any origin as ONNX, in ONNX Runtime; it is given what its card says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from inference.engines.onnxruntime import open_session
from inference.errors import EngineError, WeightsError
from inference.models.card import MAGNITUDES_OF_ONE, Inputs, ModelCard
from inference.predict import MICRO_BATCH

DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
"""What a graph may ask for, as ONNX Runtime calls it."""


class NetworkEngine:
    """A network as ONNX; see `inference.predict.Engine`."""

    note: str | None = None
    precision = "fp32"
    micro_batch = MICRO_BATCH

    def __init__(self, graph: Path, card: ModelCard, sha256: str, *, num_threads: int) -> None:
        assert card.graph is not None, "the card of a network as ONNX says what its inputs are called"
        try:
            self._session = open_session(graph, num_threads=num_threads)
        except Exception as error:
            raise WeightsError(f"{graph} cannot be loaded: {' '.join(str(error).split())}") from error
        self.name = f"onnxruntime {onnxruntime.__version__}"
        self.num_threads = num_threads
        self.weights_sha256 = sha256
        self.num_parameters = card.num_parameters
        self._graph = card.graph
        self._prepare = pixels_as(card.inputs)
        self._dtypes = {one.name: DTYPES[one.type] for one in self._session.get_inputs()}

    def predict(
        self,
        images: NDArray[np.float32],
        magnitudes: NDArray[np.float64],
        columns: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float32]:
        """Return what the network says of one batch, shape (N,) or (N, K); see `inference.predict.predict_values`."""
        given: dict[str, NDArray[Any]] = {}
        if self._graph.images:
            pixels = self._prepare(images)
            given[self._graph.images] = np.moveaxis(pixels, 1, -1) if self._graph.bands_last else pixels
        if self._graph.magnitudes:
            given[self._graph.magnitudes] = magnitudes
        if self._graph.columns:
            assert columns is not None, "the shard was read with the columns of the card"
            given[self._graph.columns] = columns
        feeds = {name: np.ascontiguousarray(array, dtype=self._dtypes[name]) for name, array in given.items()}
        (values,) = self._session.run([self._graph.output], feeds)
        found = np.asarray(values, dtype=np.float32).reshape(len(magnitudes), -1)
        return found[:, 0] if found.shape[1] == 1 else found


def pixels_as(inputs: Inputs) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return what turns the nanomaggies of a dataset, (N, B, H, W), into the pixels that a network expects."""
    factor = np.float32(10.0 ** (0.4 * (MAGNITUDES_OF_ONE[inputs.pixel_unit] - MAGNITUDES_OF_ONE["nanomaggy"])))
    softening = np.array(inputs.softening, dtype=np.float32)[:, None, None]

    def prepare(images: NDArray[np.float32]) -> NDArray[np.float32]:
        pixels = images if factor == 1 else images * factor
        return np.arcsinh(pixels / softening) if inputs.stretch == "asinh" else pixels

    return prepare


def refuse_other(name: str, card: ModelCard, *, precision: str, as_published: bool) -> None:
    """Raise where a network as ONNX is asked for in another engine, another precision or the published loop.

    Raises
    ------
    EngineError
        Saying which.
    """
    if name not in ("auto", "onnxruntime") or precision != "fp32" or as_published:
        asked = "PROFILE=1" if as_published else f"precision {precision}" if precision != "fp32" else f"engine {name}"
        raise EngineError(
            f"{asked} is for weights of AstroMAE; the model {card.name} is a network as ONNX, which onnxruntime "
            "computes as it is. Leave it out."
        )
