"""Re-partitioning keeps every row and byte of it; verification names whatever is not what the card says."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from rich.progress import Progress
from safetensors.numpy import load_file, save_file
from torch.utils.data import TensorDataset

from inference import contract
from inference.block import Block
from inference.cleaning import shipped_limits
from inference.quality import Quality
from scripts import repartition, verify
from scripts.command.errors import COMPLETE, FAILED, WRONG_USAGE
from scripts.command.program import exit_status
from scripts.data.cleaning_report import CleaningReport
from scripts.data.galaxies import Facts
from scripts.data.partition import plan_partition
from scripts.data.verification import find_problems
from scripts.data.writer import DatasetPlan, make

KNOWN = shipped_limits().photometry
MEAN_MAGNITUDES = KNOWN.mean

NUM = 120


class DirtyGalaxies:
    """Every tenth galaxy lacks u, one lacks r, one has a missing pixel, one no redshift; positions are known."""

    def __len__(self) -> int:
        return NUM

    def rows(self, start: int, stop: int) -> Block:
        numbers = np.arange(start, stop)
        images = np.random.default_rng(0).normal(size=(NUM, 5, 32, 32)).astype(np.float32)[start:stop]
        magnitudes = MEAN_MAGNITUDES + numbers[:, None] / 1000
        magnitudes[numbers % 10 == 0, 0] = -9999
        magnitudes[numbers == 7, 2] = np.nan
        images[numbers == 77, 0, 0, 0] = np.nan
        return Block(images, magnitudes, np.where(numbers == 3, np.nan, 0.1), numbers + 1)

    def facts(self, start: int, stop: int) -> Facts:
        numbers = np.arange(start, stop)
        return Facts(numbers / 10, numbers / 20, np.where(numbers == 5, Quality.LOW_SIGNAL.value, 0).astype(np.uint8))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    make(DatasetPlan(DirtyGalaxies(), root, "dirty", shard_mb=1, seed=4, provenance="numbers"), processes=1)
    return root


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine / "datasets", tmp_path / "datasets")
    return tmp_path


def remake(root: Path, *, shard_mb: int) -> Path:
    plan = plan_partition(root / "datasets/dirty/1MB", shard_mb, root=root)
    make(plan, processes=1)
    return plan.folder


def contents(folder: Path) -> dict[str, np.ndarray]:
    card = contract.decode((folder / "dataset.json").read_bytes(), contract.DatasetCard)
    shards = [load_file(folder / entry.name) for entry in card.shards]
    return {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}


# ------------------------------------------------------------------------------------- re-partitioning


def test_another_partition_holds_the_same_rows_in_the_same_order(root: Path) -> None:
    before, folder = root / "datasets/dirty/1MB", remake(root, shard_mb=2)

    assert folder == root / "datasets/dirty/2MB"
    assert [path.name for path in sorted(folder.glob("*.safetensors"))] == ["0.safetensors", "1.safetensors"]
    assert {name: array.tobytes() for name, array in contents(folder).items()} == {
        name: array.tobytes() for name, array in contents(before).items()
    }


def test_the_table_and_what_cleaning_found_go_with_it(root: Path) -> None:
    before, folder = root / "datasets/dirty/1MB", remake(root, shard_mb=2)

    tables = [pyarrow.parquet.read_table(path / "table.parquet") for path in (before, folder)]

    assert tables[0].equals(tables[1])
    assert (before / "table.csv").read_bytes() == (folder / "table.csv").read_bytes()
    assert (before / "cleaning.json").read_bytes() == (folder / "cleaning.json").read_bytes()
    assert list(find_problems(folder)) == []


@pytest.mark.parametrize("has_report", [True, False])
def test_what_was_dropped_when_the_galaxies_were_read_stays_in_the_report(
    has_report: bool, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = CleaningReport(Counter({"clean": NUM, "dropped": 5}), Counter({"no cutout": 5})).to_json()
    path = root / "datasets/dirty/1MB/cleaning.json"
    path.write_bytes(report) if has_report else path.unlink()
    progress = Progress(disable=True)
    monkeypatch.setattr(repartition, "progress_bar", lambda: progress)
    monkeypatch.chdir(root)

    assert exit_status(repartition.main, {"DATASET": "dirty", "SHARD_MB": "2"}) == COMPLETE

    assert ((root / "datasets/dirty/2MB/cleaning.json").read_bytes() == report) == has_report
    assert [(bar.description, bar.total, bar.completed) for bar in progress.tasks] == [("galaxies", NUM, NUM)]
    assert capsys.readouterr().out.startswith("datasets/dirty/2MB: 120 galaxies in 2 shards, ")


def test_reports_that_call_rejected_galaxies_refused_are_read() -> None:
    before = CleaningReport(Counter({"clean": 3, "rejected": 2})).to_json()

    read = CleaningReport.from_json(before.replace(b'"rejected": 2', b'"refused": 2'))

    assert read.outcomes == {"clean": 3, "rejected": 2}


def test_another_partition_is_of_the_same_source(root: Path) -> None:
    """Else the next source of that name would take its place."""
    (root / "datasets/dirty/source.txt").write_text("/home/me/dirty.csv\n")

    remake(root, shard_mb=2)

    assert (root / "datasets/dirty/source.txt").read_text() == "/home/me/dirty.csv\n"


def test_there_and_back_again_gives_the_same_files(root: Path) -> None:
    folder = remake(root, shard_mb=2)
    shutil.move(root / "datasets/dirty/1MB", root / "before")
    plan = plan_partition(root / "datasets/dirty/2MB", 1, root=root)

    make(plan, processes=1)

    for path in (root / "before").iterdir():
        assert path.read_bytes() == (plan.folder / path.name).read_bytes(), path.name
    assert folder.is_dir()


def test_published_shards_become_ours(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    whole = DirtyGalaxies().rows(0, NUM)
    for name, part in (("10.pt", slice(70, NUM)), ("2.pt", slice(0, 70))):
        arrays = (whole.images[part], whole.magnitudes[part], whole.redshifts[part])
        torch.save(TensorDataset(*map(torch.from_numpy, arrays)), folder / name)

    plan = plan_partition(folder, 1, root=tmp_path)
    make(plan, processes=1)

    made = contents(tmp_path / "datasets/published/1MB")
    assert made["images"].tobytes() == whole.images.tobytes()
    assert made["object_id"].tolist() == list(range(1, NUM + 1))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"SHARD_MB": "25"}, "DATASET and SHARD_MB are needed"),
        ({"DATASET": "dirty/1MB"}, "DATASET and SHARD_MB are needed"),
        ({"DATASET": "dirty/1MB", "SHARD_MB": "1"}, "datasets/dirty/1MB has shards of 1 MB already"),
        ({"DATASET": "dirty/1MB", "SHARD_MB": "x"}, "SHARD_MB=x is not valid"),
        ({"DATASET": "dirtier", "SHARD_MB": "2"}, "DATASET=dirtier: no such dataset here. Present: dirty/1MB"),
    ],
)
def test_a_wrong_variable_is_named(
    variables: dict[str, str],
    message: str,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(root)

    assert exit_status(repartition.main, variables) == WRONG_USAGE
    assert message in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- verification


def test_a_sound_dataset_has_no_problems(root: Path) -> None:
    assert list(find_problems(root / "datasets/dirty/1MB")) == []


def edit_shard(folder: Path, name: str = "1.safetensors", **changes: object) -> None:
    arrays = load_file(folder / name)
    for array, change in changes.items():
        arrays[array] = change(arrays[array].copy())  # type: ignore[operator]
    save_file(arrays, folder / name)


def assign(place: object, value: float) -> object:
    def change(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return change


def edit_table(folder: Path, column: str, row: int, value: object) -> None:
    path = folder / "table.parquet"
    groups = pyarrow.parquet.ParquetFile(path)
    sizes = [groups.metadata.row_group(index).num_rows for index in range(groups.num_row_groups)]
    table = groups.read()
    values = table.column(column).to_pylist()
    values[row] = value
    position = table.schema.names.index(column)
    table = table.set_column(position, table.schema.field(column), pa.array(values, table.schema.field(column).type))
    with pyarrow.parquet.ParquetWriter(path, table.schema) as writer:
        for index, size in enumerate(sizes):
            writer.write_table(table.slice(sum(sizes[:index]), size))


DAMAGES = {
    "1.safetensors is missing": lambda folder: (folder / "1.safetensors").unlink(),
    "1.safetensors: its content has changed": lambda folder: edit_shard(folder, images=assign((0, 0, 0, 0), 3.0)),
    "1.safetensors has 100 bytes, dataset.json says": lambda folder: (folder / "1.safetensors").write_bytes(b"x" * 100),
    "1.safetensors: 1.safetensors is not a safetensors file": lambda folder: (folder / "1.safetensors").write_bytes(
        b"x" * 100
    ),
    "holds 10 galaxies; dataset.json says 51": lambda folder: edit_shard(
        folder, **dict.fromkeys(["images", "magnitudes", "redshifts", "object_id"], lambda array: array[:10])
    ),
    "holds images of shape (51, 4, 32, 32)": lambda folder: edit_shard(
        folder, images=lambda array: np.ascontiguousarray(array[:, :4])
    ),
    "holds magnitudes of shape (51, 5) float32": lambda folder: edit_shard(
        folder, magnitudes=lambda array: array.astype(np.float32)
    ),
    "quality of 1 galaxies differ from table.parquet, the first with object_id 54": lambda folder: edit_shard(
        folder, images=assign((2, 0, 0, 0), np.nan)
    ),
    "magnitudes of 1 galaxies differ from table.parquet, the first with object_id 54": lambda folder: edit_shard(
        folder, magnitudes=assign((2, 1), np.nan)
    ),
    "1 redshifts are not positive, the first -0.1 in row 2": lambda folder: edit_shard(
        folder, redshifts=assign(2, -0.1)
    ),
    "0.safetensors: object_id of 1 galaxies differ": lambda folder: edit_table(folder, "object_id", 4, 999),
    "0.safetensors: z_spec of 1 galaxies differ": lambda folder: edit_table(folder, "z_spec", 4, None),
    "0.safetensors: quality of 1 galaxies differ": lambda folder: edit_table(folder, "quality", 0, 0),
    "0.safetensors: magnitudes of 1 galaxies differ": lambda folder: edit_table(folder, "mag_g", 4, 17.0),
    "table.parquet is missing or no Parquet file": lambda folder: (folder / "table.parquet").write_bytes(b"x"),
    "1.safetensors: table.parquet has another number of rows for it": lambda folder: edit_shard(
        folder,
        **dict.fromkeys(["images", "magnitudes", "redshifts", "object_id"], lambda array: np.repeat(array, 2, 0)),
    ),
    "table.parquet has 120 rows in 1 groups; the dataset has 120 in 3 shards": lambda folder: (
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(folder / "table.parquet"), folder / "table.parquet")
    ),
    "table.csv is missing": lambda folder: (folder / "table.csv").unlink(),
    "table.csv has 1 lines": lambda folder: (folder / "table.csv").write_text("x\n"),
    "dataset.json is missing": lambda folder: (folder / "dataset.json").unlink(),
    "This is not a DatasetCard": lambda folder: (folder / "dataset.json").write_text("{}"),
    "it is unfinished": lambda folder: (folder / ".unfinished").touch(),
    "1.safetensors is a symbolic link": lambda folder: (
        (folder / "1.safetensors").rename(folder / "elsewhere").with_name("1.safetensors").symlink_to("elsewhere")
    ),
    "3.safetensors is not in dataset.json": lambda folder: shutil.copy(
        folder / "0.safetensors", folder / "3.safetensors"
    ),
}


FURTHER = {
    "1.safetensors has 100 bytes": 1,
    "1.safetensors: 1.safetensors is not a safetensors file": 1,
    "holds ": 1,
    "quality of 1 galaxies differ from table.parquet, the first with object_id 54": 1,
    "magnitudes of 1 galaxies differ from table.parquet, the first with object_id 54": 2,
    "1 redshifts are not positive": 2,
    "1.safetensors: table.parquet has another number of rows for it": 2,
}
"""Damages that show in other ways too, and in how many: the size or checksum of the shard, another column."""


@pytest.mark.parametrize("problem", DAMAGES)
def test_damage_is_named_and_nothing_else(problem: str, root: Path) -> None:
    folder = root / "datasets/dirty/1MB"
    DAMAGES[problem](folder)
    ticks: list[int] = []

    found = list(find_problems(folder, ticks.append))

    assert problem in "\n".join(found)
    assert len(found) == 1 + next((num for start, num in FURTHER.items() if problem.startswith(start)), 0)
    assert ticks == ([] if problem.startswith(("dataset.json", "This is not")) else [51, 51, 18])


def test_verify_ends_with_1_and_says_what_is_wrong(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    (root / "datasets/dirty/1MB/2.safetensors").unlink()

    assert exit_status(verify.main, {"DATASET": "dirty"}) == FAILED
    assert "2.safetensors is missing." in capsys.readouterr().out


@pytest.mark.parametrize(("num", "shown"), [(20, 20), (21, 21), (30, 21)])
def test_of_many_problems_the_first_are_shown_and_the_others_counted(
    num: int, shown: int, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr(verify, "find_problems", lambda *_: (f"problem {number}." for number in range(num)))

    assert exit_status(verify.main, {"DATASET": "dirty"}) == FAILED

    lines = capsys.readouterr().out.splitlines()
    assert lines[:20] == [f"datasets/dirty/1MB: problem {number}." for number in range(20)]
    assert lines[20:] == ([f"datasets/dirty/1MB: and {num - 20} more problems."] if num > 20 else [])
    assert len(lines) == shown
    assert exit_status(verify.main, {}) == 2
    assert "DATASET names what to verify" in capsys.readouterr().err


def test_verify_says_what_it_found_sound(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(disable=True)
    monkeypatch.setattr(verify, "progress_bar", lambda: progress)
    monkeypatch.chdir(root)

    assert exit_status(verify.main, {"DATASET": "dirty"}) == COMPLETE
    assert [(bar.description, bar.total, bar.completed) for bar in progress.tasks] == [("galaxies", None, NUM)]
    assert "120 galaxies in 3 shards are what dataset.json and the table" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["2.safetensors: is missing", "content", "unfinished"])
def test_a_dataset_that_is_not_whole_is_not_written_again(
    damage: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = root / "datasets/dirty/1MB"
    monkeypatch.chdir(root)
    if damage == "content":
        edit_shard(folder, images=assign((0, 0, 0, 0), 3.0))
    elif damage == "unfinished":
        (folder / ".unfinished").touch()
    else:
        (folder / "2.safetensors").unlink()

    assert exit_status(repartition.main, {"DATASET": "dirty/1MB", "SHARD_MB": "2"}) == FAILED

    said = capsys.readouterr().err
    assert "dirty/1MB is" in said
    assert damage.replace(":", "") in said
    assert not (root / "datasets/dirty/2MB").exists()
