"""A model's card in words says what the card says, line by line, and where it says nothing."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from inference.contract import PzAccuracy
from inference.models import read_model
from inference.models.card import (
    BinnedPz,
    EvenEdges,
    Graph,
    Inputs,
    Knowledge,
    Magnitudes,
    Measured,
    ModelCard,
    Quantiles,
    TrainingData,
)
from scripts.models.card_text import card_text, pz_table, write_card

SHA256 = "0" * 64
INPUTS = Inputs(bands=("g", "r", "z"), side_px=0, magnitudes=Magnitudes(dereddened=True))
PZ = PzAccuracy(
    num_galaxies=12_345,
    ks=0.02618,
    cvm=0.4567,
    ad=1.239,
    crps=0.011114,
    cde_loss=-15.678,
    coverage_68=0.6789,
    coverage_95=0.9512,
    pit_counts=(1,) * 20,
)
HEADINGS = (
    "## What it reads and gives",
    "## What it was trained on",
    "## How good it is",
    "## What it must not be used for",
    "## Licence and credits",
)


def card(**changes: Any) -> ModelCard:
    stated = {"inputs": INPUTS, "num_parameters": 1_234_567, "graph": Graph(output="out"), **changes}
    return ModelCard(name="theirs", kind="onnx", weights_name="n.onnx", weights_sha256=SHA256, **stated)


def knowing(**known: Any) -> str:
    return card_text(card(knowledge=Knowledge(**known)))


def test_a_card_that_says_little_says_where_it_does_not() -> None:
    text = card_text(card())

    assert text == "\n".join(
        [
            "# Model card: theirs\n",
            "The card does not say.\n",
            f"n.onnx, 1,234,567 parameters, sha256 `{SHA256}`.\n",
            "## What it reads and gives\n",
            "- Model magnitudes in g, r, z [mag], corrected for Galactic extinction.",
            "- Gives a redshift.",
            "\n## What it was trained on\n",
            "The card does not say.\n",
            "Split: The card does not say.\n",
            "## How good it is\n",
            "The card does not say.",
            "\n## What it must not be used for\n",
            "- The card does not say.",
            "\n## Licence and credits\n\nThe card does not say.\n",
        ]
    )


@pytest.mark.parametrize(
    ("inputs", "lines"),
    [
        (
            Inputs(bands=("g", "r", "z"), side_px=32, pixel_scale_arcsec=0.2),
            ["Cutouts of 32 by 32 pixels, 0.2 arcsec per pixel, bands g, r, z [nanomaggy], stretched inside."],
        ),
        (
            Inputs(bands=("g", "r", "z"), side_px=64, pixel_unit="nJy", stretch="asinh", softening=(100.0,)),
            ["Cutouts of 64 by 64 pixels, bands g, r, z [nJy], stretched by asinh(pixel / softening)."],
        ),
        (
            Inputs(
                bands=("g", "r", "z"),
                side_px=0,
                magnitudes=Magnitudes(which="petrosian", dereddened=False),
                columns=("ebv", "size"),
            ),
            [
                "Petrosian magnitudes in g, r, z [mag], not corrected for Galactic extinction.",
                "Of each galaxy also ebv, size.",
            ],
        ),
    ],
)
def test_what_a_model_reads_is_said(inputs: Inputs, lines: list[str]) -> None:
    text = card_text(card(inputs=inputs))

    start = text.index("## What it reads and gives\n\n") + len("## What it reads and gives\n\n")
    assert text[start:].splitlines()[: len(lines) + 1] == [*(f"- {line}" for line in lines), "- Gives a redshift."]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            BinnedPz(edges=EvenEdges(start=0.0, stop=0.4, num_bins=180), point="mode"),
            "the probability of 180 bins of redshift from 0 to 0.4; the mode is the redshift, half the 68 % in",
        ),
        (Quantiles(levels=(0.05, 0.5, 0.975)), "the quantiles 0.05, 0.5, 0.975 of the redshift; the median is the re"),
    ],
)
def test_what_a_model_gives_is_said(output: Any, said: str) -> None:
    assert f"\n- Gives {said}" in card_text(card(output=output))


@pytest.mark.parametrize(
    ("speed", "is_said"),
    [
        ({"rows_per_s": 1234.5, "process_memory_mb": 2_048}, True),
        ({"rows_per_s": 1234.5}, False),
        ({"process_memory_mb": 2_048}, False),
    ],
)
def test_speed_and_memory_are_said_where_both_are_known(speed: dict[str, Any], is_said: bool) -> None:
    assert ("\n- 1,234 galaxies/s on one thread, 2,048 MiB.\n" in card_text(card(**speed))) == is_said


def test_what_it_was_trained_on_and_how_is_said() -> None:
    data = (TrainingData(name="SDSS", num_rows=1_000, sha256="a" * 64), TrainingData(name="theirs", num_rows=7))

    text = knowing(
        training=data,
        description="A tree.",
        split="By sky.",
        recipe="Slowly.",
        not_for=("Stars.", "Quasars."),
        licence="CC0",
    )

    assert "# Model card: theirs\n\nA tree.\n\nn.onnx" in text
    assert f"- SDSS: 1,000 galaxies, sha256 `{'a' * 64}`\n- theirs: 7 galaxies\n\nSplit: By sky.\n" in text
    assert "\n## How it was trained\n\nSlowly.\n\n## How good it is" in text
    assert "## What it must not be used for\n\n- Stars.\n- Quasars.\n\n## Licence and credits\n\nCC0\n" in text
    assert [line for line in text.splitlines() if line.startswith("## ") and line != "## How it was trained"] == list(
        HEADINGS
    )


def test_numbers_are_a_table_with_p_of_z_below() -> None:
    full = Measured(
        rows="test set",
        num_rows=3_033,
        nmad=0.012734,
        nmad_95=(0.01216, 0.01324),
        bias=-0.001483,
        outlier_005=0.01352,
        r2=0.98765,
        r2_95=(0.98123, 0.99321),
        coverage_68=0.6771,
        pz=PZ,
    )

    text = knowing(numbers=(full, Measured(rows="few", num_rows=9, nmad=0.1)))

    assert "| rows | N | NMAD (95 %) | bias | dz > .05 [%] | R² (95 %) | within sigma [%] |\n|---|---|" in text
    assert "\n| test set | 3,033 | 0.0127 (0.0122-0.0132) | -0.0015 | 1.35 | 0.988 (0.981-0.993) | 67.7 |\n" in text
    assert "\n| few | 9 | 0.1000 |  |  |  |  |\n" in text
    assert f"\n\np(z), on the same galaxies:\n\n{pz_table({'test set': PZ})}\n" in text
    assert "p(z)" not in knowing(numbers=(replace(full, pz=None),))
    none = replace(full, outlier_005=0.0, coverage_68=0.0)
    assert "| 0.00 | 0.988 (0.981-0.993) | 0.0 |\n" in knowing(numbers=(none,))


def test_p_of_z_is_a_row_with_shares_in_percent() -> None:
    *_, row = pz_table({"test set": PZ}).splitlines()

    assert row == "| test set | 12,345 | 0.0262 | 0.46 | 1.24 | 0.01111 | -15.68 | 67.9 | 95.1 |"


def test_controls_goals_that_are_missed_and_remedies_are_lists_of_their_own() -> None:
    control = Measured(method="trees", rows="test set", num_rows=3_033, nmad=0.0211119, r2=0.95)

    text = knowing(
        controls=(control, replace(control, r2=None)), missed=("bias", "coverage"), remedies=("more data", "patience")
    )

    assert "\nOther methods on the same galaxies:\n\n| method | rows | N | NMAD | R² |\n|---|---|---|---|---|\n" in text
    assert "\n| trees | test set | 3,033 | 0.02111 | 0.9500 |\n| trees | test set | 3,033 | 0.02111 |  |\n" in text
    assert "\n## Goals that it misses\n\n- bias\n- coverage\n" in text
    assert "\nWhat was tried against that:\n\n- more data\n- patience\n" in text
    for heading in ("Other methods", "Goals that it misses", "What was tried", "How it was trained"):
        assert heading not in knowing()


def test_both_files_are_written(tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_bytes(b"")

    write_card(tmp_path, card())

    assert read_model(tmp_path).card == card()
    assert (tmp_path / "CARD.md").read_text(encoding="utf-8") == card_text(card())
