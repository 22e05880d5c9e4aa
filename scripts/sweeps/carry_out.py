"""Carries out the runs of a sweep, one after the other; each is in the journal when the next begins."""

import io
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
from scripts.deployment.stack import StackError
from scripts.local_aws.server import LocalAwsError
from scripts.runs.execution import Ending
from scripts.runs.perform import RunStoppedError, run_in
from scripts.runs.request import Draft, draft_request, make_run_id
from scripts.runs.variables import RequestVariables
from scripts.sweeps.data import Dataset, Key, key_of
from scripts.sweeps.journal import Entry, Journal, append, write_tables
from scripts.sweeps.left_behind import noted
from scripts.sweeps.measure import Conditions, measure
from scripts.sweeps.place import Place
from scripts.sweeps.plan import PlannedRun, Setting, SweepPlan
from scripts.sweeps.show import SweepShow

MAX_FAILURES_OF_PLACE = 3
"""Runs in a row that the place could not carry out, before the sweep stops: it is not there."""

PLACE_ERRORS = (RunStoppedError, LocalAwsError, StackError, OSError, BotoCoreError, ClientError)


class SweepStoppedError(CommandError):
    """The place of the sweep does not answer; the message says what it said last. Exit status 1."""


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """Carries out the runs of one sweep."""

    place: Place
    """Where they go."""

    datasets: Mapping[Key, Dataset]
    """Where every dataset of the sweep lies."""

    root: Path
    """Folder in which ``runs/`` lies."""

    show: SweepShow
    """Told what happens."""

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
        SweepStoppedError
            If the place fails several runs in a row.
        """
        num_failures = 0
        for number, planned in enumerate(left):
            self.show.begin(left[number:])
            entry = self._entry(journal, planned)
            append(journal.folder, entry)
            journal = replace(journal, entries=(*journal.entries, entry))
            write_tables(journal)
            self.show.end(entry)
            num_failures = num_failures + 1 if entry.is_of_place else 0
            if num_failures == MAX_FAILURES_OF_PLACE:
                raise SweepStoppedError(f"{num_failures} runs in a row could not be carried out: {entry.run.message}")

    def _entry(self, journal: Journal, planned: PlannedRun) -> Entry:
        began_s, started_at_s = time.monotonic(), time.time()
        run_id = make_run_id(datetime.now(UTC))
        folder = self.root / "runs" / run_id
        folder.mkdir(parents=True)
        draft = draft_for(planned.setting, journal.plan)
        conditions = self._conditions(journal, planned, draft, run_id, started_at_s)
        is_of_place = False
        try:
            if self.place.is_cold(planned.setting):
                self._warm_up(planned.setting, journal)
                began_s = time.monotonic()
            with noted(journal.folder, run_id):
                ending = self._run(planned.setting, run_id, draft, folder)
        except PLACE_ERRORS as error:
            ending = Ending("FAILED", type(error).__name__, str(error))
            is_of_place = True
            self.place.renew()
        if not folder.exists():
            conditions = replace(conditions, run_id="")
        row, ranks = measure(conditions, ending, folder)
        return Entry(
            planned=planned.setting,
            repeat=planned.repeat,
            elapsed_s=time.monotonic() - began_s,
            is_of_place=is_of_place,
            run=row,
            ranks=ranks,
        )

    def _run(self, setting: Setting, run_id: str, draft: Draft, folder: Path) -> Ending:
        target = self.place.target(setting.memory)
        # The steps of one run among many are not worth a line each.
        silent = Console(file=io.StringIO())
        dataset = self.datasets[key_of(setting)]
        try:
            return run_in(target, run_id, draft, dataset, folder, silent, line=self.show.line)
        finally:
            self.place.after(folder)

    def _warm_up(self, setting: Setting, journal: Journal) -> None:
        """Run once without counting, on all workers, so that the first run of a setting is like the others."""
        folder = journal.folder / "warm-up"
        everywhere = msgspec.structs.replace(setting, world=self.place.max_concurrency)
        folder.mkdir(exist_ok=True)
        try:
            # A setting that fails says so when it counts.
            self._run(everywhere, make_run_id(datetime.now(UTC)), draft_for(everywhere, journal.plan), folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _conditions(
        self, journal: Journal, planned: PlannedRun, draft: Draft, run_id: str, started_at_s: float
    ) -> Conditions:
        request = draft.request
        return Conditions(
            sweep=journal.folder.name,
            setting=journal.plan.label(planned.setting),
            repeat=planned.repeat,
            position=planned.position,
            run_id=run_id,
            target=self.place.name,
            started_at_s=started_at_s,
            data_prefix=self.datasets[key_of(planned.setting)].prefix,
            world_size=request.world_size,
            file_limit=request.file_limit,
            batch_size=request.batch_size,
            engine=request.engine,
            precision=request.precision,
            profile=request.profile,
            rates=self.place.rates(planned.setting.memory),
            region=self.place.region,
            max_concurrency=self.place.max_concurrency,
        )


def draft_for(setting: Setting, plan: SweepPlan) -> Draft:
    """Return the request of a setting."""
    names = ("world", "batch", "files", "engine", "precision", "profile")
    given = {name: value for name in names if (value := getattr(setting, name)) is not None}
    return draft_request(RequestVariables(**given, tolerate=plan.tolerate))
