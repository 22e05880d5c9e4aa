"""``card.json``: what a model reads, what it gives, and what is known of it."""

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from inference.contract.payload import NonEmpty, Payload, Positive
from inference.contract.summary import PzAccuracy

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""A name that is one folder on every system and leads to no other."""

NUM_BANDS, SIDE_PX = (3, 12), (16, 128)
"""Fewest and most bands, smallest and largest side of a cutout [pixels]."""

MAGNITUDES_OF_ONE = {"maggy": 0.0, "nanomaggy": 22.5, "Jy": 8.9, "mJy": 16.4, "uJy": 23.9, "nJy": 31.4}
"""Unit of light to the AB magnitude of one of it."""

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Share = Annotated[float, Meta(gt=0.0, lt=1.0)]
Numbers = tuple[float, ...]
Interval = tuple[float, float]


class Part(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """Base of a card and its parts: what has its default is left out."""


class Magnitudes(Part, frozen=True, kw_only=True):
    """The magnitudes that a model reads, one per band."""

    which: NonEmpty = "model"
    """How they were measured, such as ``model``, ``petrosian`` or ``aperture``."""

    unit: Literal["mag"] = "mag"
    """AB magnitudes."""

    dereddened: bool
    """Whether they are corrected for Galactic extinction."""


class Inputs(Part, frozen=True, kw_only=True):
    """What a model reads of a galaxy."""

    bands: tuple[NonEmpty, ...]
    """Bands in the order of the images' second axis, and of the magnitudes."""

    side_px: int
    """Height and width of a cutout [pixels]; 0 where the model reads no images."""

    pixel_scale_arcsec: Annotated[float, Meta(gt=0.0)] | None = None
    """Angular size of a pixel [arcsec]; absent where it is not known."""

    image_origin: Literal["measured", "rendered"] | None = None
    """What the images were that it was trained on: observed, or made from photometry; absent where it is not known."""

    pixel_unit: Literal["maggy", "nanomaggy", "Jy", "mJy", "uJy", "nJy"] = "nanomaggy"
    """Unit of the pixels that the file expects. Datasets hold nanomaggies; they are converted."""

    stretch: Literal["inside", "asinh"] = "inside"
    """Whether the network stretches the pixels itself, or expects asinh(pixel / softening)."""

    softening: Numbers = ()
    """Of that stretch, one number for all bands or one per band [pixel_unit]."""

    magnitudes: Magnitudes | None = None
    """Absent where the model reads none."""

    columns: tuple[NonEmpty, ...] = ()
    """Further numbers of a galaxy, by the names that they have in a dataset, such as ``ebv``."""

    @property
    def row_bytes(self) -> int:
        """Size of one galaxy: float32 pixels and float64 magnitudes [bytes]."""
        num_bands = len(self.bands)
        pixels = num_bands * self.side_px**2 * 4
        return pixels + (num_bands * 8 if self.magnitudes else 0) + len(self.columns) * 8

    def __post_init__(self) -> None:
        fewest, most = NUM_BANDS
        smallest, largest = SIDE_PX
        num_bands = len(self.bands)
        if len(set(self.bands)) != num_bands:
            raise ValueError(f"bands names one twice: {' '.join(self.bands)}")
        if not fewest <= num_bands <= most:
            raise ValueError(f"{num_bands} bands; {fewest} to {most} are read")
        if self.side_px and not smallest <= self.side_px <= largest:
            raise ValueError(f"cutouts of {self.side_px} pixels; {smallest} to {largest} are read, 0 means no images")
        if not self.side_px and not self.magnitudes:
            raise ValueError("neither images nor magnitudes are read")
        if (self.stretch == "asinh") != bool(self.softening):
            raise ValueError("softening belongs to stretch asinh, which needs it")
        if self.softening and (len(self.softening) not in (1, num_bands) or min(self.softening) <= 0):
            raise ValueError("softening is one positive number for all bands or one per band")


class Redshift(Part, frozen=True, kw_only=True, tag="redshift", tag_field="kind"):
    """One redshift per galaxy; its sigma comes from a calibration."""


class EvenEdges(Part, frozen=True, kw_only=True):
    """Bins of equal width."""

    start: float
    """Lower edge of the first bin."""

    stop: float
    """Upper edge of the last bin."""

    num_bins: Annotated[int, Meta(ge=2)]
    """Number of bins."""


class BinnedPz(Part, frozen=True, kw_only=True, tag="binned", tag_field="kind"):
    """The probability of each bin of redshift."""

    edges: EvenEdges | Numbers
    """Of the bins, ascending; one more than there are bins."""

    values: Literal["probability", "logit"] = "probability"
    """Whether the network gives probabilities, or logits of which a softmax makes them."""

    point: Literal["median", "mode"] = "median"
    """Which redshift of the distribution is the photometric redshift."""

    @property
    def all_edges(self) -> Numbers:
        """Every edge."""
        edges = self.edges
        if not isinstance(edges, EvenEdges):
            return edges
        width = (edges.stop - edges.start) / edges.num_bins
        return (*(edges.start + i * width for i in range(edges.num_bins)), edges.stop)

    @property
    def num_values(self) -> int:
        """Numbers per galaxy that the network gives."""
        return len(self.all_edges) - 1

    def __post_init__(self) -> None:
        _refuse_unordered("edges", self.all_edges, fewest=3)


class Quantiles(Part, frozen=True, kw_only=True, tag="quantiles", tag_field="kind"):
    """Redshifts below which given shares of the probability are."""

    levels: tuple[Share, ...]
    """The shares, ascending; .16, .5 and .84 are among them or between the first and the last."""

    @property
    def num_values(self) -> int:
        """Numbers per galaxy that the network gives."""
        return len(self.levels)

    def __post_init__(self) -> None:
        _refuse_unordered("levels", self.levels, fewest=3)
        if self.levels[0] > 0.16 or self.levels[-1] < 0.84:
            raise ValueError("levels do not reach from .16 to .84, between which 68 % are")


Output = Redshift | BinnedPz | Quantiles


class PhotometryLimits(Part, frozen=True, kw_only=True):
    """The photometry of the training galaxies: it fills in missing bands and finds odd colours."""

    reference_band: NonEmpty
    """The band without which a galaxy is rejected."""

    mean: Numbers
    """Mean magnitude in each band [mag]."""

    covariance: tuple[Numbers, ...]
    """Of the magnitudes [mag²]."""

    median_colors: Numbers
    """Median of each band minus the next [mag]."""

    color_sigma: Numbers
    """1.4826 times the median absolute deviation of the same [mag]."""


class DomainLimits(Part, frozen=True, kw_only=True):
    """Where in a cutout light is measured, to compare it with the magnitudes."""

    aperture_px: Positive
    """Side of the central square that holds most of the light [pixels]."""

    core_px: Positive
    """Side of the central square whose share of it is the concentration [pixels]."""

    sky_noise: Numbers
    """Standard deviation of a pixel of sky in each band [nanomaggy]."""


class Graph(Part, frozen=True, kw_only=True):
    """What a network as ONNX calls its inputs and its output; found when it is imported."""

    images: str = ""
    """Input of the pixels, (N, B, H, W); empty where there is none."""

    bands_last: bool = False
    """Whether that is (N, H, W, B)."""

    magnitudes: str = ""
    """Input of the magnitudes, (N, B); empty where there is none."""

    columns: str = ""
    """Input of the further numbers, (N, K); empty where there is none."""

    output: NonEmpty
    """Output that is read."""


class TrainingData(Part, frozen=True, kw_only=True):
    """One sample that a model was trained on."""

    name: NonEmpty
    """What it is, and where others find it."""

    num_rows: Positive
    """Galaxies."""

    sha256: Sha256 | None = None
    """Checksum of the file, or of the checksums of a dataset's shards in their order; absent where neither exists."""


class Measured(Part, frozen=True, kw_only=True):
    """The accuracy of one method on one sample; dz = (z_phot - z_spec) / (1 + z_spec), intervals of 95 %."""

    method: str = ""
    """Name of a control; empty for the model itself."""

    rows: NonEmpty
    """Which galaxies."""

    num_rows: Positive
    """How many."""

    nmad: float
    """1.48 · median(abs(dz - median(dz)))."""

    nmad_95: Interval | None = None
    bias: float | None = None
    """Mean dz."""

    outlier_005: float | None = None
    """Fraction with abs(dz) > 0.05."""

    outlier_015: float | None = None
    """Fraction with abs(dz) > 0.15."""

    r2: float | None = None
    r2_95: Interval | None = None
    coverage_68: float | None = None
    """Fraction with z_spec inside z_phot ± sigma."""

    coverage_95: float | None = None
    """Fraction with z_spec inside the 95 % interval."""

    pz: PzAccuracy | None = None
    """How good p(z) is."""


class Knowledge(Part, frozen=True, kw_only=True):
    """What is known of a model, for whoever decides whether to use it."""

    description: str = ""
    """What it is, in a sentence or two."""

    training: tuple[TrainingData, ...] = ()
    """What it was trained on."""

    split: str = ""
    """How training, selection and test galaxies were set apart, in words."""

    recipe: str = ""
    """How it was trained, in words."""

    numbers: tuple[Measured, ...] = ()
    """How accurate it is."""

    controls: tuple[Measured, ...] = ()
    """How accurate other methods are on the same galaxies."""

    missed: tuple[NonEmpty, ...] = ()
    """Goals that it misses, with numbers."""

    remedies: tuple[NonEmpty, ...] = ()
    """What was tried against that, and what came of it."""

    not_for: tuple[NonEmpty, ...] = ()
    """What it must not be used for."""

    licence: str = ""
    """Of weights and network, and whom to thank."""


class ModelCard(Part, frozen=True, kw_only=True):
    """``card.json``."""

    name: Annotated[str, Meta(pattern=NAME)]
    """Name of the model; that of its folder."""

    kind: Literal["astromae", "onnx"]
    """The network of this project with weights of its own, or any network as ONNX."""

    weights_name: NonEmpty
    """Name of the file that computes."""

    weights_sha256: Sha256
    """Its checksum."""

    num_parameters: Positive
    """Parameters of the network."""

    inputs: Inputs
    """What it reads."""

    output: Output = Redshift()
    """What it gives."""

    graph: Graph | None = None
    """Of a network as ONNX."""

    rows_per_s: Annotated[float, Meta(gt=0.0)] | None = None
    """Galaxies per second of one thread where it was imported; absent where nothing was measured [1/s]."""

    process_memory_mb: Positive | None = None
    """Memory of a process that predicts with it, as measured there; absent likewise [MiB]."""

    photometry: PhotometryLimits | None = None
    """Absent where no band can be filled in: then a galaxy that lacks one is rejected."""

    min_pixel: float = -1000.0
    """Lower pixels are codes for missing values [nanomaggy]."""

    max_extinction_r: Annotated[float, Meta(gt=0.0)] | None = None
    """Galactic extinction in r above which a dataset for it flags a galaxy [mag]; absent where none is flagged."""

    domain: DomainLimits | None = None
    """Absent where inputs are not compared with the training galaxies."""

    knowledge: Knowledge = Knowledge()
    """What is known of it."""

    def __post_init__(self) -> None:
        num_bands = len(self.inputs.bands)
        if (self.kind == "onnx") != (self.graph is not None):
            raise ValueError("graph belongs to the kind onnx, which needs it")
        if self.photometry:
            _check_photometry(self.photometry, self.inputs)
        if self.domain and len(self.domain.sky_noise) != num_bands:
            raise ValueError(f"domain.sky_noise has {len(self.domain.sky_noise)} numbers for {num_bands} bands")
        if self.domain and not self.domain.core_px <= self.domain.aperture_px <= self.inputs.side_px:
            raise ValueError("domain: the core is inside the aperture, and this inside the cutout")


def _check_photometry(photometry: PhotometryLimits, inputs: Inputs) -> None:
    num_bands = len(inputs.bands)
    sizes = {
        "mean": (len(photometry.mean), num_bands),
        "median_colors": (len(photometry.median_colors), num_bands - 1),
        "color_sigma": (len(photometry.color_sigma), num_bands - 1),
        "covariance": (len(photometry.covariance), num_bands),
    }
    sizes |= {f"covariance[{i}]": (len(row), num_bands) for i, row in enumerate(photometry.covariance)}
    for name, (found, needed) in sizes.items():
        if found != needed:
            raise ValueError(f"photometry.{name} has {found} numbers; {num_bands} bands need {needed}")
    if photometry.reference_band not in inputs.bands:
        raise ValueError(
            f"photometry.reference_band {photometry.reference_band} is none of the bands {' '.join(inputs.bands)}"
        )


def _refuse_unordered(name: str, values: Sequence[float], *, fewest: int) -> None:
    if len(values) < fewest:
        raise ValueError(f"{name} has {len(values)} numbers; {fewest} are the fewest")
    if not all(map(math.isfinite, values)) or any(low >= high for low, high in itertools.pairwise(values)):
        raise ValueError(f"{name} does not ascend")


def encode_card(card: ModelCard) -> bytes:
    """Return the content of ``card.json``."""
    return msgspec.json.format(msgspec.json.encode(card)) + b"\n"
