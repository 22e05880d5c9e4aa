"""The same rows by several methods: whose redshifts agree, and which rate is compared with which published one."""

import io
import subprocess
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from rich.console import Console

from inference import contract, summary
from inference.errors import RunFolderError
from inference.models import shipped
from inference.models.card import Graph
from inference.pipeline import Predictions
from inference.summary import RunTimes
from scripts import compare as command
from scripts.benchmarks import reference_loop
from scripts.benchmarks.comparison import comparison, measure
from scripts.benchmarks.comparison import runs as carried_out
from scripts.benchmarks.comparison.agreement import Agreement, Redshifts, agreement
from scripts.benchmarks.comparison.baseline import BaselineResult, BaselineTask, predict
from scripts.benchmarks.comparison.comparison import compare_methods, pair_rates
from scripts.benchmarks.comparison.measure import Measured, measure_process, measure_run, of_process
from scripts.benchmarks.comparison.method import Method
from scripts.benchmarks.comparison.present import COLUMNS, print_comparison
from scripts.benchmarks.comparison.published import DEFINITIONS, PublishedRate, read_published
from scripts.benchmarks.comparison.runs import CompareVariables, find_runs
from scripts.command.console import fitting_table
from scripts.command.errors import CommandError, UsageError
from scripts.command.program import exit_status
from scripts.command.repository import REPOSITORY
from scripts.command.variables import read_variables
from scripts.data.location import LocalDataset, RemoteDataset
from scripts.runs import journal
from scripts.runs.ending import Ending
from tests.factories import (
    RUN,
    make_arrays,
    make_plan,
    make_predictions,
    make_record_for,
    make_request,
    make_shard_bytes,
    make_task,
    prove_run,
    write_model,
)
from tests.unit.test_doctor import make_stack

WIDEST = 200


def redshifts(*z_phot: float, first_id: int = 1) -> Redshifts:
    return Redshifts(np.arange(first_id, first_id + len(z_phot)), np.array(z_phot, np.float32))


RESULT = BaselineResult(
    num_samples=1000,
    num_threads=2,
    engine="torch 2",
    model_load_s=1.0,
    read_s=1.0,
    loop_s=8.0,
    profiled_s=None,
    peak_memory_bytes=2**30,
)


def make_method(**changes: Any) -> Method:
    return msgspec.structs.replace(of_process("plain loop", RESULT, wall_s=12.0), **changes)


def make_run(**changes: Any) -> Method:
    run: dict[str, Any] = {
        "name": "local AWS",
        "place": "local",
        "run_id": RUN,
        "num_workers": 2,
        "end_to_end_s": 4.0,
        "rank_rate_per_s": 260.0,
        "sum_of_rank_rates_per_s": 500.0,
        "map_wall_per_s": 300.0,
        "end_to_end_per_s": 250.0,
        "list_price_usd": 0.001234,
    }
    return make_method(**{**run, **changes})


# ---------------------------------------------------------------------------------------------- agreement


def test_the_largest_difference_counts() -> None:
    found = agreement(redshifts(0.1, 0.2, 0.3), redshifts(0.1, 0.2005, 0.2999))

    assert found.max_abs_difference == pytest.approx(5e-4, rel=1e-3)
    assert found.num_compared == 3


def test_a_galaxy_that_both_rejected_agrees_and_one_that_one_rejected_is_counted() -> None:
    found = agreement(redshifts(0.1, np.nan, np.nan), redshifts(0.1, np.nan, 0.3))

    assert (found.max_abs_difference, found.num_compared, found.num_one_sided) == (0.0, 1, 1)


def test_two_methods_that_predicted_nothing_in_common_have_no_difference() -> None:
    assert agreement(redshifts(np.nan), redshifts(0.3)) == Agreement(None, 0, 1)


@pytest.mark.parametrize("other", [redshifts(0.1, 0.2), redshifts(0.1, 0.2, 0.3, first_id=7)], ids=["fewer", "others"])
def test_other_galaxies_are_not_compared(other: Redshifts) -> None:
    with pytest.raises(CommandError, match="The galaxies differ"):
        agreement(redshifts(0.1, 0.2, 0.3), other)


# ------------------------------------------------------------------------------------------------ the command


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (None, 0, ""),
        (UsageError("RUN=x is no run."), 2, "RUN=x is no run.\n"),
        (CommandError("The disk is full."), 1, "The comparison stopped: The disk is full.\n"),
    ],
)
def test_a_comparison_is_printed_or_says_why_it_stopped(
    error: Exception | None,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def compare(variables: CompareVariables, *, root: Path, console: Console) -> tuple[str, list[Path]]:
        assert (variables.world, root, console.stderr) == (3, Path(), True)
        console.print("3 ranks")
        if error:
            raise error
        return "found", [Path("runs/a/comparison.json"), Path("runs/b")]

    monkeypatch.setenv("FORCE_COLOR", "1")  # numbers have the colour of the words
    monkeypatch.setattr(command, "compare", compare)
    monkeypatch.setattr(
        command, "print_comparison", lambda console, *what: console.print(*what, "[1] 'a'", soft_wrap=True)
    )

    assert exit_status(command.main, {"WORLD": "3"}) == status
    assert capsys.readouterr() == ("" if error else "found runs/a/comparison.json [1] 'a'\n", f"3 ranks\n{said}")


# -------------------------------------------------------------------------------------------------- rates


def test_one_process_has_the_three_rates_too_and_they_differ() -> None:
    method = make_method()

    assert method.sum_of_rank_rates_per_s == method.rank_rate_per_s == 1000 / 8.0
    assert method.map_wall_per_s == 1000 / 10.0
    assert method.end_to_end_per_s == pytest.approx(1000 / 12.0)
    # Until it is compared with another one.
    assert (method.speedup, method.efficiency, method.max_abs_difference, method.num_compared) == (1.0, 1.0, None, 0)


def test_methods_are_compared_with_the_plain_loop() -> None:
    plain = Measured(make_method(), redshifts(0.1, 0.2, np.nan))
    run = Measured(make_run(), redshifts(0.1, 0.25, 0.3))

    found = compare_methods([plain, run], "datasets/tiny/1MB/", 32)

    first, second = found.methods
    assert (first.speedup, first.efficiency, first.max_abs_difference) == (1.0, 1.0, 0.0)
    assert (second.speedup, second.efficiency) == (3.0, 1.5)
    assert second.max_abs_difference == pytest.approx(0.05)
    assert (second.num_compared, found.num_samples, found.batch_size) == (2, 1000, 32)
    assert found.notes[1:] == ("local AWS and the plain loop reject 1 galaxies differently.",)
    assert "list prices of" in found.prices


def test_published_rates_are_paired_with_ours_of_the_same_definition_only() -> None:
    found = pair_rates(read_published(), [make_method(), make_run()])

    ours = {one.definition: one.ours_per_s for one in found}
    assert all(one.definition == one.theirs.definition for one in found)
    assert all(one.theirs_per_s == one.theirs.rate_per_s for one in found)
    assert ours == {
        "sum_of_rank_rates": 500.0,
        "map_wall": 300.0,
        "end_to_end": 250.0,
        "one_rank": 260.0,
        "one_process": pytest.approx(1000 / 12),
    }


def test_without_a_run_only_the_plain_loop_has_a_published_rate() -> None:
    assert {one.definition for one in pair_rates(read_published(), [make_method()])} == {"one_process"}


def test_a_run_on_aws_is_compared_before_a_local_one() -> None:
    found = pair_rates(read_published(), [make_method(), make_run(), make_run(name="AWS", place="aws")])

    assert {one.ours for one in found} == {"AWS", "AWS, median rank", "plain loop"}


def test_the_published_headline_is_four_and_nine_times_larger_by_its_own_definition() -> None:
    rates = {
        one.definition: one.rate_per_s * 164_160 / 1e9 for one in read_published().throughput if one.num_ranks == 517
    }

    assert rates["sum_of_rank_rates"] == pytest.approx(18.04)
    assert rates["map_wall"] == pytest.approx(3.87, abs=0.02)
    assert rates["end_to_end"] == pytest.approx(1.94, abs=0.01)


def test_a_rate_is_read_whichever_way_it_was_published() -> None:
    rates = {one.what: one.rate_per_s for one in read_published().throughput}

    assert rates["one rank, 5,113 rows, batch 512, slowest"] == 200.0
    assert rates["1,253 galaxies, batch 128"] == pytest.approx(1253 / 7.21)


def test_every_published_number_has_a_source_and_a_definition() -> None:
    published = read_published()

    others = [*published.scaling, *published.cost, published.accuracy]
    named = {one.source for one in published.throughput} | {one["source"] for one in others}
    assert named <= published.sources.keys()
    assert {one.definition for one in published.throughput} == set(DEFINITIONS)


# ------------------------------------------------------------------------------------------------ printed


def printed(width: int) -> str:
    measured = [Measured(make_method(), redshifts(0.1, 0.2)), Measured(make_run(), redshifts(0.1, 0.2003))]
    console = Console(file=io.StringIO(), width=width)
    print_comparison(console, compare_methods(measured, "datasets/sdss/10MB/", 32), "runs/run-a/comparison.json")
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, WIDEST])
def test_the_comparison_fits_the_width(width: int) -> None:
    text = printed(width)

    assert max(map(len, text.splitlines())) <= width
    assert all(definition.replace("_", " ") in text for definition in DEFINITIONS)


def test_a_narrow_table_drops_what_matters_least() -> None:
    titles = [title for _, title, _ in COLUMNS if title]
    narrow, wide = (next(line for line in printed(width).splitlines() if "time" in line) for width in (80, WIDEST))

    assert all(title in wide for title in titles)
    assert all(title in narrow for title in ("time", "end to end", "speedup", "max |dz|"))
    assert "list price" not in narrow


def test_a_table_that_gets_narrower_loses_its_columns_in_the_order_of_their_weight() -> None:
    methods = [make_method(max_abs_difference=0.0), make_run(max_abs_difference=3e-4)]
    shown = [
        [str(column.header) for column in fitting_table(COLUMNS, methods, width).columns] for width in range(200, 0, -1)
    ]

    lost = [name for before, after in pairwise(shown) for name in before if name not in after]
    assert shown[0] == [title for _, title, _ in COLUMNS]
    assert lost[:9] == [
        *("list price", "of the Map", "workers", "efficiency", "Map wall", "rank rates", "peak"),
        *("end to end", "speedup"),
    ]


def test_the_comparison_is_a_table_its_words_and_every_rate_next_to_the_published_ones() -> None:
    methods = (make_method(name="plain loop"), make_run())
    theirs = [
        PublishedRate(what=what, definition="map_wall", hardware=hardware, source="s", samples_per_s=rate)
        for what, hardware, rate in (("12.6 GB", "Lambda", 200.0), ("1 GB", "", 100.0))
    ]
    pairs = [
        comparison.RatePair(
            definition="map_wall", theirs=one, theirs_per_s=one.rate_per_s, ours="AWS", ours_per_s=300.0
        )
        for one in theirs
    ]
    found = compare_methods([Measured(method, redshifts(0.1)) for method in methods], "datasets/d/", 32)
    found = msgspec.structs.replace(found, published=tuple(pairs), caveat="Theirs are others.", notes=("Once.",))
    console = Console(file=io.StringIO(), width=WIDEST)

    print_comparison(console, found, "runs/run-a/comparison.json")

    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert lines[:2] == ["1,000 galaxies of datasets/d/, batch 32", ""]
    assert [line.split()[0] for line in lines[2:5]] == ["workers", "plain", "local"]
    assert lines[5:7] == ["  plain loop: torch 2", "  local AWS: torch 2"]
    assert lines[7].startswith("  time: end to end; rank rates: ")
    assert lines[9:] == [
        "",
        "  map wall: galaxies over the wall time of the Map",
        "  here           300 /s   0.049 Gbit/s  AWS",
        "  published      200 /s   0.033 Gbit/s  12.6 GB; Lambda",
        "  published      100 /s   0.016 Gbit/s  1 GB",
        "",
        "  Theirs are others.",
        "  Once.",
        "",
        "files      runs/run-a/comparison.json",
    ]


def test_a_line_shows_the_numbers_of_its_method() -> None:
    run = next(line for line in printed(WIDEST).splitlines() if line.startswith("local AWS"))

    cells = ["2", "4.00 s", "10.00 s", "500 /s", "300 /s", "250 /s", "1,024 MB", "3.00", "150%", "0.001234 USD"]
    assert run.removeprefix("local AWS").split() == [word for cell in cells for word in cell.split()] + ["3.0e-04"]
    assert "here           250 /s   0.041 Gbit/s  local AWS" in printed(WIDEST)


# ------------------------------------------------------------------------------------------------ measured


def write_run(folder: Path) -> None:
    """Leave what a run of two ranks with 300 galaxies each leaves, but for its predictions."""
    tasks = [
        make_task(rank=rank, world_size=2, num_samples=300, **contract.rank_keys(f"runs/{RUN}/", rank))
        for rank in range(2)
    ]
    found = {
        task.record_key: contract.encode(make_record_for(task, sample_persec=100.0 + task.rank, num_threads=1 + rank))
        for rank, task in enumerate(tasks)
    }
    proof = prove_run(tasks, found)
    times = RunTimes(started_at_s=10.0, planned_at_s=11.0, mapped_at_s=16.0, summarized_at_s=17.0)
    merged = summary.summarize(make_plan(num_samples=600), tasks, proof, times)
    (folder / "summary.json").write_bytes(contract.encode(merged))
    # The predictions are written as one file, which no record is about.
    unbound = [msgspec.structs.replace(record, predictions=None) for record in proof.records]
    (folder / "combined_data.json").write_bytes(summary.combine(unbound))


def write_predictions(folder: Path) -> Predictions:
    (folder / "predictions").mkdir()
    predictions = make_predictions(object_id=np.arange(600, dtype=np.int64))
    (folder / "predictions" / "00000.npz").write_bytes(predictions.to_npz())
    return predictions


def test_a_run_is_a_method_with_its_own_clock(tmp_path: Path) -> None:
    write_run(tmp_path)
    predictions = write_predictions(tmp_path)

    found = measure_run(tmp_path)

    method = found.method
    assert (method.name, method.place, method.run_id, method.engine) == ("local AWS", "local", RUN, "fake 1")
    assert (method.num_samples, method.num_threads, method.map_s, method.end_to_end_s) == (600, 2, 5.0, 7.0)
    assert 0 < method.loop_s < 1
    assert (method.rank_rate_per_s, method.sum_of_rank_rates_per_s) == (100.5, 201.0)
    assert (method.map_wall_per_s, method.end_to_end_per_s) == (600 / 5.0, 600 / 7.0)
    assert method.peak_memory_bytes == 2**28
    assert method.list_price_usd is not None
    assert method.list_price_usd > 0
    np.testing.assert_array_equal(found.redshifts.object_id, predictions.object_id)
    np.testing.assert_array_equal(found.redshifts.z_phot, predictions.z_phot)


@pytest.mark.parametrize(("num_concurrent", "num_workers"), [(0, 1), (1, 1), (3, 3)])
def test_a_run_on_aws_is_one_with_the_prices_of_its_stack(
    num_concurrent: int, num_workers: int, tmp_path: Path
) -> None:
    write_run(tmp_path)
    write_predictions(tmp_path)
    path = tmp_path / "summary.json"
    made = contract.decode(path.read_bytes(), contract.RunSummary)
    clock = msgspec.structs.replace(made.clock, num_concurrent_ranks=num_concurrent)
    path.write_bytes(contract.encode(msgspec.structs.replace(made, clock=clock)))
    here = measure_run(tmp_path).method
    fields = {"run_id": RUN, "execution_arn": "arn", "bucket": "b", "run_prefix": "r/", "started_at_s": 5.0}
    stack = make_stack(region="us-west-2", architecture="arm64")
    journal.write(tmp_path, journal.Entry(target="aws", stack=stack, **fields))  # type: ignore[arg-type]

    there = measure_run(tmp_path).method

    assert (there.name, there.place, there.num_workers) == ("AWS", "aws", num_workers)
    assert there.list_price_usd is not None
    assert here.list_price_usd is not None
    assert there.list_price_usd != here.list_price_usd


@pytest.mark.parametrize("missing", ["summary.json", "combined_data.json"])
def test_a_run_that_lacks_a_file_is_reported_in_one_line(missing: str, tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / missing).unlink()

    with pytest.raises((RunFolderError, CommandError), match=rf"{missing}.*: `make status RUN={tmp_path.name}`"):
        measure_run(tmp_path)


def test_a_run_that_lacks_predictions_is_reported_in_one_line(tmp_path: Path) -> None:
    write_run(tmp_path)

    with pytest.raises(CommandError, match="predictions/ does not hold the 600 galaxies"):
        measure_run(tmp_path)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 8])
def test_the_plain_loop_predicts_every_galaxy_once_and_in_order(batch_size: int) -> None:
    images, magnitudes = torch.arange(5.0).reshape(5, 1, 1), torch.arange(5.0, 10.0)
    sizes = []

    def network(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return images[:, 0, 0] + 10 * magnitudes

    found, profiled_s = reference_loop.predict(network, images, magnitudes, batch_size=batch_size, profiled=False)

    assert found.tolist() == [50, 61, 72, 83, 94]
    assert (sum(sizes), max(sizes), profiled_s) == (5, min(batch_size, 5), None)


@pytest.mark.parametrize(("profiled", "num_collections", "total_s"), [(True, 3, 2.0), (False, 0, None)])
def test_profiled_the_plain_loop_runs_as_it_was_published(
    profiled: bool, num_collections: int, total_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    collected: list[bool] = []
    events = [SimpleNamespace(self_cpu_time_total=1_500_000.0), SimpleNamespace(self_cpu_time_total=500_000.0)]
    trace = SimpleNamespace(key_averages=lambda: events)
    monkeypatch.setattr(reference_loop, "profile", lambda **more: asked.append(more) or nullcontext(trace))
    monkeypatch.setattr(reference_loop, "gc", SimpleNamespace(collect=lambda: collected.append(True)))

    def network(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        return images

    _, found_s = reference_loop.predict(network, torch.arange(5.0), torch.arange(5.0), batch_size=2, profiled=profiled)

    assert (found_s, len(collected)) == (total_s, num_collections)
    assert asked == [{"activities": [torch.profiler.ProfilerActivity.CPU], "profile_memory": True}] * profiled


def test_a_process_that_fails_is_reported_with_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "0.safetensors").write_bytes(b"no shard")

    with pytest.raises(CommandError, match=r"The plain loop ended with status 1: .*0.safetensors"):
        measure_process("plain loop", [tmp_path / "0.safetensors"], shipped(), batch_size=8, profile=False)


def test_a_network_as_onnx_has_no_plain_loop_and_starts_nothing(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "theirs", kind="onnx", graph=Graph(output="out"))

    with pytest.raises(UsageError, match="MODEL=theirs is a network as ONNX; the plain loop"):
        find_runs(CompareVariables(model="theirs"), tmp_path, Console(quiet=True))
    assert not (tmp_path / "runs").exists()


def test_the_baseline_reads_cleans_and_loops_and_says_what_each_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = make_arrays(3)["images"]
    images[1] = np.nan
    for number in range(2):
        content = make_shard_bytes(3, images=images, object_id=np.arange(3, dtype=np.int64) + 10 * number)
        (tmp_path / f"{number}.safetensors").write_bytes(content)
    asked: list[Any] = []

    def loop(model: str, images: torch.Tensor, magnitudes: torch.Tensor, **more: Any) -> Any:
        asked.append((model, images.shape, magnitudes.dtype, more))
        return torch.arange(6.0), 0.5

    clock = iter([1.0, 3.0, 7.0, 15.0])
    monkeypatch.setattr("inference.model.weights.load_astromae", lambda weights: f"network of {weights.name}")
    monkeypatch.setattr(reference_loop, "predict", loop)
    monkeypatch.setattr("handlers.invocation.peak_memory_bytes", lambda: 7)
    monkeypatch.setattr("scripts.benchmarks.comparison.baseline.time.perf_counter", lambda: next(clock))
    task = BaselineTask(
        files=tuple(str(tmp_path / f"{number}.safetensors") for number in range(2)),
        batch_size=32,
        profile=True,
        predictions=str(tmp_path / "z.npz"),
        model=str(shipped().folder),
    )

    found = predict(task)

    assert found == BaselineResult(
        num_samples=6,
        num_threads=torch.get_num_threads(),
        engine=f"torch {torch.__version__}",
        model_load_s=2.0,
        read_s=4.0,
        loop_s=8.0,
        profiled_s=0.5,
        peak_memory_bytes=7,
    )
    network = f"network of {shipped().weights.name}"
    assert asked == [(network, (6, 5, 32, 32), torch.float32, {"batch_size": 32, "profiled": True})]
    with np.load(tmp_path / "z.npz") as arrays:
        assert arrays["object_id"].tolist() == [0, 1, 2, 10, 11, 12]
        np.testing.assert_array_equal(arrays["z_phot"], [0, np.nan, 2, 3, np.nan, 5])


def test_a_process_is_timed_from_its_start_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[BaselineTask] = []

    def run(command: list[str], **settings: Any) -> Any:
        assert command[1:3] == ["-m", "scripts.benchmarks.comparison.baseline"]
        assert settings == {"cwd": REPOSITORY, "capture_output": True, "text": True, "check": False}
        task = msgspec.json.decode(command[3], type=BaselineTask)
        started.append(task)
        np.savez(task.predictions, object_id=np.arange(2), z_phot=np.array([0.1, 0.2], np.float32))
        return subprocess.CompletedProcess(command, 0, stdout=f"noise\n{msgspec.json.encode(RESULT).decode()}\n")

    clock = iter([10.0, 18.0])
    monkeypatch.setattr(measure.subprocess, "run", run)
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    monkeypatch.chdir(tmp_path)

    found = measure_process("plain loop", [Path("0.safetensors")], shipped(), batch_size=8, profile=True)

    assert found.method == of_process("plain loop", RESULT, wall_s=8.0)
    assert found.redshifts.object_id.tolist() == [0, 1]
    assert found.redshifts.z_phot == pytest.approx([0.1, 0.2])
    (task,) = started
    assert (task.files, task.batch_size, task.profile) == ((str(tmp_path / "0.safetensors"),), 8, True)
    assert task.model == str(shipped().folder.resolve())
    assert not Path(task.predictions).exists()


def test_a_process_that_failed_without_a_word_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        measure.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 9, stdout="", stderr="")
    )

    with pytest.raises(CommandError, match="The plain loop ended with status 9: it printed nothing"):
        measure_process("plain loop", [], shipped(), batch_size=8, profile=False)


def test_every_method_is_measured_once_and_the_comparison_is_left_with_every_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in ("run-a", "run-b")]
    for folder in folders:
        folder.mkdir()
    dataset = LocalDataset(tmp_path / "d", "datasets/d/")
    files = (tmp_path / "d" / "0.safetensors",)
    found = SimpleNamespace(folders=folders, dataset=dataset, files=files, model=shipped(), batch_size=8)
    asked: list[tuple[Any, ...]] = []

    def measure_process(name: str, files: Any, model: Any, *, batch_size: int, profile: bool) -> Measured:
        asked.append((name, files, model, batch_size, profile))
        return Measured(make_method(name=name), redshifts(0.1))

    monkeypatch.setattr(comparison, "find_runs", lambda variables, root, console: found)
    monkeypatch.setattr(comparison, "measure_process", measure_process)
    monkeypatch.setattr(
        comparison, "measure_run", lambda folder: Measured(make_run(run_id=folder.name), redshifts(0.1))
    )
    console = Console(file=io.StringIO())

    result, paths = comparison.compare(CompareVariables(), root=tmp_path, console=console)

    assert asked == [
        ("plain loop", files, shipped(), 8, False),
        ("plain loop, profiled", files, shipped(), 8, True),
    ]
    assert [(one.name, one.run_id) for one in result.methods] == [
        ("plain loop", ""),
        ("plain loop, profiled", ""),
        ("local AWS", "run-a"),
        ("local AWS", "run-b"),
    ]
    assert (result.dataset, result.batch_size) == ("datasets/d/", 8)
    assert paths == [folder / "comparison.json" for folder in folders]
    for path in paths:
        assert msgspec.json.decode(path.read_bytes(), type=comparison.Comparison) == result
        assert path.read_text().startswith('{\n  "dataset"')
    said = [line.rpartition(" (")[0] for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert said == ["baseline   plain loop", "baseline   plain loop, profiled"]


# ------------------------------------------------------------------------------------------------ the runs


@pytest.mark.parametrize("name", carried_out.OF_A_NEW_RUN)
def test_a_run_that_has_ended_takes_no_settings_of_a_new_one(name: str, tmp_path: Path) -> None:
    value = {"DATASET": "tiny", "ENGINE": "torch", "PRECISION": "fp32", "MODEL": "mine"}.get(name, "2")
    variables = read_variables(CompareVariables, {"RUN": "run-a", name: value})

    with pytest.raises(UsageError, match=f"RUN=run-a has ended: {name} is of a new run"):
        find_runs(variables, tmp_path, Console(quiet=True))


def test_a_run_that_has_ended_is_compared_on_what_it_read_with_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "models" / "mine")
    request = make_request(model="mine", data_prefix="datasets/tiny/1MB/", file_limit=1, batch_size=8)
    run = SimpleNamespace(path=tmp_path / "runs" / "run-a", summary=SimpleNamespace(request=request))
    monkeypatch.setattr(carried_out, "open_run", lambda name, where, root: {"run-a": run}[name])
    folder = tmp_path / "datasets" / "tiny" / "1MB"
    folder.mkdir(parents=True)
    for name in ("0.safetensors", "1.safetensors"):
        (folder / name).write_bytes(make_shard_bytes(1))
    (folder / "table.csv").write_text("object_id\n")

    found = find_runs(CompareVariables(run="run-a"), tmp_path, Console(quiet=True))

    assert (found.folders, found.dataset.folder) == ([run.path], folder)
    assert (found.file_limit, found.batch_size) == (1, 8)
    assert found.model.folder == model.folder
    assert found.files == [folder / "0.safetensors"]


@pytest.mark.parametrize("is_deployed", [False, True])
def test_new_runs_are_carried_out_on_aws_where_it_is_deployed_and_here_last(
    is_deployed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "datasets" / "tiny" / "1MB"
    folder.mkdir(parents=True)
    (folder / "0.safetensors").write_bytes(make_shard_bytes(1))
    done: list[tuple[Any, ...]] = []
    ids = iter(["run-a", "run-b"])
    aws = SimpleNamespace(within_account=lambda: "aws")

    def run_in(target: str, run_id: str, draft: Any, dataset: Any, folder: Path, console: Console) -> Ending:
        done.append((target, run_id, draft.request.world_size, dataset.folder, folder))
        assert (folder / "logs").is_dir()
        return Ending("SUCCEEDED")

    monkeypatch.setattr(carried_out, "make_run_id", lambda now: next(ids))
    monkeypatch.setattr(
        carried_out, "choose_target", lambda variables, terraform: ("aws" if is_deployed else "local", "")
    )
    monkeypatch.setattr(carried_out, "read_stack", lambda folder, outputs: (folder, outputs))
    monkeypatch.setattr(carried_out, "connect_aws", lambda stack: aws)
    monkeypatch.setattr(
        carried_out, "start_local", lambda logs, model: nullcontext(f"local with {logs.name} and {model.name}")
    )
    monkeypatch.setattr(carried_out, "run_in", run_in)

    found = find_runs(CompareVariables(dataset="tiny", world=3), tmp_path, Console(quiet=True))

    targets = ["aws"] * is_deployed + [f"local with logs and {shipped().folder.name}"]
    runs = [tmp_path / "runs" / name for name in ("run-a", "run-b")][: len(targets)]
    assert done == [(target, run.name, 3, folder, run) for target, run in zip(targets, runs, strict=True)]
    assert (found.folders, found.file_limit, found.batch_size) == (runs, None, 256)
    assert found.model.folder == shipped().folder


def test_a_new_run_that_fails_ends_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "datasets" / "tiny" / "1MB"
    folder.mkdir(parents=True)
    (folder / "0.safetensors").write_bytes(make_shard_bytes(1))
    monkeypatch.setattr(carried_out, "start_local", lambda logs, model: nullcontext("local"))
    monkeypatch.setattr(carried_out, "run_in", lambda *_: Ending("FAILED", "PlanError", "too many."))

    with pytest.raises(CommandError, match=r"^run-.* failed: PlanError: too many\. Its folder is .*runs/run-"):
        find_runs(CompareVariables(dataset="tiny"), tmp_path, Console(quiet=True))


def test_a_dataset_that_is_not_here_has_no_plain_loop() -> None:
    with pytest.raises(UsageError, match=r"s3://survey/d/ is not on this machine, where the plain loop reads"):
        carried_out._local(RemoteDataset("survey", "d/"))
