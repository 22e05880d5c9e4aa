"""The documents name what there is: files, commands, variables."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "terraform/README.md", "docker/README.md", "inference/models/astromae/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)
every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@every_document
def test_every_link_leads_to_a_file(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())

    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]

    assert missing == []


@every_document
def test_every_command_is_a_target_of_make(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))

    named = {target for line in lines_of_make(path) for target in re.findall(r"(?<= )[a-z-]+(?= |$)", line)}

    assert named <= targets


@every_document
def test_every_variable_of_a_command_is_one_of_make(path: Path) -> None:
    known = set(re.findall(r"\b[A-Z_]{1,}\b", " ".join(re.findall(r"_VARIABLES := (.*)", MAKEFILE)))) | {"PYTHON"}

    named = {name for line in lines_of_make(path) for name in re.findall(r"\b([A-Z][A-Z_]*)=", line)}

    assert named <= known


def lines_of_make(path: Path) -> list[str]:
    """Return the commands of make in code, up to where a comment or a gap begins."""
    text = path.read_text()
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    inline = re.findall(r"`(make [^`]+)`", text)
    return [
        re.split(r"   | #|;", line)[0].strip() for line in [*blocks.splitlines(), *inline] if line.startswith("make ")
    ]
