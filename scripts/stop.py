"""`make stop RUN=…`: end a run and its ranks, from any terminal."""

from pathlib import Path

from scripts.command.console import say_here
from scripts.command.errors import UsageError
from scripts.command.program import start
from scripts.runs import execution
from scripts.runs.listing import name_runs
from scripts.runs.recall import find_run, runs_there, stack_target
from scripts.runs.variables import RunName, StackVariables


class StopVariables(StackVariables, frozen=True, kw_only=True):
    """The variables of `make stop`."""

    run: RunName = ""


def main(variables: StopVariables) -> None:
    """End a run. Exit status: 0 it has ended, 1 AWS refused, 2 there is no such run."""
    say_here(_stopped(variables))


def _stopped(variables: StopVariables) -> str:
    """End a run and its ranks; say in one line what was done."""
    if not variables.run:
        target = stack_target(variables, root=Path())
        raise UsageError(
            f"RUN=name says which run to stop. The newest: {name_runs(runs_there(target) if target else [])}."
        )
    found = find_run(variables.run, variables, root=Path())
    if found.target is None:
        return f"{found.run_id} does not run: its local AWS is gone, and everything it started with it."
    if found.description is None:
        return f"{found.run_id} does not run: Step Functions has forgotten it."
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
    start(main)
