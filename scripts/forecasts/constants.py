"""The numbers that a forecast is made of, each with its source and how sure it is."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from scripts.command.errors import UsageError

CONSTANTS_FILE = Path(__file__).with_name("constants.toml")
VERSION = 1
"""Of the constants and of the forecasts kept in folders of runs: one of another version is not comparable."""

Array = NDArray[np.float64]


class Constant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number."""

    value: float
    """Median."""

    spread: float
    """Standard deviation of its logarithm."""

    source: str
    """Page, published run or measurement that it comes from."""

    def draw(self, generator: np.random.Generator, num: int) -> Array:
        """Return values that it may have, shape (num,)."""
        return np.asarray(self.value * np.exp(self.spread * generator.standard_normal(num)))


class Fitted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the published runs say of the table `published`."""

    source: str
    names: tuple[str, ...]
    log_values: tuple[float, ...]
    """Natural logarithms, in the order of `names`."""

    log_covariance: tuple[tuple[float, ...], ...]


class Constants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of constants."""

    version: int
    cloud: dict[str, Constant]
    ours: dict[str, Constant]
    here: dict[str, Constant]
    published: dict[str, Constant]
    fitted: Fitted


@cache
def read_constants(path: Path = CONSTANTS_FILE) -> Constants:
    """Read the file of constants.

    Raises
    ------
    UsageError
        If it is missing, no TOML, of another version, or a number is missing or no number; the message names it.
    """
    try:
        found = msgspec.toml.decode(path.read_bytes(), type=Constants)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise UsageError(f"The constants of the forecast, {path}, cannot be read: {error}.") from error
    if found.version != VERSION:
        raise UsageError(
            f"The constants of the forecast, {path}, are of version {found.version}, and this program reads {VERSION}: "
            "take the file that came with it."
        )
    return found


def certain(constants: Mapping[str, Constant]) -> dict[str, Constant]:
    """Return constants as if they were known exactly: what is random stays so."""
    return {name: Constant(one.value, 0.0, one.source) for name, one in constants.items()}


def draw_all(constants: Mapping[str, Constant], generator: np.random.Generator, num: int) -> dict[str, Array]:
    """Return values that the constants may have together, each of shape (num,)."""
    return {name: constants[name].draw(generator, num) for name in sorted(constants)}
