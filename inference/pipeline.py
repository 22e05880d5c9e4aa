"""The work of one rank: read its rows block by block, clean them, predict, and keep what its record reports."""

import io
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from inference.block import Block, RangeReader, join
from inference.calibration import Calibration
from inference.cleaning import clean_cutouts
from inference.clock import PhaseClock
from inference.contract import RankTask
from inference.predict import MICRO_BATCH, Engine, predict_redshift
from inference.quality import Quality
from inference.shard import read_blocks

if TYPE_CHECKING:
    from inference.engines.torch import Profile


@dataclass(frozen=True)
class Predictions:
    """What a rank predicted, in dataset order."""

    object_id: NDArray[np.int64]
    """Identifiers, shape (N,), int64."""

    z_phot: NDArray[np.float32]
    """Predicted redshifts, shape (N,), float32; NaN where the galaxy was rejected."""

    sigma: NDArray[np.float32]
    """Half-width of the interval around z_phot that holds 68 % of the galaxies, shape (N,), float32; NaN where rejected
    and where the weights have no calibration."""

    quality: NDArray[np.uint8]
    """Flags of `inference.quality.Quality`, shape (N,), uint8."""

    z_spec: NDArray[np.float64]
    """Spectroscopic redshifts, shape (N,), float64; NaN where unknown."""

    def to_npz(self) -> bytes:
        """Return the content of ``predictions/<rank>.npz``."""
        buffer = io.BytesIO()
        np.savez(buffer, **{field.name: getattr(self, field.name) for field in fields(self)})
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> "Predictions":
        """Read what `to_npz` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Concatenate predictions."""
        return cls(
            **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)}
        )


@dataclass(frozen=True)
class Outcome:
    """The predictions of a rank, and what torch's profiler saw if it was asked."""

    predictions: Predictions
    profile: "Profile | None" = None
    ratio_95: float | None = None
    """Half-width of the 95 % interval in units of sigma; None where the weights have no calibration."""


def infer_rank(
    task: RankTask,
    reader: RangeReader,
    engine: Engine,
    clock: PhaseClock,
    calibration: Calibration | None = None,
) -> Outcome:
    """Predict the redshifts of a rank's rows; memory does not grow with their number.

    Parameters
    ----------
    task : RankTask
    reader : RangeReader
        Reads the shards.
    engine : Engine
    clock : PhaseClock
        Gets the phases ``download`` and ``inference``.
    calibration : Calibration, optional
        Of the engine's weights; without it sigma is NaN and OUT_OF_DOMAIN is never set.

    Raises
    ------
    ShardFormatError, ShardChangedError
        If a shard is not what the model reads, or not what was planned.
    EngineError
        If a redshift is not finite.
    """
    # The published loop profiles the batch size the user asked for; ours never depends on it.
    micro_batch = task.batch_size if task.profile else MICRO_BATCH
    parts: list[Predictions] = []
    with _profiler(task) as profile:
        for block in _timed(_one_ahead(_blocks(task, reader)), clock):
            with clock.phase("inference"):
                parts.append(predict_block(block, engine, calibration, micro_batch=micro_batch))
    predictions = Predictions.joined(parts)
    assert len(predictions.z_phot) == task.num_samples, "the plan counted other rows than were read"
    return Outcome(predictions, profile, calibration.errors.ratio_95 if calibration else None)


def predict_block(
    block: Block, engine: Engine, calibration: Calibration | None, *, micro_batch: int = MICRO_BATCH
) -> Predictions:
    """Clean a block, predict its redshifts, with their uncertainties; a rejected galaxy keeps its row, without numbers.

    Parameters
    ----------
    block : Block
        Galaxies as they were read.
    engine, calibration, micro_batch
        See `infer_rank`.
    """
    cleaned = clean_cutouts(block.images, block.magnitudes)
    z_phot = predict_redshift(engine, cleaned.images, cleaned.magnitudes, micro_batch=micro_batch)
    sigma = np.full(len(block), np.nan, dtype=np.float32)
    quality = cleaned.quality
    is_rejected = (quality & Quality.REFUSED) != 0
    if calibration is not None:
        sigma = calibration.errors.sigma(cleaned.magnitudes, z_phot)
        is_outside = calibration.domain.is_outside(cleaned.images, cleaned.magnitudes)
        quality[is_outside & ~is_rejected] |= Quality.OUT_OF_DOMAIN.value
    z_phot[is_rejected] = sigma[is_rejected] = np.nan
    # Copies, so that no view keeps a whole block alive.
    return Predictions(np.array(block.object_id), z_phot, sigma, quality, np.array(block.redshifts))


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
