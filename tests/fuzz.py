"""Whatever is read from outside, damaged at random: it is read, or refused by an error of our own that names it.

The suite tries a few damages of each kind (`tests/unit/test_fuzz.py`); ``make fuzz MINUTES=60`` as many as there is
time for, and says which one was not refused as it should be.
"""

import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import hypothesis
import numpy as np
from hypothesis import strategies as st
from msgspec import Meta

from inference import contract, shard, summary
from inference.contract import DatasetCard, RankTask, ResumeRequest, RowRange, RunPlan
from inference.errors import InvalidRequestError, ManifestError, RunFolderError, ShardFormatError
from inference.run_folder import RunFolder
from scripts.command.errors import SourceError, UsageError
from scripts.command.program import start
from scripts.command.variables import Variables
from scripts.data.user_table import open_table
from scripts.runs.imported.description import describe
from scripts.runs.imported.file import read_published
from scripts.runs.logs.invocations import read_log
from scripts.runs.logs.lines import LogEvent
from tests.factories import (
    MemoryReader,
    make_arrays,
    make_plan,
    make_predictions,
    make_record_for,
    make_request,
    make_shard_bytes,
    make_task,
)

NUM_ROWS = 3
TOKENS = (
    b"[" * 3_000,
    b'"',
    b"\\ud800",
    b"-1",
    b"1e999",
    b"null",
    b"NaN",
    b"\xff\xfe",
    b"9" * 5_000,
    b"{}",
    b"\0",
    b",",
)
"""What parsers stumble over."""

Edit = tuple[str, float, bytes, int]
"""What to do, where in the content (0 to 1), with which bytes, over how many."""

EDITS = st.lists(
    st.tuples(
        st.sampled_from(("replace", "insert", "delete", "repeat", "cut", "flip")),
        st.floats(0, 1),
        st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(TOKENS)),
        st.integers(1, 64),
    ),
    min_size=1,
    max_size=4,
)


def damage(content: bytes, edits: list[Edit]) -> bytes:
    """Return the content with its damages."""
    for what, where, new, length in edits:
        at = int(where * len(content))
        before, after = content[:at], content[at:]
        content = {
            "replace": before + new + after[len(new) :],
            "insert": before + new + after,
            "delete": before + after[length:],
            "repeat": before + after[:length] + after,
            "cut": before,
            "flip": before + bytes(byte ^ 1 << length % 8 for byte in after[:1]) + after[1:],
        }[what]
    return content


@dataclass(frozen=True)
class Input:
    """One kind of thing that comes from outside."""

    seeds: Callable[[], list[bytes]]
    """Whole ones."""

    read: Callable[[bytes, Path], object]
    """Reads one, given a folder for files; what it is called is ``NAME`` where an error must name it."""

    refused: tuple[type[Exception], ...] = ()
    """How it may be refused; never, when empty."""

    name: str = ""
    """What the message of a refusal must hold."""


def try_damage(one: Input, edits: list[Edit], folder: Path) -> None:
    """Read every seed with the damages; raise what is no refusal of ours, or names nothing."""
    for seed in one.seeds():
        try:
            one.read(damage(seed, edits), folder)
        except one.refused as error:
            if one.name not in str(error):
                raise AssertionError(f"{error!r} does not name {one.name}") from error


# ------------------------------------------------------------------------------------------------- what is read


def _request(content: bytes, _folder: Path) -> None:
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError):
        return  # Step Functions takes nothing else
    if isinstance(raw, dict) and "pending_key" in raw:
        contract.decode(raw, ResumeRequest)
    else:
        contract.parse_request(raw)


def _shard(name: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, _folder: Path) -> None:
        reader = MemoryReader(**{name: content})
        num_rows = shard.count_rows(reader, name, len(content), etag=reader.etag)
        # The plan of a lying header is refused elsewhere: it has more rows than any file of this size.
        if num_rows <= 10 * NUM_ROWS:
            rows = RowRange(key=name, start_row=0, stop_row=max(num_rows, 1), etag=reader.etag)
            list(shard.read_blocks(reader, rows))

    return read


def _payload(kind: type) -> Callable[[bytes, Path], object]:
    return lambda content, _folder: contract.decode(content, kind, where="NAME")


def _safetensors() -> list[bytes]:
    whole = make_shard_bytes(NUM_ROWS)
    return [whole[: 2**12], whole]  # most damages of the second one are of pixels


def _npz() -> list[bytes]:
    arrays = make_arrays(NUM_ROWS)
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, **arrays)
    np.savez_compressed(packed, **arrays)
    return [plain.getvalue(), packed.getvalue()]


def _pt() -> list[bytes]:
    import torch
    from torch.utils.data import TensorDataset

    arrays = make_arrays(NUM_ROWS)
    file = io.BytesIO()
    torch.save(TensorDataset(*(torch.from_numpy(arrays[key]) for key in ("images", "magnitudes", "redshifts"))), file)
    return [file.getvalue()]


TASK = make_task(num_samples=NUM_ROWS)


def _record(content: bytes, _folder: Path) -> None:
    records = summary.decode_records({TASK.record_key: content})
    proof = summary.prove([TASK], records, [], {})
    summary.doubtful_predictions([TASK], records, {})
    summary.summarize(
        make_plan(), [TASK], proof, summary.RunTimes(started_at_s=0, planned_at_s=1, mapped_at_s=2, summarized_at_s=3)
    )


def _manifest(content: bytes, _folder: Path) -> None:
    tasks = contract.decode(content, list[RankTask], where="NAME")
    list(summary.as_planned(make_plan(request=make_request(world_size=1)), tasks))


def _folder_of_run(file_name: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, folder: Path) -> None:
        for name, good in (
            ("manifest.json", contract.encode([TASK])),
            ("predictions/00000.npz", make_predictions().to_npz()),
            ("ranks/00000.json", contract.encode(make_record_for(TASK, make_predictions()))),
        ):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content if name == file_name else good)
        found = RunFolder(folder)
        found.inventory()
        found.all_predictions()

    return read


def _logs(content: bytes, _folder: Path) -> None:
    lines = content.decode(errors="replace").splitlines()
    read_log([LogEvent("infer-0.log", line) for line in lines], rank_of={"r": 0}, run_id="run-a")


def _log_seeds() -> list[bytes]:
    request = "8a1f3c52-6a0e-4f0e-9d68-0f4f9d3a0c11"
    lines = [
        f"START RequestId: {request} Version: $LATEST",
        json.dumps({"level": "INFO", "message": "rank started", "requestId": request, "run_id": "run-a", "rank": 3}),
        f"[ERROR] ValueError: a bug\tRequestId: {request}",
        f"REPORT RequestId: {request}\tDuration: 12.3 ms\tBilled Duration: 13 ms\tMemory Size: 9 MB",
        json.dumps({"time": "2026-01-31T12:00:00.123Z", "type": "platform.report", "record": {
            "requestId": request, "metrics": {"durationMs": 1.5, "billedDurationMs": 2}, "status": "success"}}),
    ]  # fmt: skip
    return ["\n".join(lines).encode()]


def _import(content: bytes, folder: Path) -> None:
    path = folder / "NAME.json"
    path.write_bytes(content)
    describe(read_published(path), path, run_id="import", expected=None)


def _table(content: bytes, folder: Path) -> None:
    path = folder / "NAME.csv"
    path.write_bytes(content)
    table = open_table(path)
    for batch in table.batches(dict.fromkeys(table.columns, "number")):
        del batch


def _card_seeds() -> list[bytes]:
    from tests.faults.world import make_card

    return [contract.encode(make_card({"0.safetensors": b"x"}))]


INVALID = (InvalidRequestError,)
RECORD = make_record_for(TASK, make_predictions())
PUBLISHED = {"throughput_bps": 1.5, "sample_persec": "2", "total_cpu_time (seconds)": 3, "rank": 0}
TABLE = b"ra,dec,u,g,r,i,z\n" + b"1.5,2.5,20,19,18,17.5,17\n" * 3

INPUTS = {
    "request": Input(lambda: [contract.encode(make_request())], _request, INVALID),
    "card": Input(_card_seeds, _payload(DatasetCard), INVALID, "NAME"),
    "plan": Input(lambda: [contract.encode(make_plan())], _payload(RunPlan), INVALID, "NAME"),
    "manifest": Input(lambda: [contract.encode([TASK])], _manifest, (*INVALID, ManifestError)),
    "safetensors": Input(_safetensors, _shard("NAME.safetensors"), (ShardFormatError,), "NAME"),
    "npz": Input(_npz, _shard("NAME.npz"), (ShardFormatError,), "NAME"),
    "pt": Input(_pt, _shard("NAME.pt"), (ShardFormatError,), "NAME"),
    "record": Input(lambda: [contract.encode(RECORD)], _record),
    "record of a run": Input(
        lambda: [contract.encode(RECORD)], _folder_of_run("ranks/00000.json"), (RunFolderError,), "00000"
    ),
    "predictions of a run": Input(
        lambda: [make_predictions().to_npz()], _folder_of_run("predictions/00000.npz"), (RunFolderError,), "00000"
    ),
    "log": Input(_log_seeds, _logs),
    "import": Input(lambda: [json.dumps([PUBLISHED]).encode()], _import, (UsageError,), "NAME"),
    "table": Input(lambda: [TABLE], _table, (SourceError,), "NAME"),
}


# ------------------------------------------------------------------------------------------------- make fuzz


class FuzzVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make fuzz`."""

    minutes: Annotated[float, Meta(gt=0, description="a number of minutes")] = 1.0


def main(variables: FuzzVariables) -> int:
    """Damage inputs until the time is over. Exit status: 0 all was read or refused as it should, 1 it was not."""
    until_s = time.monotonic() + 60 * variables.minutes
    num_tried = dict.fromkeys(INPUTS, 0)
    failed = set()
    seed = int.from_bytes(os.urandom(4), "little")
    while time.monotonic() < until_s and len(failed) < len(INPUTS):
        for name, one in INPUTS.items():
            if name in failed or time.monotonic() > until_s:
                continue
            seed += 1
            try:
                num_tried[name] += explore(one, seed)
            except Exception as error:
                failed.add(name)
                print(
                    f"{name}: {type(error).__name__}: {error}",
                    *getattr(error, "__notes__", ()),
                    sep="\n",
                    file=sys.stderr,
                )
    for name, count in num_tried.items():
        print(f"{name:<22} {count:>9,} damages  {'FAILED' if name in failed else 'held'}")
    return 1 if failed else 0


def explore(one: Input, seed: int, *, num_examples: int = 200) -> int:
    """Try some damages; return how many."""
    count = 0
    with tempfile.TemporaryDirectory() as folder:

        @hypothesis.seed(seed)
        @hypothesis.settings(max_examples=num_examples, deadline=None, database=None, derandomize=False)
        @hypothesis.given(EDITS)
        def attempt(edits: list[Edit]) -> None:
            nonlocal count
            count += 1
            try_damage(one, edits, Path(folder))

        attempt()
    return count


if __name__ == "__main__":
    start(main)
