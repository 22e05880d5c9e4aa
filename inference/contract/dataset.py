"""``dataset.json``: what a dataset's folder holds, and the names of its objects."""

import hashlib
from typing import Annotated, Literal

from msgspec import Meta

from inference.contract.payload import Count, NonEmpty, Payload

SAMPLE_PREFIX = "datasets/sdss/10MB/"
"""The dataset `make dataset` builds without arguments: real SDSS galaxies that training never saw."""

DATASET_KEY = "dataset.json"
TABLE_KEY = "table.parquet"
TABLE_CSV_KEY = "table.csv"
CLEANING_KEY = "cleaning.json"
TABLE_KEYS = (TABLE_KEY, TABLE_CSV_KEY, CLEANING_KEY)
"""In the shards' folder: one cleaned row per galaxy, and what cleaning found."""


ImageOrigin = Literal["measured", "rendered", "none"]
"""Whether images were observed, made from the photometry, or are not there."""


class ShardEntry(Payload, frozen=True, kw_only=True):
    """One shard file of a dataset."""

    name: NonEmpty
    """File name inside the dataset's folder, e.g. ``0.safetensors``."""

    num_rows: Count
    """Galaxies in the shard."""

    size_bytes: Count
    """Size of the file [bytes]."""

    sha256: str
    """Checksum of the whole file, hexadecimal."""

    crc32: bytes = b""
    """CRC-32 of every part of it, 4 bytes each, little-endian, base64 in JSON; empty in cards of older versions. A part
    is a 256th of the file, at least 256 KiB."""


class DatasetCard(Payload, frozen=True, kw_only=True):
    """``dataset.json``: what a dataset's folder holds and where it came from."""

    name: NonEmpty
    """Name of the dataset."""

    partition: NonEmpty
    """Folder of this partition, e.g. ``10MB``: shards are at most this large."""

    num_rows: Count
    """Galaxies over all shards."""

    shards: tuple[ShardEntry, ...]
    """The shards in natural order."""

    arrays: dict[str, str]
    """Array name to shape, dtype and unit, in words."""

    bands: tuple[NonEmpty, ...] = ("u", "g", "r", "i", "z")
    """Bands of images and magnitudes, in the order of their second axis."""

    image_origin: ImageOrigin | None = None
    """Where the images come from; null where it is not known."""

    pixel_scale_arcsec: Annotated[float, Meta(gt=0.0)] | None = None
    """Angular size of a pixel [arcsec]; null where it is not known."""

    pixel_unit: Literal["nanomaggy"] = "nanomaggy"
    """Unit of the pixels: what was in another one was converted."""

    zero_point_mag: float = 22.5
    """AB magnitude of one such unit."""

    dereddened: bool | None = None
    """Whether the magnitudes are corrected for Galactic extinction; null where it is not known. Images never are."""

    extinction: str = ""
    """How that is known, in words."""

    seed: int
    """Seed of everything random in it."""

    provenance: str
    """Where the galaxies come from, in words."""

    @property
    def sha256(self) -> str | None:
        """SHA-256 over the checksums of its shards, in natural order, as one text; None of an empty one."""
        sums = "".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(sums.encode()).hexdigest() if sums else None
