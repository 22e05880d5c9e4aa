"""`make engines`: what is exported, and what is said of it."""

from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from inference.engines.exported import Accuracy, Agreement, Difference, ExportCard, Rounding
from scripts import engines
from scripts.command.program import exit_status

AGREEMENT = Agreement(version="1.2", num_rows=300, max_abs=2e-6, mean_abs=1e-7)
BEST = Accuracy(engine="torch", nmad=0.0127, bias=-0.0002, outlier_005=0.0)
ROUNDED = Accuracy(
    engine="native",
    nmad=0.013,
    bias=0.0005,
    outlier_005=0.0,
    rejected="too far off",
    differences={
        "real": Difference(
            num_rows=3033,
            rms=0.0312,
            mean=0.0,
            p999=0.2,
            largest=0.75,
            coverage=0.0,
            **dict.fromkeys(("nmad", "bias", "outlier_005"), (0.0, 0.0)),
        )
    },
)
CARD = ExportCard(
    weights_sha256="a" * 64,
    weights_name="astromae.safetensors",
    num_parameters=7,
    engines={"native": AGREEMENT, "json": AGREEMENT, "no_such_library": AGREEMENT},
    precisions={"fp32": BEST},
)
SAID = """\
native 1.2: max 2.0e-06, mean 1.0e-07 from torch
json 1.2: max 2.0e-06, mean 1.0e-07 from torch
no_such_library 1.2: max 2.0e-06, mean 1.0e-07 from torch; not installed here
fp32 with torch: NMAD 0.01270, bias -0.00020, accepted
"""
SAID_OF_INT8 = """\
int8 with native: NMAD 0.01300, bias +0.00050, too far off
  3,033 real galaxies: differs from fp32 by 0.0312 sigma (rms), 0.200 (99.9 %), 0.750 (most)
"""
MADE_BEFORE = "The graphs are there. What was found when they were made (FORCE=1 makes and compares them again):\n"


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Path]]:
    """Return what is exported: weights, and the galaxies they are compared on."""
    exported: list[tuple[Path, Path]] = []

    def export(weights: Path, rows: Path) -> ExportCard:
        exported.append((weights, rows))
        rounding = Rounding(num_rows=1, ranges={}, shift=0.0, accuracy=ROUNDED)
        return msgspec.structs.replace(CARD, native_int8=rounding)

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(engines, "astromae", lambda name: SimpleNamespace(weights=Path(f"{name}.safetensors")))
    monkeypatch.setattr(engines, "ensure_sample", lambda: Path("sample"))
    monkeypatch.setattr(engines, "export", export)
    monkeypatch.setattr(engines, "exported_already", lambda weights: CARD if weights.stem == "old" else None)
    return exported


@pytest.mark.parametrize(
    ("variables", "galaxies"),
    [
        ({"MODEL": "new"}, "sample"),
        ({"MODEL": "new", "ROWS": "mine"}, "mine"),
        ({"MODEL": "old", "FORCE": "1"}, "sample"),
        ({"MODEL": "old"}, None),
    ],
)
def test_graphs_are_made_once_or_again_and_what_was_found_is_said(
    variables: dict[str, str],
    galaxies: str | None,
    exported: list[tuple[Path, Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_status(engines.main, variables) == 0

    assert exported == ([(Path(f"{variables['MODEL']}.safetensors"), Path(galaxies))] if galaxies else [])
    assert capsys.readouterr().out == (SAID + SAID_OF_INT8 if galaxies else MADE_BEFORE + SAID)


def test_galaxies_that_nothing_would_be_compared_on_are_refused(
    exported: list[tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(engines.main, {"MODEL": "old", "ROWS": "mine"}) == 2

    assert capsys.readouterr() == (
        "",
        "ROWS=mine: graphs are compared when they are made, and are there: add FORCE=1.\n",
    )
    assert exported == []
