"""The published numbers: one file, each with its source."""

from pathlib import Path
from typing import Any, Literal

import msgspec

from inference.contract import BITS_PER_ROW

PUBLISHED_FILE = Path(__file__).with_name("published.toml")
Definition = Literal["sum_of_rank_rates", "map_wall", "end_to_end", "one_rank", "one_process"]

DEFINITIONS: dict[Definition, str] = {
    "sum_of_rank_rates": "every rank's own rate, added",
    "map_wall": "galaxies over the wall time of the Map",
    "end_to_end": "galaxies over the wall time of the run",
    "one_rank": "the inference loop of one rank",
    "one_process": "one process on one machine, without any service",
}
"""What a rate is a rate of. Rates are compared under the same definition only."""


class PublishedRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One published throughput: as a time over a number of galaxies, or as a rate."""

    what: str
    """What was run."""

    definition: Definition
    """What it is a rate of."""

    hardware: str
    """Where."""

    source: str
    """Name in the file's table of sources."""

    num_ranks: int | None = None
    """Ranks; None where not stated."""

    num_samples: int | None = None
    """Galaxies."""

    seconds: float | None = None
    """Time for them [s]."""

    samples_per_s: float | None = None
    """Rate, where it was published as one [galaxies/s]."""

    gbit_per_s: float | None = None
    """The same in 10⁹ bit/s."""

    @property
    def rate_per_s(self) -> float:
        """The rate, whichever way it was published [galaxies/s]."""
        if self.samples_per_s is not None:
            return self.samples_per_s
        if self.gbit_per_s is not None:
            return self.gbit_per_s * 1e9 / BITS_PER_ROW
        assert self.num_samples is not None, "a rate is published in one of three ways"
        assert self.seconds is not None, "a rate is published in one of three ways"
        return self.num_samples / self.seconds


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``published.toml``."""

    caveat: str
    """What a comparison with them does not say."""

    sources: dict[str, str]
    """Name to where it was published."""

    throughput: tuple[PublishedRate, ...]
    scaling: tuple[dict[str, Any], ...]
    """Times by world size over an amount of data that was not stated."""

    cost: tuple[dict[str, Any], ...]
    """What runs were reported to cost."""

    accuracy: dict[str, Any]
    """On other galaxies with other images: never a measure of ours."""


def read_published() -> Published:
    """Read the file of published numbers."""
    return msgspec.toml.decode(PUBLISHED_FILE.read_bytes(), type=Published)
