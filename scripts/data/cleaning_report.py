"""What cleaning found in a dataset: galaxies by outcome, and how often each rule applied."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from inference import cleaning
from inference.block import SDSS
from inference.contract import CLEANING_KEY
from inference.quality import Quality
from scripts.command.console import counted, fact

RULES = {
    "magnitude is NaN or infinite": "missing",
    "magnitude is -9999": "missing",
    "magnitude is 0": "missing",
    "magnitude outside 10-30": "missing",
    "one or two bands missing": "imputed",
    "no r": "rejected",
    "a band missing": "rejected",
    "more than two bands missing": "rejected",
    f"colour beyond {cleaning.MAX_COLOR_SIGMA:g} robust sigma": "flagged",
    f"signal-to-noise below {cleaning.MIN_SIGNAL_TO_NOISE:g} in g, r, i or z": "flagged",
    "extinction in r above the limit of the model": "flagged",
    "extinction missing": "not corrected",
    "pixels missing": "filled with sky",
    "more than 5 % of the pixels missing": "rejected",
    "a central pixel missing": "rejected",
    "a band without signal": "rejected",
    "no cutout": "rejected",
    "object_id repeated": "counted",
    "no position on the sky": "left empty",
    "redshift not positive": "no label",
    "zWarning not 0": "no label",
    "class not GALAXY": "no label",
    "clean not 1": "no label",
    "no usable redshift": "no label",
}
"""Each rule, in the order of the report, and what follows for a galaxy it applies to."""

OUTCOMES = ("clean", "imputed", "flagged", "rejected", "dropped", "kept for training")
"""Every galaxy that was read has one: rejected before imputed (bands or pixels) before flagged before clean."""


@dataclass(frozen=True)
class CleaningReport:
    """Counts over any number of galaxies; reports of parts add up."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """Galaxies by outcome."""

    rules: Counter[str] = field(default_factory=Counter)
    """Galaxies to which each rule applied; one galaxy may break several."""

    num_filled_pixels: int = 0

    notes: tuple[str, ...] = ()
    """What was converted, or read in an unusual way."""

    def __add__(self, other: "CleaningReport") -> "CleaningReport":
        return CleaningReport(
            self.outcomes + other.outcomes,
            self.rules + other.rules,
            self.num_filled_pixels + other.num_filled_pixels,
            tuple(dict.fromkeys(self.notes + other.notes)),
        )

    def to_json(self) -> bytes:
        """Return the content of ``cleaning.json``: every rule, also those that never applied."""
        document = {
            "num_rows": self.outcomes.total(),
            "outcomes": {name: self.outcomes[name] for name in OUTCOMES},
            "rules": [{"rule": rule, "num_rows": self.rules[rule], "then": then} for rule, then in RULES.items()],
            "num_filled_pixels": self.num_filled_pixels,
            "notes": self.notes,
        }
        return json.dumps(document, indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read what `to_json` wrote."""
        document: dict[str, Any] = json.loads(content)
        rules = {entry["rule"]: entry["num_rows"] for entry in document["rules"]}
        outcomes, notes = Counter(document["outcomes"]), tuple(document.get("notes", ()))
        outcomes["rejected"] += outcomes.pop("refused", 0)  # what reports said before
        return cls(+outcomes, +Counter(rules), document["num_filled_pixels"], notes)

    def shown(self) -> Group:
        """Show how the galaxies came out, and the rules that applied."""
        counts = [f"{self.outcomes[name]:,} {name}" for name in OUTCOMES if self.outcomes[name]]
        total = Text(f"cleaning   {counted(self.outcomes.total(), 'galaxy')}: {', '.join(counts)}")
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2))
        for justify in ("right", "left", "left"):
            table.add_column(justify=justify)
        for rule, then in RULES.items():
            if self.rules[rule]:
                table.add_row(f"{self.rules[rule]:,}", rule, then)
        notes = [Text(fact("read", note)) for note in self.notes]
        return Group(*notes, total, Padding(table, (0, 0, 0, 2)))


def print_report(folder: Path) -> None:
    """Print what cleaning found in a dataset."""
    report = CleaningReport.from_json((folder / CLEANING_KEY).read_bytes())
    Console(highlight=False).print(report.shown())


class Inspected(NamedTuple):
    """N galaxies judged by all rules."""

    magnitudes: NDArray[np.float64]
    """As the table shows them: imputed bands filled in, rejected rows as measured; shape (N, 5) [mag]."""

    quality: NDArray[np.uint8]
    report: CleaningReport


def inspect(
    images: NDArray[np.float32] | None,
    magnitudes: NDArray[np.float64],
    redshifts: NDArray[np.float64],
    known: NDArray[np.uint8],
    bands: tuple[str, ...] = SDSS.bands,
) -> Inspected:
    """Apply every rule to N galaxies and count.

    Parameters
    ----------
    images : array, shape (N, B, H, W), float32, or None
        Cutouts [nanomaggy / pixel]; None, or of size 0, where there are none to judge.
    magnitudes : array, shape (N, B), float64
        Dereddened, as measured [mag].
    redshifts : array, shape (N,), float64
        As given; NaN where unknown.
    known : array, shape (N,), uint8
        Flags that neither pixels nor magnitudes show.
    bands : tuple of str
        Names of the bands. What is usual is known of those of SDSS alone: in others no magnitude is filled in, and no
        colour is odd, unless the model knows better.
    """
    limits = cleaning.shipped_limits() if bands == SDSS.bands else OTHER_BANDS
    filled, flags = cleaning.fill_bands(magnitudes, limits)
    is_rejected = (flags & Quality.REFUSED.value) > 0
    quality = flags | known
    quality[cleaning.has_odd_colors(filled, limits)] |= Quality.COLOR_OUTLIER.value
    rules, num_filled_pixels = _count_bands(magnitudes, limits), 0
    if images is not None and images.size:
        pixel_rules, num_filled_pixels, pixel_flags = _inspect_pixels(images)
        rules, quality = rules + pixel_rules, quality | pixel_flags
    for flag, rule in zip(
        (Quality.COLOR_OUTLIER, Quality.LOW_SIGNAL, Quality.HIGH_EXTINCTION), _FLAG_RULES, strict=True
    ):
        rules[rule] = int(np.count_nonzero(quality & flag.value))
    rules["redshift not positive"] = int(np.sum(~np.isnan(redshifts) & ~cleaning.is_label(redshifts)))
    report = CleaningReport(_count_outcomes(quality), +rules, num_filled_pixels)
    return Inspected(np.where(is_rejected[:, None], magnitudes, filled), quality, report)


OTHER_BANDS = cleaning.Limits(np.float32(-1000.0), None)

_FLAG_RULES = [rule for rule, then in RULES.items() if then == "flagged"]


def _count_bands(magnitudes: NDArray[np.float64], limits: cleaning.Limits) -> Counter[str]:
    is_missing = cleaning.missing_bands(magnitudes)
    is_code = {
        "magnitude is NaN or infinite": ~np.isfinite(magnitudes),
        "magnitude is -9999": magnitudes == -9999,
        "magnitude is 0": magnitudes == 0,
    }
    is_outside = is_missing & ~np.any(list(is_code.values()), axis=0)
    num_missing = is_missing.sum(axis=1)
    rules = {rule: found.any(axis=1) for rule, found in {**is_code, "magnitude outside 10-30": is_outside}.items()}
    if limits.photometry is None:
        rules["a band missing"] = num_missing > 0
    else:
        num_allowed, has_r = cleaning.MAX_IMPUTED_BANDS, ~is_missing[:, limits.photometry.reference]
        rules["one or two bands missing"] = (num_missing > 0) & (num_missing <= num_allowed) & has_r
        rules["no r"] = ~has_r
        rules["more than two bands missing"] = num_missing > num_allowed
    return Counter({rule: int(found.sum()) for rule, found in rules.items()})


def _inspect_pixels(images: NDArray[np.float32]) -> tuple[Counter[str], int, NDArray[np.uint8]]:
    _, num_filled, quality = cleaning.fill_pixels(images)
    dirty = num_filled > 0
    is_missing = cleaning.missing_pixels(images[dirty])
    centre = cleaning.central(images.shape[-1], images.shape[-1] // cleaning.CENTRE_SHARE)
    rules = {
        "pixels missing": dirty,
        "more than 5 % of the pixels missing": num_filled > cleaning.MAX_FILLED_SHARE * images[:1].size,
        "a central pixel missing": is_missing[:, :, centre, centre].any(axis=(1, 2, 3)),
        "no cutout": is_missing.all(axis=(1, 2, 3)),
        "a band without signal": np.any(is_missing.all(axis=(2, 3)), axis=1),
    }
    return Counter({rule: int(found.sum()) for rule, found in rules.items()}), int(num_filled.sum()), quality


def _count_outcomes(quality: NDArray[np.uint8]) -> Counter[str]:
    is_rejected = (quality & Quality.REFUSED.value) > 0
    is_imputed = ((quality & (Quality.IMPUTED_BAND | Quality.FILLED_PIXELS).value) > 0) & ~is_rejected
    is_flagged = (quality > 0) & ~is_rejected & ~is_imputed
    counts = {"rejected": is_rejected, "imputed": is_imputed, "flagged": is_flagged, "clean": quality == 0}
    return Counter({name: int(found.sum()) for name, found in counts.items()})
