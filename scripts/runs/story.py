"""What is known of one rank, in order: what it was to do, who tried, where the time went, what it left."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from rich.console import Console
from rich.text import Text

from inference.checksum import file_sha256
from inference.contract import RankClock, RankFailure, RankRecord, RankTask, RowRange
from inference.quality import Quality
from inference.summary import message_of
from scripts.runs.logs.invocations import Invocation, Log
from scripts.runs.logs.lines import LogLine
from scripts.runs.logs.show import print_lines
from scripts.runs.run_folder import Run

WITHIN_TOTAL = ("model_load", "download", "inference", "upload", "record")
BAR_WIDTH = 30
MAX_INPUTS = 20


@dataclass(frozen=True)
class Story:
    """One rank of a run."""

    folder: Run
    log: Log
    rank: int

    @property
    def task(self) -> RankTask:
        """What it was to do."""
        return self.folder.tasks[self.rank]

    @property
    def record(self) -> RankRecord | None:
        """What it reported."""
        return next((record for record in self.folder.records if record.rank == self.rank), None)

    @property
    def failure(self) -> RankFailure | None:
        """What the state machine noted about its failure."""
        return next((failure for failure in self.folder.failures if failure.rank == self.rank), None)

    @property
    def attempts(self) -> list[Invocation]:
        """Invocations that worked for it, in order."""
        return [one for one in self.log.invocations if one.rank == self.rank]

    @property
    def outcome(self) -> str:
        """How it ended, in words."""
        if self.record:
            tries = self.record.attempt + 1
            return "done" if tries == 1 else f"done at attempt {tries}"
        lost = self.folder.lost.get(self.rank)
        if lost:
            return f"lost: {lost.error}: {lost.message}"
        if self.failure:
            return f"lost: {self.failure.error}: {message_of(self.failure.cause)}"
        return "neither a record nor a failure: the run ended before it, or is still running"


def print_story(console: Console, story: Story) -> None:
    """Print the story in 80 columns; what must stay whole (keys, checksums, messages) is not wrapped."""
    console.print(
        Text(f"{story.folder.run_id}, rank {story.rank} of {story.task.world_size}: {story.outcome}", "bold"),
        soft_wrap=True,
    )
    for title, lines in _sections(story):
        if lines:
            console.print()
            console.print(Text(f"  {title}", "bold"))
            for line in lines:
                console.print(Text(f"  {line}"), soft_wrap=True)
    lines_of_rank = story.log.of_rank(story.rank)
    if lines_of_rank:
        console.print()
        console.print(Text("  What its workers printed (UTC)", "bold"))
        print_lines(console, lines_of_rank)


def _sections(story: Story) -> Iterator[tuple[str, list[str]]]:
    yield f"Input: {story.task.num_samples:,} galaxies", list(_inputs(story))
    yield "Attempts", [_attempt(one, number) for number, one in enumerate(story.attempts, 1)]
    record = story.record
    if record:
        yield "Time", list(_phases(record, story))
        yield "Computed", list(_computed(record))
        yield "Meeting the other ranks", list(_met(record, story))
    yield "Output", list(_output(story))


def _inputs(story: Story) -> Iterator[str]:
    rows: tuple[RowRange, ...] = story.record.inputs if story.record else story.task.rows
    for part in rows[:MAX_INPUTS]:
        yield f"{part.key} rows {part.start_row:,} to {part.stop_row - 1:,}"
        checksum = part.sha256 or "not stated by dataset.json"
        yield f"  sha256 {checksum}, etag {(part.etag or 'none').strip(chr(34))}"
    if len(rows) > MAX_INPUTS:
        yield f"and {len(rows) - MAX_INPUTS} more in {story.task.record_key}"


def _attempt(one: Invocation, number: int) -> str:
    started = (
        f"{datetime.fromtimestamp(one.started_at_s, UTC):%Y-%m-%d %H:%M:%S} UTC" if one.started_at_s else "time unknown"
    )
    took = f"{one.duration_ms / 1000:.2f} s" if one.duration_ms is not None else "no REPORT line"
    billed = f", billed {one.billed_ms / 1000:.2f} s" if one.billed_ms is not None else ""
    start = f", init {one.init_ms / 1000:.2f} s" if one.init_ms is not None else ", warm"
    memory = f", {one.max_memory_mb} of {one.memory_mb} MB" if one.max_memory_mb is not None else ""
    return f"{number}. {one.request_id}  {one.status or 'succeeded'}\n     {started}, {took}{billed}{start}{memory}"


def _phases(record: RankRecord, story: Story) -> Iterator[str]:
    clock = record.clock
    yield f"{'queue':<11}{clock.queue:>9.3f} s  before the handler, a cold start included"
    yield f"{'init':<11}{clock.init:>9.3f} s  {'a fresh process' if record.cold_start else 'warm'}"
    for name in WITHIN_TOTAL:
        seconds = getattr(clock, name)
        share = seconds / clock.total if clock.total else 0.0
        yield f"{name.replace('_', ' '):<11}{seconds:>9.3f} s  {share:>4.0%}  {'#' * round(share * BAR_WIDTH)}".rstrip()
    rest = clock.total - sum(getattr(clock, name) for name in WITHIN_TOTAL)
    yield f"{'total':<11}{clock.total:>9.3f} s  {rest:.3f} s of it in no phase; then {_record_write(story)}"
    yield _place(clock, story)


def _record_write(story: Story) -> str:
    lines: list[LogLine] = story.log.of_rank(story.rank)
    seconds = next((line.fields["record_write_s"] for line in lines if "record_write_s" in line.fields), None)
    return "the record was written" if seconds is None else f"{seconds:.3f} s to write the record"


def _place(clock: RankClock, story: Story) -> str:
    totals = [record.clock.init + record.clock.total for record in story.folder.records]
    own = clock.init + clock.total
    slower = sum(total > own for total in totals)
    median = float(np.median(totals))
    return f"{own:.3f} s with init; the median rank {median:.3f} s; {slower} of {len(totals)} ranks took longer"


def _computed(record: RankRecord) -> Iterator[str]:
    threads = "1 thread" if record.num_threads == 1 else f"{record.num_threads} threads"
    yield f"{record.sample_persec:,.1f} galaxies/s with {record.engine} in {record.precision}, {threads}"
    if record.engine_note:
        yield record.engine_note
    yield f"{record.peak_memory_bytes / 2**20:,.0f} MB at most, {record.function_memory_mb:,} MB configured"
    requests = f"{record.s3_num_requests} requests to S3, {record.s3_total_time:.3f} s in all"
    yield f"{requests}, the longest {record.s3_max_time:.3f} s"
    yield f"model   {record.model or 'of an older version'}"
    yield f"weights {record.weights_sha256}"
    yield f"image {record.image_digest}, code {record.code_version}"


def _met(record: RankRecord, story: Story) -> Iterator[str]:
    if record.comm is None:
        if story.task.comm is not None:
            yield "no report: the rank ended in it, or the report could not be written"
        return
    comm = record.comm
    yield f"{comm.status}{f': {comm.why}' if comm.why else ''}"
    yield f"{comm.meeting_s:.3f} s to connect, {comm.barrier_s:.3f} s in the barrier, {comm.total_s:.3f} s in all"
    for peer in comm.peers:
        times = f"waited {peer.wait_s:.3f} s, connected in {1000 * peer.meet_s:.1f} ms"
        sent = f"sent {peer.num_messages_sent} messages, {peer.num_bytes_sent:,} bytes"
        received = f"received {peer.num_messages_received}, {peer.num_bytes_received:,} bytes"
        yield f"rank {peer.peer:<5} {peer.path:<6} {times}; {sent}; {received}"
    others = [one.comm.arrived_at_s for one in story.folder.records if one.comm is not None]
    after, before = comm.arrived_at_s - min(others), max(others) - comm.arrived_at_s
    yield f"came {after:.3f} s after the first rank, {before:.3f} s before the last"


def _output(story: Story) -> Iterator[str]:
    path = story.folder.path / "predictions" / f"{story.rank:05d}.npz"
    if not path.exists():
        yield f"none: {story.task.predictions_key} does not exist" if not story.record else f"{path} is not here"
        return
    yield f"{path}, {path.stat().st_size:,} bytes, sha256 {file_sha256(path)}"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            yield from _predictions({name: arrays[name] for name in arrays.files})
    except (ValueError, OSError, KeyError) as error:
        yield f"it cannot be read: {error}"


def _predictions(arrays: dict[str, np.ndarray]) -> Iterator[str]:
    z_phot, z_spec = arrays["z_phot"], arrays["z_spec"]
    known = np.isfinite(z_phot)
    refused, labelled = np.count_nonzero(~known), np.count_nonzero(np.isfinite(z_spec))
    yield f"{len(z_phot):,} galaxies, {refused:,} without a redshift, {labelled:,} labelled"
    if known.any():
        low, median, high = np.quantile(z_phot[known], [0, 0.5, 1])
        yield f"z_phot {low:.4f} to {high:.4f}, median {median:.4f}"
    both = known & np.isfinite(z_spec)
    if both.any():
        yield f"mean dz {np.mean((z_phot[both] - z_spec[both]) / (1 + z_spec[both])):.5f}"
    quality = arrays.get("quality")
    if quality is not None:
        counts = {flag.name: int(np.count_nonzero(quality & flag.value)) for flag in Quality}
        yield "flags: " + (", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "none")
