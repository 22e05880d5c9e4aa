"""What every test may count on."""

import gc
import os
import signal
import sys

import pytest

from inference.engines.native.prepare import can_prepare, prepare
from inference.models import shipped
from scripts.command.machine import num_cores

# A shell without job control starts background programs with Ctrl-C ignored, and children inherit that: tests that
# interrupt a program would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# readline, which pytest imports, sets them for what it starts: commands would take them for the width of a screen.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# Where nothing compiled may be kept, each process compiles every test, and each program that a test starts all of ours.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# While tests are collected hardly anything becomes garbage.
gc.disable()

# Of torch, numpy and their like, here and in what tests start: threads of many programs at once only compete, and those
# that spin while they wait take minutes of CPU from the others.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

# Files that take longest start first, so that no process is left with one of them at the end. The tests of a file stay
# together and in order (`--dist loadfile`): those of test_terraform_deployment.py share what the last one destroys.
LONGEST = (
    *(
        "image_worker",
        "terraform_deployment",
        "aws_target",
        "whole",
        "run",
    ),
    *("engine_answers", "sweep", "local_aws_processes", "model_runs", "state_machine_runs", "compare_runs", "handlers"),
    *("terraform", "accounting", "matrix", "report_browser"),
    *("training_further", "training_fit", "training_supervised", "training", "catalog", "report_run", "training_own"),
    *("training_magnitudes", "makefile", "convert", "forecast", "posterior", "imports"),
)


@pytest.hookimpl(optionalhook=True)  # unknown where the tests run in one process
def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes share the tests: two more than cores, since some always wait; five at most."""
    return min(num_cores() + 2, 5)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Fork those processes from one that has collected the tests."""
    from execnet import gateway_io

    from tests.forked import Tester

    gateway_io.create_io = lambda spec, execmodel: Tester(config.args, execmodel)


def pytest_configure(config: pytest.Config) -> None:
    """Make the native engine as the set-up does, once before several processes need it."""
    if not hasattr(config, "workerinput") and can_prepare() and shipped().weights.exists():
        prepare(shipped().weights)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Look for garbage again, but rarely, and never among the hundreds of thousands of objects of modules and tests."""
    gc.freeze()
    gc.set_threshold(50_000)  # with 700 the collector takes a twentieth of the time
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the files where several processes share them: the longest, the other integration tests, the unit tests."""
    if not hasattr(config, "workerinput"):
        return
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> tuple[bool, int]:
        return item.path.parent.name == "unit", places.get(item.path.stem, len(places))

    items.sort(key=place)
