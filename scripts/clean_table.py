"""`make clean-table SOURCE=…`: judge galaxies by the rules of cleaning and write them as a table, without images."""

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from inference import contract
from scripts.command.exit_status import told_in_one_line
from scripts.command.variables import yes_or_no
from scripts.data.cleaning_report import CleaningReport
from scripts.data.present import progress_bar, show_report, shown
from scripts.data.request import SAMPLE

ROOT = Path(__file__).parent.parent
FOLDER = "cleaned"


def main(
    source: Annotated[
        str, typer.Option(envvar="SOURCE", help="As of make dataset; the real catalogue if absent.")
    ] = "",
    name: Annotated[str, typer.Option(envvar="NAME", help="Name of the dataset; that of the source when absent.")] = "",
    fields: Annotated[str, typer.Option(envvar="FIELDS", help="Columns of a table, as in u=MAG_U,z_spec=ZBEST.")] = "",
    training: Annotated[str, typer.Option(envvar="TRAINING", help="1: leave out what training must not see.")] = "",
) -> None:
    """Write datasets/NAME/cleaned/. Exit status: 0 written, 1 failed, 2 wrong usage."""
    with told_in_one_line():
        from scripts.data.plan import name_of

        path = Path(source).expanduser() if source else _real_catalogue()
        folder = ROOT / "datasets" / name_of(path, name if source or name else SAMPLE) / FOLDER
        num_rows = clean_table(path, folder, fields=fields, for_training=yes_or_no("TRAINING", training))
        show_report(folder)
        print(f"{shown(folder)}: {num_rows:,} galaxies in {contract.TABLE_KEY} and {contract.TABLE_CSV_KEY}")


def clean_table(path: Path, folder: Path, *, fields: str, for_training: bool) -> int:
    """Write the table of a source and the report; return the number of rows written.

    Parameters
    ----------
    path : Path
        Source, as of `make dataset`.
    folder : Path
        Gets ``table.parquet``, ``table.csv`` and ``cleaning.json``.
    fields : str
        The user's names of columns.
    for_training : bool
        Leave out what is not clean, labelled and unique, instead of flagging it.

    Raises
    ------
    SourceError
        If the source cannot be read.
    """
    from scripts.data.dataset_table import TableWriter
    from scripts.data.selection import clean_rows
    from scripts.data.source import open_source

    num_rows, report = 0, CleaningReport()
    here = next(parent for parent in folder.resolve().parents if parent.is_dir())
    with TemporaryDirectory(prefix=".records-", dir=here) as scratch, progress_bar() as progress:
        bar = progress.add_task("galaxies", total=None)
        source = open_source(path, fields=fields, scratch=Path(scratch), seed=0)
        folder.mkdir(parents=True, exist_ok=True)
        with closing(TableWriter(folder)) as writer:
            for table, found in clean_rows(source, for_training=for_training):
                writer.add(table)
                report += found
                num_rows += len(table)
                progress.advance(bar, found.outcomes.total())
            writer.finish()
    (folder / contract.CLEANING_KEY).write_bytes(report.to_json())
    return num_rows


def _real_catalogue() -> Path:
    from scripts.simulation.sdss import kcorrect_data

    return kcorrect_data("test", "gst_tests_small.fits")


if __name__ == "__main__":
    typer.run(main)
