"""What a training run tells, logs and keeps, and which of it an other run may go on from."""

import csv
import io
import pickle
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from scripts.models.training import journal as module
from scripts.models.training.journal import Journal
from scripts.models.training.recipe import QUICK


@dataclass(frozen=True)
class Other:
    """Of a training that has no encoder."""

    seed: int = 0
    num_trees: int = 3


class Clock:
    """Goes on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is told, on no terminal and under a clock of our own."""
    told = io.StringIO()
    monkeypatch.setattr(module, "Console", lambda **_: Console(file=told, width=200))
    monkeypatch.setattr(module, "time", Clock())
    return told


def logged(folder: Path) -> list[list[str]]:
    """Return the lines of the log without the seconds."""
    return [line[1:] for line in csv.reader((folder / "log.csv").read_text().splitlines())]


def test_the_log_has_the_average_loss_of_every_twentieth_and_the_last_step(tmp_path: Path, said: io.StringIO) -> None:
    after_step = Journal(tmp_path, QUICK).stage("heads", 45, done=10)

    for loss in [1.0, *[0.0] * 34]:
        after_step(loss)

    assert logged(tmp_path) == [
        ["stage", "step", "loss", "values"],
        ["heads", "20", f"{0.98**9:.6g}", ""],
        ["heads", "40", f"{0.98**29:.6g}", ""],
        ["heads", "45", f"{0.98**34:.6g}", ""],
    ]
    assert said.getvalue().count("\n") == 3
    assert f"heads 20/45  loss {0.98**9:.4f}  " in said.getvalue()


def test_how_long_it_takes_follows_from_the_steps_of_this_attempt(tmp_path: Path, said: io.StringIO) -> None:
    after_step = Journal(tmp_path, QUICK).stage("heads", 40, done=10)
    for _ in range(10):
        after_step(1.0)

    # Every look at the clock is a second: ten steps took a second, or 1/10 s each, and 20 are left.
    line = said.getvalue().splitlines()[-1]
    elapsed, left = (float(part.split()[0]) for part in line.rsplit("  ", 1)[1].split(", "))
    assert "heads 20/40" in line
    assert left == pytest.approx(elapsed / 10 * 20, abs=1)
    assert line.startswith("[")
    assert "s to go" in line


def test_a_stage_without_a_loss_is_told_but_not_logged(tmp_path: Path, said: io.StringIO) -> None:
    after_step = Journal(tmp_path, QUICK).stage("rows", 2)

    for _ in range(2):
        after_step(float("nan"))

    assert not (tmp_path / "log.csv").exists()
    assert "rows 2/2    " in said.getvalue()
    assert "loss" not in said.getvalue()


def test_a_line_of_the_log_has_its_values_by_name(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "folder", QUICK)

    journal.log("heads selection", 3, 0.123456789, nmad=0.0123456789, bias=-1.0)
    journal.log("heads selection", 4, 2.0)

    assert logged(journal.folder) == [
        ["stage", "step", "loss", "values"],
        ["heads selection", "3", "0.123457", "nmad=0.0123457 bias=-1"],
        ["heads selection", "4", "2", ""],
    ]
    assert all(float(line.partition(",")[0]) >= 0 for line in (journal.folder / "log.csv").read_text().splitlines()[1:])


def test_seconds_of_a_phase_add_up_in_the_order_of_appearance(tmp_path: Path, said: io.StringIO) -> None:
    journal = Journal(tmp_path, QUICK)
    assert journal.seconds() == []

    for phase in ("rows", "heads", "rows"):
        with journal.timed(phase):
            pass

    assert journal.seconds() == [("rows", 2.0), ("heads", 1.0)]
    assert Journal(tmp_path, QUICK).seconds() == journal.seconds()


def test_a_checkpoint_keeps_every_part_and_how_far_it_is(tmp_path: Path, said: io.StringIO) -> None:
    first, second = nn.Linear(2, 2), nn.Linear(3, 1)
    journal = Journal(tmp_path, QUICK)
    assert (journal.progress("heads 1"), journal.resume("heads 1", first=first)) == (0, 0)

    journal.checkpoint("heads 1", 7, first=first, second=second)

    assert {path.name for path in tmp_path.iterdir()} == {"heads-1.pt"}
    again = nn.Linear(2, 2), nn.Linear(3, 1)
    assert journal.progress("heads 1") == 7
    assert journal.resume("heads 1", first=again[0], second=again[1]) == 7
    assert torch.equal(again[0].weight, first.weight)
    assert torch.equal(again[1].bias, second.bias)
    assert "heads 1: going on from checkpoint 7" in said.getvalue()


@pytest.mark.parametrize(
    ("stage", "before", "after", "is_kept"),
    [
        ("pretrain", QUICK, replace(QUICK, head_steps=99), True),
        ("features train", QUICK, replace(QUICK, joint_steps=99), True),
        ("heads 1", QUICK, replace(QUICK, head_steps=99), False),
        ("heads 1", QUICK, QUICK, True),
        ("pretrain", QUICK, replace(QUICK, pretrain_epochs=99), False),
        ("pretrain", Other(), Other(), True),
        ("pretrain", Other(), Other(num_trees=4), False),
        ("pretrain", Other(), QUICK, False),
    ],
)
def test_what_is_kept_serves_a_recipe_that_is_the_same_as_far_as_it_matters(
    stage: str, before: Any, after: Any, is_kept: bool, tmp_path: Path
) -> None:
    Journal(tmp_path, before).checkpoint(stage, 5, layer=nn.Linear(1, 1))

    assert Journal(tmp_path, after).progress(stage) == (5 if is_kept else 0)


def test_a_checkpoint_that_holds_more_than_tensors_and_numbers_is_refused(tmp_path: Path) -> None:
    torch.save({"recipe": asdict(QUICK), "progress": 5, "state": tmp_path}, tmp_path / "heads.pt")

    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        Journal(tmp_path, QUICK).progress("heads")


def test_a_tensor_is_computed_once(tmp_path: Path) -> None:
    asked: list[int] = []

    def compute() -> torch.Tensor:
        asked.append(1)
        return torch.arange(3)

    for _ in range(2):
        assert Journal(tmp_path, QUICK).keep("features train", compute).tolist() == [0, 1, 2]

    assert asked == [1]
    assert (tmp_path / "features-train.pt").exists()


def test_bars_are_drawn_on_a_terminal_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {}
    for is_terminal in (True, False):
        file = io.StringIO()
        monkeypatch.setattr(
            module,
            "Console",
            lambda file=file, is_terminal=is_terminal, **_: Console(file=file, force_terminal=is_terminal),
        )
        with Journal(tmp_path, QUICK) as journal:
            after_step = journal.stage("heads", 20)
            for _ in range(20):
                after_step(0.5)
        shown[is_terminal] = file.getvalue()

    assert "20/20" in shown[True]
    assert "loss 0.5000" in shown[True]
    assert "to go" not in shown[True]
    assert shown[False].count("\n") == 1
    assert "heads 20/20  loss 0.5000" in shown[False]
