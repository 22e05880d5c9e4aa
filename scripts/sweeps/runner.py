"""Carries out the runs of a sweep, one after the other; each is in the journal when the next begins."""

import io
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from scripts.command.errors import CommandError
from scripts.runs.ending import Ending
from scripts.runs.perform import run_in
from scripts.runs.request import Draft, draft_request, make_run_id
from scripts.runs.variables import RequestVariables
from scripts.sweeps.backend import Backend
from scripts.sweeps.data import Dataset, Key, key_of
from scripts.sweeps.journal import Entry, Journal, append, noted
from scripts.sweeps.plan import PlannedRun, Setting
from scripts.sweeps.rows import RunRow, measure
from scripts.sweeps.show import SweepShow
from scripts.sweeps.table import write_tables

MAX_FAILURES_OF_BACKEND = 3
"""Runs in a row that the backend could not carry out, before the sweep stops: it is not there."""

BACKEND_ERRORS = (CommandError, OSError, BotoCoreError, ClientError)
PARTITION_MB = re.compile(r"(?:.*/)?(\d+)MB")


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Carries out the runs of one sweep."""

    backend: Backend
    """Where they go."""

    datasets: Mapping[Key, Dataset]
    """Where every dataset of the sweep is."""

    root: Path
    """Folder of ``runs/``."""

    show: SweepShow
    """Shows what happens."""

    def carry_out(self, journal: Journal, left: Sequence[PlannedRun]) -> None:
        """Carry out the runs that are left, each noted as soon as it has ended.

        Parameters
        ----------
        journal : Journal
            The sweep and what has ended of it.
        left : sequence of PlannedRun
            What is to run, in order.

        Raises
        ------
        CommandError
            If the backend fails several runs in a row.
        """
        num_failures = 0
        for number, planned in enumerate(left):
            self.show.begin(left[number:])
            entry = self._entry(journal, planned)
            append(journal.folder, entry)
            journal = replace(journal, entries=(*journal.entries, entry))
            write_tables(journal.folder, *journal.rows())
            self.show.end(entry)
            num_failures = num_failures + 1 if entry.is_of_backend else 0
            if num_failures == MAX_FAILURES_OF_BACKEND:
                raise CommandError(f"{num_failures} runs in a row could not be carried out: {entry.run.message}")

    def _entry(self, journal: Journal, planned: PlannedRun) -> Entry:
        began_s, started_at_s = time.monotonic(), time.time()
        run_id = make_run_id(datetime.now(UTC))
        folder = self.root / "runs" / run_id
        folder.mkdir(parents=True)
        draft = self._draft(planned.setting, journal)
        is_of_backend = False
        try:
            if self.backend.is_cold(planned.setting):
                self._warm_up(planned.setting, journal)
                began_s = time.monotonic()
            with noted(journal.folder, run_id):
                ending = self._run(planned.setting, run_id, draft, folder)
        except BACKEND_ERRORS as error:
            ending = Ending("FAILED", type(error).__name__, str(error))
            is_of_backend = True
            self.backend.renew()
        row = self._row(journal, planned, draft, run_id if folder.exists() else "", started_at_s)
        rates = self.backend.rates(planned.setting.memory)
        run, ranks = measure(row, ending, folder, rates=rates, region=self.backend.region)
        return Entry(
            planned=planned.setting,
            repeat=planned.repeat,
            elapsed_s=time.monotonic() - began_s,
            is_of_backend=is_of_backend,
            run=run,
            ranks=ranks,
        )

    def _run(self, setting: Setting, run_id: str, draft: Draft, folder: Path) -> Ending:
        target = self.backend.target(setting.memory)
        # The steps of one run among many are not worth a line each.
        silent = Console(file=io.StringIO())
        dataset = self.datasets[key_of(setting)]
        try:
            return run_in(target, run_id, draft, dataset, folder, silent, line=self.show.line)
        finally:
            self.backend.after(folder)

    def _warm_up(self, setting: Setting, journal: Journal) -> None:
        """Run once without counting, on all workers, so that the first run of a setting is like the others."""
        folder = journal.folder / "warm-up"
        everywhere = msgspec.structs.replace(setting, world=self.backend.max_concurrency)
        folder.mkdir(exist_ok=True)
        try:
            # A setting that fails says so when it counts.
            self._run(everywhere, make_run_id(datetime.now(UTC)), self._draft(everywhere, journal), folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _draft(self, setting: Setting, journal: Journal) -> Draft:
        names = ("world", "batch", "files", "engine", "precision", "profile")
        given = {name: value for name in names if (value := getattr(setting, name)) is not None}
        draft = draft_request(
            RequestVariables(**given, tolerate=journal.plan.tolerate, model=journal.plan.model or ""), root=self.root
        )
        memory_mb = self.backend.variant(setting.memory)
        return draft if memory_mb is None else replace(draft, payload={**draft.payload, "memory_mb": memory_mb})

    def _row(self, journal: Journal, planned: PlannedRun, draft: Draft, run_id: str, started_at_s: float) -> RunRow:
        """Return the row of a run as far as it is known before it."""
        request = draft.request
        dataset = self.datasets[key_of(planned.setting)].prefix.removeprefix("datasets/").strip("/")
        partition = PARTITION_MB.fullmatch(dataset)
        return RunRow(
            sweep=journal.folder.name,
            setting=journal.plan.label(planned.setting),
            repeat=planned.repeat,
            position=planned.position,
            run_id=run_id,
            target=self.backend.name,
            started_at_s=started_at_s,
            world_size=request.world_size,
            batch_size=request.batch_size,
            dataset=dataset,
            shard_mb=int(partition[1]) if partition else None,
            file_limit=request.file_limit,
            memory_mb=self.backend.rates(planned.setting.memory).memory_mb["infer"],
            engine=request.engine,
            precision=request.precision,
            profile=request.profile,
            max_concurrency=self.backend.max_concurrency,
        )
