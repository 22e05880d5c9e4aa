"""From numbers to pixels: linear and logarithmic scales, and where their ticks go."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """A range of numbers laid over a range of pixels."""

    low: float
    high: float
    start: float
    """Pixel of `low`; above `stop` for an axis that points upwards."""

    stop: float
    is_log: bool = False

    def __call__(self, values: Array) -> Array:
        """Return the pixel of each number."""
        low, high, at = (
            (np.log(v) for v in (self.low, self.high, values))
            if self.is_log
            else (
                self.low,
                self.high,
                values,
            )
        )
        pixels: Array = self.start + (at - low) / (high - low) * (self.stop - self.start)
        return pixels

    def at(self, value: float) -> float:
        """Return the pixel of one number."""
        return float(self(np.asarray(value, float)))

    def ticks(self, num: int = 5) -> list[float]:
        """Return about `num` round numbers within the range."""
        return _log_ticks(self.low, self.high, num) if self.is_log else _linear_ticks(self.low, self.high, num)


def tick_label(value: float) -> str:
    """Return a tick as short as it is exact."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value:,.10g}" if abs(value) >= 1e-4 else f"{value:.0e}"


def padded(values: Array, *, share: float = 0.05, from_zero: bool = False) -> tuple[float, float]:
    """Return a range around the finite values, never empty."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if from_zero:
        return 0.0, (high * (1 + share) if high > 0 else 1.0)
    room = share * (high - low) or 0.5 * abs(low) or 0.5
    return low - room, high + room


def _linear_ticks(low: float, high: float, num: int) -> list[float]:
    rough = (high - low) / max(num, 1)
    unit = 10 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, num: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7)):
        ticks = [f * 10.0**d for d in decades for f in factors if low * 0.999 <= f * 10.0**d <= high * 1.001]
        if len(ticks) >= min(num, 3):
            break
    return ticks[:: max(1, round(len(ticks) / (2 * num)))] or [low, high]
