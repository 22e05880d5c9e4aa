"""One reader of run folders: strict for our version, as far as a record goes for others, one error for the rest."""

import io
from pathlib import Path

import numpy as np
import pytest

from inference import contract
from inference.contract import LostRank, RankFailure, RankTask
from inference.errors import RunFolderError
from inference.run_folder import RunFolder, name_lost, read_summary
from tests.factories import RUN, make_predictions, make_pz, make_record_for, make_task
from tests.unit.test_run_present import make_summary

NUM_RANKS = 3


def make_tasks() -> list[RankTask]:
    return [make_task(rank=rank, world_size=NUM_RANKS, num_samples=2 + rank) for rank in range(NUM_RANKS)]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run of three ranks, planned and computed, without a summary."""
    path = tmp_path / RUN
    for name in ("ranks", "predictions", "failures"):
        (path / name).mkdir(parents=True)
    (path / "manifest.json").write_bytes(contract.encode(make_tasks()))
    for task in make_tasks():
        predictions = make_predictions(object_id=np.arange(task.num_samples) + 10 * task.rank)
        record = make_record_for(task, predictions, started_at_s=100.0 - task.rank, code_version=f"1.{task.rank % 2}")
        (path / "ranks" / f"{task.rank:05d}.json").write_bytes(contract.encode(record))
        (path / "predictions" / f"{task.rank:05d}.npz").write_bytes(predictions.to_npz())
    return RunFolder(path)


def unbind(folder: RunFolder) -> None:
    """Make it a run of an older version, whose records do not say which predictions are theirs."""
    records = [make_record_for(task, predictions=None) for task in make_tasks()]
    (folder.path / "combined_data.json").write_bytes(contract.encode(records))


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize("order", ["C", "F"])
def test_distributions_are_read_in_whichever_order_they_are_stored(folder: RunFolder, order: str) -> None:
    unbind(folder)
    parts = [make_pz(np.linspace(0.1, 0.2, task.num_samples)) for task in make_tasks()]
    for task, pz in zip(make_tasks(), parts, strict=True):
        predictions = make_predictions(object_id=np.arange(task.num_samples), pz=np.asarray(pz, order=order))
        (folder.path / "predictions" / f"{task.rank:05d}.npz").write_bytes(predictions.to_npz())

    found = folder.all_predictions()

    assert found is not None
    np.testing.assert_array_equal(found.pz, np.concatenate(parts))


def test_distributions_of_two_forms_are_left_out(folder: RunFolder) -> None:
    unbind(folder)
    for task in make_tasks():
        pz = np.zeros((task.num_samples, 12 if task.rank else 15), np.float32)
        predictions = make_predictions(object_id=np.arange(task.num_samples), pz=pz)
        (folder.path / "predictions" / f"{task.rank:05d}.npz").write_bytes(predictions.to_npz())

    found = folder.all_predictions()

    assert found is not None
    assert found.pz is None
    assert len(found.z_phot) == 9


# ------------------------------------------------------------------------------------------ what is there


def test_the_merged_records_win_over_those_of_the_ranks(folder: RunFolder) -> None:
    assert [record.rank for record in folder.records] == [0, 1, 2]

    (folder.path / "combined_data.json").write_bytes(contract.encode([make_record_for(make_tasks()[1])]))

    assert [record.rank for record in RunFolder(folder.path).records] == [1]


def test_a_published_record_is_read_as_far_as_it_goes(folder: RunFolder) -> None:
    (folder.path / "combined_data.json").write_text('[{"total_cpu_time (seconds)": 2.5, "unknown": [1]}]')

    (record,) = folder.partial_records

    assert (record.total_cpu_time_s, record.rank, record.clock) == (2.5, None, {})
    with pytest.raises(RunFolderError, match=r"combined_data.json cannot be read .*another version"):
        _ = folder.records


def test_the_predictions_of_all_ranks_are_in_rank_order_with_their_types(folder: RunFolder) -> None:
    found = folder.all_predictions()

    assert found is not None
    parts = [folder.predictions(task) for task in make_tasks()]
    for name in ("object_id", "z_phot", "z_spec", "sigma", "quality"):
        np.testing.assert_array_equal(getattr(found, name), np.concatenate([getattr(part, name) for part in parts]))
    assert (found.object_id.dtype, found.z_phot.dtype, found.quality is not None) == (np.int64, np.float64, True)


def test_arrays_that_a_file_lacks_are_unknown_for_all(folder: RunFolder) -> None:
    unbind(folder)
    write_arrays(folder.path / "predictions" / "00001.npz", z_phot=np.array([0.1, np.nan, 0.3], np.float32))

    found = folder.all_predictions()

    assert found is not None
    assert (found.sigma, found.quality) == (None, None)
    assert (found.object_id == -1).all()
    assert np.isnan(found.z_spec).all()
    assert not found.is_labelled.any()
    assert np.isnan(found.z_phot[3])


def test_a_compressed_file_of_predictions_is_read_too(folder: RunFolder) -> None:
    unbind(folder)
    whole = folder.all_predictions()
    path = folder.path / "predictions" / "00000.npz"
    with np.load(path) as arrays:
        np.savez_compressed(path.with_suffix(""), **arrays)

    again = folder.all_predictions()

    assert whole is not None
    assert again is not None
    np.testing.assert_array_equal(again.z_phot, whole.z_phot)


@pytest.mark.parametrize(("sigma", "is_known"), [((np.nan, np.nan), False), ((np.nan, 0.02), True)])
def test_a_sigma_that_no_galaxy_has_is_not_known(folder: RunFolder, sigma: tuple[float, ...], is_known: bool) -> None:
    unbind(folder)
    for name in ("00001.npz", "00002.npz"):
        (folder.path / "predictions" / name).unlink()
    predictions = make_predictions(z_phot=np.array([0.1, 0.2], np.float32), sigma=np.array(sigma, np.float32))
    (folder.path / "predictions" / "00000.npz").write_bytes(predictions.to_npz())

    found = folder.all_predictions()

    assert found is not None
    assert (found.sigma is not None) == is_known
    assert found.is_labelled.tolist() == [True, True]


def test_what_is_not_there_yet_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "import.json").write_text('{"from": "elsewhere"}')

    assert RunFolder(tmp_path).document("import.json") == {"from": "elsewhere"}
    assert RunFolder(tmp_path).document("receipt.json") == {}
    assert read_summary(tmp_path) is None
    assert not RunFolder(tmp_path).is_planned
    (tmp_path / "manifest.json").write_bytes(contract.encode(make_tasks()))
    assert RunFolder(tmp_path).is_planned
    nothing = RunFolder(tmp_path).inventory()
    assert (len(nothing.lost), nothing.started_at_s, nothing.facts["engine"]) == (3, 0.0, ())
    (tmp_path / "summary.json").write_bytes(contract.encode(make_summary()))
    assert read_summary(tmp_path) == make_summary()


def test_without_files_there_are_no_predictions(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).all_predictions() is None


# ------------------------------------------------------------------------------------------ the inventory


def test_the_inventory_names_every_version_and_the_first_start(folder: RunFolder) -> None:
    found = folder.inventory()

    assert found.lost == {}
    assert (found.num_rows, found.num_predicted) == (9, 9)
    assert found.facts["code_version"] == ("1.0", "1.1")
    assert found.started_at_s == 98.0


def test_a_rank_without_record_file_or_rows_is_lost_with_its_reason(folder: RunFolder) -> None:
    failure = RankFailure(run_id=RUN, rank=0, error="ShardFormatError", cause='{"errorMessage": "dirt"}')
    (folder.path / "ranks" / "00000.json").unlink()
    (folder.path / "failures" / "00000.json").write_bytes(contract.encode(failure))
    (folder.path / "predictions" / "00001.npz").unlink()
    (folder.path / "predictions" / "00002.npz").write_bytes(make_predictions(object_id=np.arange(3)).to_npz())

    lost = folder.inventory().lost

    assert {rank: one.error for rank, one in lost.items()} == {
        0: "ShardFormatError",
        1: "MissingPredictions",
        2: "WrongPredictions",
    }
    assert "predictions/00001.npz does not exist" in lost[1].message
    assert "predictions/00002.npz is not what the rank wrote" in lost[2].message
    assert lost[0].message == "dirt"


def test_predictions_of_an_older_version_count_by_their_rows(folder: RunFolder) -> None:
    for task in make_tasks():
        record = make_record_for(task, predictions=None)
        (folder.path / "ranks" / f"{task.rank:05d}.json").write_bytes(contract.encode(record))
    (folder.path / "predictions" / "00001.npz").write_bytes(b"no zip")
    (folder.path / "predictions" / "00002.npz").write_bytes(make_predictions(object_id=np.arange(3)).to_npz())

    lost = folder.inventory().lost

    assert {rank: one.error for rank, one in lost.items()} == {1: "MissingPredictions", 2: "MissingPredictions"}
    assert "has no readable rows; the manifest says 3" in lost[1].message
    assert "has 3 readable rows; the manifest says 4" in lost[2].message


def test_predictions_that_another_rank_wrote_are_refused_by_name(folder: RunFolder) -> None:
    others = make_predictions(object_id=np.arange(3) + 100).to_npz()
    (folder.path / "predictions" / "00001.npz").write_bytes(others)

    assert {rank: one.error for rank, one in folder.inventory().lost.items()} == {1: "WrongPredictions"}
    with pytest.raises(RunFolderError, match=r"00001\.npz is not what the rank wrote"):
        folder.all_predictions()
    (folder.path / "predictions" / "00001.npz").unlink()
    with pytest.raises(RunFolderError, match=r"00001\.npz is missing"):
        folder.all_predictions()


def test_predictions_of_a_lost_rank_are_no_part_of_the_run(folder: RunFolder) -> None:
    (folder.path / "ranks" / "00001.json").unlink()

    found = folder.all_predictions()

    assert found
    assert found.object_id.tolist() == [0, 1, 20, 21, 22, 23]


def test_a_manifest_that_lost_ranks_or_rows_is_refused_by_name(folder: RunFolder) -> None:
    path = folder.path / "manifest.json"
    path.write_bytes(contract.encode(make_tasks()[:2]))
    with pytest.raises(RunFolderError, match=r"manifest\.json holds 2 of 3 ranks"):
        _ = folder.tasks
    path.write_bytes(b"[]")
    with pytest.raises(RunFolderError, match=r"manifest\.json holds 0 of 0 ranks"):
        _ = folder.tasks

    path.write_bytes(contract.encode(make_tasks()))
    (folder.path / "summary.json").write_bytes(contract.encode(make_summary(num_samples_planned=10)))

    with pytest.raises(RunFolderError, match=r"holds 9 galaxies; summary\.json says 10"):
        _ = folder.tasks


def test_a_damaged_failure_leaves_the_rank_lost_without_its_reason(folder: RunFolder) -> None:
    (folder.path / "ranks" / "00000.json").unlink()
    (folder.path / "failures" / "00000.json").write_text("{")

    assert folder.inventory().lost[0].error == "MissingRecord"


def test_what_summarize_found_lost_stays_lost(folder: RunFolder) -> None:
    lost = LostRank(rank=1, error="DuplicateRecord", message="", shards=())

    found = folder.inventory([lost])

    assert found.lost == {1: lost}
    assert (found.num_rows, found.num_predicted) == (9, 6)


def test_many_lost_ranks_are_counted() -> None:
    lost = [LostRank(rank=rank, error="E", message="m", shards=()) for rank in range(7)]

    assert name_lost(lost, limit=2) == "rank 0: E: m; rank 1: E: m; and 5 more"
    assert name_lost(lost).endswith("rank 4: E: m; and 2 more")
    assert name_lost(lost[:2], limit=2) == "rank 0: E: m; rank 1: E: m"


# ------------------------------------------------------------------------------------------ what is damaged


@pytest.mark.parametrize(("name", "attribute"), [("summary.json", "summary"), ("manifest.json", "tasks")])
def test_a_missing_file_is_named_with_what_explains_it(name: str, attribute: str, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=rf"{name} is missing: `make status RUN={tmp_path.name}` says why"):
        getattr(RunFolder(tmp_path), attribute)


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("summary.json", "summary"),
        ("manifest.json", "tasks"),
        ("combined_data.json", "records"),
        ("combined_data.json", "partial_records"),
        ("ranks/00001.json", "records"),
        ("failures/00001.json", "failures"),
    ],
)
def test_a_file_that_was_cut_is_named(name: str, attribute: str, folder: RunFolder) -> None:
    (folder.path / name).write_text('[{"rank": ')

    with pytest.raises(RunFolderError, match=rf"{name} cannot be read .*another version, or was cut off"):
        getattr(folder, attribute)


@pytest.mark.parametrize("content", [b"", b"no zip", make_predictions(object_id=np.arange(3)).to_npz()[:-40]])
def test_a_file_of_predictions_that_was_cut_is_named(content: bytes, folder: RunFolder) -> None:
    (folder.path / "predictions" / "00001.npz").write_bytes(content)
    unbind(folder)

    with pytest.raises(RunFolderError, match=r"00001.npz cannot be read"):
        folder.all_predictions()
    with pytest.raises(RunFolderError, match=r"00001.npz cannot be read"):
        folder.predictions(make_tasks()[1])


def test_a_file_of_predictions_with_a_flipped_bit_is_named(folder: RunFolder) -> None:
    unbind(folder)
    path = folder.path / "predictions" / "00001.npz"
    content = bytearray(path.read_bytes())
    content[content.index(b"z_phot.npy") + 150] ^= 1
    path.write_bytes(content)

    with pytest.raises(RunFolderError, match=r"00001\.npz cannot be read \(z_phot\.npy has a wrong checksum\)"):
        folder.all_predictions()


def test_a_file_without_redshifts_is_named(folder: RunFolder) -> None:
    unbind(folder)
    write_arrays(folder.path / "predictions" / "00001.npz", object_id=np.arange(3))

    with pytest.raises(RunFolderError, match=r"00001.npz cannot be read \('z_phot'\)"):
        folder.all_predictions()


def test_predictions_of_another_length_than_planned_are_refused(folder: RunFolder) -> None:
    (folder.path / "predictions" / "00001.npz").write_bytes(make_predictions(object_id=np.arange(4)).to_npz())

    with pytest.raises(RunFolderError, match="holds 4 rows; the manifest says 3"):
        folder.predictions(make_tasks()[1])


def test_predictions_that_are_missing_are_named(folder: RunFolder) -> None:
    (folder.path / "predictions" / "00001.npz").unlink()

    with pytest.raises(RunFolderError, match=r"00001\.npz is missing"):
        folder.predictions(make_tasks()[1])
