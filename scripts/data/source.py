"""Any source of galaxies, by what is found at its path."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from inference.block import SDSS
from inference.contract.dataset import ImageOrigin
from inference.models import shipped
from inference.models.card import Inputs, ModelCard
from inference.plan import is_shard
from scripts.command.errors import SourceError, UsageError
from scripts.data.cleaning_report import CleaningReport
from scripts.data.fits_cutouts import ENDINGS, Wanted, cutouts_in, find_cutouts
from scripts.data.galaxies import UNKNOWN, Galaxies, Origin
from scripts.data.numpy_file import has_cutouts
from scripts.data.published_file import CubeFile, TensorFile
from scripts.data.reader import ShardFolder
from scripts.data.records import Records, read_records
from scripts.data.table_file import TableFile
from scripts.data.table_galaxies import CutoutsWithTable, PlainTable, RenderedTable
from scripts.data.user_table import FORMATS, README, SUFFIXES, TENSOR_ENDINGS, described_by, is_table, open_table
from scripts.simulation.conditions import PIXEL_ARCSEC

RECORDS = "records"
KINDS = (
    f"a table ({FORMATS}), a folder of Parquet files that are one table, a published .pt or .npz, a folder of shards, "
    "or a folder of FITS cutouts with a table"
)


@dataclass(frozen=True)
class Source:
    """Galaxies that somebody brought, and what is known of them."""

    galaxies: Galaxies
    description: str
    """What was read as what."""

    origin: Origin = UNKNOWN
    """What holds for all of them."""

    records: Records | None = None
    """The table, where there is one."""

    is_rendered: bool = False
    """Whether images are made from the table, or there are none, so that there is nothing to judge in them."""

    is_sequential: bool = False
    """Whether the galaxies can only be had from the first to the last."""

    @property
    def report(self) -> CleaningReport:
        """What neither pixels nor magnitudes show."""
        return CleaningReport(rules=self.records.rules, notes=self.records.notes) if self.records else CleaningReport()


def open_source(
    path: Path,
    *,
    fields: str,
    scratch: Path,
    seed: int,
    tick: Callable[[int], None] = lambda _: None,
    expect: Callable[[int], None] = lambda _: None,
    card: ModelCard | None = None,
) -> Source:
    """Open a source; a table is read once, into records under `scratch`.

    Parameters
    ----------
    path : Path
        File or folder.
    fields : str
        The user's names of columns, as in ``u=MAG_U,z_spec=ZBEST``.
    scratch : Path
        Folder for the records.
    seed : int
        Decides what is drawn for images that are rendered.
    tick : callable
        Called with the number of table rows read.
    expect : callable
        Called with about how many there are, before the first is read, where that is known.
    card : ModelCard, optional
        Of a model, for what it reads: bands, size of the cutouts, further numbers. The shipped one's when absent. One
        that reads no images has a table without images read as it is, instead of rendering some.

    Raises
    ------
    SourceError
        If it is none of what can be read, or not what it seems; the message says what was found.
    """
    wanted = (card or shipped().card).inputs

    def read(table: TableFile) -> Records:
        if num_rows := table.about_rows:
            expect(num_rows)
        return read_records(table, fields, scratch / RECORDS, tick, card=card)

    if path.is_dir():
        if any(is_shard(child.name) for child in path.iterdir()):
            return _open_shards(path, fields, wanted if card else None)
        if tables := described_by(path / README):
            path = _the_one(tables, path)
        elif not is_table(path):
            return _open_cutouts(path, read, wanted)
    elif not path.exists():
        raise UsageError(missing(str(path)))
    is_tensors = path.suffix.lower() in TENSOR_ENDINGS
    if is_tensors or has_cutouts(path):
        file = TensorFile if is_tensors else CubeFile
        cutouts = file(path, wanted.bands, wanted.side_px)
        records = read(cutouts.table())
        if not wanted.side_px:
            return _with_table(PlainTable(records), "none")
        # An archive is read like a tape, and the pages of a mapped file are better not fought over.
        return _with_table(CutoutsWithTable(records, cutouts), "measured", side_px=wanted.side_px, is_sequential=True)
    if wanted.side_px:
        _refuse_what_cannot_be_rendered(path, wanted)
    records = read(open_table(path))
    if not wanted.side_px:
        return _with_table(PlainTable(records), "none")
    return _with_table(RenderedTable(records, seed), "rendered", PIXEL_ARCSEC, side_px=wanted.side_px)


def _the_one(tables: list[Path], folder: Path) -> Path:
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise SourceError(f"{folder / README} describes several tables, {names}: name one, SOURCE={tables[0]}.")
    return tables[0]


def missing(source: str) -> str:
    """Say that a source is not there."""
    if re.match(r"\w+:/", source):
        return f"SOURCE={source} is an address: download the file first, for example with curl, and name that."
    return f"SOURCE={source} does not exist. It may be {KINDS}."


def _refuse_what_cannot_be_rendered(path: Path, wanted: Inputs) -> None:
    if wanted.side_px == SDSS.side_px and set(wanted.bands) <= set(SDSS.bands):
        return
    raise SourceError(
        f"{path} has no images, and the model reads {wanted.side_px} x {wanted.side_px} pixels in "
        f"{' '.join(wanted.bands)}; those of SDSS alone can be rendered, {SDSS.side_px} x {SDSS.side_px} in "
        f"{' '.join(SDSS.bands)}. Bring cutouts: a folder of FITS files, a .pt or .npz."
    )


def _with_table(
    galaxies: PlainTable | RenderedTable | CutoutsWithTable,
    image_origin: ImageOrigin,
    pixel_scale_arcsec: float | None = None,
    *,
    side_px: int = 0,
    is_sequential: bool = False,
) -> Source:
    if isinstance(galaxies, CutoutsWithTable) and (fault := galaxies.fault_of_unit()):
        records = replace(galaxies.records, notes=(*galaxies.records.notes, fault))
        galaxies = replace(galaxies, records=records)
    records, columns = galaxies.records, galaxies.records.columns
    if columns.pixel_scale_arcsec and pixel_scale_arcsec:
        raise UsageError(
            f"FIELDS: pixel_scale_arcsec={columns.pixel_scale_arcsec:g} is for cutouts that do not say it; these have "
            f"pixels of {pixel_scale_arcsec:.4g} arcsec."
        )
    return Source(
        galaxies,
        columns.describe(),
        Origin(
            image_origin,
            pixel_scale_arcsec or columns.pixel_scale_arcsec,
            columns.dereddened,
            columns.extinction_in_words,
            columns.bands,
            side_px,
            columns.further_fields,
            text_columns=records.text_columns,
        ),
        records,
        is_rendered=image_origin != "measured",
        is_sequential=is_sequential,
    )


def _open_shards(folder: Path, fields: str, inputs: Inputs | None) -> Source:
    if fields:
        raise UsageError(f"FIELDS names columns of a table; {folder} holds shards.")
    galaxies = ShardFolder(folder, inputs)
    published = not galaxies.names[0].endswith(".safetensors")
    what = f"shards {galaxies.names[0]} to {galaxies.names[-1]}"
    return Source(galaxies, what, galaxies.origin, is_sequential=published)


def _open_cutouts(folder: Path, read: Callable[[TableFile], Records], inputs: Inputs) -> Source:
    tables = [path for path in sorted(folder.iterdir()) if _is_table(path)]
    if not set(cutouts_in(folder)) - set(tables):
        held = Counter(path.suffix or "without an ending" for path in folder.iterdir() if path.is_file())
        files = ", ".join(f"{num:,} {ending}" for ending, num in held.most_common(5)) or "no file"
        raise SourceError(f"{folder} holds neither shards nor FITS cutouts, but {files}. A source may be {KINDS}.")
    if len(tables) != 1:
        found = ", ".join(path.name for path in tables) or "none"
        raise SourceError(f"{folder} needs one table of its cutouts, .csv, .parquet or table.fits; it has {found}.")
    table = open_table(tables[0])
    records = read(table)
    if not inputs.side_px:
        return _with_table(PlainTable(records), "none")
    cutouts = find_cutouts(folder, table, records, Wanted(inputs.bands, inputs.side_px, inputs.pixel_scale_arcsec))
    return _with_table(
        CutoutsWithTable(records, cutouts), "measured", cutouts.pixel_scale_arcsec, side_px=inputs.side_px
    )


def _is_table(path: Path) -> bool:
    name = path.name.lower()
    return path.is_file() and name.endswith(SUFFIXES) and (not name.endswith(ENDINGS) or name.startswith("table."))
