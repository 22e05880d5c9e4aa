"""`make import FILE=combined_data.json`: results as they were published, checked, as a run under ``runs/``."""

import json
import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from rich.console import Console
from rich.text import Text

from inference.checksum import file_sha256
from inference.contract import COMBINED_KEY
from inference.run_folder import IMPORT_KEY
from scripts.command.console import say
from scripts.command.errors import UsageError
from scripts.command.program import start
from scripts.command.variables import FolderName, Variables
from scripts.command.whole_file import write_whole
from scripts.runs.imported.description import Imported, describe
from scripts.runs.imported.file import read_published

UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


class ImportVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make import`."""

    file: Annotated[str, Meta(description="combined_data.json as it was published")] = ""
    world: Annotated[int, Meta(ge=1, description="a whole number of ranks from 1")] | None = None
    name: FolderName = ""


def main(variables: ImportVariables) -> None:
    """Import. Exit status: 0 imported, with warnings or without, 1 could not be written, 2 wrong usage."""
    print_imported(Console(highlight=False), import_run(variables, root=Path()))


def import_run(variables: ImportVariables, *, root: Path) -> Imported:
    """Read and check a file of records, and make a run's folder of it.

    Raises
    ------
    UsageError
        If the file is no such file, or the name is taken; nothing is made then.
    """
    if not variables.file:
        raise UsageError("FILE is needed, as in FILE=combined_data.json WORLD=517.")
    source = Path(variables.file).expanduser()
    records = read_published(source)
    run_id = variables.name or _name(source)
    folder = root / "runs" / run_id
    found = describe(records, source, run_id=run_id, expected=variables.world)
    if folder.exists() and not _is_same(folder, found):
        raise UsageError(f"{folder} is another run: choose another NAME.")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / COMBINED_KEY, json.dumps(records, indent=2).encode())
    # Last: with it the folder is an imported run.
    write_whole(folder / IMPORT_KEY, msgspec.json.format(msgspec.json.encode(found), indent=2))
    return found


def print_imported(console: Console, found: Imported) -> None:
    """Print what was imported."""
    say(console, Text(f"{found.run_id}: imported from {found.source}", "bold"))
    of = f" of {found.num_ranks_expected:,} ranks" if found.num_ranks_expected else ""
    say(console, f"  records            {found.num_records:,}{of}")
    if found.num_samples is not None:
        say(console, f"  galaxies           {found.num_samples:,}")
    if found.sum_of_rank_rates_per_s is not None and found.sum_of_rank_rates_bit_per_s is not None:
        gbit_per_s = found.sum_of_rank_rates_bit_per_s / 1e9
        say(console, f"  sum of rank rates  {found.sum_of_rank_rates_per_s:,.1f} /s, {gbit_per_s:.3f} Gbit/s")
    if found.loop_median_s is not None and found.loop_max_s is not None:
        say(console, f"  loop of a rank     {found.loop_median_s:.2f} s median, {found.loop_max_s:.2f} s longest")
    if found.process_memory_max_mb is not None:
        say(console, f"  process memory     {found.process_memory_max_mb:,.0f} MB at most")
    for warning in found.warnings:
        say(console, Text(f"  warning            {warning}"))
    say(console, f"  report             make report RUN={found.run_id}")


def _name(source: Path) -> str:
    """Return a name that the same file always has."""
    stem = UNFIT.sub("-", source.resolve().parent.name + "-" + source.stem).strip("-._")[:40]
    return f"import-{stem}-{file_sha256(source)[:8]}"


def _is_same(folder: Path, found: Imported) -> bool:
    try:
        there = msgspec.json.decode((folder / IMPORT_KEY).read_bytes(), type=Imported)
    except (OSError, msgspec.DecodeError):
        return False
    return there.source_sha256 == found.source_sha256


if __name__ == "__main__":
    start(main)
