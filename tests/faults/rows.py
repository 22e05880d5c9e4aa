"""The table: stage, call, what happens, and how a run must end."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from inference import contract
from tests.factories import make_arrays, make_plan, make_shard_bytes, make_task
from tests.faults.bucket import (
    Reply,
    break_off,
    halve,
    hang_up,
    hang_up_after,
    longer,
    lose,
    lying,
    nothing,
    other_tag,
    page,
    refuse,
    rename,
    shifted,
    stall,
    whole,
    without,
)
from tests.faults.world import (
    PREFIX,
    ROWS_PER_SHARD,
    RUN,
    Trouble,
    World,
    dies,
    dies_after,
    edit,
    fails_with,
    has_a_bug,
    is_late,
    make_card,
    shard,
)

Arrange = Callable[[World], object]


@dataclass(frozen=True)
class Row:
    """One fault."""

    stage: str
    """Where in a run it happens."""

    what: str
    """What happens."""

    end: str
    """How the run ends: `Outcome.words`."""

    names: str
    """What the error or the note must name."""

    arrange: Arrange

    @property
    def id(self) -> str:
        """Name of the test."""
        return f"{self.stage}: {self.what}"


@dataclass(frozen=True)
class Call:
    """One request that a run makes."""

    stage: str
    words: str
    method: str
    keys: str
    lost: str
    """How the run ends when it never succeeds, the error's name open."""

    names: str
    """What is named then."""

    def fails(self, error: str) -> str:
        """Return that end."""
        return self.lost.replace("ERROR", error)


IN_RUN = f"^runs/{RUN}/"
CALLS = (
    Call("Initialize", "listing the dataset", "LIST", "^d/$", "refused: ERROR", "s3://b/d/"),
    Call("Initialize", "reading dataset.json", "GET", "^d/dataset[.]json$", "refused: ERROR", "d/dataset.json"),
    Call("Initialize", "writing manifest.json", "PUT", f"{IN_RUN}manifest[.]json$", "refused: ERROR", "manifest.json"),
    Call("Initialize", "writing plan.json", "PUT", f"{IN_RUN}plan[.]json$", "refused: ERROR", "plan.json"),
    Call("Infer", "reading a shard", "GET", "^d/1[.]safetensors$", "lost: 1 ERROR, 2 ERROR", "d/1.safetensors"),
    Call("Infer", "writing predictions", "PUT", f"{IN_RUN}predictions/00002", "lost: 2 ERROR", "predictions/00002.npz"),
    Call("Infer", "writing a record", "PUT", f"{IN_RUN}ranks/00002", "lost: 2 ERROR", "ranks/00002.json"),
    Call("Summarize", "reading the manifest", "GET", f"{IN_RUN}manifest[.]json$", "refused: ERROR", "manifest.json"),
    Call("Summarize", "listing ranks/", "LIST", f"{IN_RUN}ranks/$", "refused: ERROR", "ranks/"),
    Call("Summarize", "listing failures/", "LIST", f"{IN_RUN}failures/$", "refused: ERROR", "failures/"),
    Call("Summarize", "listing predictions/", "LIST", f"{IN_RUN}predictions/$", "refused: ERROR", "predictions/"),
    Call("Summarize", "reading a record", "GET", f"{IN_RUN}ranks/00002", "refused: ERROR", "ranks/00002.json"),
    Call("Summarize", "writing combined_data.json", "PUT", f"{IN_RUN}combined_data", "refused: ERROR", "combined_data"),
    Call("Summarize", "writing summary.json", "PUT", f"{IN_RUN}summary", "refused: ERROR", "summary.json"),
)


def table() -> list[Row]:
    """Return every row."""
    return [*storage(), *answers(), *invocations(), *datasets(), *shards(), *requests(), *left_behind()]


def _faulty(call: Call, reply: Reply, times: int = 10**9) -> Arrange:
    return lambda world: world.fault(call.method, call.keys, reply, times)


def storage() -> Iterator[Row]:
    """Every request of a run, with what S3 may do to it for a while or for ever."""
    for call in CALLS:
        for words, reply, times in (
            ("503 SlowDown, twice", refuse(503, "SlowDown"), 2),
            ("no answer, the connection closed", hang_up, 1),
        ):
            yield Row(call.stage, f"{call.words}: {words}", "complete", "", _faulty(call, reply, times))
        if call.method == "PUT":
            what = f"{call.words}: done, but the answer lost"
            yield Row(call.stage, what, "complete", "", _faulty(call, hang_up_after, 1))
        if call.method == "GET":
            what = f"{call.words}: the body breaks off"
            yield Row(call.stage, what, "complete", "", _faulty(call, break_off, 1))
        denied = call.fails("AccessDeniedError")
        yield Row(call.stage, f"{call.words}: 403", denied, call.names, _faulty(call, refuse(403, "AccessDenied")))
    for call in CALLS[0], CALLS[4], CALLS[5], CALLS[12]:
        ever = call.fails("StorageUnavailableError")
        for words, reply in (("503 for ever", refuse(503, "SlowDown")), ("400 for ever", refuse(400, "BadRequest"))):
            yield Row(call.stage, f"{call.words}: {words}", ever, call.names, _faulty(call, reply))
    yield Row("Infer", "reading a shard: no answer for too long, once", "complete", "", _faulty(CALLS[4], stall, 1))
    yield Row("Initialize", "every request: 429, twice", "complete", "", _every(refuse(429, "TooManyRequests"), 2))


def _every(reply: Reply, times: int) -> Arrange:
    def arrange(world: World) -> None:
        for call in CALLS:
            world.fault(call.method, call.keys, reply, times)

    return arrange


def answers() -> Iterator[Row]:
    """What a server may say that is not true."""
    shard_read = CALLS[4]
    lost = "lost: 1 {0}, 2 {0}".format
    unavailable, changed = lost("StorageUnavailableError"), lost("ShardChangedError")
    for words, reply, times, end, names in (
        ("the whole shard instead of a range, once", whole, 1, "complete", ""),
        ("the whole shard instead of a range, always", whole, 10**9, unavailable, "d/1.safetensors"),
        ("another range, and it says so", shifted, 10**9, unavailable, "d/1.safetensors"),
        ("other bytes, once", lying, 1, "lost: 1 ShardFormatError", "d/1.safetensors"),
        ("other bytes, always", lying, 10**9, lost("ShardFormatError"), "d/1.safetensors"),
        ("5,000 bytes more than asked for, always", longer, 10**9, unavailable, "d/1.safetensors"),
        ("another entity tag", other_tag, 10**9, changed, "d/1.safetensors"),
        ("412", refuse(412, "PreconditionFailed"), 10**9, changed, "d/1.safetensors"),
        ("archived", refuse(403, "InvalidObjectState"), 10**9, lost("ObjectArchivedError"), "d/1.safetensors"),
        ("404", refuse(404, "NoSuchKey"), 10**9, changed, "d/1.safetensors"),
        ("416", refuse(416, "InvalidRange"), 10**9, lost("ShardFormatError"), "d/1.safetensors"),
        ("a web page", page, 10**9, unavailable, "d/1.safetensors"),
    ):
        yield Row("Infer", f"reading a shard: {words}", end, names, _faulty(shard_read, reply, times))
    yield Row(
        "Initialize",
        "listing the dataset: empty, though it is there",
        "refused: StorageUnavailableError",
        "s3://b/d/ is empty, and yet",
        _faulty(CALLS[0], nothing),
    )
    portal = _faulty(CALLS[0], page)
    yield Row("Initialize", "listing the dataset: a web page", "refused: StorageUnavailableError", "d/", portal)
    yield Row(
        "Infer",
        "writing predictions: answered, not stored",
        "lost: 2 MissingPredictions",
        "predictions/00002.npz",
        _faulty(CALLS[5], lose),
    )
    yield Row(
        "Infer",
        "writing a record: answered, not stored",
        "lost: 2 MissingRecord",
        "ranks/00002.json",
        _faulty(CALLS[6], lose),
    )
    for call, error in ((CALLS[5], "WrongPredictions"), (CALLS[6], "UnreadableRecord")):
        end = call.fails(error)
        yield Row("Infer", f"{call.words}: answered, stored by half", end, call.names, _faulty(call, halve))
    what = "writing predictions: answered with another entity tag"
    yield Row("Infer", what, "complete", "", _faulty(CALLS[5], rename))
    for call, name in ((CALLS[8], "00002.json"), (CALLS[10], "00002.npz")):
        what = f"{call.words}: the listing lacks one"
        yield Row("Summarize", what, "complete", "", _faulty(call, without(name)))
    yield Row(
        "Summarize",
        "reading the manifest: gone",
        "refused: ObjectMissingError",
        "manifest.json",
        _faulty(CALLS[7], refuse(404, "NoSuchKey")),
    )
    yield Row(
        "Initialize",
        "the bucket does not exist",
        "refused: DatasetNotFoundError",
        "bucket b does not exist",
        _faulty(CALLS[0], refuse(404, "NoSuchBucket")),
    )


def _trouble(state: str, act: Any, rank: int | None = None, times: int = 10**9) -> Arrange:
    return lambda world: world.troubles.append(Trouble(state, act, rank, times))


def invocations() -> Iterator[Row]:
    """What may happen to a function."""
    for stage, rank in (("Initialize", None), ("Infer", 2), ("Summarize", None)):
        whole_run = stage != "Infer"
        exits = "refused: Runtime.ExitError" if whole_run else "lost: 2 Runtime.ExitError"
        for words, act in (("killed at its start", dies), ("killed when all is done", dies_after)):
            yield Row(stage, f"{words}, once", "complete", "", _trouble(stage, act, rank, 1))
            if act is dies or stage != "Infer":
                end = exits if act is dies or stage == "Initialize" else "complete, but FAILED: Runtime.ExitError"
                if not end.startswith("complete"):
                    yield Row(stage, f"{words}, always", end, "signal: killed", _trouble(stage, act, rank))
        bug = "refused: ValueError" if whole_run else "lost: 2 ValueError"
        yield Row(stage, "a bug", bug, "unexpected", _trouble(stage, has_a_bug(ValueError("unexpected")), rank))
        for name, times in (
            ("TooManyRequestsException", 40),
            ("ServiceException", 6),
            ("ResourceNotReadyException", 14),
        ):
            yield Row(
                stage,
                f"Lambda.{name}, {times} times",
                "complete",
                "",
                _trouble(stage, fails_with(f"Lambda.{name}"), rank, times),
            )
        for name in ("Runtime.OutOfMemory", "Sandbox.Timedout"):
            end = f"refused: {name}" if whole_run else f"lost: 2 {name}"
            yield Row(stage, name, end, name, _trouble(stage, fails_with(name), rank))
    throttled = fails_with("Lambda.TooManyRequestsException")
    end = "lost: 2 Lambda.TooManyRequestsException"
    yield Row("Infer", "no room in Lambda for ever", end, "TooManyRequests", _trouble("Infer", throttled, 2))
    surrogate = has_a_bug(ValueError("a lone \ud800 surrogate"))
    yield Row(
        "Infer", "an error that no file can hold", "lost: 2 ValueError", "surrogate", _trouble("Infer", surrogate, 2)
    )
    yield Row(
        "Infer",
        "every rank killed once",
        "complete",
        "",
        _each_dies_once,
    )
    yield Row(
        "Infer",
        "every rank killed always",
        "lost: " + ", ".join(f"{rank} Runtime.ExitError" for rank in range(4)),
        "most often because its memory was used up",
        _trouble("Infer", dies),
    )
    for times, words in ((1, "a slow rank"), (2, "a slow rank and a slow backup")):
        yield Row("Infer", f"{words}, which end late", "complete", "", _slow(times))
    yield Row(
        "Infer",
        "every rank slow, all twins end late",
        "complete",
        "",
        _slow(4, None),
    )


def _slow(times: int, rank: int | None = 2) -> Arrange:
    return lambda world: world.troubles.append(Trouble("Infer", is_late(world), rank, times))


def _each_dies_once(world: World) -> None:
    world.troubles += [Trouble("Infer", dies, rank, 1) for rank in range(4)]


def datasets() -> Iterator[Row]:
    """A folder that is not what its card says."""
    shards = {f"{number}.safetensors": shard(number) for number in range(3)}

    def put(**changes: Any) -> Arrange:
        return lambda world: world.put_dataset(shards, card=make_card(shards, **changes))

    def without_shard(world: World) -> None:
        del world.bucket.objects[PREFIX + "1.safetensors"]

    def another_shard(name: str, content: bytes = b"") -> Arrange:
        return lambda world: world.bucket.objects.update({PREFIX + name: content or shard(7)})

    def strange(name: str) -> Arrange:
        def arrange(world: World) -> None:
            del world.bucket.objects[PREFIX + "dataset.json"]
            world.bucket.objects[PREFIX + name] = shard(7)

        return arrange

    def raw_card(content: bytes) -> Arrange:
        return lambda world: world.bucket.objects.update({PREFIX + "dataset.json": content})

    def entries(**changes: Any) -> tuple[contract.ShardEntry, ...]:
        first, *others = make_card(shards).shards
        return (msgspec.structs.replace(first, **changes), *others)

    differs = "refused: DatasetError"
    card = make_card(shards)
    for words, arrange, end, names in (
        ("a shard is missing", without_shard, differs, "1.safetensors is missing"),
        ("a shard more", another_shard("3.safetensors"), differs, "3.safetensors is not in"),
        ("a copy by the system's name", another_shard("1 (1).safetensors", shard(1)), differs, "1 (1).safetensors"),
        ("a hidden file next to it", another_shard("._1.safetensors", b"x"), "complete", "._1.safetensors"),
        ("states more galaxies in all", put(num_rows=13), differs, "13 galaxies"),
        ("states fewer galaxies in a shard", put(shards=entries(num_rows=3), num_rows=11), differs, "0.safetensors"),
        ("states another size", put(shards=entries(size_bytes=5)), differs, "0.safetensors has"),
        ("names a shard twice", put(shards=(*card.shards, card.shards[0]), num_rows=16), differs, "2 times"),
        (
            "states another checksum of a part",
            put(shards=entries(crc32=b"\0\0\0\0")),
            "lost: 0 ShardFormatError, 1 ShardFormatError",
            "d/0.safetensors",
        ),
        ("junk", raw_card(b"junk"), "refused: InvalidRequestError", "d/dataset.json"),
        ("a list", raw_card(b"[]"), "refused: InvalidRequestError", "d/dataset.json"),
        ("20,000 brackets", raw_card(b"[" * 20_000), "refused: InvalidRequestError", "d/dataset.json"),
        (
            "negative rows",
            raw_card(contract.encode(card).replace(b'"num_rows": 4', b'"num_rows": -4')),
            "refused: InvalidRequestError",
            "d/dataset.json",
        ),
        (
            "absent: bytes are not checked, and it says so",
            lambda world: world.bucket.objects.pop(PREFIX + "dataset.json"),
            "complete",
            "not checked",
        ),
        ("a folder in the dataset", another_shard("more/9.safetensors"), "complete", ""),
        ("absent, and a shard by another name", strange("3.SAFETENSORS"), "complete", "3.SAFETENSORS was not read"),
        ("absent, and a folder of shards", strange("more/9.safetensors"), "complete", "more/ was not read"),
        ("of other bands", put(bands=("g", "r", "i", "z", "y")), "refused: ModelError", "bands"),
    ):
        yield Row("dataset", words, end, names, arrange)


def shards() -> Iterator[Row]:
    """A shard that is not what the model reads, of a dataset without a card."""

    def put(content: bytes, name: str = "1.safetensors") -> Arrange:
        def arrange(world: World) -> None:
            del world.bucket.objects[PREFIX + "dataset.json"]
            del world.bucket.objects[PREFIX + "1.safetensors"]
            world.bucket.objects[PREFIX + name] = content

        return arrange

    def header(change: Callable[[dict[str, Any]], None]) -> bytes:
        content = shard(1)
        size = int.from_bytes(content[:8], "little")
        document = json.loads(content[8 : 8 + size])
        change(document)
        text = json.dumps(document).encode()
        return len(text).to_bytes(8, "little") + text + content[8 + size :]

    bad, lost = "refused: ShardFormatError", "lost: 1 ShardFormatError, 2 ShardFormatError"
    arrays = make_arrays(ROWS_PER_SHARD, seed=1)
    wrong = {name: make_shard_bytes(ROWS_PER_SHARD, **{**arrays, **change}) for name, change in {
        "four magnitudes": {"magnitudes": np.zeros((ROWS_PER_SHARD, 4))},
        "no images": {"images": None},
        "redshifts of another length": {"redshifts": np.zeros(2)},
        "images of integers": {"images": np.zeros((ROWS_PER_SHARD, 5, 32, 32), np.int16)},
    }.items()}  # fmt: skip

    def offsets(document: dict[str, Any]) -> None:
        document["magnitudes"]["data_offsets"][1] += 10**9

    def negative(document: dict[str, Any]) -> None:
        document["magnitudes"]["data_offsets"][0] = -8

    def entry(name: str, **changes: Any) -> Callable[[dict[str, Any]], None]:
        return lambda document: document[name].update(changes)

    def named(document: dict[str, Any]) -> None:
        document["\ud800\x1b[31m"] = document.pop("images")

    def noted(document: dict[str, Any]) -> None:
        document["__metadata__"] = {"note": "x" * 70_000}

    for words, content, end in (
        ("cut off", shard(1)[:-100], "lost: 2 ShardFormatError"),
        ("offsets of 2**63", header(entry("images", data_offsets=[2**63, 2**63 + 8])), bad),
        ("offsets of 10**30", header(entry("images", data_offsets=[10**30, 10**30 + 8])), bad),
        ("offsets that are no whole numbers", header(entry("images", data_offsets=[0.0, 81920.0])), bad),
        ("a shape that is no whole numbers", header(entry("images", shape=[4.0, 5, 32, 32])), bad),
        ("a negative number of rows", header(entry("images", shape=[-4, 5, 32, 32])), bad),
        ("fewer rows than its data", header(entry("redshifts", shape=[2])), bad),
        ("twice the rows of its data", header(entry("redshifts", shape=[8])), bad),
        ("an array whose name no terminal should see", header(named), bad),
        ("a header of 70 kB", header(noted), "complete"),
        ("empty", b"", bad),
        ("7 bytes", b"1234567", bad),
        ("a web page", b"<html>" * 100, bad),
        ("a length of 2**63", (2**63).to_bytes(8, "little") + shard(1)[8:], bad),
        ("20,000 brackets in its header", (20_000).to_bytes(8, "little") + b"[" * 20_000, bad),
        ("offsets behind its end", header(offsets), bad),
        ("negative offsets", header(negative), bad),
        ("longer than its header says", shard(1) + bytes(50), bad),
        *((words, content, None) for words, content in wrong.items()),
    ):
        end = end or bad
        yield Row("shard", words, end, "" if end == "complete" else "d/1.safetensors", put(content))
    for name in ("1.npz", "1.pt"):
        yield Row("shard", f"junk called {name}", bad, f"d/{name}", put(b"junk" * 100, name))

    def replaced(world: World) -> None:
        world.after["Initialize"] = lambda: world.bucket.objects.update({PREFIX + "1.safetensors": shard(9)})

    def deleted(world: World) -> None:
        world.after["Initialize"] = lambda: world.bucket.objects.pop(PREFIX + "1.safetensors")

    def added(world: World) -> None:
        world.after["Initialize"] = lambda: world.bucket.objects.update({PREFIX + "9.safetensors": shard(9)})

    changed = "lost: 1 ShardChangedError, 2 ShardChangedError"
    yield Row("shard", "replaced after the plan", changed, "d/1.safetensors", replaced)
    yield Row("shard", "deleted after the plan", changed, "d/1.safetensors", deleted)
    yield Row("shard", "another one added after the plan", "complete", "", added)

    def flipped(world: World) -> None:
        content = bytearray(shard(1))
        content[-1000] ^= 1
        world.bucket.objects[PREFIX + "1.safetensors"] = bytes(content)

    yield Row("shard", "one bit flipped, all else as before", lost, "d/1.safetensors", flipped)


def requests() -> Iterator[Row]:
    """Requests that cannot be followed, and deployments that cannot follow any."""

    def asks(**changes: Any) -> Arrange:
        return lambda world: world.request.update(changes)

    def raw(request: Any) -> Arrange:
        def arrange(world: World) -> None:
            world.request = request

        return arrange

    def lacks(**environment: str) -> Arrange:
        return lambda world: world.environment.update(environment)

    invalid, other = "refused: InvalidRequestError", "runs/run-e/"
    for words, arrange, end, names in (
        ("not an object", raw([1]), invalid, "list"),
        ("no bucket", raw({}), invalid, "bucket"),
        ("an unknown key", asks(speed="fast"), invalid, "speed"),
        ("a negative world_size", asks(world_size=-1), invalid, "world_size"),
        ("more ranks than galaxies", asks(world_size=13), "refused: PlanError", "world_size 13"),
        ("a dataset that is not there", asks(data_prefix="e/"), "refused: DatasetNotFoundError", "e/"),
        ("the whole bucket as dataset", asks(data_prefix="/"), "refused: DatasetNotFoundError", "nothing under /"),
        ("another model", asks(model="mine"), "refused: ModelError", "mine"),
        ("other weights", asks(model_sha256="0" * 64), "refused: ModelError", "0000"),
        ("a result path that cannot be a key", asks(result_path="a//b"), invalid, "a//b"),
        ("ranks that meet without a server", asks(fmi_enabled=True), "refused: RendezvousError", "rendezvous"),
        (
            "resumed without a plan",
            raw({"bucket": "b", "pending_key": f"runs/{RUN}/pending/1.json"}),
            "refused: ObjectMissingError",
            "plan.json",
        ),
        ("resumed by the plan of another folder", _resumed(run_prefix=other), "refused: ManifestError", other),
        (
            "resumed with ranks of another folder",
            _resumed(make_task(run_id=RUN, run_prefix=other, **contract.rank_keys(other, 0))),
            "refused: ManifestError",
            other,
        ),
        ("resumed with another key", raw({"bucket": "b", "pending_key": "x"}), invalid, "pending_key"),
        (
            "a function without INFER_MEMORY_MB",
            lacks(INFER_MEMORY_MB=""),
            "refused: SettingMissingError",
            "INFER_MEMORY_MB",
        ),
        ("a function with too little memory", lacks(INFER_MEMORY_MB="128"), "refused: PlanError", "128 MB"),
    ):
        yield Row("request", words, end, names, arrange)
    yield Row("request", "a result path that another run has", "refused: ResultPathTakenError", "run-e", _taken)
    yield Row("Infer", "another network than was planned for", "lost: 2 EngineError", "finite", _not_finite)


def _resumed(*pending: contract.RankTask, **changes: Any) -> Arrange:
    def arrange(world: World) -> None:
        place = {"bucket": "b", "run_prefix": world.own(""), "manifest_key": world.own("manifest.json")}
        plan = make_plan(run_id=RUN, **{**place, **changes})
        world.bucket.objects[world.own("plan.json")] = contract.encode(plan)
        world.bucket.objects[world.own("pending/1.json")] = contract.encode(list(pending))
        world.request = {"bucket": "b", "pending_key": world.own("pending/1.json")}

    return arrange


def _taken(world: World) -> None:
    world.bucket.objects[world.own("manifest.json")] = contract.encode([make_task(run_id="run-e")])


def _not_finite(world: World) -> None:
    from handlers import model

    class Broken(model.engine("", "", as_published=False).__class__):  # type: ignore[misc]
        def predict(self, images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
            return np.full(len(images), np.nan, np.float32)

    def act(call: Callable[[], Any]) -> Any:
        before, model.engine = model.engine, lambda *_name, **_mode: Broken()  # type: ignore[assignment]
        try:
            return call()
        finally:
            model.engine = before

    world.troubles.append(Trouble("Infer", act, 2))


def left_behind() -> Iterator[Row]:
    """What a run finds under its prefix that it did not write, or not like that."""
    record, predictions, failure = "ranks/00002.json", "predictions/00002.npz", "failures/00002.json"

    def puts(name: str, content: bytes, when: str = "InferRanks") -> Arrange:
        def arrange(world: World) -> None:
            world.after[when] = lambda: world.bucket.objects.update({world.own(name): content})

        return arrange

    def drops(name: str) -> Arrange:
        def arrange(world: World) -> None:
            world.after["InferRanks"] = lambda: world.bucket.objects.pop(world.own(name))

        return arrange

    def copies(source: str, target: str) -> Arrange:
        def arrange(world: World) -> None:
            world.after["InferRanks"] = lambda: world.bucket.objects.update(
                {world.own(target): world.bucket.objects[world.own(source)]}
            )

        return arrange

    def edits(name: str, when: str = "InferRanks", **changes: Any) -> Arrange:
        def arrange(world: World) -> None:
            world.after[when] = edit(world, name, lambda document: {**document, **changes})

        return arrange

    def cuts(count: int) -> Arrange:
        def arrange(world: World) -> None:
            world.after["InferRanks"] = edit(world, "manifest.json", lambda tasks: tasks[:count])

        return arrange

    def other_run(world: World) -> None:
        world.after["InferRanks"] = edit(
            world, "manifest.json", lambda tasks: [{**task, "run_id": "run-e"} for task in tasks]
        )

    def moved(task: dict[str, Any], rank: int) -> dict[str, Any]:
        return {**task, "rank": rank, **contract.rank_keys(f"runs/{RUN}/", rank)}

    def a_rank_more(world: World) -> None:
        world.after["InferRanks"] = edit(world, "manifest.json", lambda tasks: [*tasks, moved(tasks[-1], 4)])

    def other_rows(world: World) -> None:
        def shift(tasks: list[Any]) -> list[Any]:
            tasks[1]["rows"][0]["key"] = PREFIX + "2.safetensors"
            return tasks

        world.after["InferRanks"] = edit(world, "manifest.json", shift)

    def other_inputs(world: World) -> None:
        def shift(document: dict[str, Any]) -> dict[str, Any]:
            return {**document, "inputs": [{**one, "key": PREFIX + "2.safetensors"} for one in document["inputs"]]}

        world.after["InferRanks"] = edit(world, record, shift)

    unreadable, wrong = "lost: 2 UnreadableRecord", "lost: 2 WrongRecord"
    for words, arrange, end, names in (
        ("a record is deleted", drops(record), "lost: 2 MissingRecord", record),
        ("a record is empty", puts(record, b""), unreadable, record),
        ("a record is cut off", puts(record, b'{"rank": 2'), unreadable, record),
        ("a record of 200,000 brackets", puts(record, b"[" * 200_000), unreadable, record),
        ("a record larger than any", puts(record, bytes(10**6)), unreadable, record),
        ("a record of another run", edits(record, run_id="run-e"), "lost: 2 StaleRecord", "run-e"),
        (
            "a record of another rank in its place",
            copies("ranks/00001.json", record),
            "lost: 1 DuplicateRecord, 2 DuplicateRecord",
            "claim rank",
        ),
        ("a record of other rows", edits(record, num_samples=7), "lost: 2 WrongRowCount", "7 rows"),
        ("a record that read other rows", other_inputs, wrong, "other rows than the manifest"),
        ("a record of another world", edits(record, world_size=9), wrong, "9 ranks"),
        ("a record with an unknown key", edits(record, speed="fast"), unreadable, record),
        ("a record with negative rates", edits(record, sample_persec=-1.0), wrong, record),
        ("a record with residuals of 7 bytes", edits(record, residuals="AAAAAAAAAA=="), wrong, "residuals"),
        ("a record of flags that there are not", edits(record, num_flagged={"SHINY": 1}), wrong, "SHINY"),
        ("a record of more flags than galaxies", edits(record, num_flagged={"REFUSED": 9}), wrong, "9 flagged of 3"),
        ("a record of other weights", edits(record, weights_sha256="f" * 64), "complete", "2 values of weights_sha256"),
        ("a record of an older version, unbound", edits(record, predictions=None), wrong, record),
        ("predictions are deleted", drops(predictions), "lost: 2 MissingPredictions", predictions),
        ("predictions are junk", puts(predictions, b"junk"), "lost: 2 WrongPredictions", predictions),
        (
            "predictions of another rank in their place",
            copies("predictions/00001.npz", predictions),
            "lost: 2 WrongPredictions",
            predictions,
        ),
        ("a stranger under ranks/", puts("ranks/note.txt", b"hello"), "complete", "ranks/note.txt"),
        ("a record more than ranks", puts("ranks/00009.json", b"{}"), "complete", "ranks/00009.json"),
        ("a stranger under failures/", puts("failures/note.txt", b"hello"), "complete", "failures/note.txt"),
        ("a note of a failure that is junk", puts(failure, b"junk"), "complete", failure),
        (
            "a note of a failure with a lone surrogate",
            puts(failure, b'{"run_id": "run-f", "rank": 2, "error": "\xed\xa0\x80", "cause": ""}'),
            "complete",
            failure,
        ),
        (
            "a note of a failure of a rank that is done",
            puts(failure, b'{"run_id": "run-f", "rank": 2, "error": "E", "cause": ""}'),
            "complete",
            "",
        ),
        ("placeholders of folders", puts("ranks/", b""), "complete", ""),
        ("the manifest is half", cuts(2), "refused: ManifestError", "holds 2 ranks"),
        ("the manifest has a rank more", a_rank_more, "refused: ManifestError", "holds 5 ranks"),
        ("the manifest names other rows", other_rows, "refused: ManifestError", "another checksum than planned"),
        ("the manifest is empty", cuts(0), "refused: ManifestError", "holds 0 ranks"),
        ("the manifest is junk", puts("manifest.json", b"junk"), "refused: InvalidRequestError", "manifest.json"),
        ("the manifest of another run", other_run, "refused: ManifestError", "run-e"),
        (
            "the manifest is gone before the Map",
            lambda world: world.after.update(
                {"Initialize": lambda: world.bucket.objects.pop(world.own("manifest.json"))}
            ),
            "refused: ObjectMissingError",
            "manifest.json",
        ),
    ):
        yield Row("results", words, end, names, arrange)
    for tolerated, end in ((25, "lost: 2 Runtime.ExitError (tolerated)"), (24.9, "lost: 2 Runtime.ExitError")):

        def tolerant(world: World, tolerated: float = tolerated) -> None:
            world.request.update(tolerated_failure_percentage=tolerated)
            world.troubles.append(Trouble("Infer", dies, 2))

        yield Row("results", f"one rank of four lost, {tolerated} % tolerated", end, "", tolerant)
