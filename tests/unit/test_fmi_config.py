import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference import fmi
from inference.errors import FmiError, MessageMismatchError
from inference.fmi import tokens
from inference.fmi.config import Config, read_config


def document(**direct: object) -> dict[str, Any]:
    direct = {"enabled": True, "host": "example.org", "port": 10001, "max_timeout": 5000} | direct
    return {"backends": {"S3": {"enabled": False}, "Direct": direct}, "model": {}}


def test_a_file_of_fmi_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "fmi.json"
    path.write_text(json.dumps(document()))

    config = read_config(str(path))

    assert (config.host, config.port, config.timeout_s, config.token) == ("example.org", 10001, 5.0, None)


def test_what_a_file_leaves_out_is_as_documented() -> None:
    config = read_config({"backends": {"Direct": {"host": "example.org"}}})

    assert config == Config(host="example.org")
    assert (config.port, config.timeout_s, config.max_message_bytes) == (10000, 60.0, 2**30)
    assert read_config(config) is config


def test_ranks_of_two_communicators_do_not_meet_whether_they_have_a_token_or_not() -> None:
    token = tokens.mint(b"k" * 32, "run-1", expires_at_s=2_000_000_000)
    store = object()
    signed, plain = (Config(host="h", port=1, token=one, paths=("store",), store=store) for one in (token, None))  # type: ignore[arg-type]

    venue = signed.venue("a")
    assert (venue.host, venue.port, venue.paths, venue.store, venue.store_prefix) == ("h", 1, ("store",), store, "a/")
    assert (venue.name(1, 0), plain.venue("a").name(1, 0)) == (token.name(0, 1), b"a.0_1")
    keys = [config.venue(name).key for config in (signed, plain) for name in "ab"]
    assert len(set(keys)) == 4
    assert {len(key) for key in keys} == {32}


def test_a_token_in_it_is_kept() -> None:
    token = tokens.mint(b"k" * 32, "run-1", expires_at_s=2_000_000_000)

    assert read_config(document(token=token.to_text())).token == token


@pytest.mark.parametrize(
    "source", ["/nowhere/fmi.json", {}, {"backends": {}}, document(port="many"), document(enabled="false")]
)
def test_a_configuration_without_a_server_is_one_error(source: object) -> None:
    with pytest.raises(FmiError, match=r"backends\.Direct"):
        read_config(source)  # type: ignore[arg-type]


@pytest.mark.parametrize(("rank", "size"), [(-1, 2), (2, 2), (0, 0)])
def test_a_rank_out_of_range_is_refused(rank: int, size: int) -> None:
    with pytest.raises(FmiError, match="There is no rank"):
        fmi.Communicator(rank, size, document(), "test")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (fmi.types(fmi.datatypes.int), 2**31),
        (fmi.types(fmi.datatypes.int), 1.5),
        (fmi.types(fmi.datatypes.int), [1]),
        (fmi.types(fmi.datatypes.double), "1.0"),
        (fmi.types(fmi.datatypes.double), None),
        (fmi.types(fmi.datatypes.int_list, 2), [1, 2, 3]),
        (fmi.types(fmi.datatypes.double_list, 2), [[1.0, 2.0]]),
    ],
)
def test_a_value_that_is_not_of_its_type_is_refused(kind: fmi.types, value: object) -> None:
    with pytest.raises(MessageMismatchError):
        kind.to_array(value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (fmi.types(fmi.datatypes.int), -(2**31)),
        (fmi.types(fmi.datatypes.int), True),
        (fmi.types(fmi.datatypes.double), 14.2),
        (fmi.types(fmi.datatypes.double), 3),
        (fmi.types(fmi.datatypes.int_list, 2), [1, 2]),
        (fmi.types(fmi.datatypes.double_list, 2), [1.32, 2.34]),
    ],
)
def test_a_value_of_its_type_comes_back(kind: fmi.types, value: object) -> None:
    assert kind.to_value(kind.to_array(value)) == value


def test_a_custom_operation_without_a_function_is_refused() -> None:
    with pytest.raises(TypeError, match="lambda"):
        _ = fmi.func(fmi.op.custom).operation


def test_integers_are_not_widened_by_a_reduction() -> None:
    small = np.array([100], np.int8)

    assert fmi.SUM(small, small).dtype == np.int8
