"""A user's labelled galaxies, cutouts left on disk: 660,000 of them are 13.5 GB, and training needs a few at a time."""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.block import centre_crop
from inference.cleaning import are_odd, clean_cutouts, color_spread, is_label
from inference.contract import DatasetCard
from inference.models import shipped
from inference.quality import Quality
from scripts.command.errors import SourceError
from scripts.data.reader import ShardFolder
from scripts.data.selection import judge
from scripts.data.source import Source

MIN_LABELS = 200
"""Fewer galaxies cannot teach, choose and test."""


class ShardImages:
    """Cutouts of a folder of shards, read row by row from disk; as a context, it keeps the files open.

    Memory holds the rows that were asked for and nothing else; the system's cache of files takes what is free.
    """

    def __init__(self, folder: ShardFolder) -> None:
        published = [name for name in folder.names if not name.endswith(".safetensors")]
        if published:
            raise SourceError(
                f"{folder.folder} holds {published[0]}, which cannot be read in parts. "
                f"Write it as shards that can: make dataset SOURCE={folder.folder} NAME=another."
            )
        self.folder = folder.folder
        self._starts = np.array(folder.starts)
        self._shards = [_Shard(folder.folder / name) for name in folder.names]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for shard in self._shards:
            shard.close()

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read cutouts in any order: (n,) to (n, 5, 32, 32) [nanomaggy / pixel], as they are in the file."""
        images = np.empty((len(rows), 5, 32, 32), dtype=np.float32)
        shard_of = np.searchsorted(self._starts, rows, side="right") - 1
        # From front to back, as disks like it.
        for place in np.argsort(rows, kind="stable"):
            shard = self._shards[shard_of[place]]
            images[place] = centre_crop(shard.read(int(rows[place] - self._starts[shard_of[place]]))[None])[0]
        return images


class _Shard:
    """The images of one safetensors file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)
        # https://huggingface.co/docs/safetensors: eight bytes of length, a JSON header, the arrays.
        length = int.from_bytes(os.pread(self._file, 8, 0), "little")
        entry = json.loads(os.pread(self._file, length, 8))["images"]
        self._dtype = np.dtype({"F16": "<f2", "F32": "<f4", "F64": "<f8"}[entry["dtype"]])
        self._shape = entry["shape"][1:]
        self._row_bytes = int(np.prod(self._shape)) * self._dtype.itemsize
        self._offset = 8 + length + entry["data_offsets"][0]

    def read(self, row: int) -> NDArray[np.float32]:
        content = os.pread(self._file, self._row_bytes, self._offset + row * self._row_bytes)
        return np.frombuffer(content, dtype=self._dtype).reshape(self._shape).astype(np.float32, copy=False)

    def close(self) -> None:
        os.close(self._file)


@dataclass(frozen=True)
class Labelled:
    """N clean galaxies with a redshift, each once."""

    images: ShardImages
    row: NDArray[np.int64]
    """Row of each in the dataset, ascending, shape (N,)."""

    object_id: NDArray[np.int64]
    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    """Position [degree]; NaN where unknown."""

    magnitudes: NDArray[np.float64]
    """Shape (N, 5) [mag]."""

    redshift: NDArray[np.float64]

    split: NDArray[np.uint8] | None = None
    """Number of the part of each in `split_column.PARTS`, where the user names them."""

    card: DatasetCard | None = None
    """What the dataset says of itself."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def name(self) -> str:
        """Of the dataset; of its folder where the dataset does not say it."""
        return self.card.name if self.card else self.images.folder.name

    @cached_property
    def fingerprint(self) -> str:
        """Checksum of who they are and what is known of them, cutouts excepted."""
        digest = hashlib.sha256()
        for array in (self.row, self.object_id, self.magnitudes, self.redshift):
            digest.update(np.ascontiguousarray(array).tobytes())
        if self.split is not None:
            digest.update(self.split.tobytes())
        return digest.hexdigest()

    def among(self, is_kept: NDArray[np.bool_]) -> "Labelled":
        """Return some of the galaxies."""
        named = ("row", "object_id", "ra_deg", "dec_deg", "magnitudes", "redshift")
        split = None if self.split is None else self.split[is_kept]
        return replace(self, split=split, **{name: getattr(self, name)[is_kept] for name in named})

    def in_part(self, part: int) -> NDArray[np.bool_]:
        """Return which galaxies are in one of the parts that the user names, shape (N,)."""
        return np.zeros(len(self), dtype=bool) if self.split is None else self.split == part

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the cutouts of some galaxies, cleaned: (n,) to (n, 5, 32, 32), float32."""
        index = rows.cpu().numpy()
        return torch.from_numpy(clean_cutouts(self.images.read(self.row[index]), self.magnitudes[index]).images)


def read_labelled(folder: Path) -> Labelled:
    """Look at every galaxy of a dataset once, and keep those that can teach.

    Left out are galaxies without a redshift, with any flag, or with an identifier that an earlier one has. Colours are
    odd compared with those of these very galaxies, not with those of the shipped weights.

    Raises
    ------
    SourceError
        If fewer than `MIN_LABELS` are left, or their redshifts are all the same.
    """
    if ShardFolder(folder).origin.image_origin == "none":
        raise SourceError(
            f"{folder} holds no images, which the network is trained on. Make it again with some: "
            "make dataset SOURCE=… MODEL=astromae renders them from the photometry."
        )
    shards = ShardFolder(folder, shipped().card.inputs)
    blocks = list(judge(Source(shards, str(folder), shards.origin)))
    object_id, redshift, quality = (
        np.concatenate(parts)
        for parts in zip(
            *((block.object_id, block.redshifts, block.inspected.quality) for block in blocks), strict=True
        )
    )
    ra_deg, dec_deg = (np.concatenate([getattr(b.facts, name) for b in blocks]) for name in ("ra_deg", "dec_deg"))
    magnitudes = np.concatenate([block.inspected.magnitudes for block in blocks])
    is_good = is_label(redshift) & ((quality & ~np.uint8(Quality.COLOR_OUTLIER.value)) == 0)
    if is_good.any():
        is_good &= ~are_odd(magnitudes, *color_spread(magnitudes[is_good]))
    is_first = np.zeros(len(object_id), dtype=bool)
    is_first[np.unique(object_id, return_index=True)[1]] = True
    rows = np.flatnonzero(is_good & is_first)
    refuse_too_few(folder, len(rows), len(object_id))
    if np.ptp(redshift[rows]) == 0:
        raise SourceError(f"{folder}: all redshifts are {redshift[rows[0]]:g}; there is nothing to learn.")
    known = [block.facts.split for block in blocks if block.facts.split is not None]
    split = np.concatenate(known)[rows] if known else None
    return Labelled(
        ShardImages(shards),
        rows,
        object_id[rows],
        ra_deg[rows],
        dec_deg[rows],
        magnitudes[rows],
        redshift[rows],
        split,
        shards.card,
    )


def refuse_too_few(folder: Path, num: int, num_all: int) -> None:
    """Raise where too few galaxies can teach.

    Raises
    ------
    SourceError
        If there are fewer than `MIN_LABELS`.
    """
    if num < MIN_LABELS:
        raise SourceError(
            f"{folder} has {num:,} clean galaxies with a redshift, of {num_all:,}; training needs "
            f"{MIN_LABELS} at least. `make dataset` prints how many labels it found, and why galaxies were flagged."
        )
