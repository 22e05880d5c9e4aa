"""A dataset on disk has the documented layout, is the same from any number of processes, and is re-used."""

import hashlib
import os
import resource
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest
from rich.progress import Progress
from safetensors.numpy import load_file

from inference import contract
from inference.block import SDSS, Block, Layout
from inference.contract import DatasetCard
from scripts import dataset as command
from scripts.command.errors import UsageError
from scripts.command.exhausted import with_remedy
from scripts.command.variables import read_variables
from scripts.data import generated, selection, writer
from scripts.data.galaxies import Facts
from scripts.data.generated import sample_plan
from scripts.data.plan import DatasetVariables, plan_dataset
from scripts.data.sample import GENERATOR, ensure_sample
from scripts.data.writer import DatasetPlan, is_complete, make, rows_per_shard


@dataclass(frozen=True)
class CountedGalaxies:
    """Rows that know their own number; rendering them costs nothing."""

    num_rows: int

    def __len__(self) -> int:
        return self.num_rows

    def rows(self, start: int, stop: int) -> Block:
        identifiers = np.arange(start + 1, stop + 1)
        images = np.broadcast_to(identifiers[:, None, None, None], (len(identifiers), 5, 32, 32))
        return Block(images.astype(np.float32), np.zeros((len(identifiers), 5)), identifiers / 1e4, identifiers)

    def facts(self, start: int, stop: int) -> Facts:
        return Facts.unknown(stop - start)


def make_plan(root: Path, *, num_rows: int = 120, name: str = "counted", seed: int = 0) -> DatasetPlan:
    return DatasetPlan(CountedGalaxies(num_rows), root, name, shard_mb=1, seed=seed, provenance="numbers")


def read_card(plan: DatasetPlan) -> DatasetCard:
    return contract.decode((plan.folder / "dataset.json").read_bytes(), DatasetCard)


def test_shards_have_the_promised_arrays(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    make(plan, processes=1)

    arrays = load_file(tmp_path / "datasets/counted/1MB/0.safetensors")

    assert {name: (array.shape, array.dtype.str) for name, array in arrays.items()} == {
        "images": ((51, 5, 32, 32), "<f4"),
        "magnitudes": ((51, 5), "<f8"),
        "redshifts": ((51,), "<f8"),
        "object_id": ((51,), "<i8"),
    }


def test_every_galaxy_is_in_one_shard_in_order(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    card = make(plan, processes=1)

    identifiers = [load_file(plan.folder / shard.name)["object_id"] for shard in card.shards]

    assert np.concatenate(identifiers).tolist() == list(range(1, 121))
    assert [len(part) for part in identifiers] == [shard.num_rows for shard in card.shards] == [51, 51, 18]


def test_card_tells_the_truth_about_the_files(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    make(plan, processes=1)

    for shard in read_card(plan).shards:
        content = (plan.folder / shard.name).read_bytes()
        assert (shard.size_bytes, shard.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert shard.size_bytes <= 2**20


@pytest.mark.parametrize("shard_mb", [1, 10, 25, 100, 1024])
def test_full_shard_stays_below_its_size(shard_mb: int) -> None:
    rows = rows_per_shard(shard_mb)

    assert rows * writer.BYTES_PER_ROW + writer.HEADER_BYTES <= shard_mb * 2**20
    assert rows >= shard_mb * 2**20 // writer.BYTES_PER_ROW - 1


@pytest.mark.parametrize(
    ("layout", "bytes_of_row"),
    [
        (SDSS, 5 * 32 * 32 * 4 + 5 * 8 + 16),
        (Layout(tuple("grz"), tuple("grz"), 0, has_magnitudes=True, columns=("ebv", "size")), 3 * 8 + 16 + 2 * 8),
        (Layout(tuple("grz"), tuple("grz"), 64, has_magnitudes=False), 3 * 64 * 64 * 4 + 16),
    ],
    ids=["sdss", "columns", "images alone"],
)
def test_a_shard_has_room_for_its_header_and_its_rows_and_no_more(layout: Layout, bytes_of_row: int) -> None:
    header = 512 + 160 * len(layout.columns)

    rows = rows_per_shard(3, layout)

    assert rows * bytes_of_row + header <= 3 * 2**20 < (rows + 1) * bytes_of_row + header


class Pool:
    """Calls in this process what a pool hands to others, and keeps how many it was asked for."""

    asked: ClassVar[list[int]] = []

    def __init__(self, processes: int, initializer: Any, initargs: tuple[Any, ...]) -> None:
        self.asked.append(processes)
        initializer(*initargs)

    def __enter__(self) -> "Pool":
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def imap(self, function: Any, jobs: Any) -> Any:
        return map(function, jobs)


@pytest.mark.parametrize(
    ("num_rows", "processes", "is_sequential", "used"),
    [
        (120, 2, False, [2]),
        (120, 8, False, [3]),  # there are three shards
        (120, 8, True, []),
        (120, 1, False, []),
        (60, 8, False, []),  # of forty galaxies each at least
        (80, 8, False, [2]),
    ],
)
def test_as_many_processes_are_used_as_have_enough_to_do(
    num_rows: int, processes: int, is_sequential: bool, used: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MIN_ROWS_PER_PROCESS", 40)
    monkeypatch.setattr(writer.multiprocessing, "get_context", lambda method: SimpleNamespace(Pool=Pool, method=method))
    monkeypatch.setattr(Pool, "asked", [])
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)

    card = make(replace(make_plan(tmp_path, num_rows=num_rows), is_sequential=is_sequential), processes=processes)

    assert Pool.asked == used
    assert sum(shard.num_rows for shard in card.shards) == num_rows
    assert (os.environ["OMP_NUM_THREADS"], os.environ.get("MKL_NUM_THREADS")) == ("7", None)


def test_anyone_may_read_a_shard_and_only_what_has_a_source_says_it(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    make(plan, processes=1)
    make(replace(plan, name="mine", source="/home/me/my.csv"), processes=1)

    assert (plan.folder / "0.safetensors").stat().st_mode & 0o777 == 0o644
    assert not (plan.folder.parent / "source.txt").exists()
    assert (tmp_path / "datasets/mine/source.txt").read_text() == "/home/me/my.csv\n"


def test_a_card_of_other_shards_is_not_that_of_the_plan(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    card = make(plan, processes=1)
    assert writer.in_words(card) == "120 galaxies in 3 shards, 2,465 kB"

    (plan.folder / "0.safetensors").rename(plan.folder / "7.safetensors")
    renamed = msgspec.structs.replace(
        card, shards=(msgspec.structs.replace(card.shards[0], name="7.safetensors"), *card.shards[1:])
    )
    (plan.folder / "dataset.json").write_bytes(contract.encode(renamed))

    assert not is_complete(plan)


def test_files_do_not_depend_on_the_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MIN_ROWS_PER_PROCESS", 1)
    alone = make(make_plan(tmp_path / "alone"), processes=1)
    shared = make(make_plan(tmp_path / "shared"), processes=2)

    assert alone == shared


def test_progress_counts_every_galaxy(tmp_path: Path) -> None:
    ticks: list[int] = []

    make(make_plan(tmp_path), processes=1, tick=ticks.append)

    assert ticks == [51, 51, 18]


def test_finished_dataset_is_complete(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    assert not is_complete(plan)

    make(plan, processes=1)

    assert is_complete(plan)


def test_dataset_of_another_seed_is_not_this_one(tmp_path: Path) -> None:
    make(make_plan(tmp_path), processes=1)

    assert not is_complete(make_plan(tmp_path, seed=1))


def test_damaged_shard_makes_a_dataset_incomplete(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    make(plan, processes=1)
    with (plan.folder / "1.safetensors").open("r+b") as file:
        file.seek(5_000)
        file.write(b"x")

    assert not is_complete(plan)


def test_unreadable_card_makes_a_dataset_incomplete(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    make(plan, processes=1)
    (plan.folder / "dataset.json").write_text("{")

    assert not is_complete(plan)


def test_interrupted_dataset_has_no_card(tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    plan = make_plan(tmp_path)
    make(plan, processes=1)
    with pytest.raises(KeyboardInterrupt):
        make(replace(plan, seed=1), processes=1, tick=interrupt)

    assert not (plan.folder / "dataset.json").exists()


def test_a_shard_that_finds_no_room_is_named_with_the_remedy_and_leaves_no_half(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    plan = make_plan(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"0\.safetensors.*os error 27") as raised:
            make(plan, processes=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert "`ulimit -f unlimited` lifts it" in with_remedy(str(raised.value))
    assert not list(plan.folder.rglob("*.safetensors*"))


def test_shards_of_a_larger_dataset_are_removed(tmp_path: Path) -> None:
    make(make_plan(tmp_path, num_rows=200), processes=1)
    make(make_plan(tmp_path, num_rows=60), processes=1)

    assert sorted(path.name for path in make_plan(tmp_path).folder.iterdir()) == [
        "0.safetensors",
        "1.safetensors",
        "cleaning.json",
        "dataset.json",
        "table.csv",
        "table.parquet",
    ]


def test_sample_lies_where_the_default_request_reads(tmp_path: Path) -> None:
    plan = sample_plan(tmp_path, shard_mb=10, seed=0)

    assert plan.folder == tmp_path / contract.SAMPLE_PREFIX.rstrip("/")


def test_a_whole_sample_is_taken_without_its_generator_and_any_other_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def small_plan(root: Path, *, shard_mb: int, seed: int) -> DatasetPlan:
        made.append(seed)
        return DatasetPlan(CountedGalaxies(120), root, "sdss", shard_mb=shard_mb, seed=seed, provenance=f"{GENERATOR}.")

    monkeypatch.setattr(generated, "sample_plan", small_plan)
    folder = ensure_sample(tmp_path)
    assert ensure_sample(tmp_path) == folder
    assert made == [0]

    card, shard = folder / "dataset.json", folder / "0.safetensors"
    for path, wrong in (
        (shard, shard.read_bytes()[:-1] + b"x"),
        (card, card.read_bytes().replace(GENERATOR.encode(), b"generator 0")),
        (card, card.read_bytes().replace(b'"seed": 0', b'"seed": 7')),
        (card, b"{"),
    ):
        right = path.read_bytes()
        assert wrong != right
        path.write_bytes(wrong)
        ensure_sample(tmp_path)
        assert path.read_bytes() == right
    (folder / "table.parquet").unlink()
    ensure_sample(tmp_path)
    assert made == [0] * 6


def plan_of(root: Path, given: dict[str, str]) -> DatasetPlan:
    return plan_dataset(read_variables(DatasetVariables, given), root=root, scratch=root)


def test_nothing_given_means_the_sample(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {})

    assert (plan.name, plan.shard_mb, plan.seed, len(plan.galaxies)) == ("sdss", 10, 0, 3_033)


def test_a_name_and_a_number_mean_synthetic_galaxies(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"NAME": "big", "N": "1,000", "SHARD_MB": "25", "SEED": "3"})

    assert (plan.name, plan.shard_mb, plan.seed, len(plan.galaxies)) == ("big", 25, 3, 1_000)
    assert plan.provenance.startswith("Simulated galaxies")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"SHARD_MB": "0"}, "SHARD_MB=0 is not valid"),
        ({"SHARD_MB": "abc"}, "SHARD_MB=abc is not valid"),
        ({"SHARD_MB": "-3"}, "SHARD_MB=-3 is not valid"),
        ({"SHARD_MB": "2.5"}, "SHARD_MB=2.5 is not valid"),
        ({"SHARD_MB": "1025"}, "from 1 to 1024"),
        ({"SEED": "x"}, "SEED=x is not valid"),
        ({"SEED": "-1"}, "SEED=-1 is not valid"),
        ({"N": "10"}, "needs a NAME"),
        ({"NAME": "big"}, "needs N"),
        ({"NAME": "big", "N": "0"}, "N=0 is not valid"),
        ({"NAME": "../big", "N": "10"}, r"NAME=\.\./big is not valid: NAME is letters, digits, dots"),
        ({"NAME": "a" * 65, "N": "10"}, "is not valid: NAME is letters"),
        ({"NAME": "sdss", "N": "10"}, "leave N out"),
        ({"FIELDS": "u=a"}, "FIELDS=u=a needs a SOURCE"),
        ({"TRAINING": "1"}, "TRAINING=1 needs a SOURCE"),
        ({"SOURCE": "my.csv", "N": "10"}, r"SOURCE=my\.csv has its own"),
        ({"SOURCE": "my.csv", "NAME": "sdss"}, r"give SOURCE=my\.csv another NAME"),
    ],
)
def test_wrong_variable_is_named(tmp_path: Path, given: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_of(tmp_path, given)


def test_chosen_galaxies_are_made_in_short_stretches_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    class Every:
        """All galaxies, numbered; it keeps what it was asked for."""

        asked: ClassVar[list[tuple[int, int]]] = []

        def facts(self, start: int, stop: int) -> Facts:
            self.asked.append((start, stop))
            numbers = np.arange(start, stop)
            return Facts(numbers / 2, numbers / 4, numbers.astype(np.uint8))

    monkeypatch.setattr(selection, "BLOCK_ROWS", 10)
    every: Any = Every()
    kept = np.array([3, 8, 9, 12, 17, 41, 42])

    found = selection.Kept(every, kept).facts(1, 7)

    assert found.quality.tolist() == [8, 9, 12, 17, 41, 42]
    assert (found.ra_deg.tolist(), found.dec_deg.tolist()) == ((kept[1:] / 2).tolist(), (kept[1:] / 4).tolist())
    assert every.asked == [(8, 10), (12, 18), (41, 43)]


def bars_of(progress: Progress) -> list[tuple[str, float | None, float]]:
    return [(bar.description, bar.total, bar.completed) for bar in progress.tasks]


@pytest.mark.parametrize("description", ["", "u is umag"])
def test_make_dataset_makes_what_is_planned_once_and_says_where_it_is(
    description: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = replace(make_plan(Path(), num_rows=60), description=description)
    progress, bars = Progress(disable=True), []

    def planned(_: DatasetVariables, *, root: Path, scratch: Path, tick: Any, expect: Any) -> DatasetPlan:
        assert scratch.is_dir()
        assert scratch.parent == root / "datasets"
        assert scratch.name.startswith(".")
        bars.append(bars_of(progress)[-1])
        expect(70)
        tick(60)
        bars.append(bars_of(progress)[-1])
        return plan

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(command, "plan_dataset", planned)
    monkeypatch.setattr(command, "progress_bar", lambda: progress)
    monkeypatch.setattr(command, "num_cores", lambda: 1)
    monkeypatch.setattr(command, "print_report", lambda folder: print(f"report of {folder}"))

    folders = [command.make_dataset(DatasetVariables()) for _ in range(2)]

    folder = Path("datasets/counted/1MB")
    assert folders == [folder, folder]
    assert bars == [("reading", None, 0), ("reading", 70, 60)] * 2
    assert bars_of(progress)[0] == ("galaxies", 60, 60)
    command.main(DatasetVariables())
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == ["counted"]
    *columns, report, extinction, made, again, once_more = capsys.readouterr().out.splitlines()
    assert columns == (["columns    u is umag"] if description else [])
    assert report == f"report of {folder}"
    assert extinction == f"extinction {plan.origin.extinction_line}"
    assert made == f"{folder}: {writer.in_words(read_card(plan))}"
    assert again == once_more == f"{folder}: 60 galaxies, already there"
