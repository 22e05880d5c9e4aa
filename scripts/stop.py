"""`make stop RUN=…`: end a run and its ranks, from any terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from scripts.command.errors import UsageError
from scripts.command.exit_status import told_in_one_line
from scripts.runs import execution, variables
from scripts.runs.recall import find_run, name_runs, runs_there, stack_target


def main(
    run: Annotated[str, typer.Option(envvar="RUN", help="Name of the run.")] = "",
    target: Annotated[str, typer.Option(envvar="TARGET", help="local or aws.")] = "",
    outputs: Annotated[str, typer.Option(envvar="OUTPUTS", help="Terraform's outputs as a JSON file.")] = "",
) -> None:
    """End a run. Exit status: 0 it has ended, 1 AWS refused, 2 there is no such run."""
    given = variables.given({"TARGET": target, "OUTPUTS": outputs})
    with told_in_one_line():
        print(stop(run, given, root=Path()))


def stop(run: str, given: Mapping[str, str], *, root: Path) -> str:
    """End a run and its ranks; say in one line what was done."""
    if not run.strip():
        target = stack_target(given, root=root)
        raise UsageError(
            f"RUN=name says which run to stop. The newest: {name_runs(runs_there(target) if target else [])}."
        )
    found = find_run(run, given, root=root)
    if found.target is None:
        return f"{found.run_id} does not run: its local AWS is gone, and everything it started with it."
    assert found.description is not None, "a target was asked"
    if not found.is_running:
        return f"{found.run_id} had ended already: {found.description['status']}."
    arn = found.description["executionArn"]
    execution.stop(found.target.states, arn)
    # A local run's ranks end with its terminal, which sees the execution end and goes.
    num_children = execution.stop_children(found.target.states, arn) if found.target.name == "aws" else 0
    ranks = f" and {num_children} ranks" if num_children else ""
    return (
        f"{found.run_id}{ranks} stopped. Invocations under way end by themselves; "
        f"`make status RUN={found.run_id}` brings home what was computed."
    )


if __name__ == "__main__":
    typer.run(main)
