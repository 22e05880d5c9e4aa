"""What a report says of a run, word by word: its sentence, its warnings at their thresholds, the rows of its tables."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inference.quality import Quality
from inference.run_folder import PartialRecord, RunPredictions
from scripts.reports.document import Figure, Section, Table
from scripts.reports.evidence import RunEvidence
from scripts.reports.quantities import UNKNOWN, bits_per_s, count, decimals, megabytes, number, percent, seconds, usd
from scripts.reports.ranks import as_columns
from scripts.reports.sections.accuracy import accuracy_section
from scripts.reports.sections.clock import clock_section
from scripts.reports.sections.headline import facts, sentence, warnings
from scripts.reports.sections.memory import memory_section
from scripts.reports.sections.provenance import provenance_section, settings_section
from scripts.reports.sections.rank_tables import all_ranks, slowest_ranks
from scripts.reports.sections.throughput import throughput_section
from tests.factories import make_pz

CLOCK = {"queue": 1.0, "init": 0.0, "model_load": 0.5, "download": 0.5, "inference": 8.5, "upload": 0.5, "total": 10.0}
SUMMARY = {
    "complete": True,
    "world_size": 4,
    "num_records": 4,
    "num_samples": 2000,
    "num_samples_planned": 2000,
    "num_cold_starts": 0,
    "clock": {"end_to_end": 40.0, "map": 38.0},
    "throughput": {"end_to_end": 50.0},
    "accuracy": {"nmad": 0.0172, "bias": -0.0004},
    "peak_memory_bytes": 500 * 2**20,
    "function_memory_mb": 1769,
}


def make_records(*changes: dict[str, Any], num: int = 4) -> list[PartialRecord]:
    """Return records of even ranks; each of the first ones with its changes, those of `clock` one by one."""
    records = []
    for rank, change in enumerate([*changes, *[{}] * (num - len(changes))]):
        known: dict[str, Any] = {"rank": rank, "world_size": num, "num_samples": 500.0, "attempt": 0.0}
        known |= {"function_memory_mb": 1000.0, "peak_memory_bytes": 500.0 * 2**20, "sample_persec": 62.5}
        records.append(PartialRecord(**{**known, **change, "clock": {**CLOCK, **change.get("clock", {})}}))
    return records


def make_run(records: list[PartialRecord] | None = None, **changes: Any) -> RunEvidence:
    """Return a run that nothing is wrong with, but for the changes; those of `summary` one by one."""
    summary = {**SUMMARY, **changes.pop("summary", {})}
    known = {"run_id": "run-a", "folder": Path("runs/run-a"), "predictions": None, "imported": {}, "entry": None}
    ranks = as_columns(make_records() if records is None else records)
    return RunEvidence(**{**known, "summary": summary, "ranks": ranks, **changes})


def without_summary(records: list[PartialRecord], **changes: Any) -> RunEvidence:
    known = make_run(records, **changes)
    return RunEvidence(**{**known.__dict__, "summary": {}})


# ---------------------------------------------------------------------------------------------- the sentence


@pytest.mark.parametrize(
    ("run", "cost_usd", "said"),
    [
        (
            make_run(),
            0.0123,
            "2,000 galaxies in 40.0 s on 4 ranks, 50.0 galaxies/s end to end, NMAD 0.0172; 0.012 USD had it run "
            "on AWS.",
        ),
        (
            make_run(entry=SimpleNamespace(stack="photo-z", status="")),
            0.0123,
            "2,000 galaxies in 40.0 s on 4 ranks, 50.0 galaxies/s end to end, NMAD 0.0172; 0.012 USD at list prices.",
        ),
        (make_run(summary={"accuracy": None, "throughput": None}), None, "2,000 galaxies in 40.0 s on 4 ranks."),
        (
            make_run(summary={"accuracy": None, "throughput": None, "complete": False, "lost_ranks": [{}]}),
            None,
            "Incomplete: 1 rank of 4 lost. 2,000 galaxies in 40.0 s on 4 ranks.",
        ),
        (
            make_run(summary={"accuracy": None, "throughput": None, "world_size": None}),
            0.0,
            "2,000 galaxies in 40.0 s on 4 ranks.",
        ),
        (
            without_summary(make_records(num=3)),
            None,
            "Cut off when 3 of 3 ranks had ended: 1,500 galaxies. 188 galaxies/s, each rank's own rate added.",
        ),
        (
            without_summary(make_records(num=3), imported={"source": "x"}),
            None,
            "3 records of ranks without a summary: 1,500 galaxies. 188 galaxies/s, each rank's own rate added.",
        ),
        (
            without_summary([PartialRecord(num_samples=7.0)], entry=SimpleNamespace(stack=None, status="FAILED")),
            None,
            "1 record of ranks without a summary: 7 galaxies.",
        ),
        (
            without_summary(make_records(num=1), entry=SimpleNamespace(stack=None, status="TIMED_OUT")),
            None,
            "Failed when 1 of 1 rank had ended: 500 galaxies. 62.5 galaxies/s, each rank's own rate added.",
        ),
    ],
)
def test_the_sentence_says_how_the_run_went(run: RunEvidence, cost_usd: float | None, said: str) -> None:
    assert sentence(run, cost_usd) == said


def test_the_top_holds_what_is_known_and_leaves_out_the_rest() -> None:
    known = [(one.label, one.value, one.detail) for one in facts(make_run(), 0.0123)]
    little = [(one.label, one.value, one.detail) for one in facts(without_summary(make_records(num=3)), None)]

    assert known == [
        ("galaxies", "2,000", "of 2,000 planned"),
        ("ranks", "4", "0 cold"),
        ("NMAD", "0.0172", "bias -0.0004"),
        ("end to end", "40.0 s", "Map 38.0 s"),
        ("galaxies/s", "50.0", "end to end"),
        ("cost [USD]", "0.012", "had it run on AWS"),
        ("peak memory", "500 MB", "of 1,769 MB"),
    ]
    assert little == [("galaxies", "1,500", "from the records"), ("ranks", "3", "")]


# ---------------------------------------------------------------------------------------------- the warnings

SLOW = {"inference": 18.5, "total": 20.0}
LOST = [{"rank": rank, "error": "PlanError", "message": f"why {rank}"} for rank in range(5)]


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (make_run(), []),
        (make_run(make_records({"clock": SLOW})), []),  # twice the median
        (
            make_run(
                make_records(
                    {"clock": {"inference": 19.5, "total": 21.0}}, {"clock": {"inference": 20.5, "total": 22.0}}, num=5
                )
            ),
            ["Stragglers: rank 1 took 22.0 s, 2.2 times the median; 2 ranks took more than twice the median."],
        ),
        (make_run(make_records({"clock": {"inference": 98.5, "total": 100.0}}, num=2)), []),  # two have no median
        (
            make_run(make_records({"attempt": 1.0}, {"attempt": 3.0})),
            [
                "2 ranks needed more than one attempt, up to 4: throttled, or failed at first. The time of failed "
                "attempts is in no number of a rank."
            ],
        ),
        (make_run(make_records({"engine_note": "torch took its place"})), ["Torch took its place."]),
        (make_run(make_records({"peak_memory_bytes": 900.0 * 2**20})), []),
        (
            make_run(make_records({"peak_memory_bytes": 901.0 * 2**20})),
            ["1 rank used more than 90 % of the configured memory."],
        ),
        (make_run(make_records(*[{"peak_memory_bytes": 9e9, "function_memory_mb": None}] * 4)), []),
        (make_run(make_records({"clock": {"init": 2.0}})), []),  # 2 + 4 · 0.5 of 42 s
        (
            make_run(make_records({"clock": {"init": 3.0}})),
            ["Cold starts: 12 % of the ranks' time went into init and loading the model (5.00 s)."],
        ),
        (make_run(make_records({"clock": {"total": 10.2}})), []),
        (
            make_run(make_records({"clock": {"total": 10.21}}, {"clock": {"total": 9.8}})),
            ["The phases of 2 ranks do not add up to the duration within 2 %."],
        ),
        (
            make_run(
                make_records({"weights_sha256": "a", "image_digest": "a", "code_version": "a"}, {"weights_sha256": "b"})
            ),
            ["2 different weights took part: the deployment changed under the run."],
        ),
        (
            make_run(
                make_records({"image_digest": "a", "code_version": "a"}, {"image_digest": "b", "code_version": "b"})
            ),
            [
                "2 different images took part: the deployment changed under the run.",
                "2 different versions of the code took part: the deployment changed under the run.",
            ],
        ),
        (
            make_run(summary={"lost_ranks": LOST[:1]}),
            ["Incomplete: 1 rank of 4 gave no valid record. rank 0: PlanError: why 0"],
        ),
        (
            make_run(summary={"lost_ranks": LOST[:3]}),
            [
                "Incomplete: 3 ranks of 4 gave no valid record. rank 0: PlanError: why 0; rank 1: PlanError: why 1; "
                "rank 2: PlanError: why 2"
            ],
        ),
        (
            make_run(summary={"lost_ranks": LOST}),
            [
                "Incomplete: 5 ranks of 4 gave no valid record. rank 0: PlanError: why 0; rank 1: PlanError: why 1; "
                "rank 2: PlanError: why 2; and 2 more"
            ],
        ),
        (make_run([]), ["The records of the ranks are not in the run's folder: nothing can be said of single ranks."]),
        (
            without_summary(make_records()),
            ["There is no summary.json: whether every rank reported was not checked, and wall times are unknown."],
        ),
        (
            without_summary(make_records(num=4)[:3]),
            [
                "There is no summary.json: whether every rank reported was not checked, and wall times are unknown.",
                "3 of 4 ranks left a record; 1 did not.",
            ],
        ),
    ],
)
def test_a_warning_is_given_above_its_threshold_and_not_at_it(run: RunEvidence, said: list[str]) -> None:
    assert list(warnings(run)) == said


# -------------------------------------------------------------------------------------------- the sections

ENTRY = SimpleNamespace(target="local", stack=None, status="", started_at_s=1_795_308_908.0, machine="Fast 9000")
STACK = SimpleNamespace(region="eu-west-1", architecture="arm64", map_child_type="EXPRESS", max_concurrency=1000)


def told(section: Section) -> list[Any]:
    """Return what a section says: rows of its tables, captions of its figures, its notes."""
    found: list[Any] = [section.lead]
    for block in section.blocks:
        if isinstance(block, Table):
            found += [block.caption, *block.rows]
        else:
            found.append(block.caption if isinstance(block, Figure) else block.text)
    return found


def test_settings_are_those_of_the_request_and_what_the_deployment_added() -> None:
    request = {"row_limit": None, "profile": True, "tolerated_failure_percentage": 12.5, "function_memory_mb": 1769}
    deployed = SimpleNamespace(**{**ENTRY.__dict__, "target": "aws", "stack": STACK})

    assert told(settings_section(make_run(summary={"request": request, "notes": ["a note"]}, entry=deployed))) == [
        "Every key of the request, defaults filled in, and what the deployment added.",
        "Request and deployment",
        ("row_limit", "all", "default"),
        ("profile", "yes", ""),
        ("tolerated_failure_percentage", "12.5000", ""),
        ("function_memory_mb", "1769", ""),
        ("target", "aws", "AWS, eu-west-1"),
        ("architecture", "arm64", ""),
        ("child executions", "EXPRESS", ""),
        ("max concurrency", "1,000", "ranks at the same time"),
        "a note",
    ]


def test_settings_of_a_run_without_a_request_are_those_of_its_records() -> None:
    records = make_records({"num_threads": 2.0, "batch_size": 32.0}, {"batch_size": 1024.0})

    assert told(settings_section(without_summary(records, entry=ENTRY))) == [
        "As far as the records say.",
        "Request and deployment",
        ("function_memory_mb", "1,000 MB", "from the records"),
        ("num_threads", "2", "from the records"),
        ("batch_size", "32, 1,024 galaxies", "from the records"),
        ("target", "local", "the local AWS on one machine"),
    ]


def rows_of(shard: int, start: int, stop: int, sha256: str | None) -> dict[str, Any]:
    return {"key": f"d/{shard}.safetensors", "start_row": start, "stop_row": stop, "sha256": sha256}


def test_the_origin_of_a_run_is_what_made_its_numbers() -> None:
    first = {
        "inputs": [rows_of(0, 0, 5, "a"), rows_of(1, 0, 3, None)],
        "engine": "torch",
        "data_path": "d/0.safetensors",
    }
    second = {"inputs": [rows_of(1, 3, 9, "b")], "engine": "native"}
    source = {"source": "/x/results.json", "source_sha256": "ab"}
    run = make_run(make_records(first, second), entry=ENTRY, imported=source, summary={"image_digests": ["i", "j"]})

    assert told(provenance_section(run)) == [
        "With these, the same rows give the same redshifts.",
        "Origin",
        ("run", "run-a", ""),
        ("imported from", "results.json", ""),
        ("file sha256", "ab", "checksum of that file"),
        ("started", "2026-11-22 00:55:08 UTC", ""),
        ("image", "i, j", "digest of the container image; local: no image, the code of this clone"),
        ("engine", "torch, native", "library that computed"),
        ("machine", "Fast 9000", "shared by all workers"),
        ("dataset", "d", "2 shards"),
        ("dataset sha256", hashlib.sha256(b"ab").hexdigest(), "SHA-256 over the checksums of its shards, in order"),
        "Shards that were read",
        ("d/0.safetensors", "5", "a"),
        ("d/1.safetensors", "9", "b"),
    ]


@pytest.mark.parametrize(
    ("num", "caption", "num_rows"),
    [(12, "Shards that were read", 12), (13, "Shards that were read; the first 12 of 13", 12)],
)
def test_of_many_shards_the_first_are_named(num: int, caption: str, num_rows: int) -> None:
    run = make_run(make_records({"inputs": [rows_of(shard, 0, 5, None) for shard in range(num)]}))

    origin, shards = provenance_section(run).blocks

    assert (shards.caption, len(shards.rows), shards.rows[0][2]) == (caption, num_rows, UNKNOWN)
    assert "dataset sha256" not in [row[0] for row in origin.rows]


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (
            make_run(make_records({"total_process_memory_mb": 300.0, "peak_memory_bytes": 700 * 2.0**20})),
            [
                "Peak of any rank 700 MB, 70 % of the 1,000 MB configured. MB are 2²⁰ bytes.",
                "Memory of a rank, the published parts",
                ("peak", "500.0", "500.0", "700.0", "highest resident memory so far, of our worker"),
                ("process", "300.0", "300.0", "300.0", "resident after inference"),
                "Median 500 MB. Processes serve several ranks, and a peak stays: warm ranks repeat it.",
            ],
        ),
        (
            make_run(make_records({"function_memory_mb": None}, num=1)),
            [
                "Peak of any rank 500 MB. MB are 2²⁰ bytes.",
                "Memory of a rank, the published parts",
                ("peak", "500.0", "500.0", "500.0", "highest resident memory so far, of our worker"),
            ],
        ),
        (make_run([]), ["Peak of any rank 500 MB; the records are not there."]),
        (without_summary([PartialRecord(rank=0)]), ["Unknown: no record says."]),
    ],
)
def test_the_memory_of_a_run_is_told_as_far_as_it_is_known(run: RunEvidence, said: list[Any]) -> None:
    assert told(memory_section(run)) == said


RATES = {"sum_of_rank_rates": 250.0, "map_wall": 125.0, "end_to_end": 50.0, "end_to_end_bit_per_s": 7e6}


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (
            make_run(summary={"throughput": RATES}),
            [
                ("sum of rank rates", "250.0", "41.0 Mbit/s", "1.0"),
                ("Map wall", "125.0", "20.5 Mbit/s", "0.50"),
                ("end to end", "50.00", "7.00 Mbit/s", "0.20"),
                "Median 62.5, from 62.5 to 62.5 galaxies/s.",
            ],
        ),
        (
            without_summary(make_records({"sample_persec": 60.0})),
            [("sum of rank rates", "247.5", "40.6 Mbit/s", "1.0"), "Median 62.5, from 60.0 to 62.5 galaxies/s."],
        ),
        (without_summary(make_records(num=1)), [("sum of rank rates", "62.50", "10.3 Mbit/s", "1.0")]),
        (without_summary([PartialRecord(rank=0)]), []),
    ],
)
def test_the_throughputs_of_a_run_are_those_that_are_known(run: RunEvidence, said: list[Any]) -> None:
    found = told(throughput_section(run))

    assert [one[:4] if isinstance(one, tuple) else one for one in found[2:]] == said
    assert (found[0] == "Unknown: neither a summary nor a rate of any rank is there.") == (not said)


def test_the_ten_slowest_ranks_are_named() -> None:
    changes = [{"cold_start": True, "clock": {"init": 3.0}}, {"clock": {"total": 12.0, "inference": 0.25}}]

    slowest = slowest_ranks(as_columns(make_records(*changes, num=12)))

    assert [row[0] for row in slowest.rows] == [str(rank) for rank in range(10)]
    assert slowest.rows[:2] == [
        ("0", "500", "13.0 s", "1.30", "inference 8.50 s", "cold", "0"),
        ("1", "500", "12.0 s", "1.20", "model load 500 ms", "warm", "0"),
    ]


def test_every_rank_has_its_numbers_as_exact_as_they_mean_something() -> None:
    whole = all_ranks(
        as_columns(
            make_records(
                {"cold_start": True, "num_samples": 1500.0, "sample_persec": 62.55}, {"cold_start": False}, num=3
            )
        )
    )

    phases = ["1.000", "0.000", "0.500", "0.500", "8.500", "0.500", "0.000", "10.000"]
    assert (whole.caption, whole.all_rows) == ("All 3 ranks", ())
    assert whole.rows == [
        ["0", "1,500", *phases, "62.6", "500", "cold", "0"],
        ["1", "500", *phases, "62.5", "500", "warm", "0"],
        ["2", "500", *phases, "62.5", "500", UNKNOWN, "0"],
    ]


@pytest.mark.parametrize(
    ("num", "caption", "num_rows", "num_handed"),
    [
        (64, "All 64 ranks", 64, 0),
        (65, "The first 20 of 65 ranks; where scripts run, all can be sorted and filtered", 20, 65),
    ],
)
def test_of_many_ranks_the_page_shows_the_first(num: int, caption: str, num_rows: int, num_handed: int) -> None:
    table = all_ranks(as_columns(make_records({"cold_start": True}, num=num)))

    assert (table.caption, len(table.rows), len(table.all_rows)) == (caption, num_rows, num_handed)
    assert [row[-2:] for row in table.all_rows[:2]] == [[1.0, 0.0], [None, 0.0]][:num_handed]


# ------------------------------------------------------------------------------------------------ the clock


def test_the_clock_of_a_run_is_told_by_stage_and_by_phase() -> None:
    wall = {"initialize": 1.0, "map": 38.0, "summarize": 1.0, "end_to_end": 40.0}
    efficiency = {"parallel_efficiency": 0.85, "num_concurrent_ranks": 4}
    changes = [{"cold_start": True, "clock": {"init": 3.0, "record": 0.2}}, {"clock": {"total": 12.0}}]

    said = told(clock_section(make_run(make_records(*changes), summary={"clock": wall | efficiency})))

    assert said[:6] == [
        "40.0 s end to end, of which 38.0 s in the Map. A rank took 11.0 s in the median, 12.8 s at the 95th "
        "percentile and at most 13.0 s. Parallel efficiency 85 %: seconds of inference over 4 concurrent ranks times "
        "the Map's wall time.",
        "Wall time by stage",
        ("Initialize", "1.00", "2.5 %", "listing the shards and dealing their rows"),
        ("Map", "38.00", "95.0 %", "all ranks"),
        ("Summarize", "1.00", "2.5 %", "proving that all ranks reported, merging"),
        ("end to end", "40.00", "100.0 %", "from Initialize to the summary"),
    ]
    assert said[6:8] == [
        "Share of each phase in 43.2 s of all ranks. 1 of 4 ranks began in a fresh process (cold). The queue, before "
        "the handler, is not in the shares; it includes the init of a cold rank.",
        "Median 11.0 s, 95th percentile 12.8 s, longest 13.0 s: 1.18 times the median.",
    ]
    assert said[8] == "Slowest ranks"
    alone = told(clock_section(make_run(make_records(num=1), summary={"clock": {"end_to_end": 40.0, "map": 38.0}})))
    assert alone[0].endswith("and at most 10.0 s.")
    assert alone[2] == ("Initialize", UNKNOWN, "0.0 %", "listing the shards and dealing their rows")


def test_a_phase_has_its_sum_its_share_and_its_quantiles_cold_and_warm() -> None:
    changes = [{"cold_start": True, "clock": {"init": 3.0, "record": 0.2}}]
    section = clock_section(make_run(make_records(*changes), summary={"clock": None}))

    (table,) = [block.table for block in section.blocks if isinstance(block, Figure) and block.table]

    assert [row[:3] for row in table.rows] == [
        ("queue", "4.000", UNKNOWN),
        ("init", "3.000", "6.9 %"),
        ("model load", "2.000", "4.6 %"),
        ("download", "2.000", "4.6 %"),
        ("inference", "34.000", "78.7 %"),
        ("upload", "2.000", "4.6 %"),
        ("record", "0.200", "0.5 %"),
    ]
    assert table.rows[1][3:] == ("0.000", "2.550", "3.000", "3.000", "0.000")
    warm = clock_section(make_run(make_records())).blocks[1].table
    assert warm.rows[1][3:] == ("0.000", "0.000", "0.000", UNKNOWN, "0.000")


@pytest.mark.parametrize("num", [64, 65])
def test_the_ranks_of_a_large_run_are_shown_at_work_over_time(num: int) -> None:
    run = make_run(make_records(*[{"started_at_s": 100.0 + rank} for rank in range(num)], num=num))

    said = told(clock_section(run))

    assert ("How many ranks were in each phase at each moment." in said) == (num > 64)
    assert any(str(one).startswith("Each row is a rank, its phases from left to right") for one in said)


def test_published_records_have_the_time_of_their_loops() -> None:
    records = [PartialRecord(rank=rank, total_cpu_time_s=20.0 + rank, num_samples=100.0 * rank) for rank in range(11)]

    said = told(clock_section(without_summary(records)))

    assert said[:4] == [
        "From the records of the ranks; the run left no summary.",
        "The records have no clock of our kind: the published loop times are all there is.",
        "Median 25.0 s, 95th percentile 29.5 s, longest 30.0 s: 1.20 times the median.",
        "Slowest records",
    ]
    assert said[4] == ("10", "30.0 s", "1.20", "1,000")
    assert [row[0] for row in said[4:]] == [str(rank) for rank in range(10, 0, -1)]
    assert len(told(clock_section(without_summary([PartialRecord(rank=0)])))) == 2


# -------------------------------------------------------------------------------------------- the accuracy

ACCURACY = {
    "num_labelled": 3000,
    "nmad": 0.0172,
    "bias": -0.0004,
    "outlier_005": 0.0124,
    "coverage_68": None,
    "r2": None,
}
METRICS = [
    ("bias", "-0.0004000", "mean of dz"),
    ("outliers beyond 0.05", "1.24 %", "share of galaxies with |dz| > 0.05"),
    ("R²", UNKNOWN, "depends on the width of the sample, the next line"),
]
OF_SAMPLE = "galaxies with a spectroscopic redshift; dz = (z_phot - z_spec) / (1 + z_spec). Compare numbers of the same"
FLAGS = "Quality flags of the input; a galaxy can have several"


def make_predictions(num: int, **changes: Any) -> RunPredictions:
    """Return redshifts from 0.05 to 0.25, each 0.01 too low or too high."""
    z_spec = np.linspace(0.05, 0.25, num)
    known = {"object_id": np.arange(num), "z_spec": z_spec, "z_phot": z_spec + 0.01 * (-1.0) ** np.arange(1, num + 1)}
    return RunPredictions(**{**known, "sigma": None, "quality": None, **changes})


def accuracy_of(predictions: RunPredictions | None, r: Any = None, **summary: Any) -> list[Any]:
    run = make_run(summary={"accuracy": None, **summary}, predictions=predictions)
    return told(accuracy_section(run, r))


def test_metrics_are_those_of_the_summary_with_an_interval_of_the_nmad_where_there_are_redshifts() -> None:
    alone = accuracy_of(None, accuracy=ACCURACY)
    beside = accuracy_of(make_predictions(41), accuracy=ACCURACY)

    nmad = "1.48 · median(|dz - median(dz)|), the published precision"
    assert alone == [
        f"Over 3,000 {OF_SAMPLE} sample only.",
        "Metrics",
        ("NMAD", "0.01720", nmad),
        *METRICS,
        "The predictions are not in the run's folder: no plots.",
    ]
    assert beside[2] == ("NMAD", "0.01720", f"95 % interval 0.000991 to 0.00226; {nmad}")
    assert beside[3:6] == METRICS


def test_a_plot_is_drawn_where_enough_galaxies_are_known() -> None:
    z = np.linspace(0.05, 0.25, 41)
    both = {"sigma": np.full(41, 0.02), "pz": make_pz(z)}

    many = accuracy_of(make_predictions(41, **both), np.linspace(14, 18, 41), ratio_95=2.0)
    few = accuracy_of(make_predictions(39, pz=make_pz(z[:39])), np.full(39, 15.0))
    dark = accuracy_of(make_predictions(41, sigma=np.zeros(41)), np.where(np.arange(41) < 40, 15.0, np.nan))

    captions = [one for one in many if isinstance(one, str)]
    assert captions[0] == "From the predictions; the run left no summary."
    assert captions[1] == "Solid: equal redshifts. Dashed: |dz| = 0.05; 0.00 % of the galaxies are outside."
    assert captions[2].startswith("Filled: spectroscopic. Dashed: photometric. Dotted: all p(z) added up. Where they")
    assert captions[5].startswith(
        "Circles: the nominal 68 % and 95 %; 100.0 % and 100.0 % of the galaxies are inside. "
    )
    assert captions[6].startswith("In bins of equal numbers of galaxies; bars are 95 % intervals.")
    assert captions[7].startswith("For each galaxy the probability that p(z) gives")
    assert (len(captions), len(few), len(dark)) == (8, 4, 4)
    assert "left out" not in "".join(captions)
    assert accuracy_of(make_predictions(39))[-1] == (
        "Residuals against r are left out: no table of these galaxies with r was found."
    )


def test_flags_are_counted_with_the_accuracy_of_those_that_have_them() -> None:
    quality = np.where(np.arange(41) < 40, 0, Quality.LOW_SIGNAL.value).astype(np.uint8)

    flagged = accuracy_of(make_predictions(41, quality=quality))
    clean = accuracy_of(make_predictions(3, quality=np.zeros(3, np.uint8)))

    start = flagged.index(FLAGS)
    assert flagged[start + 1 : start + 3] == [
        ("low signal", "1", "2.44 %", UNKNOWN),
        ("none", "40", "97.56 %", "0.0129"),
    ]
    assert "No quality flag is set on any of 3 galaxies." in clean


def test_without_spectroscopic_redshifts_the_predicted_ones_are_shown() -> None:
    unknown = np.full(5, np.nan)
    pz = np.where(np.arange(5)[:, None] < 4, make_pz(np.linspace(0.05, 0.25, 5)), np.nan)

    without = "Unknown: no galaxy of this run has a spectroscopic redshift."
    histogram = "Histogram of 5 predicted redshifts."
    assert accuracy_of(make_predictions(5, z_spec=unknown)) == [without, histogram]
    assert accuracy_of(make_predictions(5, z_spec=unknown, pz=pz)) == [
        without,
        f"{histogram} Dashed: all p(z) added up, the n(z) to be expected.",
    ]
    assert accuracy_of(make_predictions(5, z_spec=unknown, z_phot=unknown)) == [without]
    assert accuracy_of(None) == [without]
    assert told(accuracy_section(without_summary(make_records()), None)) == [
        "Unknown: the run's folder holds neither predictions nor a summary."
    ]


# --------------------------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([number(value) for value in (None, float("inf"), 0.0)], [UNKNOWN, UNKNOWN, "0"]),
        ([number(value) for value in (1234.5, 999.0, 12.345, -0.012345)], ["1,234", "999", "12.3", "-0.0123"]),
        ([number(value) for value in (1e-4, 9.99e-5)], ["0.000100", "9.99e-05"]),
        ([number(12.345, 2), number(9.99e-5, 2)], ["12", "1.0e-04"]),
        ([count(value) for value in (None, float("nan"), 1999.6)], [UNKNOWN, UNKNOWN, "2,000"]),
        ([seconds(value) for value in (None, float("nan"), 0.0, 9e-7)], [UNKNOWN, UNKNOWN, "0 s", "0 s"]),
        ([seconds(value) for value in (1e-6, 0.9994, 0.9995, 599.0)], ["0.00100 ms", "999 ms", "1.000 s", "599 s"]),
        ([seconds(value) for value in (600.0, 6000.0)], ["10.0 min", "100 min"]),
        ([decimals(value) for value in (None, float("nan"), 1234.5)], [UNKNOWN, UNKNOWN, "1,234.500"]),
        ([decimals(1.25, 1), percent(0.123), percent(0.125, 0)], ["1.2", "12.3 %", "12 %"]),
        ([percent(value) for value in (None, float("nan"))], [UNKNOWN, UNKNOWN]),
        ([megabytes(None), megabytes(3 * 2**30)], [UNKNOWN, "3,072 MB"]),
        (
            [usd(value) for value in (None, float("nan"), 9.994, 10.0, 1234.5)],
            [UNKNOWN, UNKNOWN, "9.99 USD", "10.00 USD", "1,234.50 USD"],
        ),
        ([bits_per_s(value) for value in (None, float("nan"), 999.0)], [UNKNOWN, UNKNOWN, "999 bit/s"]),
        (
            [bits_per_s(value) for value in (1e3, 1e6, 1e9, 1e12, -2e6)],
            ["1.00 kbit/s", "1.00 Mbit/s", "1.00 Gbit/s", "1.00 Tbit/s", "-2.00 Mbit/s"],
        ),
    ],
)
def test_a_number_has_the_digits_that_mean_something_and_its_unit(written: list[str], expected: list[str]) -> None:
    assert written == expected
