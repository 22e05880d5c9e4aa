"""What a sweep finds out before it starts: its datasets, what it may cost, and which folder it continues."""

import io
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

from inference import contract
from inference.contract import DatasetCard, ShardEntry
from scripts import sweep
from scripts.command.errors import UsageError
from scripts.command.variables import read_variables
from scripts.data import writer
from scripts.data.location import UNFINISHED
from scripts.deployment.stages import read_stages
from scripts.forecasts import system
from scripts.forecasts.system import DEFAULT_CONCURRENCY
from scripts.pricing.cost import Rates
from scripts.pricing.what_if import Range
from scripts.sweeps import estimate
from scripts.sweeps.backend import LocalBackend
from scripts.sweeps.data import Key, cut_missing, find_datasets
from scripts.sweeps.estimate import SweepForecast, forecast_sweep, refuse_above
from scripts.sweeps.journal import held
from scripts.sweeps.lists import read_plan
from scripts.sweeps.plan import SweepPlan
from tests.factories import make_shard_bytes
from tests.unit.test_run_present import make_summary

SILENT = Console(file=io.StringIO())
ROWS = 30


def make_dataset(root: Path, partition: str = "10MB", *, num_shards: int = 3, card: bool = True) -> Path:
    folder = root / "datasets" / "tiny" / partition
    folder.mkdir(parents=True)
    content = make_shard_bytes(ROWS, images=np.ones((ROWS, 5, 32, 32), np.float32))
    names = [f"{number}.safetensors" for number in range(num_shards)]
    for name in names:
        (folder / name).write_bytes(content)
    if card:
        shards = tuple(ShardEntry(name=name, num_rows=ROWS, size_bytes=len(content), sha256="0" * 64) for name in names)
        described = DatasetCard(
            name="tiny",
            partition=partition,
            num_rows=ROWS * num_shards,
            shards=shards,
            arrays={},
            seed=0,
            provenance="a test",
        )
        (folder / contract.DATASET_KEY).write_bytes(contract.encode(described))
    return folder


def folders(found: dict[Key, Any], root: Path) -> dict[Key, str]:
    return {key: one.folder.resolve().relative_to(root.resolve()).as_posix() for key, one in found.items()}


# ---------------------------------------------------------------------------------------------- datasets


def test_a_partition_that_is_not_there_is_found_and_then_cut_from_one_that_is(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    plan = SweepPlan(data=("tiny",), shard_mb=(1, 10))

    found = find_datasets(plan, tmp_path, ())
    before = (tmp_path / "datasets/tiny/1MB").exists()
    cut_missing(found, tmp_path, SILENT)

    assert folders(found, tmp_path) == {("tiny", 1): "datasets/tiny/1MB", ("tiny", 10): "datasets/tiny/10MB"}
    assert not before
    card = contract.decode((tmp_path / "datasets/tiny/1MB/dataset.json").read_bytes(), DatasetCard)
    assert (card.num_rows, found["tiny", 1].prefix) == (3 * ROWS, "datasets/tiny/1MB/")
    assert not (tmp_path / "datasets/tiny/1MB" / UNFINISHED).exists()


def test_a_partition_whose_cutting_was_killed_is_cut_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset(tmp_path)
    found = find_datasets(SweepPlan(data=("tiny",), shard_mb=(1,)), tmp_path, ())

    def killed(*_: Any, **__: Any) -> None:
        (tmp_path / "datasets/tiny/1MB/0.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            cut_missing(found, tmp_path, SILENT)
    cut_missing(found, tmp_path, SILENT)

    card = contract.decode((tmp_path / "datasets/tiny/1MB/dataset.json").read_bytes(), DatasetCard)
    assert card.num_rows == 3 * ROWS


def test_a_partition_that_is_there_is_not_cut_again(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    other = make_dataset(tmp_path, "1MB", num_shards=1)
    before = {path.name: path.stat().st_mtime_ns for path in other.iterdir()}

    cut_missing(find_datasets(SweepPlan(data=("tiny",), shard_mb=(1,)), tmp_path, ()), tmp_path, SILENT)

    assert {path.name: path.stat().st_mtime_ns for path in other.iterdir()} == before


def test_a_dataset_that_is_not_there_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^DATA=nothing"):
        find_datasets(SweepPlan(data=("nothing",)), tmp_path, ())


def test_a_dataset_in_s3_is_never_cut(tmp_path: Path) -> None:
    plan = SweepPlan(data=("s3://mine/sdss",), shard_mb=(10,))

    with pytest.raises(UsageError, match="DATA=s3://mine/sdss is in S3: SHARD_MB cuts datasets of this machine only"):
        find_datasets(plan, tmp_path, ("mine",))
    assert find_datasets(msgspec.structs.replace(plan, shard_mb=()), tmp_path, ("mine",))


def test_a_partition_is_cut_from_the_first_whole_one_and_said_to_be(tmp_path: Path) -> None:
    make_dataset(tmp_path, "5MB", num_shards=1)
    (tmp_path / "datasets/tiny/5MB" / UNFINISHED).touch()
    make_dataset(tmp_path)
    (tmp_path / "datasets/tiny/2MB").mkdir()
    console = Console(file=io.StringIO(), width=200)

    cut_missing(find_datasets(SweepPlan(data=("tiny",), shard_mb=(1,)), tmp_path, ()), tmp_path, console)

    said = console.file.getvalue()
    assert re.search(r"^cut +.*datasets/tiny/1MB: 90 galaxies in 2 shards \(", said, re.MULTILINE)


def test_a_dataset_is_read_as_it_is_where_no_size_of_shards_is_asked_for(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    make_dataset(tmp_path, "1MB", num_shards=1)

    found = find_datasets(SweepPlan(data=("tiny/1MB", "tiny/10MB"), world=(1, 2)), tmp_path, ())

    assert folders(found, tmp_path) == {
        ("tiny/1MB", None): "datasets/tiny/1MB",
        ("tiny/10MB", None): "datasets/tiny/10MB",
    }


# --------------------------------------------------------------------------------------------- estimates


def test_a_run_is_forecast_as_it_would_be_on_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset(tmp_path)
    asked: list[Any] = []
    forecast_one = estimate.forecast

    def note(setting: Any, *rest: Any, **named: Any) -> Any:
        asked.append(setting)
        return forecast_one(setting, *rest, **named)

    monkeypatch.setattr(estimate, "forecast", note)
    forecast(tmp_path, SweepPlan(data=("tiny",), files=(2,), memory=(3538,), precision=("int8",), repeat=3))
    plan = SweepPlan(data=("tiny",), world=(7,), engine=("native",), profile=(True,))
    arm64 = Rates(memory_mb=dict.fromkeys(read_stages(), 1769), architecture="arm64", child_type="EXPRESS")
    aws: Any = SimpleNamespace(name="aws", region="us-east-1", max_concurrency=50, rates=lambda _: arm64)
    paid = forecast_sweep(list(plan.runs()), aws, find_datasets(plan, tmp_path, ()), root=tmp_path)

    expected = system.Setting(
        num_rows=2 * ROWS,
        num_shards=2,
        world_size=2,
        memory_mb=3538,
        architecture="x86_64",
        child_type="STANDARD",
        max_concurrency=DEFAULT_CONCURRENCY,
        engine="auto",
        precision="int8",
    )
    profiled = {"num_rows": 3 * ROWS, "num_shards": 3, "world_size": 7, "engine": "torch", "precision": "fp32"}
    there = {"memory_mb": 1769, "architecture": "arm64", "child_type": "EXPRESS", "max_concurrency": 50}
    assert asked == [expected, replace(expected, **profiled, **there)]
    assert paid is not None
    assert paid.is_paid


def forecast(root: Path, plan: SweepPlan) -> SweepForecast | None:
    datasets = find_datasets(plan, root, ())
    return forecast_sweep(list(plan.runs()), LocalBackend(root / "logs", plan.memory), datasets, root=root)


def test_the_cost_of_a_sweep_is_that_of_its_runs(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    one = forecast(tmp_path, SweepPlan(data=("tiny",), world=(2,)))
    three = forecast(tmp_path, SweepPlan(data=("tiny",), world=(2,), repeat=3))

    assert 0 < one.usd.low < one.usd.expected < one.usd.high
    assert three.usd == pytest.approx(tuple(3 * value for value in one.usd))
    assert one.words.startswith(f"nothing here; on AWS about {one.usd.expected:.4f} USD (90 %: {one.usd.low:.4f} to ")
    assert SweepForecast(one.usd, True, "x").words.startswith("about ")


def test_runs_on_aws_that_were_slow_make_a_sweep_there_dearer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset(tmp_path)
    plan = SweepPlan(data=("tiny",), world=(2,))
    at_first = forecast(tmp_path, plan)
    slow = msgspec.structs.replace(make_summary(num_samples=100, rank_seconds=4000.0), function_memory_mb=1769)
    monkeypatch.setattr(estimate, "earlier_runs", lambda root, target, *_: [slow] * 3 if target == "aws" else [])

    assert forecast(tmp_path, plan).usd.expected > 1.5 * at_first.usd.expected


def test_more_memory_more_ranks_and_more_shards_cost_more(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    small = forecast(tmp_path, SweepPlan(data=("tiny",), world=(1,), files=(1,)))

    for changes in ({"memory": (8000,)}, {"world": (30,)}, {"files": (3,)}):
        plan = SweepPlan(**{"data": ("tiny",), "world": (1,), "files": (1,), **changes})
        assert forecast(tmp_path, plan).usd.expected > small.usd.expected, changes


def test_a_partition_that_is_not_cut_yet_costs_what_its_galaxies_do_and_one_without_a_card_is_unknown(
    tmp_path: Path,
) -> None:
    make_dataset(tmp_path)

    assert forecast(tmp_path, SweepPlan(data=("tiny",), shard_mb=(1,), world=(2,))) == forecast(
        tmp_path, SweepPlan(data=("tiny",), world=(2,))
    )
    make_dataset(tmp_path, "1MB", card=False)
    assert forecast(tmp_path, SweepPlan(data=("tiny",), shard_mb=(1,), world=(2,))) is None


def test_a_budget_is_held_against_the_upper_end_of_the_estimate() -> None:
    found = SweepForecast(Range(1.0, 2.0, 3.0), True, "a test")

    refuse_above(None, None)
    refuse_above(3.0, found)
    with pytest.raises(UsageError, match=r"BUDGET=2\.5: the sweep may cost 3\.0000 USD at list prices"):
        refuse_above(2.5, found)
    with pytest.raises(UsageError, match=r"BUDGET=2\.5: what the sweep costs cannot be estimated"):
        refuse_above(2.5, None)


# ----------------------------------------------------------------------------------------- which sweep it is


def test_lists_make_a_sweep_and_a_name_alone_goes_on_with_one(tmp_path: Path) -> None:
    made = sweep.find_sweep({"WORLD": "1,2", "DATASET": "tiny", "TARGET": "local"}, tmp_path)
    plan = read_plan({"WORLD": "1,2", "DATA": "tiny", "TARGET": "local"})
    with held(tmp_path / "sweeps" / "mine", plan):
        pass

    assert (made.plan, made.folder) == (plan, tmp_path / "sweeps" / f"sweep-{plan.fingerprint}")
    assert sweep.find_sweep({"NAME": "mine"}, tmp_path).plan == plan


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"RESULT": "a"}, "RESULT is of one run: a sweep has many. `make run RESULT=a` takes it."),
        ({"DATA": "a", "DATASET": "b"}, "DATA and DATASET mean the same here"),
        ({"NAME": "../up"}, "NAME=../up is not valid"),
    ],
)
def test_what_no_sweep_can_mean_is_refused(given: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        sweep.find_sweep(read_variables(sweep.SweepVariables, given).given, tmp_path)


def test_nothing_starts_without_a_yes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(text: str, *, is_terminal: bool = True) -> None:
        stdin = SimpleNamespace(isatty=lambda: is_terminal, readline=lambda: text)
        monkeypatch.setattr(sweep.sys, "stdin", stdin)
        sweep._confirm(4, yes=False)

    answer("Yes\n")
    assert "Carry out 4 runs?" in capsys.readouterr().err
    with pytest.raises(UsageError, match="Nothing was started"):
        answer("no\n")
    with pytest.raises(UsageError, match="YES=1 answers yes beforehand"):
        answer("yes\n", is_terminal=False)
    sweep._confirm(4, yes=True)
