"""The programs of `make bench`, and those beside it, measure what they say: with work that takes no time."""

import io
import json
import os
import socket
import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from inference import contract
from inference.contract import RankRecord, RankTask
from inference.errors import EngineError, WeightsError
from scripts.benchmarks import (
    catalog,
    collectives,
    empty_functions,
    engines,
    generator,
    merging,
    orchestration,
    planning,
    rank,
    start,
)
from tests.factories import make_shard_bytes


class Clock:
    """A clock that every look moves on by as much."""

    def __init__(self, step_s: float) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


# ------------------------------------------------------------------------------------------ Initialize


def test_a_plan_of_many_ranks_has_a_shard_for_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    plan = planning.plan_tasks
    monkeypatch.setattr(
        planning, "plan_tasks", lambda *given, **more: asked.append((*given, more)) or plan(*given, **more)
    )
    monkeypatch.setattr(planning.time, "process_time", Clock(1.5))
    monkeypatch.setattr(planning.ManifestText, "prove", lambda self, num_samples: asked.append(num_samples))
    monkeypatch.setattr(planning.resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=204_800))

    planning.main(3)

    (request, shards, limits, more), num_proved = asked
    assert num_proved == 150_000
    assert (request.bucket, request.data_prefix, request.world_size) == ("bench", "datasets/large/", 3)
    assert request.result_path == "runs/bench/"
    assert (limits.memory_mb, limits.timeout_s, more) == (1769, 900, {"run_id": "run-bench"})
    assert [shard.key for shard in shards] == [f"datasets/large/{number}.safetensors" for number in range(3)]
    assert {(shard.num_rows, shard.size_bytes) for shard in shards} == {(50_000, 50_000 * 20_520)}
    assert [(shard.etag, shard.sha256) for shard in shards] == [(f"{n:032x}", f"{n:064x}") for n in range(3)]
    assert [shard.crc32 for shard in shards] == [bytes([number, 0, 0, 0]) * 100 for number in range(3)]
    said = capsys.readouterr().out
    assert said == (
        "3 ranks planned in 1.5 s of CPU, 0 MB of JSON; memory 200 MB before, with the list of shards, 200 MB at most\n"
    )


# ------------------------------------------------------------------------------------------ Summarize


def test_a_made_up_store_holds_what_the_ranks_of_a_run_would_have_left() -> None:
    manifest = io.BytesIO()

    store = merging.MadeUpStore(manifest, 3, 7)

    text = manifest.getvalue()
    tasks = msgspec.json.decode(text, type=list[RankTask])
    assert tasks == [store.task(rank) for rank in range(3)]
    assert [(task.rank, task.num_samples, task.world_size) for task in tasks] == [(rank, 7, 3) for rank in range(3)]
    assert bytes(store.read_range("", 2, 9)) == text[2:9]
    keys = [task.record_key for task in tasks]
    records = {key: msgspec.json.decode(one, type=RankRecord) for key, one in store.read_many(keys).items()}
    assert [records[task.record_key].rank for task in tasks] == [0, 1, 2]
    assert all(records[task.record_key].inputs == task.rows for task in tasks)
    assert all(records[task.record_key].predictions_key == task.predictions_key for task in tasks)
    assert [records[key].started_at_s for key in keys] == [1e9, 1e9 + 0.01, 1e9 + 0.02]
    ranks = store.list_folder("runs/run-bench/ranks/")
    assert [found.key for found in ranks.objects] == keys
    assert ranks.objects[0].size_bytes == pytest.approx(len(store.read_many(keys[:1])[keys[0]]), abs=20)  # its time
    predictions = store.list_folder("runs/run-bench/predictions/")
    assert [found.key for found in predictions.objects] == [task.predictions_key for task in tasks]
    bound = records[keys[0]].predictions
    assert bound is not None
    assert {(found.size_bytes, found.etag) for found in predictions.objects} == {(bound.size_bytes, bound.etag)}
    assert store.list_folder("runs/run-bench/failures/").objects == []
    assert store.read_at_most({"a": 1}) == {"a": None}


def test_a_made_up_run_is_merged_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(merging.time, "perf_counter", Clock(2.5))
    monkeypatch.setattr(merging.resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=204_800))

    merging.main(3, 7)

    said = capsys.readouterr().out
    assert said == (
        "3 records of 21 galaxies in 2.5 s; memory 200 MB before, 200 MB at most; combined_data.json 0 MB\n"
    )


def test_the_plan_of_a_made_up_run_is_that_of_its_tasks() -> None:
    task = merging.MadeUpStore(io.BytesIO(), 3, 7).task(0)

    plan = merging._plan(task, 21)

    assert (plan.run_id, plan.run_prefix, plan.num_samples) == (task.run_id, task.run_prefix, 21)
    assert plan.manifest_key == plan.items_key == f"{task.run_prefix}manifest.json"
    assert (plan.request.bucket, plan.request.world_size) == (task.bucket, 3)


def test_records_in_memory_are_merged_and_a_line_says_how_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestration.time, "perf_counter", Clock(3.0))

    assert orchestration.merge(3) == {
        "program": "merge in memory",
        "num_records": 3,
        "seconds": 3.0,
        "seconds_per_rank": 1.0,
    }


def test_the_run_that_is_summarized_has_a_record_for_every_task() -> None:
    plan, tasks, found = orchestration._run(3)

    records = {key: msgspec.json.decode(content, type=RankRecord) for key, content in found.items()}
    assert [(records[task.record_key].rank, records[task.record_key].num_samples) for task in tasks] == [
        (rank, 100) for rank in range(3)
    ]
    assert all(records[task.record_key].inputs == task.rows for task in tasks)
    assert all(records[task.record_key].predictions_key == task.predictions_key for task in tasks)
    assert (plan.run_id, plan.bucket, plan.run_prefix) == ("bench-3", "bench", "runs/bench-3/")
    assert plan.manifest_key == plan.items_key == "runs/bench-3/manifest.json"
    assert (plan.num_samples, plan.request.world_size) == (300, 3)
    listed = orchestration._listed(records)
    assert sorted(listed) == sorted(task.predictions_key for task in tasks)
    one = next(iter(records.values()))
    unbound = msgspec.structs.replace(one, predictions=None)
    assert orchestration._listed({"a": "damaged", "b": unbound}) == {}
    assert one.predictions is not None
    assert listed[one.predictions_key][:2] == (one.predictions.size_bytes, one.predictions.etag)


def test_the_handler_is_measured_with_everything_in_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    from handlers import settings, summarize

    written: dict[str, bytes] = {}
    made: list[str] = []
    handled: list[Any] = []
    store = SimpleNamespace(write=written.__setitem__)
    monkeypatch.setattr(settings, "object_store", lambda bucket: store)
    monkeypatch.setattr(orchestration, "_make_bucket", made.append)
    monkeypatch.setattr(summarize, "handler", lambda event, context: handled.append(dict(written) and event))
    monkeypatch.setattr(orchestration.time, "perf_counter", Clock(4.0))
    monkeypatch.setattr(orchestration.time, "process_time", Clock(0.5))

    line = orchestration.summarize(2)

    assert line == {
        "program": "Summarize, local S3",
        "num_records": 2,
        "seconds": 4.0,
        "seconds_per_rank": 2.0,
        "cpu_s": 0.5,
    }
    plan, tasks, found = orchestration._run(2)
    assert made == ["bench"]
    assert handled == [contract.to_builtins(plan)]
    assert sorted(written) == sorted([plan.manifest_key, *found, *(task.predictions_key for task in tasks)])
    assert written[plan.manifest_key] == contract.encode(tasks)
    with np.load(io.BytesIO(written[tasks[0].predictions_key])) as arrays:
        assert len(arrays["z_phot"]) == 100


def test_the_bucket_of_the_records_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    s3 = SimpleNamespace(create_bucket=lambda Bucket: made.append(Bucket))  # noqa: N803 -- boto3's name
    monkeypatch.setattr("boto3.client", lambda name: {"s3": s3}[name])

    orchestration._make_bucket("bench")

    assert made == ["bench"]


def test_everything_around_the_ranks_is_measured_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    merged: list[int] = []
    monkeypatch.setattr(orchestration, "merge", lambda count: merged.append(count) or ("merge", count))
    monkeypatch.setattr(orchestration, "map_empty_ranks", lambda counts: [("map", count) for count in counts])
    monkeypatch.setattr(orchestration, "summarize", lambda count: ("summarize", count, dict(os.environ)))
    aws = SimpleNamespace(environment={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    monkeypatch.setattr(orchestration, "LocalAws", lambda log_dir, workers: nullcontext(aws))
    monkeypatch.setattr(orchestration.os, "environ", {})

    lines: list[Any] = orchestration.main([10, 100], [20], [30, 40])

    assert merged == [2, 10, 100]
    here = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_LAMBDA_FUNCTION_NAME": "summarize"}
    assert lines == [("merge", 10), ("merge", 100), ("map", 30), ("map", 40), ("summarize", 20, here)]


class FakeStates:
    """S3 and Step Functions whose executions end after a look, with as many ranks as answer."""

    def __init__(self, *, lost: int = 0) -> None:
        self.lost = lost
        self.objects: dict[str, list[dict[str, Any]]] = {}
        self.started: list[dict[str, Any]] = []
        self.looks = 0

    def put_object(self, *, Bucket: str, Key: str, Body: str) -> None:  # noqa: N803 -- boto3's names
        assert Bucket == "local"
        self.objects[Key] = json.loads(Body)

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> dict[str, str]:  # noqa: A002, N803
        assert stateMachineArn == "machine"
        self.started.append({"name": name, **json.loads(input)})
        self.looks = 0
        return {"executionArn": name}

    def describe_execution(self, *, executionArn: str) -> dict[str, str]:  # noqa: N803
        assert executionArn == self.started[-1]["name"]
        self.looks += 1
        return {"status": "RUNNING" if self.looks == 1 else "SUCCEEDED"}

    def list_map_runs(self, *, executionArn: str) -> dict[str, Any]:  # noqa: N803
        return {"mapRuns": [{"mapRunArn": executionArn}]}

    def describe_map_run(self, *, mapRunArn: str) -> dict[str, Any]:  # noqa: N803
        return {"itemCounts": {"succeeded": len(self.objects[mapRunArn]) - self.lost}}


def map_empty_ranks(monkeypatch: pytest.MonkeyPatch, there: FakeStates) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    deployed: dict[str, Any] = {}
    aws = SimpleNamespace(workers=2, credentials={})
    deployment = SimpleNamespace(bucket="local", state_machine_arn="machine")
    monkeypatch.setattr(orchestration, "LocalAws", lambda log_dir: nullcontext(aws))
    monkeypatch.setattr(orchestration, "deploy", lambda aws, stages: deployed.update(stages) or deployment)
    monkeypatch.setattr("boto3.client", lambda name, **_: there)
    monkeypatch.setattr(orchestration.time, "sleep", lambda _: None)
    monkeypatch.setattr(orchestration.time, "perf_counter", Clock(6.0))
    return orchestration.map_empty_ranks([3, 6]), deployed


def test_empty_ranks_go_through_the_state_machine_after_a_first_time_that_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = FakeStates()

    lines, stages = map_empty_ranks(monkeypatch, there)

    assert [(line["num_records"], line["seconds"], line["seconds_per_rank"]) for line in lines] == [
        (3, 6.0, 2.0),
        (6, 6.0, 1.0),
    ]
    assert {line["program"] for line in lines} == {"state machine, empty ranks"}
    assert [(name, len(tasks)) for name, tasks in there.objects.items()] == [
        ("warm-up", 4),
        ("ranks-3", 3),
        ("ranks-6", 6),
    ]
    assert there.objects["ranks-3"][2] == {"rank": 2, "qualifier": "$LATEST", "deadline_s": 60}
    assert there.started[1] == {
        "name": "ranks-3",
        "bucket": "local",
        "items_key": "ranks-3",
        "run_prefix": "runs/ranks-3/",
        "max_concurrency": 2,
    }
    module = "scripts.benchmarks.empty_functions"
    assert {stage: settings["handler"] for stage, settings in stages.items()} == {
        "initialize": f"{module}.plan",
        "infer": f"{module}.nothing",
        "summarize": f"{module}.nothing",
    }


def test_a_map_whose_ranks_did_not_answer_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="SUCCEEDED: 3 of 4 ranks answered"):
        map_empty_ranks(monkeypatch, FakeStates(lost=1))


# ------------------------------------------------------------------------------------------ the catalog


def test_the_run_that_a_catalog_is_written_of_has_a_table_and_all_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "RANK_ROWS", 10)

    catalog.write_run(tmp_path, 30)

    folder = tmp_path / "runs" / "run-bench"
    tasks = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=list[RankTask])
    assert [(task.rank, task.num_samples) for task in tasks] == [(0, 10), (1, 10), (2, 10)]
    table = pq.read_table(tmp_path / "d" / "table.parquet")
    assert table.column_names == ["object_id", "ra_deg", "dec_deg", "mag_r"]
    assert table["object_id"].to_pylist() == [10**18 + number for number in range(30)]
    right_ascension = np.array(table["ra_deg"])
    assert (right_ascension[:10] != right_ascension[10:20]).all()
    for task in tasks:
        record = contract.decode((folder / f"ranks/{task.rank:05d}.json").read_bytes(), RankRecord)
        assert record.rank == task.rank
        with np.load(folder / f"predictions/{task.rank:05d}.npz") as arrays:
            rows = slice(10 * task.rank, 10 * task.rank + 10)
            assert arrays["object_id"].tolist() == table["object_id"].to_pylist()[rows]
            assert right_ascension[rows] == pytest.approx(300 * arrays["z_spec"])


@pytest.mark.parametrize("status", [0, 256])
def test_a_catalog_is_measured_in_a_process_of_its_own(
    status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[Any] = []

    class Process:
        def __init__(self, target: Any, args: tuple[Any, ...]) -> None:
            self.args = target, *args

        def start(self) -> None:
            done.append(self.args)

        def join(self) -> None:
            done.append("written")

    def popen(command: list[str], *, cwd: Path, env: dict[str, str]) -> Any:
        done.append((command[1:], cwd, env["RUN"], env["TARGET"], env["PATH"]))
        return SimpleNamespace(pid=7)

    usage = SimpleNamespace(ru_maxrss=204_800)
    monkeypatch.setattr(catalog.multiprocessing, "get_context", lambda how: SimpleNamespace(Process=Process))
    monkeypatch.setattr(catalog.subprocess, "Popen", popen)
    monkeypatch.setattr(catalog.os, "wait4", lambda pid, options: {(7, 0): (pid, status, usage)}[pid, options])
    monkeypatch.setattr(catalog.resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=51_200))
    monkeypatch.setattr(catalog.time, "monotonic", Clock(2.0))
    monkeypatch.setattr(catalog.sys, "argv", ["catalog", "3000"])

    if status:
        with pytest.raises(SystemExit, match="the catalog ended with status 1"):
            catalog.main()
    else:
        catalog.main()
        assert capsys.readouterr().out == "3,000 rows: 2.0 s, 1,500 rows/s, 200 MB (at least 50)\n"
    (write, root, num_rows), written, started = done
    assert (write, num_rows, written) == (catalog.write_run, 3000, "written")
    assert started == (["-m", "scripts.catalog"], root, "run-bench", "local", os.environ["PATH"])


# ------------------------------------------------------------------------------------------ data


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """The sample dataset, of three galaxies, and blocks of twenty."""
    (tmp_path / "0.safetensors").write_bytes(make_shard_bytes(3))
    monkeypatch.setattr(generator, "ensure_sample", lambda: tmp_path)
    monkeypatch.setattr(generator, "BLOCK_ROWS", 20)
    monkeypatch.setattr(generator, "file_sha256", lambda path: "0" * 64)
    return load_file(tmp_path / "0.safetensors")


def test_a_worker_cleans_a_clean_block_and_one_of_which_a_tenth_is_dirty(
    sample: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> Any:
        raise WeightsError("no calibration")

    cleaned: list[tuple[np.ndarray, np.ndarray]] = []
    monkeypatch.setattr(generator, "load_calibration", fail)
    monkeypatch.setattr(generator, "clean_cutouts", lambda images, magnitudes: cleaned.append((images, magnitudes)))
    monkeypatch.setattr(generator.time, "process_time", Clock(0.25))

    lines = generator.measure_worker(rounds=3)

    assert lines == [
        {"program": f"worker: a {kind} block cleaned", "num_rows": 60, "rows_per_cpu_s": 240.0}
        for kind in ("clean", "dirty")
    ]
    assert capsys.readouterr().err == "no calibration\n"
    assert len(cleaned) == 8  # the first time does not count
    (images, magnitudes), (dirty_images, dirty_magnitudes) = cleaned[0], cleaned[-1]
    assert images.shape == (20, 5, 32, 32)
    assert (images[:3] == sample["images"]).all()
    assert (magnitudes[:3] == sample["magnitudes"]).all()
    assert np.isfinite(images).all()
    assert np.flatnonzero(np.isnan(dirty_images).any(axis=(1, 2, 3))).tolist() == [0, 10]
    assert np.isnan(dirty_images[0]).sum() == 3
    assert np.argwhere(dirty_magnitudes == -9999.0).tolist() == [[5, 4], [15, 4]]
    assert (magnitudes > 0).all()


@pytest.mark.usefixtures("sample")
def test_a_worker_that_has_a_calibration_is_measured_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []
    calibration = SimpleNamespace(
        errors=SimpleNamespace(sigma=lambda magnitudes, z_phot: asked.append(("sigma", z_phot))),
        domain=SimpleNamespace(is_outside=lambda images, magnitudes: asked.append(("domain", images.shape))),
    )
    monkeypatch.setattr(generator, "load_calibration", lambda path, sha256: calibration)
    monkeypatch.setattr(generator, "clean_cutouts", lambda *_: None)

    lines = generator.measure_worker(rounds=1)

    assert [line["program"] for line in lines[2:]] == ["worker: sigma", "worker: out of domain"]
    assert [name for name, _ in asked] == ["sigma", "sigma", "domain", "domain"]
    assert asked[0][1].dtype == np.float32
    assert asked[0][1].tolist() == pytest.approx([0.1] * 20)
    assert asked[2][1] == (20, 5, 32, 32)


def test_galaxies_that_are_read_and_rendered_are_counted_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[tuple[int, int]] = []
    sources = SimpleNamespace(redshift=np.zeros(90), removed={"a": 6, "b": 4})
    plan = SimpleNamespace(galaxies=SimpleNamespace(rows=lambda start, stop: rendered.append((start, stop))))
    asked: dict[str, Any] = {}
    monkeypatch.setattr(generator, "load_sources", lambda: sources)
    monkeypatch.setattr(generator, "synthetic_plan", lambda folder, **more: asked.update(more) or plan)
    monkeypatch.setattr(generator, "measure_worker", lambda rounds: [{"rounds": rounds}])
    monkeypatch.setattr(generator.time, "process_time", Clock(0.5))

    found = [generator.main(num_rows) for num_rows in (2048, 64)]

    assert found[0] == [
        {"rounds": 4},
        {"program": "catalogue read and cleaned", "num_rows": 100, "rows_per_cpu_s": 200.0},
        {"program": "synthetic galaxies rendered", "num_rows": 2048, "rows_per_cpu_s": 4096.0},
    ]
    assert found[1][0] == {"rounds": 1}
    assert rendered == [(0, 2048), (0, 64)]
    assert asked == {"name": "bench", "num_rows": 64, "shard_mb": 10, "seed": 0}


# ------------------------------------------------------------------------------------------ starts


@pytest.mark.parametrize(
    ("program", "imported", "installed_mb"),
    [("summarize", ["handlers.summarize"], None), ("load_model", ["a program"], None), ("torch", ["torch"], 7.5)],
)
def test_a_start_is_timed_from_the_start_of_its_process(
    program: str, imported: list[str], installed_mb: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(start, "importlib", SimpleNamespace(import_module=done.append))
    monkeypatch.setattr(start, "_predict_in_a_program", lambda: done.append("a program"))
    monkeypatch.setattr(start, "_predict_first", done.append)
    monkeypatch.setattr(start, "installed_mb", lambda engine: 7.5)
    monkeypatch.setattr("handlers.invocation.peak_memory_bytes", lambda: 3 * 2**20)
    monkeypatch.setattr(start.time, "process_time", lambda: 1.25)
    monkeypatch.setattr(start.time, "time", lambda: 103.5)

    line = start.main(program, 100.0)

    assert done == imported
    assert line == {
        "program": program,
        "cpu_s": 1.25,
        "wall_s": 3.5,
        "peak_memory_mb": 3.0,
        "installed_mb": installed_mb,
    }


def test_what_an_engine_installs_are_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels.so").write_bytes(b"x" * 1_000_000)
    (tmp_path / "model.native").write_bytes(b"x" * 500_000)
    (tmp_path / "notes").write_bytes(b"x" * 99)
    monkeypatch.setattr("inference.engines.native.library.FOLDER", tmp_path)
    monkeypatch.setattr("inference.models.SHIPPED", tmp_path)
    files = [SimpleNamespace(locate=lambda name=name: tmp_path / name) for name in ("kernels.so", "gone")]
    monkeypatch.setattr("importlib.metadata.files", lambda name: files if name == "onnxruntime" else None)

    assert start.installed_mb("native") == 1.5
    assert start.installed_mb("onnxruntime") == 1.0
    assert start.installed_mb("openvino") == 0.0


def test_the_first_prediction_is_of_one_galaxy_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    imported: list[str] = []
    engine = SimpleNamespace(name="torch 2", note="")
    monkeypatch.setattr(start, "importlib", SimpleNamespace(import_module=imported.append))
    monkeypatch.setattr(
        "inference.engines.load", lambda name, weights, num_threads: asked.append((num_threads,)) or engine
    )
    monkeypatch.setattr(
        "inference.predict.predict_values", lambda engine, images, magnitudes: asked.append((images, magnitudes))
    )
    monkeypatch.setattr("inference.load_model", lambda: SimpleNamespace(predict=lambda *galaxy: asked.append(galaxy)))

    start._predict_first("torch")
    start._predict_in_a_program()

    (threads,), *galaxies = asked
    assert (threads, imported) == (1, ["handlers.infer"])
    for images, magnitudes in galaxies:
        assert (images.shape, images.dtype, images.any()) == ((1, 5, 32, 32), np.float32, False)
        assert magnitudes.tolist() == [[17.0] * 5]
    with pytest.raises(AssertionError):
        start._predict_first("native")


# ------------------------------------------------------------------------------------------ ranks that talk


class FakePopen:
    """Programs that print a line and end with a status."""

    started: list["FakePopen"] = []  # noqa: RUF012 -- emptied by the fixture
    printed = "noise\n[1, 2]\n"
    status = 0

    def __init__(self, command: list[str], **settings: Any) -> None:
        self.args, self.env, self.returncode = command, settings.get("env", {}), self.status
        self.stdout, self.is_terminated = io.StringIO("127.0.0.1:5 127.0.0.1:6\n"), False
        self.started.append(self)

    def __enter__(self) -> "FakePopen":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.is_terminated

    def terminate(self) -> None:
        self.is_terminated = True

    def communicate(self) -> tuple[str, None]:
        return self.printed, None


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[FakePopen]:
    monkeypatch.setattr(FakePopen, "started", [])
    monkeypatch.setattr(collectives.subprocess, "Popen", FakePopen)
    return FakePopen.started


ASKED = {"num_ranks": 3, "rounds": 2}


def test_ranks_that_talk_meet_at_a_server_of_their_own(
    started: list[FakePopen], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(collectives, "_start", lambda given: asked.append(given) or [{"call": "barrier"}])
    monkeypatch.setattr(collectives, "_free_port", lambda: 4711)

    assert collectives.main(3, 2) == [{"call": "barrier"}]

    (server,) = started
    assert server.args[1:] == ["-m", "handlers.rendezvous", "--port", "0", "--health-port", "0"]
    assert server.is_terminated
    assert asked == [{**ASKED, "rendezvous": "127.0.0.1:5", "gloo": "127.0.0.1:4711"}]


@pytest.mark.parametrize("mpiexec", [None, "/bin/mpiexec"])
def test_every_rank_is_a_process_with_its_number_and_the_first_one_answers(
    mpiexec: str | None, started: list[FakePopen], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(collectives, "_mpiexec", lambda: mpiexec)

    assert collectives._start(ASKED) == [1, 2]

    program = ["-m", "scripts.benchmarks.collectives", json.dumps(ASKED)]
    if mpiexec:
        assert [one.args[:3] for one in started] == [[mpiexec, "-n", "3"]]
        assert tuple(started[0].args[3:-4]) == collectives.MPI_OPTIONS
    else:
        assert [one.args[1:] for one in started] == [program] * 3
    assert [one.env["RANK"] for one in started] == [str(rank) for rank in range(1 if mpiexec else 3)]
    assert started[0].args[-3:] == program
    assert (started[0].env["OMP_NUM_THREADS"], started[0].env["GLOO_SOCKET_IFNAME"]) == ("1", "lo")
    assert started[0].env["PATH"] == os.environ["PATH"]
    assert ("skipped: OpenMPI" in capsys.readouterr().err) == (mpiexec is None)


@pytest.mark.usefixtures("started")
def test_a_rank_that_fails_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectives, "_mpiexec", lambda: None)
    monkeypatch.setattr(FakePopen, "status", 3)

    with pytest.raises(subprocess.CalledProcessError):
        collectives._start(ASKED)


def test_mpi_is_looked_for_next_to_python_and_on_the_path_where_its_package_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mpiexec").touch(mode=0o755)
    monkeypatch.setattr(collectives, "find_spec", lambda name: None)
    assert collectives._mpiexec() is None

    monkeypatch.setattr(collectives, "find_spec", lambda name: name == "mpi4py")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(collectives.sys, "executable", str(tmp_path / "none" / "python"))
    assert collectives._mpiexec() == str(tmp_path / "mpiexec")
    monkeypatch.setenv("PATH", "/nowhere")
    assert collectives._mpiexec() is None
    monkeypatch.setattr(collectives.sys, "executable", str(tmp_path / "python"))
    assert collectives._mpiexec() == str(tmp_path / "mpiexec")


class FakeComm:
    """Ranks that are there already."""

    def __init__(self, *meeting: Any) -> None:
        self.meeting = meeting
        self.calls: list[str] = []

    def __enter__(self) -> "FakeComm":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def Barrier(self) -> None:  # noqa: N802 -- MPI's name
        self.calls.append("barrier")

    def Allreduce(self, mine: np.ndarray, sums: np.ndarray) -> None:  # noqa: N802
        assert mine.shape == sums.shape
        self.calls.append(f"allreduce {mine.nbytes} B")


def test_a_call_is_timed_on_its_own_all_ranks_having_begun_together(monkeypatch: pytest.MonkeyPatch) -> None:
    comm, called = FakeComm(), list[int]()
    monkeypatch.setattr(collectives.time, "perf_counter", Clock(8.0))

    assert collectives._time(lambda: called.append(len(comm.calls)), 4, comm) == 2.0  # type: ignore[arg-type]
    assert called == [1] * 4


def test_every_library_has_a_barrier_and_a_small_and_a_large_sum() -> None:
    comm = FakeComm()

    for call in collectives._ours(comm).values():  # type: ignore[arg-type]
        call()

    assert comm.calls == ["barrier", "allreduce 8 B", f"allreduce {2**20} B"]
    assert list(collectives._ours(comm)) == ["barrier", "allreduce 8 B", "allreduce 1 MiB"]  # type: ignore[arg-type]
    assert all((mine == 1).all() for mine, _ in collectives._arrays())


@pytest.mark.parametrize("rank", [0, 1])
def test_libraries_take_turns_and_the_first_rank_says_how_long_they_took(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[Any] = []
    turns: list[tuple[str, int]] = []
    seconds = iter(range(1, 100))

    def timed(call: Any, num_calls: int, comm: Any) -> float:
        turns.append((call, num_calls))
        return float(next(seconds))

    def meet(*given: Any) -> FakeComm:
        met.append(given)
        return FakeComm()

    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setattr(collectives, "_mpiexec", lambda: None)
    monkeypatch.setattr(collectives, "NUM_CALLS", {"barrier": 5, "sum": 2})
    monkeypatch.setattr(collectives, "_gloo", lambda *given: met.append(given) or {"barrier": "gb", "sum": "gs"})
    monkeypatch.setattr(collectives, "_ours", lambda comm: {"barrier": "ob", "sum": "os"})
    monkeypatch.setattr(collectives, "_time", timed)
    monkeypatch.setattr(collectives, "Communicator", meet)

    found = collectives.be_rank(3, 3, "127.0.0.1:5", "127.0.0.1:6")

    assert turns == [("ob", 5), ("gb", 5), ("os", 2), ("gs", 2)] * 4
    gloo, (own_rank, num_ranks, config, name) = met
    assert gloo == (rank, 3, "127.0.0.1:6")
    assert (own_rank, num_ranks, config.host, config.port, name) == (rank, 3, "127.0.0.1", 5, "bench")
    if rank:
        assert found is None
        return
    assert found is not None
    assert [(line["program"], line["call"], line["num_ranks"]) for line in found] == [
        ("ours", "barrier", 3),
        ("gloo", "barrier", 3),
        ("ours", "sum", 3),
        ("gloo", "sum", 3),
    ]
    # After the first round, the calls took 5, 9, 13 s, then 6, 10, 14 s, and so on.
    assert [line["microseconds"] for line in found] == [9e6, 10e6, 11e6, 12e6]
    assert found[1]["our_ratio"] == {"median": 0.9, "min": 5 / 6, "max": 13 / 14}


def test_a_free_port_is_one_that_can_be_served() -> None:
    with socket.create_server(("127.0.0.1", collectives._free_port())) as server:
        assert server.getsockname()[1] >= 1024


def test_gloo_has_a_group_of_all_ranks_and_sums_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import distributed

    done: list[Any] = []
    monkeypatch.setattr(distributed, "init_process_group", lambda name, **more: done.append((name, more)))
    monkeypatch.setattr(distributed, "barrier", lambda: done.append("barrier"))
    monkeypatch.setattr(distributed, "all_reduce", lambda mine: done.append(mine.nbytes))

    for call in collectives._gloo(1, 3, "127.0.0.1:6").values():
        call()

    group = {"init_method": "tcp://127.0.0.1:6", "rank": 1, "world_size": 3}
    assert done == [("gloo", group), "barrier", 8, 2**20]


def test_functions_that_do_nothing_hand_on_what_the_state_machine_needs() -> None:
    event = {"request": {"bucket": "b", "items_key": "k"}, "run_id": "a"}

    assert empty_functions.plan(event, None) == {"bucket": "b", "items_key": "k", "seen": event}


# ------------------------------------------------------------------------------------------ engines


def test_every_rate_is_a_share_of_what_a_product_of_matrices_is_worth() -> None:
    def line(rate: float) -> dict[str, Any]:
        ratios = {"median": rate, "min": rate, "max": rate}
        return {
            "samples_per_cpu_s": rate,
            "samples_per_wall_s": rate,
            "cpu_ratio": dict(ratios),
            "wall_ratio": dict(ratios),
        }

    # Three products of 1,536² matrices are the work of some hundred galaxies; here they count as ten.
    worth = 2 * 1536**3 * 3 / 221.5e6 / 10
    lines = [line(2.0), line(4.0)]

    engines._add_rooflines(lines, 10)

    assert lines[0]["roofline_share"] == pytest.approx(2.0 / (4.0 * worth))
    assert lines[1]["roofline_share"] == 1.0
    assert lines[1]["samples_per_cpu_s"] == lines[1]["samples_per_wall_s"] == pytest.approx(4.0 * worth)
    assert (
        lines[1]["cpu_ratio"]
        == lines[1]["wall_ratio"]
        == dict.fromkeys(("median", "min", "max"), pytest.approx(4.0 * worth))
    )
    assert (lines[0]["samples_per_cpu_s"], lines[0]["cpu_ratio"]["median"]) == (2.0, 2.0)


def test_the_peak_is_that_of_three_products_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    given: list[tuple[Any, bool]] = []
    monkeypatch.setattr(engines, "GEMM_LAYER", lambda rows: given.append((rows, torch.is_grad_enabled())))

    engines._gemm()

    assert given == [(engines.GEMM_ROWS, False)] * 3
    assert engines.GEMM_ROWS.shape == (1536, 1536)


@pytest.mark.parametrize("is_limited", [False, True])
def test_engines_that_are_present_are_measured_and_int8_where_it_is_accurate(
    is_limited: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(name: str, weights: Path, *, num_threads: int, precision: str = "fp32") -> Any:
        assert num_threads == 3
        if precision == "int8" and name == "onnxruntime":
            raise EngineError("onnxruntime in int8 is not accurate enough.")
        # What is not installed is another one in its place, with a note.
        return SimpleNamespace(name="fallback 2.1" if name == "openvino" else f"{name} 2.1", precision=precision)

    def native(weights: Path, sha256: str, *, num_threads: int, instructions: str) -> Any:
        return SimpleNamespace(name=f"native 2.1 {instructions}", precision=f"{num_threads} threads")

    monkeypatch.setattr(engines.engines, "load", load)
    monkeypatch.setattr(engines.engines, "NAMES", ("native", "onnxruntime", "openvino", "torch"))
    monkeypatch.setattr(engines, "NativeEngine", native)
    monkeypatch.setattr(engines, "file_sha256", lambda path: "0" * 64)
    monkeypatch.setattr(engines.os, "environ", {"ONEDNN_MAX_CPU_ISA": "AVX2"} if is_limited else {})

    present = engines.load_engines(3)

    own = "native 2.1 avx2" if is_limited else "native 2.1"
    assert {name: engine.precision for name, engine in present.items()} == {
        own: "3 threads" if is_limited else "fp32",
        "onnxruntime 2.1": "fp32",
        "torch 2.1": "fp32",
        "native int8 2.1": "int8",
    }
    assert capsys.readouterr().err == "onnxruntime in int8 is not accurate enough.\n"


def test_engines_take_turns_with_the_reference_loop_and_are_compared_with_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    (tmp_path / "0.safetensors").write_bytes(make_shard_bytes(3))
    predicted: list[tuple[Any, tuple[int, ...]]] = []
    looped: list[tuple[Any, ...]] = []
    asked: dict[str, Any] = {}

    def network(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        assert (images.shape, magnitudes.shape) == ((64, 5, 32, 32), (64, 5))
        return torch.arange(float(len(images)))

    def measure(programs: Any, **more: Any) -> list[dict[str, Any]]:
        asked.update(more)
        for program in programs.values():
            program()
        return [{"program": name} for name in programs]

    def predict_values(engine: Any, images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
        predicted.append((engine, images.shape))
        assert magnitudes.shape == (len(images), 5)
        return np.arange(float(len(images))) + 0.25

    monkeypatch.setattr(engines, "ensure_sample", lambda: tmp_path)
    monkeypatch.setattr(engines, "load_astromae", lambda weights: network)
    monkeypatch.setattr(engines, "load_engines", lambda num_threads: {"torch 2": f"with {num_threads} threads"})
    monkeypatch.setattr(
        engines.reference_loop,
        "predict",
        lambda model, images, magnitudes, **more: looped.append((images.shape, magnitudes.dtype, more)),
    )
    monkeypatch.setattr(engines, "predict_values", predict_values)
    monkeypatch.setattr(engines, "measure", measure)
    monkeypatch.setattr(engines, "_gemm", lambda: None)
    monkeypatch.setattr(engines, "_add_rooflines", lambda lines, num_rows: lines[0].update(rooflines=num_rows))
    monkeypatch.setattr(engines.torch, "set_num_threads", lambda num: asked.update(num_threads=num))

    lines = engines.main(num_threads=2, batch_size=32, num_rows=100, rounds=7)

    setting = {"num_threads": 2, "batch_size": 32}
    assert lines == [
        {**setting, "program": "reference loop", "rooflines": 100},
        {**setting, "program": "torch 2", "max_abs_difference": 0.25},
        {**setting, "program": "fp32 GEMM"},
    ]
    assert asked == {"num_threads": 2, "num_rows": 100, "reference": "reference loop", "rounds": 7}
    assert looped == [((100, 5, 32, 32), torch.float32, {"batch_size": 32})]
    assert predicted == [("with 2 threads", (100, 5, 32, 32)), ("with 2 threads", (64, 5, 32, 32))]


# ------------------------------------------------------------------------------------------ a whole rank


def test_a_rank_is_measured_from_the_start_of_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    phases = {"start": 102.0, "inference": 1.0}
    monkeypatch.setattr(rank, "by_engine", lambda *given: asked.append(given) or ("torch 2", dict(phases)))
    monkeypatch.setattr(rank, "by_reference", lambda *given: asked.append(given) or ("loop", dict(phases)))
    monkeypatch.setattr("handlers.invocation.peak_memory_bytes", lambda: 3 * 2**20)
    monkeypatch.setattr(rank.time, "time", lambda: 105.0)
    monkeypatch.setattr(rank.time, "process_time", lambda: 2.5)

    ours = rank.main("torch", "a.safetensors", 7, 2, 100.0)
    theirs = rank.main("reference", "a.pt", 7, 2, 100.0)

    assert asked == [("torch", "a.safetensors", 7, 2), ("a.pt", 2)]
    took = {"phases_s": {"start": 2.0, "inference": 1.0}, "wall_s": 5.0, "cpu_s": 2.5, "peak_memory_mb": 3.0}
    assert (ours, theirs) == ({"program": "torch 2", **took}, {"program": "loop", **took})


@pytest.mark.parametrize(
    ("program", "precision", "title", "is_calibrated"),
    [("native", "fp32", "native 2.1", True), ("native int8", "int8", "native int8 2.1", False)],
)
def test_a_rank_predicts_a_shard_as_infer_does(
    program: str, precision: str, title: str, is_calibrated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[Any, ...]] = []
    engine = SimpleNamespace(name="native 2.1", weights_sha256="0" * 64)
    outcome = SimpleNamespace(predictions=SimpleNamespace(to_npz=lambda: b"npz"))

    def load_calibration(path: Path, sha256: str) -> str:
        if not is_calibrated:
            raise WeightsError("none")
        return f"calibration of {sha256[:2]}"

    def infer_rank(task: RankTask, store: Any, engine: Any, clock: Any, card: Any, calibration: Any) -> Any:
        (rows,) = task.rows
        done.append((rows.key, rows.start_row, rows.stop_row, task.num_samples, engine, card.name, calibration))
        return outcome

    monkeypatch.setattr("inference.engines.load", lambda *given, **more: done.append((given[0], more)) or engine)
    monkeypatch.setattr("inference.calibration.load_calibration", load_calibration)
    monkeypatch.setattr("inference.pipeline.infer_rank", infer_rank)
    monkeypatch.setattr(
        "handlers.storage.ObjectStore",
        lambda bucket: SimpleNamespace(write=lambda key, content: done.append((bucket, key, content))),
    )
    monkeypatch.setattr(rank.time, "time", lambda: 50.0)

    name, phases = rank.by_engine(program, "7.safetensors", 7, 2)

    assert name == title
    assert list(phases) == ["start", "model_load", "download", "inference", "upload"]
    assert phases["start"] == 50.0
    loaded, inferred, written = done
    assert loaded == ("native", {"num_threads": 2, "precision": precision})
    assert inferred[:5] == ("7.safetensors", 0, 7, 7, engine)
    assert inferred[5:] == ("astromae", "calibration of 00" if is_calibrated else None)
    assert written == ("bench", "runs/bench/predictions/00000.npz", b"npz")


def test_the_reference_downloads_a_shard_whole_and_writes_what_it_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    pickled = io.BytesIO()
    torch.save({"images": torch.zeros(2, 1), "magnitudes": torch.ones(2, 1, dtype=torch.float64)}, pickled)
    written: dict[str, Any] = {}
    asked: list[Any] = []
    s3 = SimpleNamespace(
        get_object=lambda Bucket, Key: {"Body": io.BytesIO({("bench", "2.pt"): pickled.getvalue()}[Bucket, Key])},  # noqa: N803
        put_object=lambda **given: written.update(given),
    )

    def predict(model: Any, images: Any, magnitudes: Any, *, batch_size: int) -> Any:
        asked.append((model, len(images), magnitudes.dtype, batch_size))
        return torch.tensor([0.25, 0.5]), 1.5

    monkeypatch.setattr("boto3.client", lambda name: {"s3": s3}[name])
    monkeypatch.setattr("inference.model.weights.load_astromae", lambda weights: "network")
    monkeypatch.setattr("scripts.benchmarks.reference_loop.predict", predict)
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    monkeypatch.setattr(rank.time, "time", Clock(2.0))

    name, phases = rank.by_reference("2.pt", 3)

    assert name == "reference loop"
    assert phases == {"start": 2.0, "model_load": 2.0, "download": 2.0, "inference": 2.0, "upload": 2.0}
    assert asked == [3, ("network", 2, torch.float32, 512)]
    assert (written["Bucket"], written["Key"]) == ("bench", "runs/reference/0.json")
    assert json.loads(written["Body"]) == {"total_cpu_time (seconds)": 1.5, "redshifts": [0.25, 0.5]}
