"""What a run was asked to do, and by what exactly it was done."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from inference.contract import RunRequest
from scripts.command.console import counted
from scripts.reports.document import Block, Note, Row, Section, Table
from scripts.reports.evidence import RunEvidence
from scripts.reports.quantities import UNKNOWN, count, number

MAX_SHARDS = 12
DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(RunRequest)}


def settings_section(run: RunEvidence) -> Section:
    """Return the settings a run ran under."""
    rows = list(_settings(run))
    notes: list[Block] = [Note(note) for note in run.get("notes") or ()]
    table = Table("Request and deployment", ("setting", "value", "remark"), rows, frozenset({0, 1, 2}))
    lead = "Every key of the request, defaults filled in, and what the deployment added."
    return Section("Settings", lead if run.summary else "As far as the records say.", [table, *notes])


def provenance_section(run: RunEvidence) -> Section:
    """Return what is needed to get the same numbers again."""
    rows = [row for row in provenance_rows(run) if row[1]]
    blocks: list[Block] = [Table("Origin", ("what", "value", "remark"), rows, frozenset({0, 1, 2}))]
    shards = _shards(run)
    if shards:
        shown = [(key, count(num), sha or UNKNOWN) for key, (num, sha) in list(shards.items())[:MAX_SHARDS]]
        more = f"; the first {MAX_SHARDS} of {len(shards):,}" if len(shards) > MAX_SHARDS else ""
        blocks.append(Table(f"Shards that were read{more}", ("shard", "rows", "sha256"), shown, frozenset({0, 2})))
    if not rows:
        return Section("Provenance", "Unknown: the records name neither weights nor code.")
    return Section("Provenance", "With these, the same rows give the same redshifts.", blocks)


def dataset_sha256(shards: dict[str, tuple[int, str]]) -> str:
    """Return one checksum of the shards: SHA-256 over theirs, in natural order, as one text."""
    sums = [sha for _, sha in shards.values()]
    return hashlib.sha256("".join(sums).encode()).hexdigest() if sums and all(sums) else ""


def _settings(run: RunEvidence) -> Iterator[Row]:
    request = run.get("request") or {}
    for key, value in request.items():
        yield key, _told(value), "default" if key in DEFAULTS and value == DEFAULTS[key] else ""
    for key, unit in (("function_memory_mb", "MB"), ("num_threads", ""), ("batch_size", "galaxies")):
        values = run.ranks[key][np.isfinite(run.ranks[key])]
        if values.size and key not in request:
            yield (
                key,
                " ".join(filter(None, (", ".join(count(v) for v in np.unique(values)), unit))),
                "from the records",
            )
    if run.entry:
        where = (
            "the local AWS on one machine"
            if run.entry.target == "local"
            else f"AWS, {run.entry.stack.region if run.entry.stack else ''}"
        )
        yield "target", run.entry.target, where
    if run.entry and run.entry.stack:
        stack = run.entry.stack
        yield "architecture", stack.architecture, ""
        yield "child executions", stack.map_child_type, ""
        yield "max concurrency", count(stack.max_concurrency), "ranks at the same time"


def _told(value: object) -> str:
    if value is None:
        return "all"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value, 6) if isinstance(value, float) else str(value)


def provenance_rows(run: RunEvidence) -> Iterator[Row]:
    """Yield what made the numbers of a run: name, value, remark; an empty value where nothing says."""
    ranks = run.ranks
    yield "run", run.run_id, ""
    if run.imported:
        yield "imported from", Path(str(run.imported.get("source"))).name, ""
        yield "file sha256", str(run.imported.get("source_sha256") or ""), "checksum of that file"
    if run.entry and run.entry.started_at_s:
        yield "started", f"{datetime.fromtimestamp(run.entry.started_at_s, UTC):%Y-%m-%d %H:%M:%S} UTC", ""
    for name, key, meaning in (
        ("model", "model", "name of its folder"),
        ("weights", "weights_sha256", "sha256 of its weights, or of its network as ONNX"),
        ("image", "image_digest", "digest of the container image; local: no image, the code of this clone"),
        ("code", "code_version", "version of the code; local: the code of this clone"),
        ("engine", "engine", "library that computed"),
        ("precision", "precision", ""),
        ("device", "device", ""),
    ):
        yield name, ", ".join(ranks.texts(key)) or ", ".join(run.get(f"{key}s") or run.get(key) or ()), meaning
    if run.entry and run.entry.machine:
        yield "machine", run.entry.machine, "shared by all workers"
    shards = _shards(run)
    yield "dataset", _prefix(run), counted(len(shards), "shard") if shards else ""
    yield "dataset sha256", dataset_sha256(shards), "SHA-256 over the checksums of its shards, in order"


def _prefix(run: RunEvidence) -> str:
    named = (run.get("request") or {}).get("data_prefix")
    return str(named) if named else next(iter(run.ranks.texts("data_path")), "").rpartition("/")[0]


def _shards(run: RunEvidence) -> dict[str, tuple[int, str]]:
    """Return shard to the rows read of it and its checksum, in the order in which the ranks read them."""
    shards: dict[str, tuple[int, str]] = {}
    for rows in (rows for record in run.ranks.records for rows in record.inputs):
        num, sha = shards.get(rows["key"], (0, ""))
        shards[rows["key"]] = (num + rows["stop_row"] - rows["start_row"], rows.get("sha256") or sha)
    return shards
