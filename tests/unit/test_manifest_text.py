"""A manifest is written task by task: the same bytes as all at once, in flat memory, and counted."""

import hashlib
import tracemalloc
from collections.abc import Sequence

import pytest

from inference import contract, plan
from inference.contract import RankTask
from inference.errors import PlanError
from inference.manifest_text import ManifestText
from inference.plan import Limits, deal, plan_tasks
from tests.factories import RUN, make_request, make_shard, make_task

LIMITS = Limits(memory_mb=1769, timeout_s=900)


def planned(world_size: int, *, rows_per_shard: int = 7) -> Sequence[RankTask]:
    shards = [make_shard(f"{n}.safetensors", num_rows=rows_per_shard) for n in range(world_size)]
    return plan_tasks(make_request(world_size=world_size), shards, LIMITS, run_id=RUN)


@pytest.mark.parametrize("num", [0, 1, 3])
def test_a_list_that_is_encoded_element_by_element_has_the_same_bytes(num: int) -> None:
    tasks = [make_task(rank=rank, world_size=3, run_id='with "quotes",\nlines and ü') for rank in range(num)]

    assert b"".join(contract.encode_each(tasks)) == contract.encode(tasks)


def test_a_manifest_is_the_list_of_its_tasks_and_is_proved_by_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.manifest_text.PART_BYTES", 2_000)
    manifest = ManifestText(planned(9))

    parts, again = list(manifest), b"".join(manifest)

    assert len(parts) > 3
    assert b"".join(parts) == again == contract.encode(list(planned(9)))
    assert manifest.prove(63) == hashlib.sha256(again).hexdigest()


@pytest.mark.parametrize(
    ("ranks", "num_samples"), [((0, 1, 2), 10), ((0, 2), 9), ((0, 1, 1), 9), ((1, 0, 2), 9)], ids=str
)
def test_a_manifest_with_other_ranks_or_galaxies_than_were_dealt_is_refused(
    ranks: tuple[int, ...], num_samples: int
) -> None:
    manifest = ManifestText([make_task(rank=rank, world_size=3, num_samples=3) for rank in ranks])
    list(manifest)

    with pytest.raises(PlanError, match="Nothing was started"):
        manifest.prove(num_samples)


def test_the_memory_of_a_plan_does_not_grow_with_its_ranks() -> None:
    manifest = ManifestText(planned(4_000))
    tracemalloc.start()

    num_bytes = sum(map(len, manifest))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert num_bytes > 2.5e6
    # Two parts of a megabyte; all tasks would take 8 MB, and their JSON the rest.
    assert peak_bytes < 3.5e6


def test_ranks_are_made_in_any_order() -> None:
    shards = [make_shard(f"{n}.safetensors", num_rows=size) for n, size in enumerate([3, 0, 5, 0, 0, 4])]
    parts = deal(shards, 5)

    assert [parts[rank] for rank in (4, 0, -1, 2)] == [list(parts)[rank] for rank in (4, 0, 4, 2)]
    assert list(parts[1:4]) == list(parts)[1:4]
    with pytest.raises(IndexError):
        parts[5]


def test_more_tasks_than_a_map_reads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MAX_MANIFEST_BYTES", 3_000)

    with pytest.raises(PlanError, match=r"The tasks of 9 ranks take up to .* Use world_size 4 or less\."):
        planned(9)
    assert len(planned(4)) == 4
