"""What Infer predicts with: the engine and the calibration of its weights, loaded once per process.

Apart from `handlers.settings`, because these imports bring numpy and the other stages start without it.
"""

from functools import cache

from handlers import settings
from inference import engines
from inference.calibration import Calibration, find_calibration
from inference.models.card import Redshift
from inference.plan import MB_PER_VCPU
from inference.predict import Engine


@cache
def engine(name: str, precision: str, *, as_published: bool) -> Engine:
    """Return the engine with its weights."""
    num_threads = max(1, settings.function_memory_mb() // MB_PER_VCPU)
    return engines.load_model(
        name, settings.model(), num_threads=num_threads, precision=precision, as_published=as_published
    )


@cache
def calibration(weights_sha256: str) -> tuple[Calibration | None, str | None]:
    """Return the calibration of the weights that predict, or None and why there is none."""
    model = settings.model()
    return find_calibration(model.weights, weights_sha256, needs_one=isinstance(model.card.output, Redshift))
