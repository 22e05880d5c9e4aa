"""What the data commands show: progress on stderr, the cleaning report and folders on stdout."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from inference import contract
from scripts.data.cleaning_report import CleaningReport


def progress_bar() -> Progress:
    """Make bars that count galaxies and vanish when done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True, highlight=False)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def show_report(folder: Path) -> None:
    """Print what cleaning found in a dataset."""
    report = CleaningReport.from_json((folder / contract.CLEANING_KEY).read_bytes())
    Console(highlight=False).print(report.shown())


def shown(folder: Path) -> Path:
    """Return a folder as one would type it here."""
    here = Path().resolve()
    return folder.resolve().relative_to(here) if folder.resolve().is_relative_to(here) else folder
