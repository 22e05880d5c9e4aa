"""Galaxies of further surveys, for the shipped weights to learn from: tables, images rendered from their photometry."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inference.checksum import file_sha256
from inference.cleaning import are_odd, color_spread, is_label
from inference.models.card import TrainingData
from inference.quality import Quality
from scripts.command.errors import SourceError
from scripts.data.records import Records
from scripts.data.selection import judge
from scripts.data.source import open_source
from scripts.data.table_galaxies import RenderedTable, measured_structure, photometry_of
from scripts.models.training.goals import HELD_OUT, STRIPE_82, WITH_SIZES
from scripts.models.training.rows import TrainingRows, rendered
from scripts.models.training.split import folds, groups
from scripts.simulation import render
from scripts.simulation.cutouts import draw_chances
from scripts.simulation.sdss import Part, load_sources
from scripts.simulation.structure import apparent_structure

PARTS: tuple[Part, Part] = ("train", "selection")
"""What is learned from; the third part is for tests."""

SAME_ARCSEC = 1.5
"""Closer positions are one galaxy."""
REDSHIFTS = (0.003, 0.7)
"""Below, a redshift is the motion of a star or of a neighbour; galaxies above are fewer than mistakes."""
SELECTION_PERCENT = 8
TEST_PERCENT, TEST_PERCENT_OF_FEW = 8, 18
FEW_GALAXIES = 5_000
SPLIT_SEED = 7
FEWEST = 10
"""Galaxies of each part at least."""
ROWS_AT_ONCE = 1_000

KNOWN = {
    "95c938345ac0e517833e8d382c3b123be40c9b00e2b28604b391a4b3d839918d": (
        STRIPE_82,
        "half of data/redshifts/sdss/sdss_training_set.test.fits in the history of the public kcorrect repository "
        "(BSD-3, M. Blanton)",
    ),
    "3e25a270ec01e733cad4a880d959ba51f5ded69d432c7d340cf22959515cbf2d": (
        WITH_SIZES,
        "half of the sample of the public repository CurtinIDS/cic-ml-workshop (CC-BY-4.0; Galaxy Zoo)",
    ),
}
"""Checksum of known tables to their title and where they come from."""


@dataclass(frozen=True)
class Survey:
    """N clean galaxies with redshifts, none of which is in the sample or in a survey before."""

    name: str
    sha256: str
    """Of the table."""

    records: Records
    row: NDArray[np.int64]
    """Of each galaxy in the table, shape (N,)."""

    magnitudes: NDArray[np.float64]
    redshift: NDArray[np.float64]
    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    part: NDArray[np.str_]
    """`train`, `selection` or `held_out`; a patch of sky is whole in one."""

    @property
    def title(self) -> str:
        """What it is called in tables."""
        return KNOWN[self.sha256][0] if self.sha256 in KNOWN else self.name

    @property
    def tests(self) -> str:
        """Name of the galaxies that are tested on."""
        return f"{self.title}, {HELD_OUT}"

    @property
    def training_data(self) -> TrainingData:
        """What a card says of it."""
        source = f"{self.title}: {KNOWN[self.sha256][1]}" if self.sha256 in KNOWN else self.name
        return TrainingData(name=source, num_rows=int((self.part == "train").sum()), sha256=self.sha256)

    def rendered(self, part: Part, seed: int) -> TrainingRows:
        """Render the galaxies of a part from photometry, sizes and chance, which follows from seed and identifier."""
        is_asked = self.part == part
        rows = self._rows(part)
        starts = range(0, len(rows), ROWS_AT_ONCE)
        return TrainingRows(
            torch.from_numpy(np.concatenate([_images(rows[start : start + ROWS_AT_ONCE], seed) for start in starts])),
            torch.from_numpy(self.magnitudes[is_asked].astype(np.float32)),
            torch.from_numpy(self.redshift[is_asked].astype(np.float32)),
            num_real=len(rows),
        )

    def _rows(self, part: Part) -> NDArray[Any]:
        rows: NDArray[Any] = self.records.rows(0, self.records.num_rows)[self.row[self.part == part]]
        return rows


def read_surveys(tables: Sequence[Path], scratch: Path) -> list[Survey]:
    """Read tables of galaxies with redshifts and positions.

    A galaxy that is in the sample, in training or test, or in an earlier table is left out: nothing that is tested on
    was trained on, whoever lists it.

    Parameters
    ----------
    tables : sequence of Path
    scratch : Path
        Folder for what is read from them.

    Raises
    ------
    SourceError
        If a table cannot be read, or has no galaxy with a redshift and a position that is new.
    """
    sample = load_sources()
    known = [_places(sample.ra_deg, sample.dec_deg)]
    found = []
    for number, path in enumerate(tables):
        folder = scratch / str(number)
        folder.mkdir()
        survey = _read(path, folder, np.concatenate(known))
        known.append(_places(survey.ra_deg, survey.dec_deg))
        found.append(survey)
    return found


class Catalogue(NamedTuple):
    """Galaxies of one part of the sample or of a survey."""

    magnitudes: NDArray[np.float64]
    redshift: NDArray[np.float64]
    render: Callable[[], TrainingRows]
    """Makes their images, as training sees them."""


def catalogues(part: Part, surveys: Sequence[Survey], seed: int) -> Iterator[Catalogue]:
    """Yield the galaxies of a part: of the sample, then of each survey."""
    chance = 1_000 * seed + (part == "train")
    sample = load_sources().of(part)
    yield Catalogue(sample.photometry.magnitudes, sample.redshift, partial(rendered, sample, chance))
    for number, survey in enumerate(surveys, 1):
        is_asked = survey.part == part
        render = partial(survey.rendered, part, 1_000 * number + chance)
        yield Catalogue(survey.magnitudes[is_asked], survey.redshift[is_asked], render)


def _read(path: Path, scratch: Path, known: NDArray[np.float64]) -> Survey:
    source = open_source(path, fields="", scratch=scratch, seed=0)
    if source.records is None or not isinstance(source.galaxies, RenderedTable):
        raise SourceError(f"{path} is no table of u, g, r, i, z without images, which the shipped weights learn from.")
    rows = source.records.rows(0, len(source.galaxies))
    blocks = list(judge(source))
    quality = np.concatenate([block.inspected.quality for block in blocks])
    magnitudes = np.concatenate([block.inspected.magnitudes for block in blocks])
    redshift, ra_deg, dec_deg = rows["redshift"], rows["ra_deg"], rows["dec_deg"]
    is_good = is_label(redshift) & np.isfinite(ra_deg) & np.isfinite(dec_deg)
    is_good &= (redshift > REDSHIFTS[0]) & (redshift < REDSHIFTS[1])
    is_good &= (quality & ~np.uint8(Quality.COLOR_OUTLIER.value)) == 0
    if is_good.any():
        is_good &= ~are_odd(magnitudes, *color_spread(magnitudes[is_good]))
        distance, _ = cKDTree(known).query(_places(np.nan_to_num(ra_deg), np.nan_to_num(dec_deg)))
        is_good &= distance > np.radians(SAME_ARCSEC / 3600)
    kept = np.flatnonzero(is_good)
    if not len(kept):
        raise SourceError(f"{path} has no clean galaxy with a redshift and a position that is not in the sample.")
    positions = ra_deg[kept], dec_deg[kept]
    # Identifiers of the table are not asked: some are broken, and a place on the sky says the same.
    group = groups(np.arange(len(kept)), *positions, magnitudes[kept])
    percent = folds(group, 100, seed=SPLIT_SEED)
    test = TEST_PERCENT if len(kept) > FEW_GALAXIES else TEST_PERCENT_OF_FEW
    part = np.select([percent < test, percent < test + SELECTION_PERCENT], ["held_out", "selection"], "train")
    fewest = min(int((part == one).sum()) for one in ("train", "selection", "held_out"))
    if fewest < FEWEST:
        raise SourceError(
            f"{path} has {len(kept):,} clean galaxies that are not in the sample, in too few patches of sky: {fewest} "
            f"would be left to train, to choose or to test; {FEWEST} are needed for each."
        )
    return Survey(
        path.name, file_sha256(path), source.records, kept, magnitudes[kept], redshift[kept], *positions, part
    )


def _images(rows: NDArray[Any], seed: int) -> NDArray[np.float32]:
    photometry = photometry_of(rows)
    chances = draw_chances(seed, photometry.object_id)
    shape = measured_structure(rows, apparent_structure(photometry, chances.structure))
    return render.render(photometry, shape, chances.view, chances.pixels)


def _places(ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return positions as unit vectors, (N, 3)."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
