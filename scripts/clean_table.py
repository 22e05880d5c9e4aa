"""`make clean-table SOURCE=…`: judge galaxies by the rules of cleaning and write them as a table, without images."""

from pathlib import Path
from tempfile import TemporaryDirectory

from inference import contract
from scripts.command.console import counted, fact, progress_bar, say_here
from scripts.command.program import start
from scripts.command.whole_file import write_whole
from scripts.data.cleaning_report import CleaningReport, print_report
from scripts.data.dataset_table import table_files
from scripts.data.plan import SourceVariables, settled_name
from scripts.data.sample import SAMPLE
from scripts.data.selection import clean_rows
from scripts.data.source import open_source
from scripts.data.taken import SOURCE_NAME
from scripts.simulation.sdss import kcorrect_data

FOLDER = "cleaned"


def main(variables: SourceVariables) -> None:
    """Write datasets/NAME/cleaned/, of the real catalogue without SOURCE.

    Exit status: 0 written, 1 failed, 2 wrong usage.
    """
    path = variables.path if variables.source else kcorrect_data("test", "gst_tests_small.fits")
    name = settled_name(path, variables, Path()) if variables.source or variables.name else SAMPLE
    folder = Path("datasets", name, FOLDER)
    num_rows = clean_table(path, folder, fields=variables.fields, for_training=variables.training)
    if name != SAMPLE:
        write_whole(folder.parent / SOURCE_NAME, f"{path.resolve()}\n".encode())
    print_report(folder)
    say_here(f"{folder}: {counted(num_rows, 'galaxy')} in {contract.TABLE_KEY} and {contract.TABLE_CSV_KEY}")


def clean_table(path: Path, folder: Path, *, fields: str = "", for_training: bool = False) -> int:
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
    num_rows, report = 0, CleaningReport()
    here = next(parent for parent in folder.resolve().parents if parent.is_dir())
    with TemporaryDirectory(prefix=".records-", dir=here) as scratch, progress_bar() as progress:
        bar = progress.add_task("reading", total=None)
        source = open_source(
            path,
            fields=fields,
            scratch=Path(scratch),
            seed=0,
            tick=lambda rows: progress.advance(bar, rows),
            expect=lambda rows: progress.update(bar, total=rows),
        )
        progress.reset(bar, description="galaxies", total=len(source.galaxies))
        folder.mkdir(parents=True, exist_ok=True)
        with table_files(folder, source.origin.bands, source.origin.text_columns) as add:
            for table, found in clean_rows(source, for_training=for_training):
                add(table)
                report += found
                num_rows += len(table)
                progress.advance(bar, found.outcomes.total())
    (folder / contract.CLEANING_KEY).write_bytes(report.to_json())
    say_here(fact("columns", source.description))
    say_here(fact("extinction", source.origin.extinction_line))
    return num_rows


if __name__ == "__main__":
    start(main)
