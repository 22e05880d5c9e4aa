"""Which galaxies teach, choose and test, and which chances their images have."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from scripts.models.training import rows
from scripts.models.training.recipe import QUICK

RECIPE = replace(QUICK, seed=3, renderings=2, num_real=4, num_synthetic=5, num_test_synthetic=3)


@dataclass(frozen=True)
class Photometry:
    """Of galaxies whose magnitudes are their number."""

    number: np.ndarray

    @property
    def magnitudes(self) -> np.ndarray:
        return np.repeat(self.number[:, None].astype(float), 5, axis=1)

    def __getitem__(self, chosen: Any) -> "Photometry":
        return Photometry(self.number[chosen])


class Sources:
    """Ten galaxies of each part."""

    def __init__(self, number: np.ndarray) -> None:
        self.photometry, self.redshift = Photometry(number), number / 100

    def of(self, part: str) -> "Sources":
        first = {"train": 0, "selection": 10, "held_out": 20}[part]
        return Sources(np.arange(first, first + 10))

    def first(self, num: int) -> "Sources":
        return Sources(self.photometry.number[:num])


class Made:
    """What was rendered and drawn: galaxies, seed, and more."""

    def __init__(self) -> None:
        self.real: list[tuple[list[int], int, list[int] | None]] = []
        self.synthetic: list[tuple[list[int], list[int], int, float]] = []

    def real_images(self, photometry: Any, seed: int, structure_of: Any = None) -> np.ndarray:
        donors = None if structure_of is None else structure_of.number.tolist()
        self.real.append((photometry.number.tolist(), seed, donors))
        return np.full((len(photometry.number), 5, 1, 1), seed, np.float32)

    def synthetic_rows(self, population: Any, numbers: np.ndarray, seed: int, informative_share: float) -> Any:
        self.synthetic.append((population, numbers.tolist(), seed, informative_share))
        return SimpleNamespace(
            images=np.zeros((len(numbers), 5, 1, 1), np.float32),
            magnitudes=np.repeat(100.0 + numbers[:, None], 5, axis=1),
            redshifts=numbers / 10,
        )


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    made = Made()
    monkeypatch.setattr(rows, "load_sources", lambda: Sources(np.arange(30)))
    monkeypatch.setattr(rows, "Population", lambda sources: sources.photometry.number.tolist())
    monkeypatch.setattr(rows, "real_images", made.real_images)
    monkeypatch.setattr(rows, "synthetic_rows", made.synthetic_rows)
    return made


def test_each_real_galaxy_is_rendered_several_times_before_synthetic_ones(made: Made) -> None:
    found = rows.training_rows(RECIPE)

    real = [0, 1, 2, 3]
    assert made.real == [(real, 3_001, None), (real, 3_002, None)]
    assert made.synthetic == [(real, [1, 2, 3, 4, 5], 3_000, QUICK.informative_share)]
    assert (len(found), found.num_real) == (13, 8)
    assert found.magnitudes[:, 0].tolist() == [*real, *real, 101, 102, 103, 104, 105]
    assert found.redshifts.tolist() == pytest.approx([0, 0.01, 0.02, 0.03] * 2 + [0.1, 0.2, 0.3, 0.4, 0.5])
    assert {found.images.dtype, found.magnitudes.dtype, found.redshifts.dtype} == {torch.float32}
    assert found.images[:, 0, 0, 0].tolist() == [3_001] * 4 + [3_002] * 4 + [0] * 5


def test_the_rows_that_choose_and_test_are_of_other_galaxies_and_chances(made: Made) -> None:
    chosen, tested = rows.selection_rows(RECIPE), rows.real_test_rows(at_most=3)
    rows.real_test_rows(7)

    assert made.real == [
        (list(range(10, 20)), 3_000, None),
        ([20, 21, 22], 0, None),
        (list(range(20, 30)), 7, None),
    ]
    assert (chosen.num_real, tested.num_real) == (10, 3)


def test_a_borrowed_structure_is_that_of_another_galaxy_of_the_test(made: Made) -> None:
    found = rows.borrowed_structure_rows(4, at_most=8)
    rows.borrowed_structure_rows(5, at_most=8)

    numbers = list(range(20, 28))
    (own, seed, donors), (_, _, others) = made.real
    assert (own, seed, found.num_real) == (numbers, 4, 8)
    assert sorted(donors or []) == numbers
    assert donors not in (numbers, others)
    assert found.redshifts.tolist() == pytest.approx([number / 100 for number in numbers])


def test_synthetic_galaxies_to_test_on_come_from_the_sources_of_the_test(made: Made) -> None:
    found = rows.synthetic_test_rows(RECIPE)
    rows.synthetic_test_rows(RECIPE, 0.25)

    sources = list(range(20, 30))
    assert made.synthetic == [(sources, [1, 2, 3], 3_999, 1.0), (sources, [1, 2, 3], 3_999, 0.25)]
    assert (len(found), found.num_real) == (3, 0)


def test_synthetic_galaxies_are_drawn_in_blocks(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SYNTHETIC_BLOCK", 2)

    found = rows.simulated(Sources(np.arange(2)), 5, 9, 0.5)  # type: ignore[arg-type]

    assert [numbers for _, numbers, _, _ in made.synthetic] == [[1, 2], [3, 4], [5]]
    assert found.redshifts.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_a_worker_reads_them_in_its_own_precision(made: Made) -> None:
    block = rows.training_rows(RECIPE).to_block()

    assert (block.images.dtype, block.magnitudes.dtype, block.redshifts.dtype) == (np.float32, np.float64, np.float64)
    assert block.object_id.tolist() == list(range(13))
    assert block.magnitudes[8].tolist() == [101.0] * 5
