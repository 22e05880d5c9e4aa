"""`make dataset`: the sample of real galaxies, synthetic ones, or those of a table, as shards under `datasets/`."""

from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.command.console import counted, fact, progress_bar, say_here
from scripts.command.machine import num_cores
from scripts.command.program import start
from scripts.data.cleaning_report import print_report
from scripts.data.plan import DatasetVariables, plan_dataset
from scripts.data.writer import in_words, is_complete, make


def main(variables: DatasetVariables) -> None:
    """Make datasets/NAME/SHARD_MBMB/. Exit status: 0 made or already there, 1 failed, 2 wrong usage."""
    make_dataset(variables)


def make_dataset(variables: DatasetVariables) -> Path:
    """Make a dataset, print what became of it, and return its folder."""
    root = Path()
    (root / "datasets").mkdir(exist_ok=True)
    with TemporaryDirectory(prefix=".records-", dir=root / "datasets") as scratch, progress_bar() as progress:
        bar = progress.add_task("reading", total=None)
        plan = plan_dataset(
            variables,
            root=root,
            scratch=Path(scratch),
            tick=lambda rows: progress.advance(bar, rows),
            expect=lambda rows: progress.update(bar, total=rows),
        )
        if is_complete(plan):
            say_here(f"{plan.folder}: {counted(len(plan.galaxies), 'galaxy')}, already there")
            return plan.folder
        progress.remove_task(bar)
        bar = progress.add_task("galaxies", total=len(plan.galaxies))
        card = make(plan, processes=num_cores(), tick=lambda rows: progress.advance(bar, rows))
    if plan.description:
        say_here(fact("columns", plan.description))
    print_report(plan.folder)
    say_here(fact("extinction", plan.origin.extinction_line))
    say_here(f"{plan.folder}: {in_words(card)}")
    return plan.folder


if __name__ == "__main__":
    start(main)
