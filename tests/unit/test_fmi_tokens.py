"""Names that prove that a rank belongs to a run."""

import subprocess
import sys

import pytest

from inference.fmi import tokens
from inference.fmi.tokens import RunToken
from inference.fmi.wire import ProtocolError, Status

KEY = b"k" * 32
NOW_S = 1_700_000_000


def make_token(*, key: bytes = KEY, run_id: str = "run-42", expires_at_s: int = NOW_S + 60) -> RunToken:
    return tokens.mint(key, run_id, expires_at_s=expires_at_s)


def test_a_name_is_what_the_documented_formula_gives() -> None:
    # Computed by openssl dgst -sha256 -hmac, of the run's text and, with the result as the key, of the name's.
    assert make_token().name(1, 0) == b"run-42.0_1.JZ2DvEKzMOvrmi3XZwBOEL.1700000060"


def test_a_name_of_the_run_is_let_in_until_it_expires() -> None:
    name = make_token().name(3, 12)

    assert tokens.check(KEY, name, now_s=NOW_S + 60) is Status.OK
    assert tokens.check(KEY, name, now_s=NOW_S + 60.1) is Status.TOKEN_EXPIRED


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"run-42", b"run-43"), (b".3_12.", b".3_13."), (b".1700000060", b".1800000060"), (b".3_12.", b".12_3.")],
)
def test_a_name_that_was_changed_is_refused(old: bytes, new: bytes) -> None:
    name = make_token().name(3, 12).replace(old, new)

    assert tokens.check(KEY, name, now_s=NOW_S) is Status.TOKEN_INVALID


@pytest.mark.parametrize("name", [b"", b"run42_0_1", b"a.0_1.short.1", b"\xff" * 100, b"a.0_1." + b"s" * 22 + b".x"])
def test_what_is_no_signed_name_is_refused(name: bytes) -> None:
    assert tokens.check(KEY, name, now_s=NOW_S) is Status.TOKEN_INVALID


def test_the_key_of_another_server_is_of_no_use() -> None:
    assert tokens.check(KEY, make_token(key=b"q" * 32).name(0, 1), now_s=NOW_S) is Status.TOKEN_INVALID


def test_a_rank_cannot_make_a_name_of_another_run_or_of_a_later_time() -> None:
    ours = make_token()
    stolen = RunToken(run="run-43", expires_at_s=ours.expires_at_s, key=ours.key)
    prolonged = RunToken(run=ours.run, expires_at_s=ours.expires_at_s + 1, key=ours.key)

    assert tokens.check(KEY, stolen.name(0, 1), now_s=NOW_S) is Status.TOKEN_INVALID
    assert tokens.check(KEY, prolonged.name(0, 1), now_s=NOW_S) is Status.TOKEN_INVALID


def test_a_rank_is_never_given_the_key_of_the_server() -> None:
    token = make_token()

    assert KEY not in (token.key, token.peer_key())
    assert token.key != token.peer_key()


@pytest.mark.parametrize("run_id", ["r" * 80, "späte Galaxien", "a/b", "r" * 48, "with.dots.0_1"])
def test_any_run_id_fits_with_the_ranks_of_the_largest_map(run_id: str) -> None:
    name = make_token(run_id=run_id).name(9999, 10000)

    assert len(name) <= 100
    assert tokens.check(KEY, name, now_s=NOW_S) is Status.OK


def test_long_run_ids_that_begin_alike_keep_apart() -> None:
    assert tokens.run_label("r" * 79 + "a") != tokens.run_label("r" * 79 + "b")


def test_a_token_survives_a_payload_and_is_not_printed() -> None:
    token = make_token()

    assert RunToken.from_text(token.to_text()) == token
    assert "key" not in repr(token)


@pytest.mark.parametrize("text", ["", "run.1", "run.1.short", "a b.1." + "A" * 43, "r" * 49 + ".1." + "A" * 43])
def test_what_is_no_token_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        RunToken.from_text(text)

    assert not text or text not in str(caught.value)


def test_a_key_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ProtocolError, match="at least 32"):
        make_token(key=b"secret")


def test_names_and_tokens_load_neither_numpy_nor_torch() -> None:
    program = "import sys, inference.fmi.tokens; print(sorted({'numpy', 'torch', 'msgspec', 'boto3'} & {*sys.modules}))"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "[]"
