"""The numbers behind a report's pages: what ranks say, which galaxies count, what is written how."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from inference.contract import RowRange
from inference.run_folder import PartialRecord
from scripts.forecasts.scale import CONCURRENCIES, SIZES_TB, Plan
from scripts.reports import evaluated, quantities, scale_page
from scripts.reports.ranks import PHASES, as_columns
from scripts.reports.sections.forecast import _row as forecast_row
from scripts.reports.shares import MIN_IN_PART, Covered, _parts, covered, stack
from tests.factories import make_predictions, make_pz
from tests.unit.test_evaluating import make_evaluated

UNKNOWN = quantities.UNKNOWN

# ------------------------------------------------------------------------------------------------- how it is written


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, UNKNOWN),
        (math.inf, UNKNOWN),
        (0.0, "0"),
        (-1234.56, "-1,235"),
        (999.4, "999"),
        (0.012345, "0.0123"),
        (0.00012345, "0.000123"),
        (0.000012345, "1.23e-05"),
        (12.345, "12.3"),
    ],
)
def test_a_number_has_three_digits_that_mean_something(value: float | None, said: str) -> None:
    assert quantities.number(value) == said


@pytest.mark.parametrize(
    ("write", "value", "said"),
    [
        (quantities.count, 1234.5, "1,234"),
        (quantities.count, math.nan, UNKNOWN),
        (quantities.count, None, UNKNOWN),
        (quantities.seconds, None, UNKNOWN),
        (quantities.seconds, math.inf, UNKNOWN),
        (quantities.seconds, 1e-6, "0.00100 ms"),
        (quantities.seconds, 9e-7, "0 s"),
        (quantities.seconds, 0.9994, "999 ms"),
        (quantities.seconds, 0.9995, "1.000 s"),
        (quantities.seconds, 599.0, "599 s"),
        (quantities.seconds, 600.0, "10.0 min"),
        (quantities.decimals, 1234.5, "1,234.500"),
        (quantities.decimals, math.nan, UNKNOWN),
        (quantities.decimals, None, UNKNOWN),
        (quantities.percent, 0.1234, "12.3 %"),
        (quantities.percent, math.inf, UNKNOWN),
        (quantities.percent, None, UNKNOWN),
        (quantities.megabytes, None, UNKNOWN),
        (quantities.megabytes, 3 * 2**20, "3 MB"),
        (quantities.usd, None, UNKNOWN),
        (quantities.usd, math.nan, UNKNOWN),
        (quantities.usd, 9.994, "9.99 USD"),
        (quantities.usd, 10.0, "10.00 USD"),
        (quantities.usd, 1234.567, "1,234.57 USD"),
        (quantities.usd, 0.001234, "0.00123 USD"),
        (quantities.bits_per_s, None, UNKNOWN),
        (quantities.bits_per_s, math.nan, UNKNOWN),
        (quantities.bits_per_s, 999.0, "999 bit/s"),
        (quantities.bits_per_s, 1e3, "1.00 kbit/s"),
        (quantities.bits_per_s, 2.5e6, "2.50 Mbit/s"),
        (quantities.bits_per_s, -1e9, "-1.00 Gbit/s"),
        (quantities.bits_per_s, 1.6e12, "1.60 Tbit/s"),
    ],
)
def test_a_quantity_has_the_unit_people_use_for_it(write: Any, value: float | None, said: str) -> None:
    assert write(value) == said


# ------------------------------------------------------------------------------------------------------- the ranks


def columns(*records: dict[str, Any]) -> dict[str, list[float]]:
    found = as_columns([PartialRecord(**record) for record in records])
    return {name: values.tolist() for name, values in found.columns.items()}


def test_a_rank_entered_the_map_a_queue_before_its_first_line() -> None:
    clock = {"queue": 3.0, "init": 2.0, "total": 5.0}

    found = columns({"rank": 0, "started_at_s": 110.0, "clock": clock}, {"rank": 1, "started_at_s": 108.0, "clock": {}})

    assert found["start"] == [0, 1]
    assert found["seconds"][0] == 7
    assert math.isnan(found["seconds"][1])
    assert np.isnan(columns({"rank": 0})["start"]).all()


def test_ranks_stand_in_their_order_and_those_without_one_first_by_their_place() -> None:
    found = as_columns(
        [PartialRecord(rank=5, engine="a"), PartialRecord(engine="b"), PartialRecord(rank=0, engine="a")]
    )

    assert found["rank"].tolist() == [0, 0, 5]
    assert (len(found), found.texts("engine")) == (3, ("b", "a"))
    assert [record.engine for record in found.records] == ["b", "a", "a"]
    assert found.texts("model") == ()


@pytest.mark.parametrize(
    ("record", "rate", "num_rows"),
    [
        ({"sample_persec": 10.0, "throughput_bps": 7e9, "total_cpu_time_s": 2.5}, 10, 25),
        ({"throughput_bps": 164_160 * 4.0, "batch_size": 9.0, "execution_time_s_per_batch": 1.0}, 4, math.nan),
        ({"batch_size": 9.0, "execution_time_s_per_batch": 3.0, "total_cpu_time_s": 2.5}, 3, 8),
        ({"num_samples": 6, "sample_persec": 10.0, "total_cpu_time_s": 2.0}, 10, 6),
        ({}, math.nan, math.nan),
    ],
)
def test_a_rate_is_stated_under_any_of_three_keys_and_rows_follow_from_it(
    record: dict[str, Any], rate: float, num_rows: float
) -> None:
    found = columns(record)

    np.testing.assert_allclose([found["sample_persec"], found["num_samples"]], [[rate], [num_rows]])


def test_memory_is_the_peak_or_what_was_published_of_the_process() -> None:
    found = columns(
        {"rank": 0, "peak_memory_bytes": 7.0, "total_process_memory_mb": 2.0},
        {"rank": 1, "total_process_memory_mb": 2.0},
    )

    assert found["memory_bytes"] == [7, 2 * 2**20]


def test_a_clock_without_the_time_of_its_record_took_none_where_it_says_anything() -> None:
    found = columns(
        {"rank": 0, "clock": {"total": 5.0}}, {"rank": 1, "clock": {"total": 5.0, "record": 0.2}}, {"rank": 2}
    )

    np.testing.assert_equal(found["record"], [0, 0.2, math.nan])
    known = as_columns([PartialRecord(clock={"total": 5.0}), PartialRecord(clock={})])
    assert known.has("total", "record")
    assert not known.has("total", "queue")
    assert set(PHASES) < set(known.columns)


# --------------------------------------------------------------------------------------------------- the galaxies


@pytest.mark.parametrize(
    ("shape", "stop", "is_known"), [((6, 5), 6, True), ((6, 5), 7, False), ((6, 4), 6, False), ((6, 4), 7, False)]
)
def test_magnitudes_are_unknown_where_the_shard_has_other_bands_or_fewer_rows(
    shape: tuple[int, int], stop: int, is_known: bool, tmp_path: Path
) -> None:
    magnitudes = np.arange(float(np.prod(shape))).reshape(shape)
    save_file({"magnitudes": magnitudes}, tmp_path / "0.safetensors")
    (tmp_path / "0.fits").write_bytes((tmp_path / "0.safetensors").read_bytes())

    found, other = (
        evaluated._read_magnitudes(tmp_path, RowRange(key=f"0.{kind}", start_row=2, stop_row=stop, etag='"e"'))
        for kind in ("safetensors", "fits")
    )

    assert np.isfinite(found).all() == is_known
    assert (found.shape, np.isnan(other).all()) == ((stop - 2, 5), True)
    if is_known:
        np.testing.assert_array_equal(found, magnitudes[2:])


def test_parts_hold_their_lower_edge_and_the_last_one_its_upper_edge_too() -> None:
    values = np.array([0.0, 0.1, 0.2, 0.3, 0.31])

    found = {name: rows.tolist() for name, rows in _parts("z", values, (0.0, 0.1, 0.3), digits=1)}

    assert found == {"z 0.0-0.1": [True, *[False] * 4], "z 0.1-0.3": [False, True, True, True, False]}


def test_a_part_needs_enough_galaxies_and_all_of_them_none() -> None:
    few = make_evaluated(MIN_IN_PART - 1)
    enough = make_evaluated(MIN_IN_PART, z_spec=np.full(MIN_IN_PART, 0.15))
    unknown = make_evaluated(sigma=np.full(200, np.nan, dtype=np.float32))

    assert [one.label for one in covered(few)] == ["all"]
    assert ("z_spec 0.1-0.2", MIN_IN_PART) in [(one.label, one.num_galaxies) for one in covered(enough)]
    assert covered(unknown) == []
    assert "r" not in {one.label[0] for one in covered(replace(make_evaluated(), r=np.full(200, np.nan)))}


def test_a_share_inside_is_that_of_the_galaxies_with_a_sigma_ends_included() -> None:
    sigma = np.full(5, 0.5, dtype=np.float32)
    sigma[4] = np.nan
    galaxies = replace(
        make_evaluated(
            5, z_spec=np.zeros(5), z_phot=np.array([0.25, 0.5, 1.0, 1.5, 9.0], dtype=np.float32), sigma=sigma
        ),
        ratio_95=2.0,
    )

    (found,) = covered(galaxies)

    assert (found.num_galaxies, found.coverage_68, found.coverage_95) == (5, 0.5, 0.75)


def test_a_share_comes_with_its_standard_error() -> None:
    found = Covered(label="all", num_galaxies=100, coverage_68=0.64, coverage_95=None)

    assert found.shares == ((0.64, pytest.approx(0.048)), (None, 0.0))


def test_distributions_are_added_up_over_a_little_more_than_the_largest_redshift() -> None:
    z_phot = np.array([0.1, 0.2, 0.8, 0.3], dtype=np.float32)
    z_spec = np.array([0.1, 0.25, 0.4, np.nan])
    found = stack(make_predictions(z_phot=z_phot, z_spec=z_spec, pz=make_pz(z_phot)))

    assert found is not None
    assert (found.edges[0], found.edges[-1], len(found.edges)) == (0, pytest.approx(1.05 * 0.8), 51)
    assert (sum(found.z_spec), sum(found.z_phot)) == (3, 3)
    assert sum(found.p_z) == pytest.approx(3, rel=0.05)


# ------------------------------------------------------------------------------------- a forecast next to the fact


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        (1.0, ("1.00", "-67 %", "yes")),
        (5.0, ("5.00", "67 %", "yes")),
        (0.99, ("0.99", "-67 %", "no")),
        (5.01, ("5.01", "67 %", "no")),
        (None, (UNKNOWN, "", "")),
    ],
)
def test_a_fact_is_within_the_interval_its_ends_included(fact: float | None, said: tuple[str, ...]) -> None:
    found = forecast_row("Map [s]", (1.0, 2.0, 3.0, 4.0, 5.0), fact, 2)

    assert found == ("Map [s]", "3.00", "2.00 to 4.00", "1.00 to 5.00", *said)


# ----------------------------------------------------------------------------------------------------- terabytes


def plans(engine: str, *, longer: float, usd_per_tb: float) -> Iterator[Plan]:
    for size_tb in SIZES_TB:
        for num_vcpus in CONCURRENCIES:
            median_s = longer * 1e6 * size_tb / num_vcpus
            yield Plan(
                engine=engine,
                size_tb=size_tb,
                num_rows=round(1e6 * size_tb),
                num_vcpus=num_vcpus,
                num_ranks=round(1000 * size_tb),
                seconds=(median_s / 2, 0, median_s, 0, 2 * median_s),
                usd=(usd_per_tb * size_tb / 2, 0, usd_per_tb * size_tb, 0, 2 * usd_per_tb * size_tb),
                limit="work",
            )


def test_the_page_says_from_which_size_spot_is_the_better_engine() -> None:
    on_lambda = list(plans("Lambda", longer=1.0, usd_per_tb=5.0))
    near, far = (list(plans("spot", longer=longer, usd_per_tb=1.0)) for longer in (1.4, 1.6))

    found = " ".join(scale_page._verdict(on_lambda, near).split())

    assert found == (
        "With as many vCPUs, spot takes at most one and a half times as long as Lambda from 0.1 TB on, and costs less; "
        "at 100 TB and 10,000 vCPUs it is 100 USD and 3.9 h against 500 USD and 2.8 h. Below, and wherever the answer "
        "is wanted now, Lambda."
    )
    assert scale_page._verdict(on_lambda, far).startswith("At no size here")


def test_a_plan_is_a_line_of_the_table_and_a_line_of_the_plot() -> None:
    on_lambda = list(plans("Lambda", longer=1.0, usd_per_tb=50.0))

    row = scale_page._row(next(one for one in on_lambda if (one.size_tb, one.num_vcpus) == (10.0, 5_000)))
    lines = list(scale_page._lines(on_lambda, on_lambda, "usd"))

    assert row == (
        *("10 TB", "10,000,000", "5,000", "10,000", "33 min", "17 min to 67 min", "500.0"),
        *("250.0 to 1,000.0", "work"),
    )
    assert [line.name for line in lines] == ["Lambda, 1,000", "Lambda, 10,000", "spot, 1,000", "spot, 10,000"]
    assert lines[0].median.tolist() == [5, 50, 500, 5000]


@pytest.mark.parametrize(
    ("time_s", "said"),
    [(299.0, "299 s"), (300.0, "5 min"), (7199.0, "120 min"), (7200.0, "2.0 h"), (36_000.0, "10.0 h")],
)
def test_a_time_has_the_unit_of_its_length(time_s: float, said: str) -> None:
    assert scale_page._time(time_s) == said


def test_the_page_says_what_terabytes_need_besides_computing() -> None:
    found = scale_page._needs(list(plans("Lambda", longer=1.0, usd_per_tb=1.0)))

    # 10 TB stand for 10 million galaxies here, at 10,000 vCPUs in 1000 s.
    num_bytes = 1e7 * 20_520
    ours, cloud = scale_page.read_constants().ours, scale_page.read_constants().cloud
    assert {name: text for name, text in found.items() if name.endswith("_10")} == {
        "ranks_10": "10,000",
        "shards_10": f"{num_bytes / 1e8:,.0f}",
        "gets_10": f"{num_bytes / 1e7 / 1000:,.0f}",
        "manifest_10": "14",
        "summarize_10": f"{10_000 * ours['record_s'].value:,.0f}",
        "residuals_10": "0",
        "dispatch_10": f"{10_000 / cloud['standard_dispatch_per_s'].value:,.0f}",
    }
    assert found["ranks_100"] == "100,000"
    assert found["rank_s"] == f"{50_000 * ours['row_s'].value:.0f}"
