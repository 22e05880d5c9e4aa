"""`make bench`: measure speed against the published procedure; JSON and a plot under `runs/bench/`.

Programs are measured in turn, A B A B, and compared by the ratio within each pair.
"""

import json
import time
from pathlib import Path
from typing import Annotated

from msgspec import Meta
from rich.console import Console

from scripts.benchmarks.parts import measure_all
from scripts.benchmarks.show import read_earlier, show, show_changes
from scripts.command.program import start
from scripts.command.repository import REPOSITORY
from scripts.command.variables import Flag, Variables
from scripts.command.whole_file import write_whole

OUTPUT_DIR = REPOSITORY / "runs" / "bench"


class BenchVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make bench`."""

    quick: Flag = False
    base: Annotated[Path | None, Meta(description="an earlier result in runs/bench/")] = None


def main(variables: BenchVariables) -> None:
    """Measure engines, starts, a whole rank, orchestration and data; save JSON and a PNG, print tables.

    QUICK=1 measures fewer rows, rounds and programs; BASE=runs/bench/old.json shows what changed since.
    """
    # Before anything is measured, so that a wrong name costs nothing.
    before = read_earlier(variables.base) if variables.base else None
    target = OUTPUT_DIR / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    results = measure_all(quick=variables.quick)
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    write_whole(target, f"{json.dumps(results, indent=2)}\n".encode())
    from scripts.benchmarks.plot import draw

    draw(results, target.with_suffix(".png"))
    console = Console()
    show(results, console)
    if before is not None:
        show_changes(before, results, console)
    print(f"{target.relative_to(REPOSITORY)} and {target.with_suffix('.png').name}")


if __name__ == "__main__":
    start(main)
