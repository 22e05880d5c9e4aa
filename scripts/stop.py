"""`make stop RUN=…`: end a run and its ranks, from any terminal."""

from pathlib import Path

from scripts.command.console import counted, say_here
from scripts.command.errors import UsageError
from scripts.command.program import start
from scripts.runs import execution
from scripts.runs.ending import Ending
from scripts.runs.listing import listed, name_runs, newest_here
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
        target, root = stack_target(variables, root=Path()), Path()
        running = [run.name for run in listed(root, newest_here(root)) if run.state == "running"]
        there = f" On AWS: {name_runs(runs_there(target))}." if target else ""
        raise UsageError(f"RUN=name says which run to stop. Running here: {name_runs(running)}.{there}")
    found = find_run(variables.run, variables, root=Path())
    if found.target is None:
        return f"{found.run_id} is not running: its local AWS has ended, and its ranks with it."
    if found.description is None:
        return f"{found.run_id} is not running: Step Functions no longer knows it."
    if not found.is_running:
        return f"{found.run_id} had already ended: {Ending(found.description['status']).in_a_word}."
    arn = found.description["executionArn"]
    execution.stop(found.target.states, arn)
    # A local run's ranks end with its terminal, which sees the execution end and goes.
    num_children = execution.stop_children(found.target.states, arn) if found.target.name == "aws" else 0
    ranks = f", and {counted(num_children, 'rank')}" if num_children else ""
    return (
        f"{found.run_id} is stopped{ranks}. Invocations under way finish by themselves. "
        f"`make status RUN={found.run_id}` fetches what was computed, `make resume RUN={found.run_id}` continues it."
    )


if __name__ == "__main__":
    start(main)
