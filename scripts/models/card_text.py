"""A model's card in its folder, for programs and for people."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from inference.contract import PzAccuracy
from inference.models import CARD_NAME, CARD_TEXT_NAME
from inference.models.card import BinnedPz, Inputs, Measured, ModelCard, Output, Quantiles, encode_card
from scripts.command.whole_file import write_whole

HEAD = "| rows | N | NMAD (95 %) | bias | dz > .05 [%] | R² (95 %) | within sigma [%] |\n|---|---|---|---|---|---|---|"
CONTROLS_HEAD = "| method | rows | N | NMAD | R² |\n|---|---|---|---|---|"
PZ_HEAD = (
    "| rows | N | PIT, KS | CvM | AD | CRPS | CDE loss | 16 to 84 % of p(z) [%] | 2.5 to 97.5 % of p(z) [%] |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
UNSAID = "The card does not say."


def write_card(folder: Path, card: ModelCard) -> None:
    """Write ``card.json`` and ``CARD.md``: the second says what the first does."""
    write_whole(folder / CARD_NAME, encode_card(card))
    write_whole(folder / CARD_TEXT_NAME, card_text(card).encode())


def card_text(card: ModelCard) -> str:
    """Return the card as Markdown."""
    return "\n".join(_lines(card))


def _lines(card: ModelCard) -> Iterator[str]:
    known = card.knowledge
    yield f"# Model card: {card.name}\n"
    yield f"{known.description or UNSAID}\n"
    yield f"{card.weights_name}, {card.num_parameters:,} parameters, sha256 `{card.weights_sha256}`.\n"
    yield "## What it reads and gives\n"
    yield from (f"- {line}" for line in _inputs(card.inputs))
    yield f"- Gives {_output(card.output)}."
    if card.rows_per_s and card.process_memory_mb:
        yield f"- {card.rows_per_s:,.0f} galaxies/s on one thread, {card.process_memory_mb:,} MiB."
    yield "\n## What it was trained on\n"
    for data in known.training:
        checksum = f", sha256 `{data.sha256}`" if data.sha256 else ""
        yield f"- {data.name}: {data.num_rows:,} galaxies{checksum}"
    yield "" if known.training else f"{UNSAID}\n"
    yield f"Split: {known.split or UNSAID}\n"
    if known.recipe:
        yield f"## How it was trained\n\n{known.recipe}\n"
    yield "## How good it is\n"
    if known.numbers:
        yield "dz = (z_phot - z_spec) / (1 + z_spec); NMAD = 1.48 median |dz - median dz|.\n"
        yield HEAD
        yield from map(_row, known.numbers)
        if with_pz := {one.rows: one.pz for one in known.numbers if one.pz}:
            yield f"\np(z), on the same galaxies:\n\n{pz_table(with_pz)}"
    else:
        yield UNSAID
    if known.controls:
        yield f"\nOther methods on the same galaxies:\n\n{CONTROLS_HEAD}"
        for one in known.controls:
            yield f"| {one.method} | {one.rows} | {one.num_rows:,} | {one.nmad:.5f} | {_number(one.r2, 4)} |"
    if known.missed:
        yield "\n## Goals that it misses\n"
        yield from (f"- {line}" for line in known.missed)
    if known.remedies:
        yield "\nWhat was tried against that:\n"
        yield from (f"- {line}" for line in known.remedies)
    yield "\n## What it must not be used for\n"
    yield from (f"- {line}" for line in known.not_for or (UNSAID,))
    yield f"\n## Licence and credits\n\n{known.licence or UNSAID}\n"


def pz_table(measured: Mapping[str, PzAccuracy]) -> str:
    """Return how good p(z) is on some rows as a Markdown table, shares in percent."""
    rows = (
        f"| {name} | {one.num_galaxies:,} | {one.ks:.4f} | {one.cvm:.2f} | {one.ad:.2f} | {one.crps:.5f} "
        f"| {one.cde_loss:.2f} | {100 * one.coverage_68:.1f} | {100 * one.coverage_95:.1f} |"
        for name, one in measured.items()
    )
    return "\n".join([PZ_HEAD, *rows])


def _inputs(inputs: Inputs) -> Iterator[str]:
    bands = ", ".join(inputs.bands)
    if inputs.side_px:
        scale = f", {inputs.pixel_scale_arcsec:g} arcsec per pixel" if inputs.pixel_scale_arcsec else ""
        stretch = "stretched by asinh(pixel / softening)" if inputs.stretch == "asinh" else "stretched inside"
        size = f"{inputs.side_px} by {inputs.side_px} pixels"
        yield f"Cutouts of {size}{scale}, bands {bands} [{inputs.pixel_unit}], {stretch}."
    if magnitudes := inputs.magnitudes:
        dust = "corrected" if magnitudes.dereddened else "not corrected"
        which = magnitudes.which.capitalize()
        yield f"{which} magnitudes in {bands} [{magnitudes.unit}], {dust} for Galactic extinction."
    if inputs.columns:
        yield f"Of each galaxy also {', '.join(inputs.columns)}."


def _output(output: Output) -> str:
    if isinstance(output, BinnedPz):
        edges = output.all_edges
        return (
            f"the probability of {output.num_values} bins of redshift from {edges[0]:g} to {edges[-1]:g}; the "
            f"{output.point} is the redshift, half the 68 % interval its sigma"
        )
    if isinstance(output, Quantiles):
        levels = ", ".join(f"{level:g}" for level in output.levels)
        return f"the quantiles {levels} of the redshift; the median is the redshift"
    return "a redshift"


def _row(one: Measured) -> str:
    cells = (
        one.rows,
        f"{one.num_rows:,}",
        f"{one.nmad:.4f}{_interval(one.nmad_95, 4)}",
        _number(one.bias, 4),
        _number(one.outlier_005 and 100 * one.outlier_005, 2),
        f"{_number(one.r2, 3)}{_interval(one.r2_95, 3)}",
        _number(one.coverage_68 and 100 * one.coverage_68, 1),
    )
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _interval(ends: tuple[float, float] | None, digits: int) -> str:
    return "" if ends is None else f" ({ends[0]:.{digits}f}-{ends[1]:.{digits}f})"
