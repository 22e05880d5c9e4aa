"""The work of one rank: read its rows block by block, predict, and keep what its record reports."""

import io
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from inference.block import Block, RangeReader, join
from inference.clock import PhaseClock
from inference.contract import RankTask
from inference.predict import MICRO_BATCH, Engine, predict_redshift
from inference.shard import read_blocks

if TYPE_CHECKING:
    from inference.engines.torch import Profile


@dataclass(frozen=True)
class Predictions:
    """What a rank predicted, in dataset order."""

    object_id: NDArray[np.int64]
    """Identifiers, shape (N,), int64."""

    z_phot: NDArray[np.float32]
    """Predicted redshifts, shape (N,), float32."""

    z_spec: NDArray[np.float64]
    """Spectroscopic redshifts, shape (N,), float64; NaN where unknown."""

    def to_npz(self) -> bytes:
        """Return the content of ``predictions/<rank>.npz``."""
        buffer = io.BytesIO()
        np.savez(buffer, object_id=self.object_id, z_phot=self.z_phot, z_spec=self.z_spec)
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> "Predictions":
        """Read what `to_npz` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in ("object_id", "z_phot", "z_spec")})


@dataclass(frozen=True)
class Outcome:
    """The predictions of a rank, and what torch's profiler saw if it was asked."""

    predictions: Predictions
    profile: "Profile | None"


def infer_rank(task: RankTask, reader: RangeReader, engine: Engine, clock: PhaseClock) -> Outcome:
    """Predict the redshifts of a rank's rows; memory does not grow with their number.

    Parameters
    ----------
    task : RankTask
    reader : RangeReader
        Reads the shards.
    engine : Engine
    clock : PhaseClock
        Gets the phases ``download`` and ``inference``.

    Raises
    ------
    ShardFormatError, ShardChangedError
        If a shard is not what the model reads, or not what was planned.
    EngineError
        If a redshift is not finite.
    """
    # The published loop profiles the batch size the user asked for; ours never depends on it.
    micro_batch = task.batch_size if task.profile else MICRO_BATCH
    ids: list[NDArray[np.int64]] = []
    phot: list[NDArray[np.float32]] = []
    spec: list[NDArray[np.float64]] = []
    with _profiler(task) as profile:
        for block in _timed(_one_ahead(_blocks(task, reader)), clock):
            with clock.phase("inference"):
                phot.append(predict_redshift(engine, block.images, block.magnitudes, micro_batch=micro_batch))
            # Copies, so that no view keeps a whole block alive.
            ids.append(np.array(block.object_id))
            spec.append(np.array(block.redshifts))
    predictions = Predictions(np.concatenate(ids), np.concatenate(phot), np.concatenate(spec))
    assert len(predictions.z_phot) == task.num_samples, "the plan counted other rows than were read"
    return Outcome(predictions, profile)


def _blocks(task: RankTask, reader: RangeReader) -> Iterator[Block]:
    """Yield the rank's rows in whole micro-batches, the last excepted, wherever one shard ends and the next begins."""
    gathered: list[Block] = []
    for block in itertools.chain.from_iterable(read_blocks(reader, rows) for rows in task.rows):
        gathered.append(block)
        num_whole = sum(map(len, gathered)) // MICRO_BATCH * MICRO_BATCH
        if num_whole:
            joined = join(gathered)
            yield joined[:num_whole]
            gathered = [joined[num_whole:]]
    rest = join(gathered)
    if len(rest):
        yield rest


def _one_ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """Read the next block while the caller computes with this one; never more, so that memory stays flat."""
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(next, blocks, None)
        while (block := ahead.result()) is not None:
            ahead = pool.submit(next, blocks, None)
            yield block


def _timed(blocks: Iterator[Block], clock: PhaseClock) -> Iterator[Block]:
    while True:
        with clock.phase("download"):
            block = next(blocks, None)
        if block is None:
            return
        yield block


def _profiler(task: RankTask) -> "AbstractContextManager[Profile | None]":
    if not task.profile:
        return nullcontext()
    from inference.engines.torch import profiler

    return profiler()
