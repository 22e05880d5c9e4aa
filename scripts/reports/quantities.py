"""Numbers as a reader wants them: three or four digits that mean something, and the unit."""

import math

UNKNOWN = "–"  # noqa: RUF001 - the sign for "nothing here" in a table


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` significant digits and thousands separated; no exponent between 1e-4 and 1e15."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(digits - 1 - magnitude, 0)}f}"


def count(value: float | None) -> str:
    """Return a whole number with its thousands separated."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{round(value):,}"


def seconds(value: float | None) -> str:
    """Return a time in the unit people use for it."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value < 0.9995:
        return f"{number(1000 * value)} ms" if value >= 1e-6 else "0 s"
    return f"{number(value)} s" if value < 600 else f"{number(value / 60)} min"


def decimals(value: float | None, num: int = 3) -> str:
    """Return a number with `num` decimals, for columns whose numbers stand below each other."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:,.{num}f}"


def percent(share: float | None, num_decimals: int = 1) -> str:
    """Return a share of 1 in percent."""
    return UNKNOWN if share is None or not math.isfinite(share) else f"{100 * share:.{num_decimals}f} %"


def megabytes(size_bytes: float | None) -> str:
    """Return a memory size in MB of 2²⁰ bytes, as Lambda counts them."""
    return UNKNOWN if size_bytes is None else f"{count(size_bytes / 2**20)} MB"


def usd(value: float | None) -> str:
    """Return a price; small ones with three digits instead of none."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.2f} USD" if value >= 10 else f"{number(value)} USD"


def bits_per_s(value: float | None) -> str:
    """Return a data rate in decimal units."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    for unit, size in (("Tbit/s", 1e12), ("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if abs(value) >= size:
            return f"{number(value / size)} {unit}"
    return f"{number(value)} bit/s"
