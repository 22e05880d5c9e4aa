"""Which runs a sweep has, how its lists are read, and what its journal keeps."""

import re
from pathlib import Path

import msgspec
import pytest

from scripts.command.errors import UsageError
from scripts.sweeps import table
from scripts.sweeps.journal import Entry, append, held, read_journal
from scripts.sweeps.lists import read_plan
from scripts.sweeps.plan import PlannedRun, Setting, SweepPlan
from tests.factories import make_run_row

PLAN = SweepPlan(world=(1, 2), batch=(8, 32), repeat=3, target="local")


def entry_of(run: PlannedRun, **changes: object) -> Entry:
    row = make_run_row(setting=PLAN.label(run.setting), repeat=run.repeat, position=run.position)
    return Entry(planned=run.setting, repeat=run.repeat, elapsed_s=1.0, run=row, ranks=(), **changes)


def begin(folder: Path, plan: SweepPlan = PLAN) -> None:
    with held(folder, plan):
        pass


def replace_row(entry: Entry, **changes: object) -> Entry:
    return msgspec.structs.replace(entry, run=msgspec.structs.replace(entry.run, **changes))


def replace_plan(**changes: object) -> SweepPlan:
    return msgspec.structs.replace(PLAN, **changes)


# ----------------------------------------------------------------------------------------------- the runs


def test_every_setting_runs_once_before_one_runs_twice() -> None:
    runs = list(PLAN.runs())

    assert [run.repeat for run in runs] == [0] * 4 + [1] * 4 + [2] * 4
    assert all({run.setting for run in runs[start : start + 4]} == set(PLAN.settings) for start in (0, 4, 8))


def test_repeats_come_in_different_orders_and_every_time_in_the_same() -> None:
    orders = [tuple(run.setting for run in PLAN.runs() if run.repeat == repeat) for repeat in range(3)]

    assert len(set(orders)) > 1
    assert list(PLAN.runs()) == list(PLAN.runs())


def test_a_label_names_what_varies_and_nothing_else() -> None:
    plan = SweepPlan(world=(1, 2), batch=(8,), profile=(False, True))

    assert [plan.label(setting) for setting in plan.settings][:2] == ["WORLD=1 PROFILE=0", "WORLD=1 PROFILE=1"]
    assert SweepPlan(world=(1,), batch=(8,)).label(Setting(world=1, batch=8)) == "WORLD=1 BATCH=8"
    assert SweepPlan(repeat=3).label(Setting()) == "default"


def test_runs_are_numbered_in_their_order_which_the_seed_decides() -> None:
    assert [run.position for run in PLAN.runs()] == list(range(12))
    assert [run.setting for run in PLAN.runs()] != [run.setting for run in replace_plan(seed=1).runs()]


# ---------------------------------------------------------------------------------------------- the lists


def test_variables_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("world: [1, 2]\nbatch: 8,32\nmemory: 1769\nprofile: [false, true]\nrepeat: 2\n")

    plan = read_plan({"SWEEP": str(file), "WORLD": "4", "SHARD_MB": "10,25"})

    assert (plan.world, plan.batch, plan.memory, plan.shard_mb) == ((4,), (8, 32), (1769,), (10, 25))
    assert (plan.profile, plan.repeat) == ((False, True), 2)


def test_a_sweep_is_a_list_or_repeats_of_one_run() -> None:
    assert read_plan({"WORLD": "1,2"}).repeat == 1
    assert read_plan({"REPEAT": "3"}).settings == (Setting(),)
    assert len(read_plan({"REPEAT": "1000", "WORLD": ",".join(map(str, range(1, 11)))}).settings) == 10
    widest = read_plan({"MEMORY": "128,10240", "SHARD_MB": "1,10000"})
    assert (widest.memory, widest.shard_mb) == ((128, 10_240), (1, 10_000))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"MEMORY": "abc"}, "MEMORY=abc is not valid: MEMORY is whole megabytes from 128 to 10240."),
        ({"MEMORY": "127"}, "MEMORY=127 is not valid"),
        ({"WORLD": "1,2,x"}, "WORLD=x is not valid: WORLD is a whole number of ranks from 1."),
        ({"WORLD": "1,"}, "WORLD= is not valid"),
        ({"BATCH": "8,8"}, "BATCH names 8 twice."),
        ({"REPEAT": "0"}, "REPEAT=0 is not valid"),
        ({"REPEAT": "2,3"}, "REPEAT is one value, not 2."),
        ({"SHARD_MB": "2.5"}, "SHARD_MB=2.5 is not valid"),
        ({"SHARD_MB": "0"}, "SHARD_MB=0 is not valid"),
        ({"SHARD_MB": "10001"}, "SHARD_MB=10001 is not valid"),
        ({"MEMORY": "10241"}, "MEMORY=10241 is not valid"),
        ({"TARGET": "moon", "WORLD": "1,2"}, "TARGET=moon is not valid: TARGET is local or aws."),
        ({"DATA": "sdss,"}, "DATA= is not valid"),
        ({"WORLD": ",".join(map(str, range(1, 74))), "REPEAT": "137"}, "That is 10,001 runs"),
        ({}, "A sweep needs a list"),
    ],
    ids=lambda value: " ".join(f"{key}={text[:9]}" for key, text in value.items()) if isinstance(value, dict) else "",
)
def test_a_wrong_list_is_refused_in_one_line(given: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=rf"^{re.escape(said)}[^\n]*$"):
        read_plan(given)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wrold: [1, 2]", "unknown key `wrold`. Did you mean `world`? Known are world, batch, data,"),
        ("wod: [1, 2]", "unknown key `wod`. Did you mean `world`? Known"),
        ("moon: 7", "unknown key `moon`. Known are"),
        ("world: [1, x]", "world=x is not valid: WORLD is a whole number"),
        ("world: {a: 1}", "is not valid"),
        ("[1, 2]", "holds no keys"),
        ("world: [1", "is not YAML"),
        ("", "holds no keys"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(text)

    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        read_plan({"SWEEP": str(file)})

    assert str(caught.value).startswith(f"SWEEP={file}")
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------------------------------- the journal


def test_what_is_in_the_journal_does_not_run_again(tmp_path: Path) -> None:
    begin(tmp_path)
    runs = list(PLAN.runs())
    for run in runs[:5]:
        append(tmp_path, entry_of(run))

    assert read_journal(tmp_path, PLAN).remaining(retry=False) == runs[5:]


def test_rows_are_in_the_order_of_the_sweep_in_whatever_order_they_ended(tmp_path: Path) -> None:
    begin(tmp_path)
    for run in reversed(list(PLAN.runs())):
        append(tmp_path, entry_of(run))

    assert [row.position for row in read_journal(tmp_path, PLAN).rows()[0]] == list(range(12))


def test_the_plan_is_written_as_its_lists_were_given_and_never_again(tmp_path: Path) -> None:
    begin(tmp_path)
    begin(tmp_path, replace_plan(repeat=4))

    assert (tmp_path / "sweep.yaml").read_text() == "world: [1, 2]\nbatch: [8, 32]\nrepeat: 3\ntarget: local\n"


def test_a_line_of_another_version_is_refused_by_its_number(tmp_path: Path) -> None:
    begin(tmp_path)
    append(tmp_path, entry_of(next(PLAN.runs())))
    with (tmp_path / "journal.jsonl").open("a") as journal:
        journal.write('{"speed": 7}\n')

    with pytest.raises(
        UsageError, match=r"journal\.jsonl, line 2, is of another version \(.*\): choose another NAME\.$"
    ):
        read_journal(tmp_path, PLAN)


def test_a_journal_without_its_plan_is_refused(tmp_path: Path) -> None:
    begin(tmp_path)
    append(tmp_path, entry_of(next(PLAN.runs())))
    (tmp_path / "sweep.yaml").unlink()

    with pytest.raises(UsageError, match=r"has a journal and no sweep\.yaml: it is not whole\. Move it away\."):
        read_journal(tmp_path, PLAN)


def test_a_line_that_a_kill_tore_counts_for_nothing(tmp_path: Path) -> None:
    begin(tmp_path)
    runs = list(PLAN.runs())
    append(tmp_path, entry_of(runs[0]))
    append(tmp_path, entry_of(runs[1]))
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-40])

    assert read_journal(tmp_path, None).remaining(retry=False) == runs[1:]
    append(tmp_path, entry_of(runs[2]))
    assert read_journal(tmp_path, None).remaining(retry=False) == [runs[1], *runs[3:]]


def test_a_failed_run_runs_again_only_when_asked(tmp_path: Path) -> None:
    begin(tmp_path)
    first = next(PLAN.runs())
    entry = entry_of(first)
    failed = replace_row(entry, state="failed", error="PlanError")
    append(tmp_path, failed)
    there = read_journal(tmp_path, None)

    assert first not in there.remaining(retry=False)
    assert first in there.remaining(retry=True)


def test_a_run_that_the_backend_failed_runs_when_the_sweep_goes_on(tmp_path: Path) -> None:
    begin(tmp_path)
    first = next(PLAN.runs())
    append(tmp_path, replace_row(entry_of(first, is_of_backend=True), state="failed"))

    assert first in read_journal(tmp_path, None).remaining(retry=False)


def test_a_run_tried_again_has_one_row(tmp_path: Path) -> None:
    begin(tmp_path)
    first = next(PLAN.runs())
    append(tmp_path, replace_row(entry_of(first), state="failed"))
    append(tmp_path, entry_of(first))

    table.write_tables(tmp_path, *read_journal(tmp_path, None).rows())

    assert [row.state for row in table.read_runs(tmp_path)] == ["complete"]


def test_another_sweep_of_the_same_name_is_refused(tmp_path: Path) -> None:
    begin(tmp_path)

    with pytest.raises(UsageError, match="holds another sweep"):
        read_journal(tmp_path, SweepPlan(world=(4, 8)))


def test_a_second_terminal_is_refused(tmp_path: Path) -> None:
    with held(tmp_path, PLAN), pytest.raises(UsageError, match="by another terminal"), held(tmp_path, PLAN):
        pass


def test_a_sweep_that_is_not_there_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="NAME=mine: there is no such sweep"):
        read_journal(tmp_path / "mine", None)

    assert not (tmp_path / "mine").exists()


def test_the_plan_of_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("world: [1]\nspeed: 7\n")

    with pytest.raises(UsageError, match=r"sweep\.yaml cannot be read \([^\n]*speed"):
        read_journal(tmp_path, None)


def test_the_same_sweep_has_the_same_name() -> None:
    assert PLAN.fingerprint == SweepPlan(world=(1, 2), batch=(8, 32), repeat=3, target="local").fingerprint
    assert PLAN.fingerprint != replace_plan(world=(1, 2, 4)).fingerprint
    assert len({one.fingerprint for one in (PLAN, replace_plan(model="mine"), replace_plan(model_sha256="0"))}) == 3
    # Of a sweep made before a model could be named.
    assert PLAN.fingerprint == "67aec9c4"
