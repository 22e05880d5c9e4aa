"""What `make mutate` changes, and which tests it asks."""

from pathlib import Path

import pytest

from scripts.command.repository import REPOSITORY
from tests import mutate
from tests.mutate import find_tests, mutants


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x = a < b", "x = a <= b"),
        ("x = a not in b", "x = a in b"),
        ("x = a and b or c", "x = a or b or c"),
        ("x = a - b", "x = a + b"),
        ("x = not a", "x = a"),
        ("x = 3", "x = 4"),
        ("x = True", "x = False"),
        ("x = max(a, b)", "x = min(a, b)"),
        ("x = f(a, key=b)", "x = f(a)"),
        ("x = f(key=a, other=b)", "x = f(other=b)"),
        ("x = [y for y in z if y]", "x = [y for y in z if True]"),
        ("if x: y()", "if False: y()"),
        ("if x: y()", "if x: pass"),
        ("def f(): return 'é', x", "def f(): return None"),
        ("x[0] = y", "pass"),
    ],
)
def test_a_mutant_changes_one_thing(old: str, new: str) -> None:
    assert new in [mutant.applied_to(old) for mutant in mutants("x.py", old)]


@pytest.mark.parametrize(
    "text",
    [
        "x: int | None",
        "assert x < 3",
        "def f(x: 'A[1]' = y) -> B[2]: ...",
        "x = f'{a + 1}'",
        '"a" + x',
        "x = zip(y, z, strict=True)",
    ],
)
def test_what_no_test_could_notice_is_left_alone(text: str) -> None:
    assert mutants("x.py", text) == []


def test_a_mutant_is_known_wherever_its_line_is() -> None:
    assert {one.identity for one in mutants("x.py", "x = 1\n")} == {
        one.identity for one in mutants("x.py", "\n\nx  =  1")
    }


def write_tree(root: Path, **texts: str) -> None:
    """Write Python files, each named by its place with double underscores between folders."""
    for name, text in texts.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_nearest_tests_of_a_module_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutate, "REPOSITORY", tmp_path)
    write_tree(
        tmp_path,
        inference__metrics="",
        inference__summary="def f():\n    from inference.metrics import bias",
        tests__unit__test_accuracy="import inference.metrics",
        tests__unit__test_cost="import numpy",
        tests__unit__test_metrics="from inference import metrics",
        tests__unit__test_all="from inference.summary import summarize",
    )

    steps = {"tests/unit/test_metrics.py": 1, "tests/unit/test_accuracy.py": 1, "tests/unit/test_all.py": 2}
    assert list(find_tests("inference/metrics.py").items()) == list(steps.items())


@pytest.mark.parametrize("text", ["f(['-m', 'scripts.pool'])", "run_command('pool')"])
def test_tests_that_start_a_module_by_its_name_are_found(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutate, "REPOSITORY", tmp_path)
    write_tree(tmp_path, scripts__pool="", tests__unit__test_one=text)

    assert find_tests("scripts/pool.py") == {"tests/unit/test_one.py": 1}


def test_integration_tests_that_are_about_a_folder_are_asked() -> None:
    for folder, names in mutate.INTEGRATION.items():
        assert (REPOSITORY / folder).exists()
        assert all((REPOSITORY / "tests" / "integration" / f"test_{name}.py").is_file() for name in names)


def test_an_integration_test_of_the_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutate, "REPOSITORY", tmp_path)
    monkeypatch.setattr(mutate, "INTEGRATION", {"handlers": ("whole",)})
    write_tree(tmp_path, handlers__infer="", inference__plan="")
    write_tree(tmp_path, tests__integration__test_whole="import handlers.infer, inference.plan")

    assert find_tests("handlers/infer.py") == {"tests/integration/test_whole.py": 1}
    assert find_tests("inference/plan.py") == {}
