"""What is known about a checkpoint's errors, in small files tied to the weights: sigma, p(z), who is out of domain."""

from dataclasses import dataclass, replace
from pathlib import Path

from inference import tensor_file
from inference.contract import Payload
from inference.domain import DomainModel
from inference.errors import WeightsError
from inference.posterior import FILE_NAME as POSTERIOR_NAME
from inference.posterior import PosteriorModel, load_posterior_model
from inference.uncertainty import Array, ErrorModel

FILE_NAME = "calibration.safetensors"
REMAKE = "`make calibrate` makes it"


class CalibrationCard(Payload, frozen=True, kw_only=True):
    """The numbers that accompany the tensors."""

    weights_sha256: str
    """Checksum of the checkpoint whose errors were measured."""

    factor_68: float
    """See `inference.uncertainty.ErrorModel`."""

    factor_95: float
    """See `inference.uncertainty.ErrorModel`."""

    threshold: float
    """See `inference.domain.DomainModel`."""


@dataclass(frozen=True)
class Calibration:
    """The error model and the domain of one checkpoint."""

    weights_sha256: str
    """Checksum of the checkpoint it belongs to."""

    errors: ErrorModel
    """Gives every redshift its sigma."""

    domain: DomainModel
    """Finds the galaxies that are unlike the training galaxies."""

    posterior: PosteriorModel | None = None
    """Gives every redshift its p(z), from a file of its own; None where there is none."""

    def to_bytes(self) -> bytes:
        """Return the content of the file, without p(z); equal calibrations give equal bytes, as float32."""
        errors, domain = self.errors, self.domain
        card = CalibrationCard(
            weights_sha256=self.weights_sha256,
            factor_68=errors.factor_68,
            factor_95=errors.factor_95,
            threshold=domain.threshold,
        )
        tensors = {
            **{f"errors.{name}": getattr(errors, name) for name in ("center", "scale")},
            **tensor_file.layer_arrays(errors.layers, "errors."),
            **{f"domain.{name}": getattr(domain, name) for name in _DOMAIN_ARRAYS},
        }
        return tensor_file.content(card, tensors)


_DOMAIN_ARRAYS = ("center", "scale", "log_weight", "mean", "whitening")


def calibration_path(checkpoint: Path) -> Path:
    """Return the path of a checkpoint's calibration."""
    return checkpoint.with_name(FILE_NAME)


def load_calibration(path: Path, weights_sha256: str) -> Calibration:
    """Read the calibration of some weights, with their p(z) where ``posterior.safetensors`` is next to it.

    Parameters
    ----------
    path : Path
        See `calibration_path`.
    weights_sha256 : str
        Checksum of the weights that predict.

    Raises
    ------
    WeightsError
        If there is none, it cannot be read, or it was made for other weights: their sigma would be wrong.
    """
    try:
        card, tensors = tensor_file.read(path, CalibrationCard)
        calibration = _build(card, tensors)
    except FileNotFoundError:
        raise WeightsError(f"{path.name} does not exist; {REMAKE}.") from None
    except tensor_file.UNREADABLE as error:
        raise WeightsError(f"{path.name} is not a calibration file ({error}); {REMAKE} again.") from error
    if card.weights_sha256 != weights_sha256:
        raise WeightsError(
            f"{path.name} was made for the weights {card.weights_sha256[:12]} and these are {weights_sha256[:12]}; "
            f"{REMAKE} for them."
        )
    posterior = path.with_name(POSTERIOR_NAME)
    return replace(
        calibration, posterior=load_posterior_model(posterior, weights_sha256) if posterior.exists() else None
    )


def find_calibration(
    checkpoint: Path, weights_sha256: str, *, needs_one: bool = True
) -> tuple[Calibration | None, str | None]:
    """Return the calibration of a checkpoint's weights, or None and why there is none.

    Redshifts without sigma are worth having; a sigma that was measured on other weights is not. A network that gives
    its own sigma needs none.
    """
    if not needs_one and not calibration_path(checkpoint).exists():
        return None, None
    try:
        return load_calibration(calibration_path(checkpoint), weights_sha256), None
    except WeightsError as error:
        return None, f"No sigma, no p(z) and no OUT_OF_DOMAIN flags: {error}"


def _build(card: CalibrationCard, tensors: dict[str, Array]) -> Calibration:
    return Calibration(
        weights_sha256=card.weights_sha256,
        errors=ErrorModel(
            center=tensors["errors.center"],
            scale=tensors["errors.scale"],
            layers=tensor_file.layers_of(tensors, "errors."),
            factor_68=card.factor_68,
            factor_95=card.factor_95,
        ),
        domain=DomainModel(
            **{name: tensors[f"domain.{name}"] for name in _DOMAIN_ARRAYS},
            threshold=card.threshold,
        ),
    )
