"""The manifest is read in pieces, in whichever form it is written, and is the planned one or refused."""

import hashlib
import json

import msgspec
import pytest

from handlers import manifest
from handlers.manifest import Manifest
from inference import contract
from inference.contract import RankTask
from inference.errors import InvalidRequestError, ManifestError
from tests.factories import make_plan, make_request, make_task

NUM_RANKS = 7
TASKS = [make_task(rank=rank, world_size=NUM_RANKS, num_samples=3) for rank in range(NUM_RANKS)]
PLAN = make_plan(3 * NUM_RANKS, request=make_request(world_size=NUM_RANKS))
ONE_A_LINE = b"[\n" + b",\n".join(map(msgspec.json.encode, TASKS)) + b"\n]\n"
FORMS = {"as written": contract.encode(TASKS), "one a line": ONE_A_LINE, "compact": msgspec.json.encode(TASKS)}


class Stored:
    """One object, read as S3 reads: a range that begins behind its end is refused."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.most_bytes = 0

    def read_range(self, key: str, start: int, stop: int) -> memoryview:
        assert key == PLAN.manifest_key
        assert start < len(self.content), "416"
        self.most_bytes = max(self.most_bytes, stop - start)
        return memoryview(self.content[start:stop])


def read(content: bytes) -> list[RankTask]:
    return list(Manifest(Stored(content), PLAN))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_pieces", [0.5, 1, 2, 5, 50])
def test_every_form_is_read_in_pieces_of_any_size(
    form: str, num_pieces: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = FORMS[form]
    # As many pieces as there are, and one byte more or less: the last one is full, or nearly so.
    for size_bytes in {int(len(content) / num_pieces) + more for more in (-1, 0, 1)}:
        monkeypatch.setattr(manifest, "PIECE_BYTES", size_bytes)
        store = Stored(content)
        planned = Manifest(store, PLAN)

        assert list(planned) == TASKS
        assert list(planned) == TASKS, "it can be read again"
        assert store.most_bytes <= size_bytes + 1


def test_few_tasks_are_in_memory_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = contract.decode
    monkeypatch.setattr(manifest, "PIECE_BYTES", 2 * len(contract.encode(TASKS[:1])))
    monkeypatch.setattr(
        contract, "decode", lambda text, kind, **where: decoded.append(len(text)) or decode(text, kind, **where)
    )

    assert read(FORMS["as written"]) == TASKS
    assert max(decoded) < len(FORMS["as written"]) / 2


@pytest.mark.parametrize("size_bytes", [100, 10_000])
def test_what_is_no_task_is_refused_wherever_it_is(size_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "PIECE_BYTES", size_bytes)
    text = FORMS["as written"].decode()
    damaged = (text[: len(text) // 2], text.replace('"rank": 5', '"rank": -5'), text[:-1], "junk", "{}", "[1]")

    for content in damaged:
        with pytest.raises(InvalidRequestError, match=r"manifest\.json is not a"):
            read(content.encode())


@pytest.mark.parametrize("size_bytes", [100, 10_000])
def test_other_tasks_than_the_planned_are_refused(size_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "PIECE_BYTES", size_bytes)
    document = json.loads(FORMS["compact"])

    for other in ([], document[:3], document[1:], [*document, document[6]], document[::-1]):
        with pytest.raises(ManifestError, match="planned were 7"):
            read(json.dumps(other, indent=2).encode())


@pytest.mark.parametrize("size_bytes", [100, 10_000])
def test_a_manifest_of_other_rows_is_refused_by_its_checksum(size_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "PIECE_BYTES", size_bytes)
    content = FORMS["as written"]
    plan = msgspec.structs.replace(PLAN, manifest_sha256=hashlib.sha256(content).hexdigest())
    shifted = content.replace(b'"start_row": 0', b'"start_row": 1')
    assert shifted != content

    assert list(Manifest(Stored(content), plan)) == TASKS
    with pytest.raises(ManifestError, match="another checksum than planned"):
        list(Manifest(Stored(shifted), plan))


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("ranks/00000.json", True),
        ("predictions/00006.npz", True),
        ("failures/00003.json", True),
        ("ranks/00007.json", False),
        ("ranks/3.json", False),
        ("ranks/00003.npz", False),
        ("ranks/00003", False),
        ("ranks/-0003.json", False),
        ("ranks/x/00003.json", False),
        ("ranks/" + "9" * 5_000 + ".json", False),
        ("ranks/\u0663.json", False),
    ],
)
def test_a_key_belongs_to_a_rank_or_to_none(name: str, is_ours: bool) -> None:
    assert contract.is_rank_key(PLAN.run_prefix + name, PLAN.run_prefix, NUM_RANKS) == is_ours


def test_keys_of_many_ranks_have_more_digits() -> None:
    keys = contract.rank_keys("runs/a/", 123_456).values()

    assert all(contract.is_rank_key(key, "runs/a/", 123_457) for key in keys)
    assert not any(contract.is_rank_key(key, "runs/a/", 123_456) for key in keys)
