"""What a training run leaves behind while it runs: progress, a loss log, and checkpoints to go on from."""

import csv
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from scripts.command.whole_file import written_whole
from scripts.models.training.recipe import PRETRAINING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Journal:
    """Log and checkpoints of one training run; as a context, it draws progress bars on a terminal.

    Parameters
    ----------
    folder : Path
        Holds `log.csv`, `seconds.csv` and one checkpoint per stage.
    recipe : Recipe, or another dataclass
        Checkpoints of another recipe are ignored.
    """

    def __init__(self, folder: Path, recipe: "DataclassInstance") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._recipe = asdict(recipe)
        self._started = time.monotonic()
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def stage(self, name: str, num_steps: int, *, done: int = 0) -> Callable[[float], None]:
        """Begin a stage; call the result with the loss after every step, NaN where there is none."""
        started, step, average = time.monotonic(), done, 0.0
        bar = self._bars.add_task(name, total=num_steps, completed=done, told="")

        def after_step(loss: float) -> None:
            nonlocal step, average
            step += 1
            average = loss if step == done + 1 else 0.98 * average + 0.02 * loss
            told = "" if math.isnan(average) else f"loss {average:.4f}"
            self._bars.update(bar, completed=step, told=told)
            if step % 20 == 0 or step == num_steps:
                if told:
                    self.log(name, step, average)
                if not self._console.is_terminal:
                    elapsed = time.monotonic() - started
                    eta = elapsed / (step - done) * (num_steps - step)
                    self.say(f"{name} {step}/{num_steps}  {told}  {elapsed:.0f} s, {eta:.0f} s to go")

        return after_step

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Append the wall time of a phase to `seconds.csv`."""
        started = time.monotonic()
        yield
        with (self.folder / "seconds.csv").open("a", newline="") as file:
            csv.writer(file).writerow([phase, f"{time.monotonic() - started:.1f}"])

    def seconds(self) -> list[tuple[str, float]]:
        """Sum the wall time of each phase over all attempts, in order of appearance."""
        totals: dict[str, float] = {}
        path = self.folder / "seconds.csv"
        for phase, seconds in csv.reader(path.read_text().splitlines()) if path.exists() else ():
            totals[phase] = totals.get(phase, 0.0) + float(seconds)
        return list(totals.items())

    def say(self, text: str) -> None:
        """Tell how training goes, on stderr."""
        self._console.print(f"\\[{time.monotonic() - self._started:6.0f} s] {text}", highlight=False, soft_wrap=True)

    def log(self, stage: str, step: int, loss: float, **values: float) -> None:
        """Append one line to `log.csv`."""
        path = self.folder / "log.csv"
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["seconds", "stage", "step", "loss", "values"])
            told = " ".join(f"{name}={value:.6g}" for name, value in values.items())
            writer.writerow([f"{time.monotonic() - self._started:.1f}", stage, step, f"{loss:.6g}", told])

    def checkpoint(self, stage: str, progress: int, **parts: Any) -> None:
        """Keep the state of a stage; written beside and renamed, so that a kill leaves the previous one whole."""
        path = self._path(stage)
        state = {name: part.state_dict() for name, part in parts.items()}
        with written_whole(path) as partial:
            torch.save({"recipe": self._recipe, "progress": progress, "state": state}, partial)

    def progress(self, stage: str) -> int:
        """Tell how far the last checkpoint of a stage is, 0 if there is none."""
        kept = self._kept(stage)
        return int(kept["progress"]) if kept else 0

    def resume(self, stage: str, **parts: Any) -> int:
        """Load the last checkpoint of a stage into its parts and return its progress, or 0 if there is none."""
        kept = self._kept(stage)
        if kept is None:
            return 0
        for name, part in parts.items():
            part.load_state_dict(kept["state"][name])
        self.say(f"{stage}: going on from checkpoint {kept['progress']}")
        return int(kept["progress"])

    def keep(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """Compute a tensor that follows from the encoder, or load what an earlier attempt computed."""
        path = self._path(name)
        kept = self._kept(name)
        if kept is None:
            kept = {"recipe": self._recipe, "tensor": compute()}
            with written_whole(path) as partial:
                torch.save(kept, partial)
        tensor: Tensor = kept["tensor"]
        return tensor

    def _kept(self, stage: str) -> dict[str, Any] | None:
        if not self._path(stage).exists():
            return None
        kept: dict[str, Any] = torch.load(self._path(stage), weights_only=True, mmap=True)
        # The encoder, and what is computed with it alone, outlives a change of the later stages.
        is_early = stage.startswith(("pretrain", "features")) and self._recipe.keys() >= PRETRAINING
        depends_on = PRETRAINING if is_early else self._recipe.keys()
        same = all(kept["recipe"].get(name) == self._recipe[name] for name in depends_on)
        return kept if same else None

    def _path(self, stage: str) -> Path:
        return self.folder / f"{stage.replace(' ', '-')}.pt"
