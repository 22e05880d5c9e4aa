"""`make catalog RUN=…`: the redshifts of a run as FITS and Parquet, in dataset order; FORMAT=qp or votable."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from inference.contract import RunRequest
from inference.run_folder import Inventory, name_lost
from scripts.catalogs.columns import LOST, ROW
from scripts.catalogs.fits_file import FitsWriter
from scripts.catalogs.joined import NAMES as JOINED
from scripts.catalogs.joined import write_joined
from scripts.catalogs.merge import merged_blocks
from scripts.catalogs.parquet_file import ParquetWriter
from scripts.catalogs.positions import TABLE_NAME, WHAT_NEXT, DatasetTable, is_of_dataset
from scripts.catalogs.provenance import Card, cards
from scripts.catalogs.qp_file import QpWriter
from scripts.catalogs.tally import Tally
from scripts.catalogs.verify import prove_equal
from scripts.catalogs.votable_file import VotableWriter
from scripts.command.console import megabytes, say_here
from scripts.command.errors import CommandError, UsageError
from scripts.command.model import ModelName
from scripts.command.program import start
from scripts.command.variables import Flag
from scripts.command.whole_file import written_whole
from scripts.data.location import read_card
from scripts.runs.run_folder import Run, open_run
from scripts.runs.variables import RunName, StackVariables

FITS_NAME, PARQUET_NAME, QP_NAME = "catalog.fits", "catalog.parquet", "catalog.hdf5"
VOTABLE_NAME = "catalog.vot"
NO_TABLE = "none"
NO_POSITIONS = "unknown; TABLE=file.parquet names the table of the dataset."


class CatalogVariables(StackVariables, frozen=True, kw_only=True):
    """The variables of `make catalog`."""

    run: RunName = ""
    table: Annotated[
        str, Meta(description="the dataset's table.parquet, a table of one's own to be joined, or none")
    ] = ""
    partial: Flag = False
    format: Annotated[
        Literal["", "qp", "votable"],
        Meta(description="qp, the distributions as RAIL reads them, or votable; FITS and Parquet when absent"),
    ] = ""
    model: ModelName = ""


def main(variables: CatalogVariables) -> None:
    """Write the catalog of a run. Exit status: 0 written, 1 the run makes none, 2 there is no such run."""
    files = open_run(variables.run, variables, root=Path(), model=variables.model)
    folder = files.path
    summary = files.summary if files.has_summary else None
    found = files.inventory(summary.lost_ranks if summary else ())
    request = summary.request if summary else None
    _refuse_incomplete(files.run_id, found, request, partial=variables.partial)
    own = _own_table(variables)
    dataset = _dataset_of(files)
    table = _open_table("" if own else variables.table, request, found, dataset)
    positions = str(table.path) if table else ""
    card = read_card(table.path.parent) if table else None
    provenance = cards(
        files.run_id,
        request,
        found,
        started_at=_started_at(files, found),
        positions=positions,
        images=(card.image_origin if card else None) or "",
    )
    write, names = WRITERS[variables.format]
    tally = write(files, found, table, provenance)
    say_here(f"{files.run_id}: {tally.in_words()}")
    if flagged := tally.flags_in_words():
        say_here(f"Flags: {flagged}")
    for name in names:
        say_here(f"{folder / name}  {megabytes((folder / name).stat().st_size)}")
    if variables.format == "qp":
        say_here(f"A qp ensemble of the {tally.num_pz:,} galaxies with p(z); ancil has the columns of the catalog.")
    elif not variables.format:
        say_here(f"Read back: the same {found.num_rows:,} rows in both, in dataset order; valid FITS.")
    if own:
        said = write_joined(folder / FITS_NAME, own, folder)
        say_here(f"{' and '.join(str(folder / name) for name in JOINED)}: {said}")
    say_here(f"Positions and mag_r: {positions or NO_POSITIONS}")
    if found.lost:
        say_here(f"Lost: {_lost(found)}. Their rows have no redshift and flag {LOST}.")


# ------------------------------------------------------------------------------------------ what there is


def _refuse_incomplete(run_id: str, found: Inventory, request: RunRequest | None, *, partial: bool) -> None:
    tolerated = request.tolerated_failure_percentage if request else 0.0
    if partial or 100.0 * len(found.lost) / len(found.tasks) <= tolerated:
        return
    raise CommandError(
        f"{run_id} is incomplete, {len(found.lost)} of {len(found.tasks)} ranks are lost: "
        f"{_lost(found)}. PARTIAL=1 writes the others, with these rows marked."
    )


def _own_table(variables: CatalogVariables) -> Path | None:
    """Return the user's own table, which is any but the one of a dataset."""
    path = Path(variables.table).expanduser()
    if variables.table in ("", NO_TABLE) or not path.is_file() or is_of_dataset(path):
        return None
    if variables.format:
        raise UsageError(f"TABLE={variables.table} is joined to FITS and Parquet: leave out FORMAT={variables.format}.")
    return path


def _refuse_changed(path: Path, found: Inventory) -> None:
    """Raise when the dataset next to a table has other shards than the run read."""
    card = read_card(path.parent)
    read = {Path(rows.key).name: rows.sha256 for task in found.tasks for rows in task.rows if rows.sha256}
    if card and any(shard.sha256 != read.get(shard.name, shard.sha256) for shard in card.shards):
        raise CommandError(
            f"{path.parent} has changed since the run: its positions may be those of other galaxies. {WHAT_NEXT}"
        )


def _dataset_of(run: Run) -> Path | None:
    """Return where the dataset of a run is, as the terminal that started it noted; None where it did not."""
    if not run.entry or not run.entry.dataset:
        return None
    folder = Path(run.entry.dataset)
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _open_table(asked: str, request: RunRequest | None, found: Inventory, dataset: Path | None) -> DatasetTable | None:
    if asked == NO_TABLE:
        return None
    path = Path(asked).expanduser()
    if asked and not path.is_file():
        raise UsageError(f"TABLE={asked}: there is no such file. It is a table to join, or none.")
    if not asked:
        path = (dataset or Path(found.tasks[0].rows[0].key).parent) / TABLE_NAME
        if not path.is_file():
            return None
        _refuse_changed(path, found)
    return DatasetTable(
        path, num_rows=found.num_rows, is_part=bool(request and (request.file_limit or request.row_limit))
    )


def _started_at(run: Run, found: Inventory) -> str:
    began_s = run.entry.started_at_s if run.entry else found.started_at_s
    return datetime.fromtimestamp(began_s, UTC).strftime("%Y-%m-%dT%H:%M:%S") if began_s else ""


# ---------------------------------------------------------------------------------------------- writing


def _write(run: Run, found: Inventory, table: DatasetTable | None, provenance: Mapping[str, Card]) -> Tally:
    """Write both files under other names, read them back, and only then give them theirs."""
    tally, row = Tally(), table.row if table else ROW
    with written_whole(run.path / FITS_NAME) as fits_path, written_whole(run.path / PARQUET_NAME) as parquet_path:
        with (
            FitsWriter(fits_path, provenance, found.num_rows, row) as fits,
            ParquetWriter(parquet_path, provenance, row) as parquet,
        ):
            for rows, _ in merged_blocks(run, found, table):
                fits.write(rows)
                parquet.write(rows)
                tally.count(rows)
        prove_equal(fits_path, parquet_path, found.num_rows, row)
    return tally


def _write_qp(run: Run, found: Inventory, table: DatasetTable | None, provenance: Mapping[str, Card]) -> Tally:
    tally = Tally()
    with written_whole(run.path / QP_NAME) as path, QpWriter(path, provenance) as ensemble:
        for galaxies in merged_blocks(run, found, table):
            ensemble.write(galaxies)
            tally.count(galaxies.rows)
    return tally


def _write_votable(run: Run, found: Inventory, table: DatasetTable | None, provenance: Mapping[str, Card]) -> Tally:
    tally, row = Tally(), table.row if table else ROW
    with written_whole(run.path / VOTABLE_NAME) as path, VotableWriter(path, provenance, row) as votable:
        for rows, _ in merged_blocks(run, found, table):
            votable.write(rows)
            tally.count(rows)
    return tally


WRITERS = {
    "": (_write, [FITS_NAME, PARQUET_NAME]),
    "qp": (_write_qp, [QP_NAME]),
    "votable": (_write_votable, [VOTABLE_NAME]),
}


def _lost(found: Inventory) -> str:
    return name_lost(tuple(found.lost.values())).rstrip(".")


if __name__ == "__main__":
    start(main)
