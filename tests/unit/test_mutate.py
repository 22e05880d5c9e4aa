"""What `make mutate` changes, and which tests it asks."""

import pytest

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


def test_the_nearest_tests_of_a_module_come_first() -> None:
    assert next(iter(find_tests("inference/metrics.py"))) == "tests/unit/test_metrics.py"
    assert "tests/unit/test_engines.py" in find_tests("inference/engines/onnxruntime.py")


def test_tests_that_start_a_module_by_its_name_are_found() -> None:
    assert "tests/integration/test_local_aws_invoke.py" in find_tests("scripts/local_aws/pool.py")
