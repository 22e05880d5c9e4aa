"""The prices: one dated file, by region and architecture."""

from pathlib import Path

import msgspec

from inference.contract import RunSummary
from scripts.command.errors import UsageError
from scripts.pricing.cost import Bill, Prices, Rates, as_run, bill, usage_of

PRICES_FILE = Path(__file__).with_name("prices.toml")
LOCAL_REGION = "us-east-1"
"""Whose prices a run on this machine is compared with."""


class PriceError(UsageError):
    """The price file cannot be read, or lacks the region; the message says what to add. Exit status 2."""


class PriceList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The price file."""

    as_of: str
    """When the prices were read."""

    sources: dict[str, str]
    """Service to the page they were read from."""

    regions: dict[str, Prices]
    """Region to its prices."""

    def of(self, region: str) -> Prices:
        """Return the prices of a region.

        Raises
        ------
        PriceError
            If it is not in the file.
        """
        if region not in self.regions:
            raise PriceError(
                f"The price file has no prices of {region}, only of {', '.join(sorted(self.regions))}: add a table "
                f"[regions.{region}] to it, which is {_short(PRICES_FILE)} unless PRICES names another one."
            )
        return self.regions[region]

    def label(self, region: str) -> str:
        """Say whose prices they are, of when."""
        return f"{region}, {self.as_of}, without free tier"


def read_prices(path: Path | None = None) -> PriceList:
    """Read the price file.

    Raises
    ------
    PriceError
        If it is missing, no TOML, or a price is missing, unknown or no number; the message names it.
    """
    path = path or PRICES_FILE
    try:
        return msgspec.toml.decode(path.read_bytes(), type=PriceList)
    except (OSError, UnicodeDecodeError) as error:
        raise PriceError(f"The price file {_short(path)} cannot be read: {error}.") from error
    except msgspec.DecodeError as error:
        raise PriceError(f"The price file {_short(path)} is not valid: {error}.") from error


def bill_of(summary: RunSummary, rates: Rates, region: str) -> Bill:
    """Return what a run cost by its summary alone; `scripts.runs.receipt` knows more where there is more.

    Raises
    ------
    PriceError
        As `read_prices` and `PriceList.of`.
    """
    prices, rates = read_prices(), as_run(rates, summary)
    return bill(usage_of(summary, rates), rates, prices.of(region), prices_of=prices.label(region))


def bill_if_known(summary: RunSummary, rates: Rates, region: str) -> Bill | None:
    """Return `bill_of`, or None where the price file does not know the region."""
    try:
        return bill_of(summary, rates, region)
    except PriceError:
        return None


def price_note(region: str) -> list[str]:
    """Return a sentence when a run in this region will have no receipt, else nothing."""
    try:
        read_prices().of(region)
    except PriceError as error:
        return [f"No receipt: {error}"]
    return []


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
