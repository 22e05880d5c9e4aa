"""The rows of a dataset as files on this machine, read whole."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from inference.block import Block
from inference.contract import RowRange
from inference.shard import count_rows, read_blocks
from scripts.data.reader import FolderReader


def read_files(paths: Sequence[Path]) -> Iterator[Block]:
    """Yield the galaxies of shards in any format that a worker reads, in order.

    Raises
    ------
    ShardFormatError
        If a file is not what the model reads.
    """
    for path in paths:
        reader = FolderReader(path.parent)
        num_rows = count_rows(reader, path.name, path.stat().st_size, etag="")
        yield from read_blocks(reader, RowRange(key=path.name, start_row=0, stop_row=num_rows))
