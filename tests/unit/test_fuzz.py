"""A few damages of everything that is read from outside; `make fuzz` tries more."""

import pytest

from tests.fuzz import INPUTS, Input, damage, explore


@pytest.mark.parametrize("name", INPUTS)
def test_a_damaged_input_is_read_or_refused_by_name(name: str) -> None:
    assert explore(INPUTS[name], 1, num_examples=20)


def test_every_input_is_read_when_it_is_whole_and_something_of_each_is_refused() -> None:
    assert damage(b"abcdef", [("delete", 0.5, b"", 2)]) == b"abcf"


def test_an_error_that_is_not_ours_is_not_taken_for_a_refusal() -> None:
    def read(content: bytes, _folder: object) -> None:
        raise KeyError(content)

    with pytest.raises(KeyError):
        explore(Input(lambda: [b"seed"], read), 1, num_examples=1)
