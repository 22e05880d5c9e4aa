"""Summarize as a tree: parts of a run join to the run, none of whose ranks is missing or counts twice."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from handlers.merging import merge
from handlers.storage import Folder, ObjectInfo
from inference import branch, contract, metrics, summary
from inference.branch import Branch, branch_of, in_waves, join
from inference.contract import RankRecord, RankTask
from inference.errors import ManifestError
from tests.factories import make_plan, make_record_for, prove_run, stored_by
from tests.unit.test_summary import TIMES, make_tasks, records_of

Records = dict[str, bytes]


def branch_from(tasks: Sequence[RankTask], found: Records) -> Branch:
    proof = prove_run(tasks, {key: content for key, content in found.items() if key in {t.record_key for t in tasks}})
    return branch_of(tasks, proof.records, proof.lost)


class Stored:
    """The objects of a run, as the functions read them."""

    def __init__(self, found: Records) -> None:
        self.found = found
        records = {key: one for key, one in summary.decode_records(found).items() if isinstance(one, RankRecord)}
        self.predictions = stored_by(records)
        self.most_read = 0

    def list_folder(self, prefix: str) -> Folder:
        records = [ObjectInfo(key, len(content), "e") for key, content in self.found.items()]
        predictions = [ObjectInfo(key, one.size_bytes, one.etag) for key, one in self.predictions.items()]
        return Folder([info for info in (*records, *predictions) if info.key.startswith(prefix)], [])

    def read_many(self, keys: Sequence[str]) -> Records:
        self.most_read = max(self.most_read, len(keys))
        return {key: self.found[key] for key in keys}

    def read_at_most(self, keys: Mapping[str, int]) -> dict[str, bytes | None]:
        return dict.fromkeys(keys)


# --------------------------------------------------------------------------------------------- the tree


@pytest.mark.parametrize("cuts", [(3,), (1, 2, 5), (1, 2, 3, 4, 5, 6)], ids=str)
def test_a_run_merged_in_parts_is_the_run_merged_at_once(cuts: tuple[int, ...]) -> None:
    tasks, ends = make_tasks(7), (0, *cuts, 7)
    found = records_of(tasks)
    del found[tasks[4].record_key]
    parts = [branch_from(tasks[start:stop], found) for start, stop in itertools.pairwise(ends)]

    whole = join([join(parts[1:]), parts[0]]) if len(parts) > 1 else parts[0]

    at_once = summary.summarize(make_plan(21), tasks, prove_run(tasks, found), TIMES)
    merged = summary.conclude(make_plan(21), whole, TIMES)
    assert [lost.rank for lost in merged.lost_ranks] == [4]
    assert msgspec.structs.replace(merged, accuracy=None, throughput=at_once.throughput) == msgspec.structs.replace(
        at_once, accuracy=None
    )
    assert msgspec.to_builtins(merged.accuracy) == pytest.approx(msgspec.to_builtins(at_once.accuracy))
    assert msgspec.to_builtins(merged.throughput) == pytest.approx(msgspec.to_builtins(at_once.throughput))


@pytest.mark.parametrize(("first", "second"), [((0, 2), (3, 5)), ((0, 3), (2, 5))], ids=["a gap", "a rank twice"])
def test_parts_between_which_a_rank_is_missing_or_twice_do_not_join(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    tasks = make_tasks(5)
    found = records_of(tasks)

    with pytest.raises(ManifestError, match="a rank would be missing or count twice"):
        join([branch_from(tasks[slice(*first)], found), branch_from(tasks[slice(*second)], found)])


def test_parts_of_two_runs_do_not_join() -> None:
    tasks = make_tasks(2)
    one, other = (branch_from([task], records_of(tasks)) for task in tasks)

    with pytest.raises(ManifestError, match="do not join"):
        join([one, replace(other, run_id="b")])


def test_waves_that_are_not_the_manifest_are_refused() -> None:
    tasks = make_tasks(3)
    found = records_of(tasks)

    with pytest.raises(ManifestError, match="Ranks 0 to 1 were merged, and the manifest has 3 ranks"):
        in_waves(tasks, lambda _wave, _claims: (branch_from(tasks[:2], found), Counter()))


# --------------------------------------------------------------------------------------------- in waves


def merged_in(wave_ranks: int, tasks: list[RankTask], store: Stored, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(branch, "WAVE_RANKS", wave_ranks)
    return merge(store, tasks[0].run_prefix, tasks)


def test_waves_read_few_records_at_a_time_and_leave_the_same_files(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = make_tasks(7)
    found = records_of(tasks)
    at_once, in_parts = Stored(found), Stored(found)

    one, other = merged_in(100, tasks, at_once, monkeypatch), merged_in(3, tasks, in_parts, monkeypatch)

    assert (at_once.most_read, in_parts.most_read) == (7, 3)
    assert b"".join(other.combined) == b"".join(one.combined) == summary.combine(prove_run(tasks, found).records)
    assert other.whole.ranks == one.whole.ranks
    assert other.notes == one.notes == ()


def test_two_records_of_one_rank_lose_it_wherever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = make_tasks(7)
    found = records_of(tasks)
    found[tasks[5].record_key] = contract.encode(make_record_for(tasks[5], rank=1))

    at_once = merged_in(100, tasks, Stored(found), monkeypatch)
    in_parts = merged_in(2, tasks, Stored(found), monkeypatch)

    assert [(lost.rank, lost.error) for lost in in_parts.whole.lost] == [(1, "DuplicateRecord"), (5, "DuplicateRecord")]
    assert [lost.rank for lost in at_once.whole.lost] == [1, 5]
    assert b"".join(in_parts.combined) == b"".join(at_once.combined)


def test_a_run_without_a_record_merges_to_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    found = merged_in(2, make_tasks(3), Stored({}), monkeypatch)

    assert b"".join(found.combined) == summary.combine(())
    assert [lost.rank for lost in found.whole.lost] == [0, 1, 2]


def test_what_no_rank_writes_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = make_tasks(5)
    stranger = tasks[0].run_prefix + "ranks/x.json"

    found = merged_in(2, tasks, Stored(records_of(tasks) | {stranger: b"{}"}), monkeypatch)

    assert found.notes == (f"{stranger} belongs to no rank of this run and was left out.",)


# -------------------------------------------------------------------------------------------- residuals


def residuals_of(num: int, seed: int = 0) -> metrics.Residuals:
    return metrics.Residuals(np.random.default_rng(seed).normal(0.003, 0.01, num))


def test_the_residuals_of_a_hundred_galaxies_are_kept_one_by_one() -> None:
    tasks = make_tasks(40)

    assert branch_from(tasks, records_of(tasks)).residuals.counts is None


def test_counted_residuals_have_the_quantiles_of_all_within_a_bin() -> None:
    every = residuals_of(20_000)
    counted = every.counted()

    assert len(counted) == len(every)
    for share in (0.25, 0.5, 0.75):
        assert counted.quantile(share) == pytest.approx(every.quantile(share), abs=1.5 * metrics.BIN)
    deviation = counted.deviations().quantile(0.5)
    assert deviation == pytest.approx(every.deviations().quantile(0.5), abs=2 * metrics.BIN)


def test_a_quantile_of_counted_residuals_is_the_one_at_its_place() -> None:
    counted = metrics.Residuals(np.array([0.02, 0.0, 0.01, 0.0, 0.0])).counted()

    assert counted.counts.tolist() == [3, 1, 1]
    assert [counted.quantile(share) for share in (0.0, 0.5, 0.6, 0.75, 1.0)] == pytest.approx([0, 0, 0, 0.01, 0.02])
    assert counted.counted() is counted.within(1) is counted


def test_counted_residuals_take_no_more_memory_for_more_galaxies() -> None:
    few, many = (
        metrics.Residuals.join([residuals_of(50_000, seed).counted() for seed in range(num)]) for num in (2, 20)
    )

    assert len(many) == 10 * len(few) == 1_000_000
    assert len(many.dz) < 1.3 * len(few.dz)


def test_residuals_join_counted_as_soon_as_one_part_is() -> None:
    parts = [residuals_of(1_000, seed) for seed in range(3)]

    joined = metrics.Residuals.join([parts[0].counted(), *parts[1:]])

    together = metrics.Residuals.join(parts).counted()
    assert (joined.dz == together.dz).all()
    assert (joined.counts == together.counts).all()
    assert parts[0].within(1_000) is parts[0]
    assert parts[0].within(999).counts is not None


def test_a_residual_beyond_all_reason_is_counted_too() -> None:
    found = metrics.Residuals(np.array([0.0, 0.01, 1e300])).counted()

    assert len(found) == 3
    assert found.quantile(1.0) == pytest.approx(metrics.RESIDUAL_LIMIT)
