import pytest

from inference.fmi.hello import Handshake

KEY = b"k" * 32


def shake(first: Handshake, second: Handshake) -> None:
    """Carry what both say to the other, as far as it goes."""
    to_second, to_first = first.hello(), second.hello()
    while to_second or to_first:
        to_second, to_first = (
            (first.feed(to_first) if to_first else b""),
            (second.feed(to_second) if to_second else b""),
        )


def pair(
    *, ranks: tuple[int, int] = (0, 1), wants: tuple[int, int] = (1, 0), keys: tuple[bytes, bytes] = (KEY, KEY)
) -> tuple[Handshake, Handshake]:
    first, second = (Handshake(rank, want, key, set()) for rank, want, key in zip(ranks, wants, keys, strict=True))
    shake(first, second)
    return first, second


def test_two_ranks_of_a_run_prove_it_and_the_lower_one_chooses() -> None:
    low, high = pair()
    assert (low.is_proven, high.is_proven, high.is_chosen) == (True, True, False)

    high.feed(low.choose())

    assert (low.is_chosen, high.is_chosen) == (True, True)


def test_who_lacks_the_key_proves_nothing() -> None:
    low, high = pair(keys=(KEY, b"x" * 32))

    assert (low.is_proven, high.is_proven) == (False, False)
    assert "key" in low.refusal
    assert "key" in high.refusal


def test_another_rank_of_the_run_is_refused() -> None:
    low, _ = pair(ranks=(0, 2))

    assert not low.is_proven
    assert low.refusal == "it is rank 2 and looks for rank 0"


def test_a_second_process_of_the_same_rank_is_found_out() -> None:
    one, other = pair(ranks=(0, 0), wants=(1, 1))

    assert (one.is_own_rank, other.is_own_rank) == (True, True)


def test_an_echo_is_no_second_process() -> None:
    nonces: set[bytes] = set()
    one, other = Handshake(0, 1, KEY, nonces), Handshake(0, 1, KEY, nonces)

    shake(one, other)

    assert (one.is_own_rank, one.is_proven) == (False, False)
    assert "sent back" in one.refusal


def test_a_choice_without_the_key_is_refused() -> None:
    _, high = pair()

    high.feed(bytes(32))

    assert not high.is_chosen
    assert high.refusal


def test_a_proof_of_one_connection_is_worth_nothing_on_another() -> None:
    low, _ = pair()
    _, other_high = pair()

    other_high.feed(low.choose())

    assert not other_high.is_chosen


@pytest.mark.parametrize("speech", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", bytes(200)])
def test_a_stranger_is_refused_at_its_first_words(speech: bytes) -> None:
    low = Handshake(0, 1, KEY, set())

    answer = low.feed(speech[: low.num_bytes_wanted])

    assert answer == b""
    assert "protocol" in low.refusal
