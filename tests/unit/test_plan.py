"""Every row is dealt exactly once, evenly, in natural order, and what cannot fit is refused."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import plan
from inference.contract import NO_DEADLINE_S, RankTask, RowRange
from inference.errors import DatasetNotFoundError, PlanError
from inference.plan import Demand, Limits, Shard, deal, first_rows, natural_order, plan_tasks, select_shards
from tests.factories import RUN, make_card, make_request, make_shard, make_task

LIMITS = Limits(memory_mb=1769, timeout_s=900)
shard_sizes = st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(any)


def rows_of(parts: list) -> Counter:
    return Counter((part.key, row) for rank in parts for part in rank for row in range(part.start_row, part.stop_row))


@given(sizes=shard_sizes, data=st.data(), suffix=st.sampled_from([".safetensors", ".pt"]))
def test_every_row_goes_to_exactly_one_rank(sizes: list[int], data: st.DataObject, suffix: str) -> None:
    world_size = data.draw(st.integers(1, sum(sizes)))
    shards = [make_shard(f"{n}{suffix}", num_rows=size) for n, size in enumerate(sizes)]

    dealt = deal(shards, world_size)

    assert rows_of(dealt) == Counter((shard.key, row) for shard in shards for row in range(shard.num_rows))
    assert all(part.num_rows for rank in dealt for part in rank)


@given(sizes=shard_sizes, data=st.data())
def test_loads_differ_by_at_most_one_row(sizes: list[int], data: st.DataObject) -> None:
    world_size = data.draw(st.integers(1, sum(sizes)))
    shards = [make_shard(f"{n}.safetensors", num_rows=size) for n, size in enumerate(sizes)]

    loads = [sum(part.num_rows for part in rank) for rank in deal(shards, world_size)]

    assert len(loads) == world_size
    assert max(loads) - min(loads) <= 1


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=30), data=st.data())
def test_shards_that_are_read_whole_are_never_cut_while_there_are_enough(sizes: list[int], data: st.DataObject) -> None:
    world_size = data.draw(st.integers(1, len(sizes)))
    shards = [make_shard(f"{n}.pt", num_rows=size) for n, size in enumerate(sizes)]

    parts = deal(shards, world_size)

    assert all(rank for rank in parts)
    assert [part.num_rows for rank in parts for part in rank] == sizes


@pytest.mark.parametrize(
    ("sizes", "loads"),
    [([10] * 6, [20, 20, 20]), ([9, 3, 8], [9, 11]), ([7, 4, 9], [11, 9]), ([1, 1, 30], [2, 30]), ([30, 1], [30, 1])],
)
def test_shards_that_are_read_whole_are_dealt_as_evenly_as_their_ends_allow(sizes: list[int], loads: list[int]) -> None:
    shards = [make_shard(f"{n}.pt", num_rows=size) for n, size in enumerate(sizes)]

    assert [sum(part.num_rows for part in rank) for rank in deal(shards, len(loads))] == loads


@pytest.mark.parametrize("num_rows", [-1, 2.5, None])
def test_a_shard_with_no_number_of_rows_is_refused_by_its_name(num_rows: object) -> None:
    lying = msgspec.structs.replace(make_shard("1.safetensors", num_rows=5), num_rows=num_rows)

    with pytest.raises(PlanError, match=f"1.safetensors cannot have {num_rows} rows"):
        deal([make_shard("0.safetensors", num_rows=5), lying], 2)


def test_rows_keep_the_order_of_the_dataset() -> None:
    shards = [make_shard(f"{n}.safetensors", num_rows=5) for n in range(3)]

    parts = [(part.key[-13:], part.start_row, part.stop_row) for rank in deal(shards, 2) for part in rank]

    assert parts == [("0.safetensors", 0, 5), ("1.safetensors", 0, 2), ("1.safetensors", 2, 5), ("2.safetensors", 0, 5)]


def test_two_comes_before_ten() -> None:
    names = ["a10-b2.pt", "a10-b02.pt", "a10-b1.pt", "a2.pt", "100.pt", "10.pt", "2.pt", "1.pt"]

    assert sorted(names, key=natural_order) == names[::-1]


def test_the_file_limit_takes_the_first_shards_in_natural_order() -> None:
    keys = [f"10MB/{n}.pt" for n in (1, 10, 2, 3)]

    assert select_shards(keys, "10MB/", file_limit=2) == ["10MB/1.pt", "10MB/2.pt"]


@pytest.mark.parametrize(("row_limit", "rows"), [(None, [3, 0, 4]), (2, [2]), (3, [3]), (5, [3, 0, 2]), (9, [3, 0, 4])])
def test_a_row_limit_takes_the_first_rows(row_limit: int | None, rows: list[int]) -> None:
    shards = [make_shard(f"{n}.pt", num_rows=size) for n, size in enumerate([3, 0, 4])]

    assert [shard.num_rows for shard in first_rows(shards, row_limit)] == rows


def test_only_shards_directly_in_the_folder_count() -> None:
    keys = ["d/0.safetensors", "d/._0.safetensors", "d/dataset.json", "d/old/1.safetensors"]

    assert select_shards(keys, "d/", file_limit=None) == ["d/0.safetensors"]


def test_an_empty_prefix_and_one_without_shards_are_told_apart() -> None:
    with pytest.raises(DatasetNotFoundError, match="There is nothing under d/"):
        select_shards([], "d/", file_limit=None)
    with pytest.raises(
        DatasetNotFoundError, match=r"d/ holds 2 objects and folders \(first d/notes.txt\) but no shard"
    ):
        select_shards(iter(["d/notes.txt", "d/old/"]), "d/", file_limit=None)


def test_more_ranks_than_rows_are_refused() -> None:
    with pytest.raises(PlanError, match="at most 10"):
        plan_tasks(make_request(world_size=11), [make_shard(num_rows=10)], LIMITS, run_id=RUN)


def plan_one(shard: Shard, limits: Limits = LIMITS, **request_keys: object) -> RankTask:
    (task,) = plan_tasks(make_request(world_size=1, **request_keys), [shard], limits, run_id=RUN)
    return task


def test_a_rank_that_would_outlast_the_timeout_is_refused_with_a_world_size_that_fits() -> None:
    shards = [make_shard(num_rows=1_000_000)]

    with pytest.raises(PlanError, match="Use world_size 12 or more"):
        plan_tasks(make_request(world_size=1), shards, LIMITS, run_id=RUN)
    plan_tasks(make_request(world_size=12), shards, LIMITS, run_id=RUN)


@pytest.mark.parametrize(("memory_mb", "num_rows"), [(1000, 88_000), (1769, 88_000), (3537, 88_000), (3538, 176_000)])
def test_a_rank_may_take_all_of_the_timeout_on_every_vcpu(memory_mb: int, num_rows: int) -> None:
    limits = Limits(memory_mb=memory_mb, timeout_s=900)

    plan_one(make_shard(num_rows=num_rows), limits)
    with pytest.raises(PlanError, match=f"Rank 0 has {num_rows + 1} rows, about 900 s.* Use world_size 2 or more"):
        plan_one(make_shard(num_rows=num_rows + 1), limits)


def test_the_rank_with_most_rows_decides_whether_all_fit() -> None:
    shards = [make_shard(f"{n}.pt", num_rows=size, size_bytes=0) for n, size in enumerate([5, 100_000, 7])]

    with pytest.raises(PlanError, match="Rank 1 has 100000 rows"):
        plan_tasks(make_request(world_size=3), shards, LIMITS, run_id=RUN)


def test_where_no_row_fits_one_row_a_rank_is_the_most_that_is_proposed() -> None:
    with pytest.raises(PlanError, match="Use world_size 10 or more"):
        plan_one(make_shard(num_rows=10), Limits(memory_mb=1769, timeout_s=15))


def test_a_whole_file_is_held_twice_beside_the_process_and_its_blocks() -> None:
    size_bytes = (1769 - 620 - 64) * 2**20 // 2

    plan_one(make_shard("0.pt", num_rows=1000, size_bytes=size_bytes))
    plan_one(make_shard("0.safetensors", num_rows=1000, size_bytes=2 * size_bytes))
    with pytest.raises(PlanError, match="needs about 1770 MB; the function has 1769 MB"):
        plan_one(make_shard("0.pt", num_rows=1000, size_bytes=size_bytes + 1))


def test_a_large_profiled_batch_counts_as_memory_as_far_as_there_are_rows() -> None:
    plan_one(make_shard(num_rows=20_000), batch_size=1_896, profile=True)
    plan_one(make_shard(num_rows=1_896), batch_size=20_000, profile=True)
    plan_one(make_shard(num_rows=20_000), batch_size=20_000)
    with pytest.raises(PlanError, match="smaller batch_size"):
        plan_one(make_shard(num_rows=20_000), batch_size=1_897, profile=True)


def test_what_a_model_needs_is_what_was_measured_of_it_and_astromae_s_where_nothing_was() -> None:
    assert Demand.of(make_card()) == Demand()
    measured = Demand.of(make_card(process_memory_mb=700, rows_per_s=500.0))
    assert (measured.process_memory_bytes, measured.rows_per_s) == (700 * 2**20, 250.0)
    small_and_fast = Demand.of(make_card(process_memory_mb=100, rows_per_s=1e6))
    assert (small_and_fast.process_memory_bytes, small_and_fast.rows_per_s) == (620 * 2**20, 2_000)


def test_large_cutouts_take_six_blocks_of_32_rows() -> None:
    inputs = msgspec.structs.replace(make_card().inputs, bands=tuple("ugrizyjh"), side_px=128)
    large = make_card(inputs=inputs, photometry=None, domain=None)

    assert Demand.of(large).block_memory_bytes == 6 * 32 * large.inputs.row_bytes


def test_a_task_that_exceeds_the_state_payload_is_refused() -> None:
    shards = [make_shard(f"{n}.safetensors", num_rows=1) for n in range(3000)]

    with pytest.raises(PlanError, match=r"Rank 0 reads 3000 shards.*payload holds 237568\. Use world_size 2 or more"):
        plan_tasks(make_request(world_size=1), shards, LIMITS, run_id=RUN)
    shards.append(make_shard("3000.safetensors", num_rows=3000))
    with pytest.raises(PlanError, match="Rank 0 reads 3000 shards"):
        plan_tasks(make_request(world_size=2), shards, LIMITS, run_id=RUN)


def test_tasks_that_exceed_what_a_map_reads_are_refused_with_a_world_size_that_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shards = [make_shard(num_rows=30)]
    monkeypatch.setattr("inference.plan.MAX_MANIFEST_BYTES", 5_000)

    with pytest.raises(PlanError, match=r"The tasks of 30 ranks take .* Use world_size (\d+) or less") as refused:
        plan_tasks(make_request(world_size=30), shards, LIMITS, run_id=RUN)

    most = int(str(refused.value).split("world_size ")[1].split()[0])
    plan_tasks(make_request(world_size=most), shards, LIMITS, run_id=RUN)
    with pytest.raises(PlanError, match="Use world_size"):
        plan_tasks(make_request(world_size=most + 1), shards, LIMITS, run_id=RUN)


def test_quotas_are_those_that_aws_states_and_a_row_is_a_published_one() -> None:
    assert (plan.MAX_CHILDREN, plan.MAX_MANIFEST_BYTES, plan.ROW_BYTES) == (10_000, 10_000_000_000, 20_520)


def test_a_task_says_all_that_its_rank_needs() -> None:
    shard = msgspec.structs.replace(make_shard(num_rows=10), sha256="a" * 64, crc32=b"1234")
    request = make_request(
        world_size=2, data_bucket="data", profile=True, engine="torch", batch_size=7, precision="bf16"
    )
    limits = Limits(memory_mb=1769, timeout_s=900, qualifier="7")

    _, task = plan_tasks(request, [shard], limits, run_id=RUN, bands=tuple("griz"))

    rows = RowRange(
        key=shard.key,
        start_row=5,
        stop_row=10,
        etag=shard.etag,
        sha256=shard.sha256,
        crc32=shard.crc32,
        size_bytes=shard.size_bytes,
    )
    assert task == make_task(
        rank=1,
        world_size=2,
        num_samples=5,
        data_bucket="data",
        rows=(rows,),
        batch_size=7,
        profile=True,
        engine="torch",
        precision="bf16",
        bands=tuple("griz"),
        qualifier="7",
        deadline_s=60,
    )
    assert plan_one(make_shard(num_rows=10)).rows == (
        RowRange(key=shard.key, start_row=0, stop_row=10, etag=shard.etag),
    )


def test_three_ranks_can_name_1100_shards() -> None:
    shards = [make_shard(f"{n}.safetensors", num_rows=2) for n in range(1100)]

    tasks = plan_tasks(make_request(world_size=3), shards, LIMITS, run_id=RUN)

    assert [task.num_samples for task in tasks] == [733, 733, 734]


def test_the_same_request_gives_the_same_plan() -> None:
    shards = [make_shard(f"{n}.safetensors", num_rows=7) for n in range(5)]

    plan, again = (plan_tasks(make_request(world_size=4), shards, LIMITS, run_id=RUN) for _ in range(2))

    assert list(plan) == list(again)
    assert [task.rank for task in plan] == [0, 1, 2, 3]


def test_tasks_are_taken_out_of_a_plan_as_out_of_a_list() -> None:
    plan = plan_tasks(make_request(world_size=5), [make_shard(num_rows=7)], LIMITS, run_id=RUN)

    assert (len(plan), len(plan[1:4]), len(plan[3:9])) == (5, 3, 2)
    assert [task.rank for task in plan[1:4]] == [plan[rank].rank for rank in (1, 2, 3)] == [1, 2, 3]
    assert (plan[-1].rank, plan[1:4][-1].rank) == (4, 3)
    with pytest.raises(IndexError):
        plan[5]


@pytest.mark.parametrize(
    ("num_rows", "request_keys", "deadline_s"),
    [
        (10, {}, 60),
        (5_000, {}, 20 + 4 * 50),
        (21_975, {}, 899),
        # The function itself ends at 900 s.
        (22_000, {}, NO_DEADLINE_S),
        (30_000, {}, NO_DEADLINE_S),
        (10, {"backup": False}, NO_DEADLINE_S),
        # Ranks that meet are there once.
        (10, {"fmi_enabled": True}, NO_DEADLINE_S),
    ],
)
def test_a_rank_is_invoked_again_after_four_times_what_its_rows_should_take(
    num_rows: int, request_keys: dict[str, bool], deadline_s: int
) -> None:
    (task,) = plan_tasks(make_request(**request_keys), [make_shard(num_rows=num_rows)], LIMITS, run_id=RUN)

    assert task.deadline_s == deadline_s
