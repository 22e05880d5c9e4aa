import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from inference.contract import Accuracy, LostRank, RankClock, RunClock, RunSummary, SlowRank, Throughput
from inference.quality import Quality
from scripts.pricing.cost import Bill, CostItem
from scripts.runs.ending import Ending
from scripts.runs.present import FLAGS, print_result
from tests.factories import make_request

SUCCEEDED = Ending("SUCCEEDED")
INCOMPLETE = Ending("FAILED", "IncompleteRunError", "1 of 8 ranks are lost")
LOST = LostRank(
    rank=3,
    error="ShardFormatError",
    message="datasets/tiny/1MB/1.safetensors holds images of shape (40, 4, 32, 32); the model reads (N, 5, 32, 32).",
    shards=("datasets/tiny/1MB/1.safetensors",),
)


def make_summary(**changes: Any) -> RunSummary:
    ranks = RankClock(queue=3.2, init=2.0, model_load=1.0, download=0.5, inference=60.25, upload=0.1, total=61.9)
    fields: dict[str, Any] = {
        "run_id": "run-a",
        "complete": True,
        "world_size": 8,
        "num_records": 8,
        "num_samples": 3071,
        "num_samples_planned": 3071,
        "lost_ranks": (),
        "request": make_request(),
        "notes": (),
        "accuracy": Accuracy(
            num_labelled=3071,
            bias=-0.00042,
            nmad=0.01724,
            outlier_005=0.0124,
            outlier_015=0.0013,
            mae=0.01631,
            mse=0.0006,
            r2=0.9123,
            std_z_spec=0.0871,
        ),
        "throughput": Throughput(sum_of_rank_rates=812.4, map_wall=512.31, end_to_end=401.0),
        "clock": RunClock(initialize=0.21, map=6.02, summarize=0.33, end_to_end=6.56, ranks=ranks),
        "num_cold_starts": 2,
        "num_retried_ranks": 1,
        "peak_memory_bytes": 512_000_000,
        "function_memory_mb": 1769,
        "rank_seconds": 63.9,
        "engines": ("torch 2.13.0",),
        "weights_sha256": ("0" * 64,),
        "image_digests": ("local",),
        "code_versions": ("1",),
    }
    return RunSummary(**{**fields, **changes})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    run = Path("runs/run-a")
    (run / "ranks").mkdir(parents=True)
    (run / "summary.json").write_text("{}")
    (run / "ranks" / "00000.json").write_text("{}")
    return run


def table(
    folder: Path,
    summary: RunSummary | None,
    ending: Ending = SUCCEEDED,
    *,
    width: int = 80,
    notes: tuple[str, ...] = (),
) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    print_result(console, "run-a", summary, ending, folder, notes=notes)
    return console.file.getvalue()


WHOLE = """\
run-a: complete

  ranks                     8 of 8   2 cold, 6 warm, 1 retried
  galaxies          3,071 of 3,100   torch 2.13.0
  flagged                        3   refused: too little was measured
                             1,031   with little signal
  peak memory               488 MB   of any rank; 1,769 MB configured

  Accuracy over 3,071 galaxies, dz = (z_phot - z_spec) / (1 + z_spec)
  NMAD                     0.01724   1.48 · median(|dz - median(dz)|)
  bias                    -0.00042   mean of dz
  outliers                  1.24 %   share with |dz| > 0.05
                            0.13 %   share with |dz| > 0.15
  MAE                      0.01631   mean of |z_phot - z_spec|
  R²                        0.9123   with std(z_spec) = 0.0871

  Throughput
  sum of rank rates       812.4 /s   each rank's own rate, added: as published
  Map wall                512.3 /s   galaxies over the wall time of the Map
  end to end              401.0 /s   galaxies over the wall time of the run

  Wall time
  plan                      0.21 s   Initialize
  Map                       6.02 s   all ranks
  summarize                 0.33 s   Summarize, up to the summary
  end to end                6.56 s
  efficiency                  62 %   inference; 4 ranks at a time

  Cost at the prices of here
  Lambda time          0.00180 USD   110.4 GB-s
  together             0.00180 USD   the dataset's storage comes on top

  phases [s]         queue  init  model load  download  inference  upload
  mean of rank        0.40  0.25        0.12      0.06       7.53    0.01
  slowest: 7          3.20  2.00        1.00      0.50      60.25    0.10

  Notes
  a note.

  Files
  runs/run-a/
  summary.json, ranks/ (1)
"""


def test_a_run_is_told_from_its_state_to_its_files(folder: Path) -> None:
    known = make_summary().clock
    slow = SlowRank(rank=7, num_samples=9, attempt=0, cold_start=True, clock=known.ranks)
    next_one = msgspec.structs.replace(slow, rank=3)
    summary = make_summary(
        clock=msgspec.structs.replace(
            known, slowest=(slow, next_one), num_concurrent_ranks=4, parallel_efficiency=0.625
        ),
        num_flagged={"REFUSED": 3, "LOW_SIGNAL": 1031},
        num_samples_planned=3100,
    )
    console = Console(file=io.StringIO(), width=80, color_system=None, highlight=False)
    bill = Bill((CostItem("Lambda time", 0.0018, "110.4 GB-s"),), "here")

    print_result(console, "run-a", summary, SUCCEEDED, folder, notes=("a note.",), bill=bill)

    assert console.file.getvalue() == WHOLE


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (Ending("ABORTED"), "run-a: stopped\n\n  Reason\n  `make resume RUN=run-a` goes on with it.\n\n"),
        (Ending("TIMED_OUT"), "run-a: out of time\n\n  Reason\n  TIMED_OUT\n\n"),
        (Ending("FAILED", "PlanError"), "run-a: failed\n\n  Reason\n  PlanError\n\n"),
    ],
)
def test_a_run_without_a_summary_says_why(ending: Ending, said: str, folder: Path) -> None:
    assert table(folder, None, ending) == f"{said}  Files\n  runs/run-a/\n  summary.json, ranks/ (1)\n"


def test_a_failed_run_with_a_summary_and_every_rank_says_why_it_failed(folder: Path) -> None:
    ending = Ending("FAILED", "SummarizeError", "the bucket is full")

    assert "\n  Reason\n  SummarizeError: the bucket is full\n" in table(folder, make_summary(), ending)
    assert "Reason" not in table(folder, make_summary(lost_ranks=(LOST,)), ending)
    assert "Reason" not in table(folder, make_summary())


@pytest.mark.parametrize(("num", "more"), [(10, ""), (11, "and 1 more in summary.json")])
def test_ten_lost_ranks_are_named(num: int, more: str, folder: Path) -> None:
    two_shards = msgspec.structs.replace(LOST, shards=("a", "b", "c"))

    text = table(folder, make_summary(lost_ranks=(two_shards,) * num), INCOMPLETE, width=300)

    assert text.count("  rank 3, a and 2 more: ShardFormatError: ") == 10
    assert ("more in summary.json" in text) == bool(more)
    assert more in text


def test_a_rate_that_was_not_measured_and_an_undefined_r2_are_no_numbers(folder: Path) -> None:
    known = make_summary()
    text = table(
        folder,
        make_summary(
            throughput=msgspec.structs.replace(known.throughput, map_wall=0.0),
            accuracy=msgspec.structs.replace(known.accuracy, r2=None),
        ),
    )

    assert "\n  Map wall                 unknown   galaxies over" in text
    assert "\n  R²                     undefined   with std" in text


def test_a_complete_run_says_so_first(folder: Path) -> None:
    assert table(folder, make_summary()).splitlines()[0] == "run-a: complete"


def test_nmad_is_the_first_number_of_the_accuracy(folder: Path) -> None:
    text = table(folder, make_summary())

    assert text.index("NMAD") < min(text.index(name) for name in ("bias", "outliers", "MAE", "R²"))
    assert "0.01724" in text


def test_r2_stands_beside_the_width_of_the_sample(folder: Path) -> None:
    (line,) = [line for line in table(folder, make_summary()).splitlines() if "R²" in line]

    assert "0.9123" in line
    assert "std(z_spec) = 0.0871" in line


def test_a_reduced_precision_stands_beside_the_engine(folder: Path) -> None:
    whole = make_summary(engines=["onnxruntime 1.31.1"])
    rounded = make_summary(engines=["onnxruntime 1.31.1"], request=make_request(precision="int8"))

    assert "onnxruntime 1.31.1\n" in table(folder, whole)
    assert "onnxruntime 1.31.1 in int8\n" in table(folder, rounded)


def test_flags_are_told_apart_and_a_clean_run_has_no_line_for_them(folder: Path) -> None:
    text = table(folder, make_summary(num_flagged={"OUT_OF_DOMAIN": 1031, "REFUSED": 3}))

    refused, outside = [line for line in text.splitlines() if "refused:" in line or "unlike" in line]
    assert refused.split()[:2] == ["flagged", "3"]
    assert outside.split()[0] == "1,031"
    assert "flagged" not in table(folder, make_summary())


def test_every_flag_has_words() -> None:
    assert set(FLAGS) == {flag.name for flag in Quality}


def test_coverage_is_told_where_sigma_is_known(folder: Path) -> None:
    known = make_summary()
    covered = msgspec.structs.replace(known.accuracy, coverage_68=0.666)

    text = table(folder, make_summary(accuracy=covered))
    assert "66.6 %" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "within sigma" not in table(folder, known)


def test_the_three_throughputs_carry_their_names(folder: Path) -> None:
    text = table(folder, make_summary())

    for name, rate in [("sum of rank rates", "812.4 /s"), ("Map wall", "512.3 /s"), ("end to end", "401.0 /s")]:
        assert any(name in line and rate in line for line in text.splitlines())


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("lost", [(), (LOST,)], ids=["complete", "lost"])
def test_no_line_is_wider_than_the_screen_or_ends_in_spaces(
    width: int, lost: tuple[LostRank, ...], folder: Path
) -> None:
    text = table(folder, make_summary(lost_ranks=lost), INCOMPLETE if lost else SUCCEEDED, width=width)

    assert max(len(line) for line in text.splitlines()) <= width
    assert all(line == line.rstrip() for line in text.splitlines())


def test_the_slowest_rank_stands_below_the_mean_of_all(folder: Path) -> None:
    mean = make_summary().clock.ranks
    slow = SlowRank(rank=10_239, num_samples=9, attempt=0, cold_start=True, clock=mean)
    clock = msgspec.structs.replace(
        make_summary().clock, slowest=(slow,), num_concurrent_ranks=4, parallel_efficiency=0.625
    )

    lines = table(folder, make_summary(clock=clock)).splitlines()

    assert any("mean of rank" in line and f"{60.25 / 8:.2f}" in line for line in lines)
    assert any("slowest: 10239" in line and "60.25" in line for line in lines)
    assert any("efficiency" in line and "62 %" in line and "4 ranks at a time" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_a_lost_rank_is_named_with_shard_and_reason(folder: Path) -> None:
    text = table(folder, make_summary(complete=False, num_records=7, lost_ranks=(LOST,)), INCOMPLETE, width=300)

    assert text.startswith("run-a: failed (1 of 8 ranks lost)")
    assert "rank 3, datasets/tiny/1MB/1.safetensors: ShardFormatError: " in text
    assert "holds images of shape" in text


def test_of_many_lost_ranks_the_first_are_named_and_the_others_counted(folder: Path) -> None:
    text = table(folder, make_summary(lost_ranks=(LOST,) * 25), INCOMPLETE)

    assert text.count("rank 3,") == 10
    assert "and 15 more in summary.json" in text


def test_a_tolerated_loss_is_neither_complete_nor_failed(folder: Path) -> None:
    text = table(folder, make_summary(complete=False, lost_ranks=(LOST,)))

    assert text.startswith("run-a: incomplete, as tolerated (1 of 8 ranks lost)")


def test_a_refused_request_shows_its_reason_and_no_numbers(folder: Path) -> None:
    text = table(folder, None, Ending("FAILED", "PlanError", "world_size 9 is more than the 3 rows of the dataset."))

    assert "PlanError: world_size 9 is more than the 3 rows of the dataset." in text
    assert "NMAD" not in text


def test_when_every_rank_is_lost_no_accuracy_is_made_up(folder: Path) -> None:
    text = table(folder, make_summary(num_records=0, num_samples=0, accuracy=None, lost_ranks=(LOST,)), INCOMPLETE)

    assert "Accuracy" not in text
    assert "Throughput" not in text


def test_unlabelled_galaxies_have_no_accuracy(folder: Path) -> None:
    assert "no galaxy has a spectroscopic redshift" in table(folder, make_summary(accuracy=None))


def test_the_files_and_the_notes_are_named(folder: Path) -> None:
    text = table(folder, make_summary(notes=("`script` was ignored.",)), notes=("`bucket` was replaced.",))

    assert "summary.json, ranks/ (1)" in text
    assert text.index("`bucket` was replaced.") < text.index("`script` was ignored.")


def test_a_bill_is_itemised_and_added_up(folder: Path) -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None, highlight=False)
    items = (CostItem("Lambda time", 0.0018, "110.4 GB-s, x86_64"), CostItem("Step Functions", 0.0003, "11 states"))
    bill = Bill(items, "us-east-1, January 2026, without free tier")

    print_result(console, "run-a", make_summary(), SUCCEEDED, folder, bill=bill)

    lines = console.file.getvalue().splitlines()
    assert any("Lambda time" in line and "0.00180 USD" in line and "110.4 GB-s" in line for line in lines)
    assert any("together" in line and "0.00210 USD" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_where_nothing_is_paid_nothing_is_said_about_it(folder: Path) -> None:
    assert "USD" not in table(folder, make_summary())
