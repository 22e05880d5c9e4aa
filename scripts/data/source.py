"""Any source of galaxies, by what is found at its path."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inference.plan import SHARD_SUFFIXES
from scripts.command.errors import SourceError, UsageError
from scripts.data.cleaning_report import CleaningReport
from scripts.data.fits_cutouts import ENDINGS, find_cutouts
from scripts.data.galaxies import Galaxies
from scripts.data.published_file import CubeFile, TensorFile
from scripts.data.reader import ShardFolder
from scripts.data.records import Records, read_records
from scripts.data.table_galaxies import CutoutsWithTable, RenderedTable
from scripts.data.user_table import SUFFIXES, open_table

RECORDS = "records"
KINDS = (
    f"a table ({', '.join(SUFFIXES)}), a published .pt or .npz, a folder of shards, "
    "or a folder of FITS cutouts with a table"
)


@dataclass(frozen=True)
class Source:
    """Galaxies that somebody brought, and what is known of them."""

    galaxies: Galaxies
    description: str
    """What was read as what."""

    records: Records | None = None
    """The table, where there is one."""

    is_rendered: bool = False
    """Whether images are made from the table, so that there is nothing to judge in them."""

    is_sequential: bool = False
    """Whether the galaxies can only be had from the first to the last."""

    @property
    def report(self) -> CleaningReport:
        """What neither pixels nor magnitudes show."""
        return CleaningReport(rules=self.records.rules, notes=self.records.notes) if self.records else CleaningReport()


def open_source(
    path: Path, *, fields: str, scratch: Path, seed: int, tick: Callable[[int], None] = lambda _: None
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

    Raises
    ------
    SourceError
        If it is none of what can be read, or not what it seems; the message says what was found.
    """
    if path.is_dir():
        if any(child.suffix in SHARD_SUFFIXES for child in path.iterdir()):
            return _open_shards(path, fields)
        return _open_cutouts(path, fields, scratch, tick)
    if not path.exists():
        raise UsageError(f"SOURCE={path} does not exist. It may be {KINDS}.")
    if path.suffix in (".pt", ".npz"):
        cutouts = TensorFile(path) if path.suffix == ".pt" else CubeFile(path)
        records = read_records(cutouts.table(), fields, scratch / RECORDS, tick)
        # An archive is read like a tape, and the pages of a mapped file are better not fought over.
        return Source(CutoutsWithTable(records, cutouts), records.columns.describe(), records, is_sequential=True)
    records = read_records(open_table(path), fields, scratch / RECORDS, tick)
    return Source(RenderedTable(records, seed), records.columns.describe(), records, is_rendered=True)


def _open_shards(folder: Path, fields: str) -> Source:
    if fields:
        raise UsageError(f"FIELDS names columns of a table; {folder} holds shards.")
    galaxies = ShardFolder(folder)
    published = not galaxies.names[0].endswith(".safetensors")
    return Source(galaxies, f"shards {galaxies.names[0]} to {galaxies.names[-1]}", is_sequential=published)


def _open_cutouts(folder: Path, fields: str, scratch: Path, tick: Callable[[int], None]) -> Source:
    tables = [path for path in sorted(folder.iterdir()) if _is_table(path)]
    has_cutouts = any(path.name.endswith(ENDINGS) and path not in tables for path in folder.iterdir())
    if not has_cutouts:
        raise SourceError(f"{folder} holds neither shards nor FITS cutouts. A source may be {KINDS}.")
    if len(tables) != 1:
        found = ", ".join(path.name for path in tables) or "none"
        raise SourceError(f"{folder} needs one table of its cutouts, .csv, .parquet or table.fits; it has {found}.")
    table = open_table(tables[0])
    records = read_records(table, fields, scratch / RECORDS, tick)
    cutouts = find_cutouts(folder, table, records)
    records.rules["no cutout"] = sum(not path.is_file() for path in cutouts.paths)
    return Source(CutoutsWithTable(records, cutouts), records.columns.describe(), records)


def _is_table(path: Path) -> bool:
    is_fits = path.name.endswith(ENDINGS)
    return path.is_file() and path.name.lower().endswith(SUFFIXES) and (not is_fits or path.name.startswith("table."))
