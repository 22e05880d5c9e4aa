"""A dataset without images is served by the model that reads none, whichever command is given it."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from inference.contract import DatasetCard, ShardEntry, encode
from inference.models import MAGNITUDES, without_images
from inference.plan import Limits
from scripts import sweep
from scripts.benchmarks.comparison.runs import CompareVariables, find_runs
from scripts.command.errors import UsageError
from scripts.command.variables import read_variables
from scripts.forecast import ForecastVariables, main
from scripts.forecasts.system import learn
from scripts.runs.fit import Ceiling, fit_findings
from scripts.runs.variables import RequestVariables
from tests.factories import make_shard_bytes

ROWS = 30


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "datasets" / "tiny" / "1MB"
    folder.mkdir(parents=True)
    content = make_shard_bytes(ROWS)
    (folder / "0.safetensors").write_bytes(content)
    shards = (ShardEntry(name="0.safetensors", num_rows=ROWS, size_bytes=len(content), sha256="0" * 64),)
    card = DatasetCard(
        name="tiny",
        partition="1MB",
        num_rows=ROWS,
        shards=shards,
        arrays={"magnitudes": ""},
        image_origin="none",
        seed=0,
        provenance="a test",
    )
    (folder / "dataset.json").write_bytes(encode(card))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_sweep_has_it_for_all_runs_unless_another_is_named(root: Path) -> None:
    lists = {"WORLD": "1,2", "DATA": "tiny", "TARGET": "local"}

    assert sweep.find_sweep(lists, root).plan.model == MAGNITUDES.name
    assert sweep.find_sweep({**lists, "MODEL": "astromae"}, root).plan.model == "astromae"


def test_a_comparison_with_the_plain_loop_ends_before_it_begins(root: Path) -> None:
    variables = read_variables(CompareVariables, {"DATASET": "tiny", "TARGET": "local"})

    with pytest.raises(UsageError, match=r"^DATASET=tiny holds no images, .* MODEL=astromae` renders some"):
        find_runs(variables, root, Console(file=io.StringIO()))


def test_the_doctor_names_it_and_what_it_doubts(root: Path) -> None:
    asked = read_variables(RequestVariables, {"DATASET": "tiny"})
    ceiling = Ceiling(Limits(memory_mb=1769, timeout_s=900))

    found = {one.name: one for one in fit_findings(asked, ceiling, root=root)}

    assert found["model"].verdict == "warn"
    assert found["model"].text.startswith("magnitudes (")
    assert "Galactic extinction is not known" in found["model"].text


def test_a_forecast_has_the_speed_that_its_card_says(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(read_variables(ForecastVariables, {"DATASET": "tiny", "WORLD": "2"}))

    speed = without_images().card.rows_per_s
    assert speed is not None
    assert f"{speed:,.0f} galaxies/s per vCPU" in capsys.readouterr().out
    assert learn([], is_local=False, rows_per_s=speed).constants["row_s"].value == 1 / speed
