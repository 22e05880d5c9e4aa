"""The work of one rank: read its rows block by block, clean them, predict, and keep what its record reports."""

import io
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from inference import pz
from inference.block import Block, Layout, RangeReader, join
from inference.calibration import Calibration
from inference.checksum import ProvedReader
from inference.cleaning import Cleaned, Limits, clean_cutouts, fill_pixels
from inference.clock import PhaseClock
from inference.contract import RankTask
from inference.models import shipped
from inference.models.card import ModelCard, Redshift
from inference.npz import read_arrays
from inference.predict import MICRO_BATCH, Engine, predict_values
from inference.quality import Quality
from inference.shard import BLOCK_ROWS, block_rows_of, read_blocks

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

    pz: NDArray[np.float32] | None = None
    """Distribution of each redshift, shape (N, 12) or (N, 15), float32 (`inference.distributions`); NaN where rejected.
    None where none is known."""

    def __getitem__(self, rows: slice | NDArray[Any]) -> "Predictions":
        """Return some rows."""
        return Predictions(**{name: getattr(self, name)[rows] for name in _names(with_pz=self.pz is not None)})

    def to_npz(self) -> bytes:
        """Return the content of ``predictions/<rank>.npz``."""
        buffer = io.BytesIO()
        np.savez(buffer, **{name: getattr(self, name) for name in _names(with_pz=self.pz is not None)})
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> "Predictions":
        """Read what `to_npz` wrote; its arrays are read-only."""
        arrays = read_arrays(content)
        return cls(**{name: arrays[name] for name in _names(with_pz="pz" in arrays)})

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Concatenate predictions; distributions are kept where all parts have them in the same form."""
        widths = {None if part.pz is None else part.pz.shape[1] for part in parts}
        names = _names(with_pz=len(widths) == 1 and None not in widths)
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _names(*, with_pz: bool) -> list[str]:
    return [field.name for field in fields(Predictions) if with_pz or field.name != "pz"]


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
    card: ModelCard,
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
    card : ModelCard
        Of the engine's model.
    calibration : Calibration, optional
        Of the engine's weights; without it sigma is NaN, OUT_OF_DOMAIN is never set, and p(z) is what the network
        itself gives.

    Raises
    ------
    ShardFormatError, ShardChangedError
        If a shard is not what the model reads, or not what was planned.
    EngineError
        If a redshift is not finite.
    """
    # The published loop profiles the batch size the user asked for; ours never depends on it.
    micro_batch = task.batch_size if task.profile else None
    parts: list[Predictions] = []
    layout = Layout.for_model(card.inputs, task.bands)
    block_rows = block_rows_of(layout, BLOCK_ROWS if task.profile else engine.micro_batch)
    blocks = _one_ahead(_blocks(task, ProvedReader(reader, task.rows), layout, block_rows))
    with _profiler(task) as profile:
        for block in _timed(blocks, clock):
            with clock.phase("inference"):
                parts.append(predict_block(block, engine, calibration, card, micro_batch=micro_batch))
    predictions = Predictions.joined(parts)
    assert len(predictions.z_phot) == task.num_samples, "the plan counted other rows than were read"
    ratio_95 = calibration.errors.ratio_95 if calibration and isinstance(card.output, Redshift) else None
    return Outcome(predictions, profile, ratio_95)


def predict_block(
    block: Block,
    engine: Engine,
    calibration: Calibration | None,
    card: ModelCard | None = None,
    *,
    micro_batch: int | None = None,
) -> Predictions:
    """Clean a block, predict its redshifts, with their uncertainties; a rejected galaxy keeps its row, without numbers.

    Parameters
    ----------
    block : Block
        Galaxies as they were read.
    engine, calibration, micro_batch
        See `infer_rank`.
    card : ModelCard, optional
        Of the engine's model; that of the shipped one when absent.
    """
    card = card or shipped().card
    cleaned = _cleaned(block, card)
    values = predict_values(
        engine,
        cleaned.images,
        cleaned.magnitudes,
        None if block.columns is None else np.nan_to_num(block.columns),  # rows that lack one are rejected
        num_values=pz.num_values(card.output),
        micro_batch=micro_batch,
    )
    found = pz.answer(card.output, values)
    z_phot, distribution = found.z_phot, found.pz
    quality = cleaned.quality
    is_rejected = (quality & Quality.REFUSED) != 0
    sigma = np.full(len(block), np.nan, dtype=np.float32)
    if found.sigma is not None:
        sigma = found.sigma
    elif calibration is not None:
        sigma = calibration.errors.sigma(cleaned.magnitudes, z_phot)
    if distribution is None and calibration is not None and calibration.posterior is not None:
        distribution = calibration.posterior.posteriors(cleaned.magnitudes, z_phot)
    if calibration is not None:
        is_outside = calibration.domain.is_outside(cleaned.images, cleaned.magnitudes, card.domain)
        quality[is_outside & ~is_rejected] |= Quality.OUT_OF_DOMAIN.value
    for numbers in (z_phot, sigma, distribution):
        if numbers is not None:
            numbers[is_rejected] = np.nan
    # Copies, so that no view keeps a whole block alive.
    # -1, -9 and -9999 stand for an unknown redshift in many tables; with -1, (1 + z) is no divisor.
    z_spec = np.where(block.redshifts > -1, block.redshifts, np.nan)
    return Predictions(np.array(block.object_id), z_phot, sigma, quality, z_spec, distribution)


def _cleaned(block: Block, card: ModelCard) -> Cleaned:
    """Judge what the model reads; magnitudes that it does not read are not missed."""
    limits = Limits.of(card)
    if card.inputs.magnitudes:
        cleaned = clean_cutouts(block.images, block.magnitudes, limits)
    else:
        images, _, quality = fill_pixels(block.images, limits)
        cleaned = Cleaned(images, block.magnitudes, quality)
    if block.columns is not None:
        cleaned.quality[~np.isfinite(block.columns).all(axis=1)] |= (Quality.IMPUTED_BAND | Quality.REFUSED).value
    return cleaned


def _blocks(task: RankTask, reader: RangeReader, layout: Layout, block_rows: int) -> Iterator[Block]:
    """Yield the rank's rows in whole micro-batches, the last excepted, wherever one shard ends and the next begins."""
    rest: list[Block] = []
    parts = (read_blocks(reader, rows, layout, block_rows=block_rows) for rows in task.rows)
    for block in itertools.chain.from_iterable(parts):
        joined = join([*rest, block])
        num_whole = len(joined) // MICRO_BATCH * MICRO_BATCH
        # An empty rest is none: joined to the next block, it would copy all of it.
        rest = [joined[num_whole:]] if num_whole < len(joined) else []
        if num_whole:
            yield joined[:num_whole]
        del block, joined
    yield from rest


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
