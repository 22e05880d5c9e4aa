"""Do the tests notice a mistake? `make mutate PACKAGES=inference/plan.py,handlers N=40 SEED=1` makes some and tries.

A mutant is the code with one thing changed: a comparison, an operator, a number, a condition, an argument or statement
left out, None in place of a result. It is written into a copy of the tree in a temporary folder, never into the clone,
and gets the tests that import its module, nearest first, until one fails. Those that no test notices survive and are
printed. Mutants that change nothing a test could see are listed in tests/equivalent_mutants.toml with the reason.
"""

import ast
import gc
import importlib.util
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, NamedTuple

from msgspec import Meta

from scripts.command.errors import UsageError
from scripts.command.program import start
from scripts.command.repository import REPOSITORY
from scripts.command.variables import Variables, Whole

EQUIVALENT = REPOSITORY / "tests" / "equivalent_mutants.toml"
INTEGRATION = {
    "handlers": ("handlers", "storage_keys", "rendezvous", "fmi_run"),
    "scripts/local_aws": ("local_aws_functions", "local_aws_objects", "local_aws_patches", "local_aws_rude"),
    "scripts/deployment": ("doctor_account", "rendezvous_checks"),
    "inference/fmi": ("rendezvous", "fmi_collectives", "fmi_failures"),
    "inference/engines/network.py": ("model_runs",),
}
"""Folder to the integration tests that are about it and quick enough to be asked."""
MAX_TEST_FILES = 20
LIMIT_S = 300
PATIENCE, GRACE_S = 10.0, 20.0
"""Tests that take so many times what they took without a mutant, and this, are ended: the mutant made them hang."""
PYTEST = ("-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout", "100")
DOTTED = re.compile(r"(handlers|inference|scripts)(\.\w+)+")
"""A module as a text."""
OURS = ("handlers", "inference", "scripts", "tests")
WARM = (
    *("pytest", "numpy", "torch", "safetensors.numpy", "scipy.stats", "obstore", "boto3"),
    *("matplotlib.figure", "pyarrow.parquet", "astropy.table", "jinja2", "moto.server"),
)
"""Imported once, by the process that those of the tests are forked from."""
BUILT = (".so", ".native")
SHOWN_LINES = 4

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
}
"""Operator to how it is written and what replaces it."""
OPERATORS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: (r"\+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: (r"\*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: (r"\*\*", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: (r"\|", "&"),
}
OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any"}


class Mutant(NamedTuple):
    """One change to one file."""

    path: str
    """From the root of the tree."""
    line: int
    kind: str
    start: int
    stop: int
    """The bytes that are replaced."""
    after: str
    old: str
    new: str
    """The lines that change, before and after."""

    @property
    def identity(self) -> tuple[str, str]:
        """What stays the same when other lines of the file change."""
        return self.path, " ".join(f"{self.old} -> {self.new}".split())

    def applied_to(self, text: str) -> str:
        """Return the file with the change."""
        content = text.encode()
        return (content[: self.start] + self.after.encode() + content[self.stop :]).decode()

    def __str__(self) -> str:
        pairs = (("-", self.old), ("+", self.new))
        lines = [f"    {sign} {line.strip()}" for sign, part in pairs for line in part.splitlines()]
        cut = lines if len(lines) <= 2 * SHOWN_LINES else [*lines[:SHOWN_LINES], "      …", lines[-1]]
        return "\n".join([f"survived  {self.path}:{self.line}  {self.kind}", *cut])


# ---------------------------------------------------------------------------------------------------------- mutants


class Change(NamedTuple):
    """Where a file changes: from one place to another, each as (line, column in bytes)."""

    kind: str
    first: tuple[int, int]
    last: tuple[int, int]
    pattern: str
    """What is replaced between the two; everything when empty."""
    new: str


def mutants(path: str, text: str) -> list[Mutant]:
    """Return every mutant of a file, in the order of its lines; a few of them are not Python."""
    content, starts = text.encode(), [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    lines, found = text.splitlines(), set()
    for kind, first, last, pattern, new in _changes(ast.parse(text)):
        start, stop = (starts[line - 1] + column for line, column in (first, last))
        before = content[start:stop].decode()
        after = re.sub(pattern, new, before, count=1) if pattern else new
        if after != before:
            old = "\n".join(lines[first[0] - 1 : last[0]])
            end = content[stop : starts[last[0]]].decode().removesuffix("\n")
            shown = content[starts[first[0] - 1] : start].decode() + after + end
            found.add(Mutant(path, first[0], kind, start, stop, after, old, shown))
    return sorted(found)


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _start(node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset


def _changes(node: ast.AST) -> Iterator[Change]:
    """Yield the changes inside a node; annotations, decorators, texts and assertions are left alone."""
    # Positions inside f-strings are wrong before Python 3.12.
    if isinstance(node, ast.Assert | ast.JoinedStr) or _is_main_block(node) or _is_strict(node):
        return
    yield from _changes_of(node)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or (
            name == "keywords" and isinstance(node, ast.ClassDef)
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _changes(child)


def _is_main_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and any(
        isinstance(name, ast.Name) and name.id in ("__name__", "TYPE_CHECKING") for name in ast.walk(node.test)
    )


def _changes_of(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.Compare():
            operands = [node.left, *node.comparators]
            for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
                yield Change("comparison", _end(left), _start(right), *COMPARISONS[type(operator)])
        case ast.BoolOp():
            words = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield Change("and, or", _end(left), _start(right), *words)
        case ast.BinOp() if type(node.op) in OPERATORS and not _is_path(node):
            yield Change("operator", _end(node.left), _start(node.right), *OPERATORS[type(node.op)])
        case ast.UnaryOp(op=ast.Not()):
            yield Change("not", _start(node), _end(node), r"^not\s+", "")
        case ast.Constant(value=bool()):
            yield Change("constant", _start(node), _end(node), "", str(not node.value))
        case ast.Constant(value=int()):
            yield Change("constant", _start(node), _end(node), "", str(node.value + 1))
        case ast.Constant(value=float()):
            yield Change("constant", _start(node), _end(node), "", repr(node.value * 1.5 or 1.0))
        case ast.If() | ast.IfExp() | ast.While():
            for value in ("True", "False"):
                yield Change("condition", _start(node.test), _end(node.test), "", value)
        case ast.comprehension():
            for test in node.ifs:
                yield Change("condition", _start(test), _end(test), "", "True")
        case ast.Call():
            if isinstance(node.func, ast.Name) and node.func.id in OPPOSITES:
                yield Change("opposite", _start(node.func), _end(node.func), "", OPPOSITES[node.func.id])
            arguments: list[ast.expr | ast.keyword] = sorted([*node.args, *node.keywords], key=_start)
            for place, argument in enumerate(arguments):
                if isinstance(argument, ast.keyword) and not _is_strict(argument) and not _is_default(argument):
                    # With the comma before it, or the one behind it.
                    first = _end(arguments[place - 1]) if place else _start(argument)
                    last = _start(arguments[1]) if not place and len(arguments) > 1 else _end(argument)
                    yield Change("argument", first, last, "", "")
        case ast.Return(value=ast.expr()) if not _is_none(node.value):
            yield Change("result", _start(node), _end(node), "", "return None")
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()) | ast.AugAssign() | ast.Raise() | ast.Delete():
            yield Change("statement", _start(node), _end(node), "", "pass")
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) | ast.Continue() | ast.Break():
            yield Change("statement", _start(node), _end(node), "", "pass")


def _is_strict(node: ast.AST) -> bool:
    """Return whether this is the `strict` of zip, which asserts that only a bug could break it."""
    return isinstance(node, ast.keyword) and node.arg == "strict"


def _is_default(argument: ast.keyword) -> bool:
    return isinstance(argument.value, ast.Constant) and argument.value.value is False


def _is_none(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _is_path(node: ast.BinOp) -> bool:
    """Return whether this joins texts or paths, where another operator is an error that every test notices."""
    texts = (ast.JoinedStr, ast.List, ast.Tuple)
    sides = (node.left, node.right)
    return any(isinstance(side, texts) or isinstance(getattr(side, "value", None), str) for side in sides)


# ------------------------------------------------------------------------------------------------- tests of a module


def find_tests(path: str) -> dict[str, int]:
    """Return the tests that import a module, by whatever way, and the steps to it, those with the fewest first."""
    steps = {}
    named = {name for folder, names in INTEGRATION.items() if path.startswith(folder) for name in names}
    integration = [REPOSITORY / "tests" / "integration" / f"test_{name}.py" for name in sorted(named)]
    for test in [*sorted((REPOSITORY / "tests" / "unit").glob("test_*.py")), *integration]:
        found = _steps_from(test).get(REPOSITORY / path)
        if found is not None:
            steps[test.relative_to(REPOSITORY).as_posix()] = found
    name = Path(path).stem
    nearest = sorted(steps, key=lambda test: (steps[test], name not in test, test))[:MAX_TEST_FILES]
    return {test: steps[test] for test in nearest}


@cache
def _steps_from(file: Path) -> dict[Path, int]:
    steps, waiting = {file: 0}, deque([file])
    while waiting:
        here = waiting.popleft()
        for there in _imports(here) - steps.keys():
            steps[there] = steps[here] + 1
            waiting.append(there)
    return steps


@cache
def _imports(file: Path) -> frozenset[Path]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and DOTTED.fullmatch(node.value):
            names |= {node.value, f"{node.value}.__main__"}  # importlib, python -m
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "run_command":
            names |= {f"scripts.{word.value}" for word in node.args if isinstance(word, ast.Constant)}
    places = (REPOSITORY / name.replace(".", "/") for name in names)
    files = (file for place in places for file in (place.with_suffix(".py"), place / "__init__.py"))
    return frozenset(file for file in files if file.is_file())


# ------------------------------------------------------------------------------------------------------- the attempt


class MutateVariables(Variables):
    """The variables of `make mutate`."""

    packages: str = "handlers,inference,scripts"
    """Folders or files, joined by commas."""
    n: Annotated[int, Meta(ge=1, description="a whole number from 1: mutants of each package")] = 40
    seed: Whole = 0
    jobs: Annotated[int, Meta(ge=1, description="a whole number from 1: mutants tried at once")] = 2


@dataclass(frozen=True)
class Tree:
    """A copy of the tree in which one mutant at a time is tried."""

    root: Path
    took_s: dict[str, float]
    """File of tests to the seconds that it took, once it had passed."""

    def fails(self, test: str) -> bool:
        """Run a file of tests; return whether one failed or took too long."""
        begin = time.monotonic()
        limit_s = PATIENCE * self.took_s[test] + GRACE_S if test in self.took_s else LIMIT_S
        process = multiprocessing.get_context("forkserver").Process(target=run_tests, args=(self.root, test))
        process.start()
        process.join(limit_s)
        process.kill()
        process.join()
        assert process.pid is not None
        with suppress(ProcessLookupError):  # servers that a mutant left behind
            os.killpg(process.pid, signal.SIGKILL)
        if process.exitcode == 0:
            self.took_s[test] = time.monotonic() - begin
        return process.exitcode != 0

    def notices(self, mutant: Mutant, tests: dict[str, int]) -> bool:
        """Return whether a test fails because of a mutant; the nearest are asked first, quick ones before slow."""
        fewest = min(tests.values())
        order = sorted(tests, key=lambda test: (tests[test] > fewest, self.took_s.get(test, 0.0)))
        return any(self._fails_with(mutant, test) and self._passes(test) for test in order)

    def _fails_with(self, mutant: Mutant, test: str) -> bool:
        path = self.root / mutant.path
        before = path.read_text()
        try:
            self._write(path, mutant.applied_to(before))
            return self.fails(test)
        finally:
            self._write(path, before)

    def _passes(self, test: str) -> bool:
        """Return whether a file of tests passed before, or passes without any mutant."""
        if test in self.took_s or not self.fails(test):
            return True
        print(f"{test} fails without any mutant, too: it does not count.", flush=True)
        return False

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.write_text(text)
        # Python compares times in seconds and sizes, which a mutant may share with its origin.
        Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)


def run_tests(root: Path, test: str) -> None:
    """Run a file of tests in a tree, as a process of its own that has imported nothing from the clone."""
    os.setsid()
    os.chdir(root)
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.path[:] = [str(root), *(place for place in sys.path if Path(place).resolve() != REPOSITORY)]
    os.environ["PYTHONPATH"] = str(root)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False  # pytest keeps what it makes of the tests
    gc.freeze()  # what is warm stays: pytest collects garbage a few times
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)

    import pytest

    sys.exit(pytest.main([*PYTEST, test]))


def copy_tree(root: Path, took_s: dict[str, float]) -> Tree:
    """Clone the clone, with the changes that are in no commit and the native engine that is compiled already."""
    _git("clone", "--quiet", "--shared", str(REPOSITORY), str(root))
    listed = _git("ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard")
    built = (path.relative_to(REPOSITORY) for path in (REPOSITORY / "inference").rglob("*") if path.suffix in BUILT)
    for name in {*filter(None, listed.split("\0")), *map(str, built)}:
        (root / name).unlink(missing_ok=True)
        if (REPOSITORY / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, root / name)
    return Tree(root, took_s)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


def draw(package: str, number: int, seed: int) -> list[Mutant]:
    """Draw mutants of the files of a package, without those that are known to change nothing."""
    place = REPOSITORY / package
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    if not files:
        raise UsageError(f"PACKAGES={package}: there is no such folder or file with Python code.")
    paths = [file.relative_to(REPOSITORY).as_posix() for file in files]
    found = [mutant for path in paths for mutant in mutants(path, (REPOSITORY / path).read_text())]
    known = equivalent()
    for path, change in sorted(known - {mutant.identity for mutant in found}):
        if path in paths:
            print(f"{EQUIVALENT.name}: {path} has no mutant `{change}` any more: take it out.")
    counted = [mutant for mutant in found if mutant.identity not in known]
    random.Random(seed).shuffle(counted)
    possible = (one for one in counted if _is_python(one.applied_to((REPOSITORY / one.path).read_text())))
    return sorted(islice(possible, number))


def equivalent() -> set[tuple[str, str]]:
    """Return the identities of the mutants that change nothing a test could see."""
    return {(one["path"], one["change"]) for one in tomllib.loads(EQUIVALENT.read_text()).get("mutant", [])}


def main(variables: MutateVariables) -> None:
    """Change the code at random and see whether the unit tests notice; see docs/development.md."""
    drawn = {package: draw(package, variables.n, variables.seed) for package in variables.packages.split(",")}
    tests = {mutant.path: find_tests(mutant.path) for some in drawn.values() for mutant in some}
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(WARM))
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        trees: SimpleQueue[Tree] = SimpleQueue()
        print(f"{sum(map(len, drawn.values()))} mutants.", flush=True)
        took_s: dict[str, float] = {}
        for number in range(variables.jobs):
            trees.put(copy_tree(Path(folder) / str(number), took_s))

        def survives(mutant: Mutant) -> bool:
            tree = trees.get()
            try:
                survived = not tests[mutant.path] or not tree.notices(mutant, tests[mutant.path])
            finally:
                trees.put(tree)
            if survived:
                print(mutant if tests[mutant.path] else f"{mutant}\n    no test imports this module", flush=True)
            return survived

        with ThreadPoolExecutor(variables.jobs) as pool:
            survivors = {package: sum(pool.map(survives, some)) for package, some in drawn.items()}
    for package, count in survivors.items():
        print(f"{package:<40} {count} of {len(drawn[package])} survived ({count / (len(drawn[package]) or 1):.0%})")


if __name__ == "__main__":
    start(main)
