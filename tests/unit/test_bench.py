"""Benchmarks compare what was measured in the same round, and say so."""

import io
import json
import os
import re
import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load

from scripts import bench
from scripts.benchmarks import machine, pairs, parts
from scripts.benchmarks.machine import AVX2
from scripts.benchmarks.plot import BAR_COLORS, draw
from scripts.benchmarks.records import NoEngine, make_predictions, make_tasks, record_of
from scripts.benchmarks.show import read_earlier, show, show_changes
from scripts.command.errors import UsageError
from scripts.command.program import exit_status
from scripts.command.repository import REPOSITORY
from tests.factories import make_shard_bytes


class Clock:
    """Time that passes only in programs."""

    def __init__(self) -> None:
        self.cpu_s = self.wall_s = 0.0
        self.calls: list[str] = []

    def program(self, name: str, *seconds: float) -> Any:
        waiting = list(seconds)

        def run() -> None:
            self.calls.append(name)
            took_s = waiting.pop(0)
            self.cpu_s += took_s
            self.wall_s += 2 * took_s

        return run


def ratio(median: float, low: float = 0.0, high: float = 0.0) -> dict[str, float]:
    return {"median": median, "min": low, "max": high}


def test_programs_run_in_turn_after_a_first_time_that_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(pairs.time, "process_time", lambda: clock.cpu_s)
    monkeypatch.setattr(pairs.time, "perf_counter", lambda: clock.wall_s)
    programs = {"slow": clock.program("slow", 99, 4, 8, 20), "fast": clock.program("fast", 99, 1, 4, 4)}

    slow, fast = pairs.measure(programs, num_rows=16, reference="slow", rounds=3)

    assert clock.calls == ["slow", "fast"] * 4
    assert slow == {
        "program": "slow",
        "samples_per_cpu_s": 2.0,
        "samples_per_wall_s": 1.0,
        "cpu_ratio": ratio(1, 1, 1),
        "wall_ratio": ratio(1, 1, 1),
    }
    assert (fast["samples_per_cpu_s"], fast["samples_per_wall_s"]) == (4.0, 2.0)
    assert fast["cpu_ratio"] == fast["wall_ratio"] == ratio(4, 2, 5)


def line(program: str, seconds: float, peak_memory_mb: float, **more: Any) -> dict[str, Any]:
    return {"program": program, "cpu_s": seconds, "wall_s": 2 * seconds, "peak_memory_mb": peak_memory_mb, **more}


def test_rounds_become_medians_the_highest_memory_and_paired_ratios() -> None:
    rounds = [
        [line("ours", 1, 400, phases_s={"load": 0.5}), line("loop", 4, 900)],
        [line("ours", 3, 500, phases_s={"load": 0.1}), line("loop", 6, 800)],
        [line("ours", 2, 450, phases_s={"load": 0.3}), line("loop", 20, 700)],
    ]

    ours, loop = pairs.merge_rounds(rounds, reference="loop")

    assert (ours["cpu_s"], ours["wall_s"], ours["peak_memory_mb"], ours["rounds"]) == (2, 4, 500, 3)
    assert ours["cpu_ratio"] == ours["wall_ratio"] == ratio(4, 2, 10)
    assert ours["phases_s"] == {"load": 0.3}
    assert (loop["cpu_s"], loop["peak_memory_mb"], loop["cpu_ratio"]) == (6, 900, ratio(1, 1, 1))
    assert "cpu_ratio" not in pairs.merge_rounds(rounds, reference="other")[0]


def test_the_tasks_and_records_of_a_made_up_run_fit_each_other() -> None:
    tasks = make_tasks("bench", world_size=3, rank_rows=14)
    predictions = make_predictions(14, first_id=7)

    assert [(task.rank, task.rows[0].start_row, task.rows[0].stop_row) for task in tasks] == [
        (0, 0, 14),
        (1, 14, 28),
        (2, 28, 42),
    ]
    assert predictions.object_id.tolist() == list(range(7, 21))
    assert predictions.quality.tolist() == [1, *[0] * 6] * 2
    record = record_of(tasks[1], predictions)
    assert (record.rank, record.num_samples, record.accuracy.num_labelled) == (1, 14, 14)


def test_a_made_up_record_is_that_of_a_warm_first_attempt_with_a_scatter_of_a_hundredth() -> None:
    found, same, other = make_predictions(7_000), make_predictions(7_000, seed=0), make_predictions(7_000, seed=1)
    (task,) = make_tasks("bench", world_size=1, rank_rows=7_000)
    record = record_of(task, found)

    assert found.object_id.dtype == np.int64
    assert (found.object_id[0], int(found.quality.sum())) == (0, 1_000)
    assert np.array_equal(found.z_phot, same.z_phot)
    assert not np.array_equal(found.z_phot, other.z_phot)
    apart = found.z_phot - found.z_spec
    assert apart.mean() == pytest.approx(0, abs=1e-3)
    assert apart.std() == pytest.approx(0.01, rel=0.05)
    assert found.z_spec.min() == pytest.approx(0.01, abs=1e-3)
    assert found.z_spec.max() == pytest.approx(0.4, abs=1e-3)
    assert found.sigma == pytest.approx(found.z_phot / 10)
    assert (record.attempt, record.cold_start, record.clock.queue, record.clock.init) == (0, False, 0.0, 0.0)
    assert (record.function_memory_mb, record.peak_memory_bytes, record.num_threads) == (1769, 2**28, 1)
    assert (record.s3_num_requests, record.s3_total_time, record.s3_max_time) == (2, pytest.approx(0.4), 0.3)
    assert (record.ratio_95, record.batch_size, record.weights_sha256) == (2.0, 256, "0" * 64)
    assert record.total_process_memory_mb == 256.0
    with pytest.raises(NotImplementedError):
        NoEngine().predict(found.z_phot, found.z_phot)


# -------------------------------------------------------------------------------------------------------- the parts


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What programs are asked to measure, on a machine with two CPUs; they answer with one line."""
    calls: list[tuple[Any, ...]] = []

    def run_program(*arguments: Any) -> list[dict[str, str]]:
        calls.append(arguments)
        return [{"program": "p"}]

    monkeypatch.setattr(parts, "run_program", run_program)
    monkeypatch.setattr(parts.os, "cpu_count", lambda: 2)
    return calls


@pytest.mark.parametrize(
    ("quick", "expected"),
    [
        (True, [("native", 1, 32, 64, 2), ("native", 1, 512, 512, 2)]),
        (
            False,
            [
                *(("native", 1, 32, 128, 7), ("native", 1, 512, 512, 7)),
                *(("native", 2, 32, 128, 7), ("native", 2, 512, 512, 7)),
                *(("avx2", 1, 512, 512, 7), ("avx2", 2, 512, 512, 7)),
            ],
        ),
    ],
)
def test_engines_are_measured_in_every_setting(
    quick: bool, expected: list[tuple[Any, ...]], asked: list[tuple[Any, ...]]
) -> None:
    lines = parts.measure_engines(quick=quick)

    keys = ("num_threads", "batch_size", "num_rows", "rounds")
    settings = [(*(question[key] for key in keys), limits) for _, question, limits in asked]
    assert settings == [(*rest, AVX2 if instructions == "avx2" else {}) for instructions, *rest in expected]
    assert [line["instructions"] for line in lines] == [instructions for instructions, *_ in expected]


def test_the_state_machine_and_the_generator_are_measured_up_to_the_largest_published_run(
    asked: list[tuple[Any, ...]],
) -> None:
    for quick in (False, True):
        parts.measure_orchestration(quick=quick)
        parts.measure_data(quick=quick)

    whole = [10, 100, 1_000, 10_240]
    assert [question for _, question in asked] == [
        {"num_records": whole, "num_stored": whole, "num_ranks": [10, 100, 1_000]},
        {"num_rows": 5120},
        {"num_records": [10, 100, 1_000], "num_stored": [10, 100], "num_ranks": [30]},
        {"num_rows": 256},
    ]


def test_ranks_that_talk_are_measured_in_twos_fours_and_eights(asked: list[tuple[Any, ...]]) -> None:
    for quick in (False, True):
        parts.measure_collectives(quick=quick)

    assert [(question["num_ranks"], question["rounds"]) for _, question in asked] == [(2, 7), (4, 7), (8, 7), (2, 2)]


def test_a_machine_that_does_not_say_how_many_cpus_it_has_is_measured_with_one_thread(
    asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts.os, "cpu_count", lambda: None)

    parts.measure_engines(quick=False)

    assert {question["num_threads"] for _, question, _ in asked} == {1}


def test_threads_are_those_that_lambda_gives_and_the_machine_has() -> None:
    assert [parts.thread_counts(num_cpus) for num_cpus in (1, 2, 5, 64)] == [[1], [1, 2], [1, 2, 4], [1, 2, 4, 6]]


def test_a_part_is_a_program_of_its_own_whose_last_line_is_the_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {}

    def run(command: list[str], **settings: Any) -> Any:
        given.update(settings, command=command)
        return subprocess.CompletedProcess(command, 0, stdout='noise of a library\n{"program": "torch"}\n')

    monkeypatch.setattr(parts.subprocess, "run", run)

    answer = parts.run_program("rank", {"num_rows": 3}, {"AWS_REGION": "here"})
    capsys.readouterr()
    parts.run_program("rank", {"num_rows": 3, "key": "a.pt", "program": "torch"})
    assert capsys.readouterr().err == "measuring rank torch a.pt …\n"
    parts.run_program("rank", {"num_rows": 3}, {"AWS_REGION": "here"})

    assert answer == {"program": "torch"}
    assert given["command"][1:] == ["-m", "scripts.benchmarks.rank", '{"num_rows": 3}']
    assert given["env"] == {**os.environ, "AWS_REGION": "here"}
    assert given["check"]
    assert (given["cwd"], given["stdout"], given["text"]) == (REPOSITORY, subprocess.PIPE, True)


def test_every_part_is_measured_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("engines", "starts", "ranks", "orchestration", "data", "collectives")
    for name in names:
        monkeypatch.setattr(parts, f"measure_{name}", lambda quick, name=name: f"{name} {quick}")
    monkeypatch.setattr(parts, "describe_machine", lambda load: f"a machine under {load}")
    monkeypatch.setattr(parts.os, "getloadavg", lambda: (0.25, 1.0, 2.0))

    assert parts.measure_all(quick=True) == {
        "quick": True,
        "engines": "engines True",
        "starts": "starts True",
        "rank": "ranks True",
        "orchestration": "orchestration True",
        "generator": "data True",
        "collectives": "collectives True",
        "machine": "a machine under 0.25",
    }


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What fresh processes are asked to measure, where native and torch are present, and native in int8."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(parts, "present_engines", lambda: ["native", "torch"])
    monkeypatch.setattr(parts, "why_rejected", lambda model, precision: "")
    monkeypatch.setattr(parts, "run_fresh", lambda *asked: calls.append(asked) or asked[1]["program"])
    monkeypatch.setattr(parts, "merge_rounds", lambda rounds, reference: [{"rounds": rounds, "reference": reference}])
    return calls


@pytest.mark.parametrize(
    ("quick", "num_rounds", "programs"),
    [
        (True, 2, ["native", "load_model"]),
        (False, 7, ["initialize", "summarize", "infer", "native", "torch", "load_model"]),
    ],
)
def test_starts_are_of_stages_of_engines_and_of_a_program(
    quick: bool, num_rounds: int, programs: list[str], fresh: list[tuple[Any, ...]]
) -> None:
    assert parts.measure_starts(quick=quick) == [{"rounds": [programs] * num_rounds, "reference": "torch"}]
    assert fresh[0] == ("start", {"program": programs[0]})


@pytest.mark.parametrize(
    ("quick", "num_rounds", "sizes", "programs"),
    [
        (True, 1, [(5, 256)], ["reference", "native"]),
        (False, 3, [(25, 1278), (100, 5113)], ["reference", "torch", "native", "native int8"]),
    ],
)
def test_whole_ranks_are_measured_next_to_the_reference(
    quick: bool,
    num_rounds: int,
    sizes: list[tuple[int, int]],
    programs: list[str],
    fresh: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aws = SimpleNamespace(environment={"AWS_ENDPOINT_URL": "here"})
    monkeypatch.setattr(parts, "LocalAws", lambda log_dir, workers: nullcontext(aws))
    monkeypatch.setattr(parts, "upload_shards", lambda aws, folder, num_rows: (f"{num_rows}.ours", f"{num_rows}.pt"))

    lines = parts.measure_ranks(quick=quick)

    assert lines == [
        {"shard_mb": shard_mb, "rounds": [programs] * num_rounds, "reference": "reference loop"}
        for shard_mb, _ in sizes
    ]
    num_rows = sizes[0][1]
    expected = [
        {"program": name, "key": f"{num_rows}.{'pt' if name == 'reference' else 'ours'}", "num_rows": num_rows}
        for name in programs
    ]
    assert [asked for _, asked, _ in fresh[: len(programs)]] == [{**one, "num_threads": 1} for one in expected]
    assert {(part, environment["AWS_ENDPOINT_URL"]) for part, _, environment in fresh} == {("rank", "here")}
    monkeypatch.setattr(parts, "why_rejected", lambda model, precision: "its error is too large")
    fresh.clear()
    parts.measure_ranks(quick=quick)
    assert "native int8" not in {asked["program"] for _, asked, _ in fresh}


def test_engines_are_present_where_their_package_is_and_native_where_it_can_be_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "NAMES", ("native", "onnxruntime", "torch"))
    monkeypatch.setattr(parts, "find_spec", lambda name: name == "torch")
    found = []
    for can_prepare in (True, False):
        monkeypatch.setattr(parts, "can_prepare", lambda is_it=can_prepare: is_it)
        found.append(parts.present_engines())

    assert found == [["native", "torch"], ["torch"]]


def test_galaxies_are_repeated_in_a_shard_of_ours_and_in_a_pickled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = tmp_path / "sample"
    sample.mkdir()
    (sample / "0.safetensors").write_bytes(make_shard_bytes(3))
    (tmp_path / "work").mkdir()
    objects: dict[str, bytes] = {}
    made: list[str] = []
    s3 = SimpleNamespace(
        list_buckets=lambda: {"Buckets": [{"Name": name} for name in made]},
        create_bucket=lambda Bucket: made.append(Bucket),  # noqa: N803 -- boto3's name
        put_object=lambda Bucket, Key, Body: objects.update({Key: Body}),  # noqa: N803
    )
    monkeypatch.setattr("boto3.client", lambda name, **_: {"s3": s3}[name])
    monkeypatch.setattr("scripts.data.sample.ensure_sample", lambda: sample)
    aws: Any = SimpleNamespace(credentials={})

    for _ in range(2):
        assert parts.upload_shards(aws, tmp_path / "work", 7) == ("7.safetensors", "7.pt")

    ours = load(objects["7.safetensors"])
    theirs = torch.load(io.BytesIO(objects["7.pt"]), weights_only=True)
    assert made == ["bench"]
    assert ours["images"].shape == (7, 5, 32, 32)
    assert (ours["images"][3:6] == ours["images"][:3]).all()
    assert {name: array.numpy().tolist() for name, array in theirs.items()} == {
        name: array.tolist() for name, array in ours.items()
    }
    assert list((tmp_path / "work").iterdir()) == []


def test_a_fresh_process_is_told_when_it_was_started(
    asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts.time, "time", lambda: 100.0)

    assert parts.run_fresh("start", {"program": "torch"}, {"A": "b"}) == [{"program": "p"}]
    parts.run_fresh("start", {"program": "torch"})

    given = {"program": "torch", "started_at_s": 100.0}
    assert asked == [("start", given, {"A": "b"}), ("start", given, {})]


def test_a_machine_is_its_processor_its_instructions_its_libraries_and_its_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        machine, "processor_facts", lambda: {"model name": "Fast 9000", "flags": "fpu avx512f avx2 avx512_fp16"}
    )
    monkeypatch.setattr(machine, "find_spec", lambda name: name in ("numpy", "torch"))
    monkeypatch.setattr(machine.metadata, "version", lambda name: f"{name} 7")
    monkeypatch.setattr(machine.os, "environ", {"DNNL_MAX_CPU_ISA": "AVX2", "PATH": "/bin"})
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (1.5, 1.0, 0.5))

    found = machine.describe_machine(0.25)

    assert found.pop("python").startswith("3.")
    assert found == {
        "cpu": "Fast 9000",
        "num_cpus": 2,
        "instructions": ["avx2", "avx512f"],
        "isa_limits": {"DNNL_MAX_CPU_ISA": "AVX2"},
        "libraries": {"numpy": "numpy 7", "torch": "torch 7"},
        "load_before": 0.25,
        "load_after": 1.5,
    }
    monkeypatch.setattr(machine, "processor_facts", dict)
    assert machine.describe_machine(0.25)["instructions"] == []


# ------------------------------------------------------------------------------------------------------- the tables


def engine(program: str, median: float, instructions: str = "native") -> dict[str, Any]:
    return {
        "program": program,
        "num_threads": 1,
        "batch_size": 256,
        "instructions": instructions,
        "samples_per_cpu_s": 190.4,
        "cpu_ratio": ratio(median, 1.5, 2.5),
        "wall_ratio": ratio(1.75),
        "roofline_share": 0.5,
    }


def results(median: float, version: str) -> dict[str, Any]:
    rank = {"shard_mb": 10, "wall_s": 4.25, "cpu_s": 3.5, "peak_memory_mb": 431.0, "wall_ratio": ratio(2.25)}
    return {
        "engines": [
            engine("reference loop", 1.0),
            engine(f"onnxruntime {version}", median),
            engine(f"onnxruntime {version}", 1.25, "avx2"),
            engine(f"torch {version}", 1.125, "avx2"),
        ],
        "starts": [
            {"program": "import", "cpu_s": 0.75, "wall_s": 0.875, "peak_memory_mb": 99.6, "installed_mb": 120.4},
            {"program": "none", "cpu_s": 0.5, "wall_s": 0.5, "peak_memory_mb": 10.0, "installed_mb": 0},
        ],
        "rank": [
            {"program": "reference loop", **rank, "cpu_ratio": ratio(1.0)},
            {"program": f"torch {version}", **rank, "cpu_ratio": ratio(2 * median)},
        ],
        "orchestration": [{"program": "merge", "num_records": 10_240, "seconds": 1.5, "seconds_per_rank": 0.00175}],
        "generator": [{"program": "rows", "rows_per_cpu_s": 1234.0}],
        "collectives": [
            {"program": "gloo", "call": "barrier", "num_ranks": 8, "microseconds": 1234.5, "our_ratio": ratio(0.5)}
        ],
    }


def printed(show_in: Any, *arguments: Any) -> list[list[str]]:
    """Return the rows of the tables, as cells."""
    file = io.StringIO()
    show_in(*arguments, Console(file=file, width=80))
    lines = file.getvalue().replace("┃", "│").splitlines()
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]


def test_every_part_is_a_table() -> None:
    rows = printed(show, results(2.0, "1.31.1"))

    assert ["1", "256", "onnxruntime", "190", "2.00", "1.50-2.50", "1.75", "50%"] in rows
    assert ["1", "256", "onnxruntime*", "190", "1.25", "1.50-2.50", "1.75", "50%"] in rows
    assert ["1", "256", "torch", "190", "1.12", "1.50-2.50", "1.75", "50%"] in rows
    assert ["import", "0.75", "0.88", "100", "120"] in rows
    assert ["none", "0.50", "0.50", "10", ""] in rows
    assert ["10 MB", "torch", "4.2", "2.25", "3.5", "4.00", "431"] in rows
    assert ["merge", "10,240", "1.500", "1.75", ""] in rows
    assert ["rows", "1,234"] in rows
    assert ["8", "barrier", "gloo", "1,234", "0.50", "0.00-0.00"] in rows


def test_every_table_has_its_title_and_the_limited_one_a_note() -> None:
    file = io.StringIO()
    show(results(2.0, "1"), Console(file=file, width=80))
    show_changes(results(2.0, "1"), results(2.0, "1"), Console(file=file, width=80))

    text = file.getvalue()
    titles = (
        *("Engines, native instructions", "Engines, avx2 instructions", "Start of a fresh process"),
        *("A whole rank in a fresh process, 1 thread, local AWS", "Orchestration", "Data"),
        *("Ranks that talk, over loopback", "Ratio to the reference"),
    )
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    assert text.count("ratio, pairs: per CPU second") == 2
    assert places[1] < text.index("* chooses its instructions by the CPU alone") < places[2]
    assert text.count("* chooses") == 1
    assert text[: places[1]].count("onnxruntime") == 1


def test_the_plot_has_a_bar_for_every_program_and_every_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    from matplotlib import colors

    phases = {"start": 0.5, "model_load": 0.25, "download": 0.125, "inference": 2.0, "upload": 0.0625}
    measured = results(2.0, "1")
    measured["rank"] = [{**line, "phases_s": phases} for line in measured["rank"]]
    measured["machine"] = {"load_before": 0.25, "load_after": 1.0, "num_cpus": 2, "cpu": "Fast 9000"}
    figures: list[Any] = []
    close = pyplot.close
    monkeypatch.setattr(pyplot, "close", figures.append)

    draw(measured, tmp_path / "bench.png")

    speeds, ranks = figures[0].axes
    loop, ours = (next(iter(bars)) for bars in speeds.containers)
    assert (loop.get_height(), ours.get_height()) == (1.0, 2.0)
    assert (loop.get_x() + loop.get_width() / 2, ours.get_x() + ours.get_width() / 2) == pytest.approx((-0.2, 0.2))
    assert [label.get_text() for label in speeds.get_xticklabels()] == ["1 thread(s)\nbatch 256"]
    spans = [next(iter(bars)).get_bbox().intervalx.tolist() for bars in ranks.containers]
    assert spans == [[0, 0.5], [0.5, 0.75], [0.75, 0.875], [0.875, 2.875], [2.875, 2.9375]]
    assert speeds.get_ylabel() == "galaxies per CPU second, relative to the reference loop"
    assert speeds.get_title() == "Same work, same run, paired medians"
    assert [text.get_text() for text in speeds.get_legend().get_texts()] == ["reference loop", "onnxruntime 1"]
    assert {"1.00", "2.00"} <= {text.get_text() for text in speeds.texts}
    assert [bars.patches[0].get_facecolor() for bars in speeds.containers] == [
        colors.to_rgba(BAR_COLORS[name]) for name in ("reference loop", "onnxruntime")
    ]
    assert loop.get_width() == pytest.approx(0.4 * 0.92)
    assert ranks.yaxis_inverted()
    assert ranks.get_title() == "Start to predictions"
    assert ranks.get_xlabel() == "wall time of a whole rank in a fresh process [s]"
    assert [text.get_text() for text in ranks.get_legend().get_texts()] == [name.replace("_", " ") for name in phases]
    assert [label.get_text() for label in ranks.get_yticklabels()] == [
        f"{name}\n10 MB, peak 431 MB" for name in ("reference loop", "torch 1")
    ]
    assert figures[0].get_suptitle() == "AstroMAE on Fast 9000, load 0.2 to 1.0 on 2 CPUs"
    assert figures[0].get_layout_engine().__class__.__name__ == "ConstrainedLayoutEngine"
    assert not any(axes.get_legend().get_frame_on() for axes in figures[0].axes)
    assert speeds.margins()[1] == 0.25
    assert {text.get_fontsize() for axes in figures[0].axes for text in axes.get_legend().get_texts()} == {8}
    assert {text.get_fontsize() for text in speeds.texts} == {8}
    assert pyplot.imread(tmp_path / "bench.png").shape == (720, 1560, 4)
    close(figures[0])


def test_changes_are_those_of_ratios_whatever_the_version() -> None:
    earlier, now = results(2.0, "1.31.1"), results(2.5, "1.32.0")
    earlier["engines"].pop()

    _, *rows = printed(show_changes, earlier, now)

    assert rows == [
        ["onnxruntime, 1 thr, batch 256, native", "2.00", "2.50", "+25%"],
        ["onnxruntime, 1 thr, batch 256, avx2", "1.25", "1.25", "+0%"],
        ["torch, whole rank, 10 MB", "4.00", "5.00", "+25%"],
    ]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"engines": []}'], ids=["missing", "cut", "a list", "half"])
def test_a_file_that_is_no_result_is_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(UsageError, match=r"is not a result of `make bench`.*runs/bench/"):
        read_earlier(path)


def test_an_earlier_result_is_read(tmp_path: Path) -> None:
    (tmp_path / "base.json").write_text(json.dumps(results(2.0, "1")))

    assert read_earlier(tmp_path / "base.json") == results(2.0, "1")


@pytest.mark.parametrize("is_compared", [False, True])
def test_make_bench_saves_what_it_measured_and_shows_what_changed(
    is_compared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = {"engines": [], "rank": [], "quick": True}
    said: list[str] = []
    (tmp_path / "old.json").write_text('{"engines": 1, "rank": 2}')
    monkeypatch.setattr(bench, "REPOSITORY", tmp_path)
    monkeypatch.setattr(bench, "OUTPUT_DIR", tmp_path / "runs" / "bench")
    monkeypatch.setattr(bench, "measure_all", lambda *, quick: measured if quick else pytest.fail("asked for quick"))
    monkeypatch.setattr("scripts.benchmarks.plot.draw", lambda results, path: path.write_bytes(b"plot"))
    monkeypatch.setattr(bench, "show", lambda results, console: said.append("shown"))
    monkeypatch.setattr(bench, "show_changes", lambda before, after, console: said.append(f"{before['rank']} before"))
    base = {"BASE": str(tmp_path / "old.json")} if is_compared else {}
    if is_compared:  # with one that was there before
        bench.OUTPUT_DIR.mkdir(parents=True)

    assert exit_status(bench.main, {"QUICK": "1", **base}) == 0

    plot, result = sorted((tmp_path / "runs" / "bench").iterdir(), key=lambda path: path.suffix, reverse=True)
    assert re.fullmatch(r"\d{8}T\d{6}\.json", result.name)
    assert result.read_text() == f"{json.dumps(measured, indent=2)}\n"
    assert (plot.name, plot.read_bytes()) == (f"{result.stem}.png", b"plot")
    assert said == ["shown", "2 before"][: 1 + is_compared]
    assert capsys.readouterr().out == f"runs/bench/{result.name} and {plot.name}\n"


def test_make_bench_measures_nothing_where_what_it_shall_compare_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "measure_all", lambda **_: pytest.fail("it takes minutes"))

    assert exit_status(bench.main, {"BASE": str(tmp_path / "gone.json")}) == 2
