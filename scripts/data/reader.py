"""An existing dataset, whatever the format of its shards, as galaxies read row by row."""

import itertools
import json
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from inference import contract
from inference.block import SDSS, Block, Layout, join
from inference.contract import DatasetCard, RowRange
from inference.contract.dataset import ImageOrigin
from inference.errors import InvalidRequestError
from inference.models.card import Inputs
from inference.plan import is_shard, natural_order
from inference.quality import Quality
from inference.shard import count_rows, read_blocks
from scripts.command.errors import SourceError
from scripts.data.galaxies import TEXT_COLUMNS, UNKNOWN, Facts, Origin
from scripts.data.split_column import read_split


@dataclass(frozen=True)
class FolderReader:
    """The files of a folder as objects of a store."""

    folder: Path

    def read(self, key: str, *, etag: str | None = None) -> bytes:  # noqa: ARG002 - files have no etag
        """Return the whole file."""
        return (self.folder / key).read_bytes()

    def read_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:  # noqa: ARG002
        """Return bytes start … stop-1 of the file, fewer at its end."""
        with (self.folder / key).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


@dataclass(frozen=True)
class ShardFolder:
    """The galaxies of a folder of shards, in natural order of the files."""

    folder: Path

    inputs: Inputs | None = None
    """What is read of it; all where absent."""

    @cached_property
    def card(self) -> DatasetCard | None:
        """What ``dataset.json`` says; None where there is none.

        Raises
        ------
        SourceError
            If it cannot be understood.
        """
        path = self.folder / contract.DATASET_KEY
        try:
            return contract.decode(path.read_bytes(), DatasetCard)
        except FileNotFoundError:
            return None
        except InvalidRequestError as error:
            raise SourceError(f"{path}: {error}") from error

    @cached_property
    def names(self) -> list[str]:
        """Files of the shards."""
        files = [path.name for path in self.folder.iterdir() if is_shard(path.name)]
        return sorted(files, key=natural_order)

    @cached_property
    def layout(self) -> Layout:
        """What the shards hold, and what of it is read.

        Raises
        ------
        SourceError
            If that is not all there.
        """
        bands = self.card.bands if self.card else None
        inputs = self.inputs
        if inputs is None:
            return self._whole(bands or SDSS.bands)
        if missing := [band for band in inputs.bands if bands and band not in bands]:
            raise SourceError(
                f"{self.folder} has the bands {' '.join(bands or ())}; {' '.join(missing)} is missing for this model."
            )
        return Layout(bands or inputs.bands, inputs.bands, inputs.side_px, True, tuple(inputs.columns))

    def _whole(self, bands: tuple[str, ...]) -> Layout:
        """Return the layout that reads everything in the first shard."""
        name = self.names[0]
        if not name.endswith(".safetensors"):
            return SDSS
        shapes = read_shapes(self.folder / name)
        images = shapes.get("images", ())
        known = ("images", "magnitudes", "redshifts", "object_id")
        further = tuple(sorted(column for column, shape in shapes.items() if column not in known and len(shape) == 1))
        return Layout(bands, bands, images[2] if len(images) == 4 else 0, has_magnitudes=True, columns=further)

    @cached_property
    def origin(self) -> Origin:
        """What holds for all galaxies as they are read; what no card says is not known."""
        card, layout = self.card, self.layout
        known = UNKNOWN
        if card is not None:
            known = Origin(card.image_origin, card.pixel_scale_arcsec, card.dereddened, card.extinction)
        origin: ImageOrigin | None = known.image_origin if layout.side_px else "none"
        return replace(
            known,
            image_origin=origin,
            bands=layout.wanted,
            side_px=layout.side_px,
            columns=layout.columns,
            text_columns=self._text_columns,
        )

    @cached_property
    def starts(self) -> list[int]:
        """First row of each shard in the dataset, and the number of all rows."""
        reader = FolderReader(self.folder)
        counts = (
            count_rows(reader, name, (self.folder / name).stat().st_size, self.layout, etag="") for name in self.names
        )
        return list(itertools.accumulate(counts, initial=0))

    def __len__(self) -> int:
        return self.starts[-1]

    def rows(self, start: int, stop: int) -> Block:
        """Read the galaxies from `start` to before `stop`."""
        block = join([block for part in self._parts(start, stop) for block in self._blocks(part)])
        return Block(
            np.ascontiguousarray(block.images),
            block.magnitudes.copy(),
            block.redshifts.copy(),
            block.object_id.copy(),
            block.columns,
        )

    def facts(self, start: int, stop: int) -> Facts:
        """Return what the dataset's table says; nothing where it has none."""
        path = self.folder / contract.TABLE_KEY
        if not path.exists():
            return Facts.unknown(stop - start)
        names = ["ra_deg", "dec_deg", "quality", *self._text_columns]
        columns = read_table_rows(path, start, stop, names)
        known = Quality.LOW_SIGNAL | Quality.HIGH_EXTINCTION
        texts = {name: np.array([text or "" for text in columns[name]]) for name in self._text_columns}
        split = read_split(texts["split"], f"{path}: split") if "split" in texts else None
        quality = columns["quality"] & np.uint8(known.value)
        return Facts(columns["ra_deg"], columns["dec_deg"], quality, split, texts.get("source_id"))

    @cached_property
    def _text_columns(self) -> tuple[str, ...]:
        import pyarrow.parquet

        path = self.folder / contract.TABLE_KEY
        names = pyarrow.parquet.read_schema(path).names if path.exists() else []
        return tuple(name for name in TEXT_COLUMNS if name in names)

    def _parts(self, start: int, stop: int) -> list[RowRange]:
        """Rows of each shard that are asked for."""
        spans = zip(self.names, self.starts, self.starts[1:], strict=False)
        return [
            RowRange(key=name, start_row=max(start, first) - first, stop_row=min(stop, last) - first, etag="")
            for name, first, last in spans
            if first < stop and start < last
        ]

    def _blocks(self, part: RowRange) -> list[Block]:
        if part.key.endswith(".safetensors"):
            return list(read_blocks(FolderReader(self.folder), part, self.layout))
        index = self.names.index(part.key)
        whole = _whole_shard(self.folder, part.key, self.starts[index + 1] - self.starts[index], self.layout)
        block = whole[part.start_row : part.stop_row]
        # Published shards carry no identifiers: number the galaxies of the dataset, not of the file, from 1.
        first = self.starts[index] + 1
        return [replace(block, object_id=np.arange(first + part.start_row, first + part.stop_row))]


@lru_cache(maxsize=1)
def _whole_shard(folder: Path, name: str, num_rows: int, layout: Layout) -> Block:
    """Read a published shard, which cannot be read in parts; the next batches of it come from memory."""
    rows = RowRange(key=name, start_row=0, stop_row=num_rows, etag="")
    return join(list(read_blocks(FolderReader(folder), rows, layout)))


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read which arrays a safetensors file holds, and their shapes; nothing where it is none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(min(length, 2**20)))
            return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}  # whoever reads the rows says what is wrong with it


def read_table_rows(path: Path, start: int, stop: int, names: list[str]) -> dict[str, Any]:
    """Read rows of a dataset's table as arrays, null as NaN; only the row groups that hold them are read."""
    import pyarrow as pa
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
        ends = list(itertools.accumulate(sizes))
        groups = [i for i, end in enumerate(ends) if end > start and end - sizes[i] < stop]
        if not groups:
            raise SourceError(f"{path} has {ends[-1] if ends else 0} rows; the dataset has {stop}.")
        first = ends[groups[0]] - sizes[groups[0]]
        table = file.read_row_groups(groups, columns=names).slice(start - first, stop - start)
    if len(table) != stop - start:
        raise SourceError(f"{path} has {ends[-1]} rows; the dataset has at least {stop}.")
    columns = {name: table.column(name) for name in names}
    return {
        name: (
            column.cast(pa.float64()) if column.null_count and not pa.types.is_string(column.type) else column
        ).to_numpy()
        for name, column in columns.items()
    }
