"""``forecast.json`` in a run's folder: what was forecast before it began, to be held to afterwards."""

from pathlib import Path

import msgspec

from scripts.command.errors import UsageError
from scripts.command.whole_file import write_whole
from scripts.forecasts.constants import VERSION
from scripts.forecasts.system import Forecast

FORECAST_FILE = "forecast.json"

PHASES = {"initialize": "Initialize", "map": "Map", "summarize": "Summarize", "end_to_end": "end to end"}
"""Phase to its name; each is a key of a summary's clock too."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A forecast as it is kept."""

    version: int
    source: str
    """What it was calibrated on, in words."""

    seconds: dict[str, tuple[float, ...]]
    """Phase to the 5th, 25th, 50th, 75th and 95th percentile [s]."""

    usd: tuple[float, ...]
    """The same of the list price."""


def keep(found: Forecast, folder: Path) -> Kept:
    """Write a forecast into the folder of the run that it is about."""
    kept = Kept(version=VERSION, source=found.source, seconds=dict(found.seconds), usd=found.usd)
    write_whole(folder / FORECAST_FILE, msgspec.json.format(msgspec.json.encode(kept), indent=2))
    return kept


def read_kept(folder: Path) -> Kept | None:
    """Read the forecast of a run; None where it had none.

    Raises
    ------
    UsageError
        If the file is none, or of another version.
    """
    path = folder / FORECAST_FILE
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{path} is no forecast: {error}. Delete it.") from error
    if kept.version != VERSION:
        raise UsageError(f"{path} is of version {kept.version}, and this program reads {VERSION}: delete it.")
    return kept


def verdict(kept: Kept, measured_s: float) -> str:
    """Say how right a forecast was of the end-to-end time."""
    p5, _, p50, _, p95 = kept.seconds["end_to_end"]
    off, inside = measured_s / p50 - 1, "within" if p5 <= measured_s <= p95 else "outside"
    share = f"{abs(off):.0%} {'longer' if off >= 0 else 'shorter'}"
    ends = f"{p5:.1f} to {p95:.1f} s"
    return f"{p50:.1f} s forecast, {measured_s:.1f} s measured: {share}, {inside} the central 90 % ({ends})"
