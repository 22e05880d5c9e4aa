"""`make reproduce FROM=folder`: published results to the published tables and figures, with what does not add up."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta
from rich.console import Console

from scripts.command.console import say
from scripts.command.errors import UsageError
from scripts.command.program import start
from scripts.command.variables import Variables
from scripts.reports.reproduction import results, write_reproduction
from scripts.runs.imported.kit import read_kit

FOLDER = "reproduction"


class ReproduceVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make reproduce`."""

    from_: Annotated[str, Meta(description="a folder of published results")] = ""
    to: Annotated[str, Meta(description="a folder")] = ""


def main(variables: ReproduceVariables) -> None:
    """Write page, tables and figures. Exit status: 0 written, with discrepancies or without, 2 no published results."""
    if not variables.from_:
        raise UsageError("FROM is needed: a folder with combined_data.json files, and a CSV of durations.")
    kit = read_kit(Path(variables.from_).expanduser())
    folder = Path(variables.to or FOLDER).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    found = results(kit)
    num_doubts = sum(len(one.doubts) for one in found)
    say(
        console,
        f"{len(found)} runs of {len({one.setting for one in found})} settings, {num_doubts} discrepancies, "
        f"{len(kit.left_out)} files or lines left out",
    )
    for path in write_reproduction(kit, folder):
        say(console, f"  {path}")


if __name__ == "__main__":
    start(main)
