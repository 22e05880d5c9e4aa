import pytest

from inference.fmi import tree

SIZES = range(1, 34)


@pytest.mark.parametrize("size", SIZES)
def test_every_root_spans_all_ranks_over_the_same_connections(size: int) -> None:
    connections = {frozenset((rank, other)) for rank in range(size) for other in tree.neighbours(rank, size)}

    for root in range(size):
        places = {rank: tree.place(rank, size, root) for rank in range(size)}
        reached, front = {root}, [root]
        while front:
            front = [child for rank in front for child in places[rank].children]
            assert not reached & set(front)
            reached |= set(front)
        used = {frozenset((rank, place.parent)) for rank, place in places.items() if place.parent is not None}
        assert reached == set(range(size))
        assert places[root].parent is None
        assert used == connections
    assert len(connections) == size - 1


@pytest.mark.parametrize("size", SIZES)
def test_no_rank_is_further_from_0_than_the_logarithm_of_their_number(size: int) -> None:
    assert max(len(tree.path(rank)) - 1 for rank in range(size)) <= (size - 1).bit_length()


@pytest.mark.parametrize("size", SIZES)
def test_what_is_under_the_neighbours_is_everyone_else(size: int) -> None:
    for rank in range(size):
        found = [one for other in tree.neighbours(rank, size) for one in tree.under(rank, other, size)]

        assert sorted([*found, rank]) == list(range(size))


@pytest.mark.parametrize("size", SIZES)
def test_a_fold_keeps_the_order_of_the_ranks(size: int) -> None:
    letters = [chr(0x100 + rank) for rank in range(size)]

    assert tree.fold(letters, lambda first, second: first + second) == "".join(letters)


def test_a_fold_brackets_as_the_ranks_do() -> None:
    assert tree.fold(list("01234"), lambda one, other: f"({one}{other})") == "(((01)(23))4)"


def test_the_ring_is_closed() -> None:
    assert [tree.ring(rank, 3) for rank in range(3)] == [(2, 1), (0, 2), (1, 0)]
