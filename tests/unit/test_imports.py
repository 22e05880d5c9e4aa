"""What a stage loads at its start, and which way imports point."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("stage", ["initialize", "summarize"])
def test_planning_and_merging_never_load_torch_or_boto3_at_import(stage: str) -> None:
    program = (
        f"import sys, handlers.{stage}; print([name for name in ('torch', 'boto3', 'scipy') if name in sys.modules])"
    )

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)

    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "inference").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_core_knows_nothing_of_aws_or_of_its_callers(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])

    assert not imported & {"boto3", "botocore", "handlers", "scripts", "os"}
