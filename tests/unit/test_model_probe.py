"""What is said of a network that somebody brings, by what it answers for made-up galaxies."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from inference.errors import EngineError
from inference.models import shipped
from inference.models.card import BinnedPz, EvenEdges, Quantiles, Redshift
from scripts.models import probe
from tests.fake_engine import FakeEngine

INPUTS = shipped().card.inputs
PROBE = probe.galaxies(INPUTS)
LEVELS = Quantiles(levels=(0.1, 0.5, 0.9))
EDGES = EvenEdges(start=0.0, stop=0.3, num_bins=3)
BINS, LOGITS = BinnedPz(edges=EDGES), BinnedPz(edges=EDGES, values="logit")

Answers = Callable[[np.ndarray], Any]


class Network(FakeEngine):
    """A network whose answers are a function of the magnitudes."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def predict(self, images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
        return np.asarray(self.answers(magnitudes), np.float32)


def problem(answers: Answers, output: Any = Redshift()) -> str:  # noqa: B008 -- it does not change
    card: Any = SimpleNamespace(output=output)
    return probe.problem(card, Network(answers), PROBE)


def constant(*values: float) -> Answers:
    shape = (len(values),) if len(values) > 1 else ()
    return lambda magnitudes: np.full((len(magnitudes), *shape), values if shape else values[0])


@pytest.mark.parametrize(
    ("answers", "output", "said"),
    [
        (constant(-0.5), Redshift(), ""),
        (constant(20.0), Redshift(), ""),
        (constant(-0.51), Redshift(), "its redshifts are from -0.51 to -0.51: is the output in other units?"),
        (constant(20.1), Redshift(), "its redshifts are from 20.1 to 20.1: is the output in other units?"),
        (lambda m: m[:, 2] / 100, Redshift(), ""),
        (constant(0.1, 0.2, 0.3), LEVELS, ""),
        (constant(0.3, 0.2, 0.1), LEVELS, "its quantiles descend. Say the levels in the order of the output."),
        (constant(0.3, 0.1, 0.2), LEVELS, ""),  # half of them
        (constant(0.5, 0.3, 0.24), BINS, ""),
        (constant(0.5, 0.54, -0.04), BINS, ""),
        (constant(0.5, 0.3, 0.26), BINS, "its bins add up to 1.06 to 1.06, the lowest is 0.26: these are no"),
        (constant(0.6, 0.46, -0.06), BINS, "its bins add up to 1 to 1, the lowest is -0.06: these are no"),
        (constant(5.0, -3.0, 9.0), LOGITS, ""),
    ],
)
def test_answers_that_cannot_be_meant_are_named(answers: Answers, output: Any, said: str) -> None:
    found = problem(answers, output)

    assert found.startswith(said)
    assert bool(found) == bool(said)


@pytest.mark.parametrize(("scale", "is_told"), [(1.0, False), (1.0 + 0.9e-3, False), (1.0 + 1.1e-3, True)])
@pytest.mark.parametrize("size", [0.5, 10.0])
def test_an_answer_that_depends_on_the_neighbours_is_told(size: float, scale: float, is_told: bool) -> None:
    # The difference counts as it is below 1, and relative above.
    step = (scale - 1.0) * max(size, 1.0)

    found = problem(lambda m: np.full(len(m), size + (step if len(m) > 1 else 0.0)))

    assert found.startswith("a galaxy's answer changes with its neighbours in the batch.") == is_told


def test_what_the_engine_refuses_is_told_in_its_words() -> None:
    def refuse(_: np.ndarray) -> np.ndarray:
        raise EngineError("no such operator")

    assert problem(refuse) == "no such operator"


def test_the_galaxies_are_round_on_noisy_sky_and_redder_than_blue() -> None:
    flux = 10 ** (0.4 * (22.5 - PROBE.magnitudes))
    bright = PROBE.images[PROBE.magnitudes < 16] / flux[PROBE.magnitudes < 16][:, None, None]

    assert PROBE.images.shape == (probe.NUM_ROWS, len(INPUTS.bands), INPUTS.side_px, INPUTS.side_px)
    assert PROBE.images.dtype == np.float32
    assert np.median(PROBE.images.sum(axis=(2, 3)) / flux) == pytest.approx(1, abs=0.01)
    assert PROBE.images[:, :, 0, 0].std() == pytest.approx(0.05, rel=0.1)  # 345 pixels know it to 4 %
    assert np.diff(PROBE.magnitudes, axis=1).mean() == pytest.approx(-0.5, abs=0.02)
    assert PROBE.magnitudes[:, 0] == pytest.approx(18, abs=3.4)
    # A profile of a twelfth of the side, 2.7 pixels: half a pixel from the middle, and two and a half.
    ratio = np.median(bright[:, 16, 16] / bright[:, 18, 16])
    assert ratio == pytest.approx(np.exp((2.5**2 - 0.5**2) / (2 * (32 / 12) ** 2)), rel=0.01)
    np.testing.assert_allclose(bright[:, 16, 16], bright[:, 15, 15], rtol=0.2)
    assert (np.isnan(PROBE.redshifts).all(), PROBE.columns) == (True, None)
    assert PROBE.object_id.tolist() == list(range(probe.NUM_ROWS))


def test_further_columns_are_made_as_many_as_the_model_reads() -> None:
    columns = probe.galaxies(msgspec.structs.replace(INPUTS, columns=("size", "colour")), 7).columns

    assert columns is not None
    assert columns.shape == (7, 2)
    assert 0 < columns.min() < columns.max() < 0.1


def test_the_speed_is_that_of_the_best_of_some_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 3.0, 3.0, 5.0, 5.0, 8.0, 8.0, 11.0, 11.0, 14.0])
    monkeypatch.setattr(probe.time, "perf_counter", lambda: next(seconds))
    card: Any = SimpleNamespace(output=Redshift())

    assert probe.speed(card, Network(lambda m: m[:, 2] / 100), PROBE) == probe.NUM_ROWS / 2
