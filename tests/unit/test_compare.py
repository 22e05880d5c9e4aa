"""The same rows by several ways: whose redshifts agree, which rate stands beside which published one."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from inference.errors import RunFolderError
from scripts.benchmarks.comparison.agreement import Redshifts, RowsDifferError, agreement
from scripts.benchmarks.comparison.baseline import Answered
from scripts.benchmarks.comparison.comparison import Comparison, put_beside
from scripts.benchmarks.comparison.contender import Contender, against_first, of_process
from scripts.benchmarks.comparison.measure import measure_run
from scripts.benchmarks.comparison.present import print_comparison
from scripts.benchmarks.comparison.published import DEFINITIONS, read_published
from scripts.command.errors import CommandError
from tests.unit.test_sweep_runs import write_run


def redshifts(*z_phot: float, first_id: int = 1) -> Redshifts:
    return Redshifts(np.arange(first_id, first_id + len(z_phot)), np.array(z_phot, np.float32))


def make_line(**changes: Any) -> Contender:
    answered = Answered(
        num_samples=1000,
        num_threads=2,
        engine="torch 2",
        import_s=1.0,
        model_load_s=1.0,
        read_s=1.0,
        loop_s=8.0,
        profiled_s=None,
        peak_memory_bytes=2**30,
    )
    line = of_process("plain loop", answered, wall_s=12.0)
    return Contender(**{**{name: getattr(line, name) for name in line.__struct_fields__}, **changes})


def lines() -> list[Contender]:
    run = {
        "name": "local AWS",
        "place": "local",
        "run_id": "run-a",
        "num_workers": 2,
        "end_to_end_s": 4.0,
        "sum_of_rank_rates_per_s": 500.0,
        "map_wall_per_s": 300.0,
        "end_to_end_per_s": 250.0,
    }
    return against_first([make_line(), make_line(**run)])


# ---------------------------------------------------------------------------------------------- agreement


def test_the_largest_difference_counts() -> None:
    found = agreement(redshifts(0.1, 0.2, 0.3), redshifts(0.1, 0.2005, 0.2999))

    assert found.max_abs_difference == pytest.approx(5e-4, rel=1e-3)
    assert found.num_compared == 3


def test_a_galaxy_that_both_refused_agrees_and_one_that_one_refused_is_counted() -> None:
    found = agreement(redshifts(0.1, np.nan, np.nan), redshifts(0.1, np.nan, 0.3))

    assert (found.max_abs_difference, found.num_compared, found.num_one_sided) == (0.0, 1, 1)


@pytest.mark.parametrize("other", [redshifts(0.1, 0.2), redshifts(0.1, 0.2, 0.3, first_id=7)], ids=["fewer", "others"])
def test_other_galaxies_are_not_compared(other: Redshifts) -> None:
    with pytest.raises(RowsDifferError, match="The galaxies differ"):
        agreement(redshifts(0.1, 0.2, 0.3), other)


# -------------------------------------------------------------------------------------------------- rates


def test_one_process_has_the_three_rates_too_and_they_differ() -> None:
    line = make_line()

    assert line.sum_of_rank_rates_per_s == 1000 / 8.0
    assert line.map_wall_per_s == 1000 / 10.0
    assert line.end_to_end_per_s == pytest.approx(1000 / 12.0)


def test_speedup_is_of_the_end_to_end_time_and_efficiency_per_worker() -> None:
    plain, run = lines()

    assert (plain.speedup, plain.efficiency) == (1.0, 1.0)
    assert (run.speedup, run.efficiency) == (3.0, 1.5)


def test_published_rates_stand_beside_ours_of_the_same_definition_only() -> None:
    found = put_beside(read_published(), lines(), rank_rate_per_s=260.0)

    ours = {one.definition: one.ours_per_s for one in found}
    assert all(one.definition == one.theirs.definition for one in found)
    assert ours == {
        "sum_of_rank_rates": 500.0,
        "map_wall": 300.0,
        "end_to_end": 250.0,
        "one_rank": 260.0,
        "one_process": pytest.approx(1000 / 12),
    }


def test_the_published_headline_is_four_and_nine_times_larger_by_its_own_definition() -> None:
    rates = {
        one.definition: one.rate_per_s * 164_160 / 1e9 for one in read_published().throughput if one.num_ranks == 517
    }

    assert rates["sum_of_rank_rates"] == pytest.approx(18.04)
    assert rates["map_wall"] == pytest.approx(3.87, abs=0.02)
    assert rates["end_to_end"] == pytest.approx(1.94, abs=0.01)


def test_every_published_number_has_a_source_and_a_definition() -> None:
    published = read_published()

    every = [*published.throughput, *published.scaling, *published.cost, published.accuracy]
    assert {one.source for one in every} <= published.sources.keys()
    assert {one.definition for one in published.throughput} == set(DEFINITIONS)


# ------------------------------------------------------------------------------------------------ printed


@pytest.mark.parametrize("width", [80, 200])
def test_the_comparison_fits_the_width(width: int) -> None:
    made = lines()
    found = Comparison(
        dataset="datasets/sdss/10MB/",
        num_samples=1000,
        batch_size=32,
        lines=tuple(made),
        published=put_beside(read_published(), made, rank_rate_per_s=260.0),
        caveat=read_published().caveat,
        sources={},
        prices="",
        notes=(),
    )
    console = Console(file=io.StringIO(), width=width)

    print_comparison(console, found, "runs/run-a/comparison.json")

    printed = console.file.getvalue()
    assert max(map(len, printed.splitlines())) <= width
    assert all(definition.replace("_", " ") in printed for definition in DEFINITIONS)


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("missing", ["summary.json", "combined_data.json"])
def test_a_run_that_lacks_a_file_is_told_in_one_line(missing: str, tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / missing).unlink()

    with pytest.raises((RunFolderError, CommandError), match=rf"{missing}.*: `make status RUN={tmp_path.name}`"):
        measure_run(tmp_path)


def test_a_run_that_lacks_predictions_is_told_in_one_line(tmp_path: Path) -> None:
    write_run(tmp_path)

    with pytest.raises(CommandError, match="predictions/ does not hold the 600 galaxies"):
        measure_run(tmp_path)
