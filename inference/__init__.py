"""The pure core: bytes, tensors and structs in, redshifts and records out; no AWS, no environment.

A program or notebook of your own needs three names: `load_model`, `RedshiftModel.predict` and `Quality`::

    from inference import load_model

    result = load_model().predict(images, magnitudes)
    result.redshift, result.sigma, result.flags
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.loading import load_model
    from inference.quality import Quality
    from inference.redshift_model import RedshiftModel, Redshifts

_MODULES = {
    "Quality": "quality",
    "RedshiftModel": "redshift_model",
    "Redshifts": "redshift_model",
    "load_model": "loading",
}
__all__ = ["Quality", "RedshiftModel", "Redshifts", "load_model"]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: Initialize starts without numpy.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"inference.{_MODULES[name]}"), name)
