"""Learning from labelled galaxies: one stage, from some weights to better ones, resumable to the very same."""

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from inference.model.astromae import AstroMAE
from scripts.models.training.device import mixed_precision
from scripts.models.training.journal import Journal
from scripts.models.training.network import Learning, Sample, learning_parameters, predict, predict_rows
from scripts.models.training.pretrain import turn
from scripts.models.training.schedule import warm_cosine
from scripts.models.training.whitening import whitened_magnitudes

SECONDS_BETWEEN_CHECKPOINTS = 60.0
WARMUP_STEPS = 50


@dataclass(frozen=True)
class Stage:
    """What learns, and how fast."""

    learning: Learning
    num_steps: int
    batch_size: int = 512
    learning_rate: float = 5e-4
    weight_decay: float = 0.1
    ema_decay: float = 0.998
    """Of the moving average of the weights, which is what is kept."""
    check_every: int = 100
    """Steps between looks at the selection rows."""
    moves_norms: bool = False
    """Whether batch norms follow these galaxies; those of a trained network need not, and few galaxies mislead them."""
    loss_unit: float = 0.02
    """dz that counts as one in the loss: about the error to be expected."""
    loss_beta: float = 1.0
    """Where the loss turns from square to absolute, in those units."""
    seed: int = 1
    """Decides the batches."""


@dataclass(frozen=True)
class Rows:
    """Rows of a sample, by what they are for."""

    taught: Sequence[Tensor]
    """Groups of rows to learn from."""

    shares: Sequence[float]
    """Share of each group in a batch."""

    chosen: Tensor
    """Rows to choose the best step by."""

    truth: Tensor
    """Their spectroscopic redshifts, on the CPU."""

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Draw the rows of a batch, with replacement."""
        counts = [round(size * share / sum(self.shares)) for share in self.shares]
        return torch.cat(
            [
                rows[torch.randint(0, len(rows), (count,), generator=generator)]
                for rows, count in zip(self.taught, counts, strict=True)
            ]
        )


def train_stage(
    model: AstroMAE, sample: Sample, rows: Rows, stage: Stage, journal: Journal, name: str, *, resumes: bool = True
) -> float:
    """Train a network in place; it ends with the averaged weights that did best on the chosen rows.

    Parameters
    ----------
    model : AstroMAE
        Network on the sample's device.
    sample : Sample
        Galaxies.
    rows : Rows
        Which of them teach, and which choose.
    stage : Stage
        Settings.
    journal : Journal
        Progress, log and checkpoints.
    name : str
        Of the stage in the journal.
    resumes : bool
        Keep checkpoints, and go on from the last one.

    Returns
    -------
    float
        The loss on the chosen rows.
    """
    taught = torch.cat(list(rows.taught)).to(sample.magnitudes.device)
    with whitened_magnitudes(model, sample.magnitudes[taught]):
        run = _Run.begin(model, stage)
        done = run.resume(journal, name) if resumes else 0
        progress = journal.stage(name, stage.num_steps, done=done)
        saved = time.monotonic()
        for step in range(done, stage.num_steps):
            progress(run.step(sample, rows, step))
            if (step + 1) % stage.check_every == 0 or step + 1 == stage.num_steps:
                journal.log(f"{name} selection", step + 1, run.judge(sample, rows))
                is_due = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
                if resumes and (is_due or step + 1 == stage.num_steps):
                    run.keep(journal, name, step + 1)
                    saved = time.monotonic()
        best = run.finish()
    model.eval().requires_grad_(False)
    return best


class _Run:
    """The moving parts of a stage."""

    def __init__(self, model: AstroMAE, stage: Stage, optimizer: Optimizer, tracked: list[str]) -> None:
        self.model, self.stage, self.optimizer = model, stage, optimizer
        self.schedule = warm_cosine(optimizer, WARMUP_STEPS, stage.num_steps)
        self.average = deepcopy(model)
        self._fast, self._slow = (_only(tracked, one.state_dict()) for one in (model, self.average))
        self._best = {name: tensor.clone() for name, tensor in self._slow.items()}
        self._best_score = float("inf")

    @classmethod
    def begin(cls, model: AstroMAE, stage: Stage) -> "_Run":
        model.requires_grad_(False)
        learning = dict(learning_parameters(model, stage.learning))
        for parameter in learning.values():
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(
            learning.values(), lr=stage.learning_rate, weight_decay=stage.weight_decay, fused=True
        )
        statistics = [name for name in model.state_dict() if "running" in name] if stage.moves_norms else []
        return cls(model, stage, optimizer, [*learning, *statistics])

    def step(self, sample: Sample, rows: Rows, step: int) -> float:
        """Learn from one batch, which follows from the seed and the number of the step."""
        stage, device = self.stage, sample.magnitudes.device
        generator = torch.Generator().manual_seed(stage.seed * 1_000_003 + step)
        drawn = rows.draw(stage.batch_size, generator).to(device)
        batch = sample.batch(drawn, stage.learning)
        if batch.images is not None:
            batch = type(batch)(batch.magnitudes, turn(batch.images, generator), batch.pooled, batch.inception)
        self.model.train(stage.moves_norms)
        with mixed_precision(device):
            predicted = predict(self.model, batch, stage.learning)
        loss = redshift_loss(predicted, sample.redshifts[drawn], stage)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], 5.0)
        self.optimizer.step()
        self.schedule.step()
        decay = min(stage.ema_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self._slow.values()), list(self._fast.values()), 1 - decay)
        return loss.item()

    def judge(self, sample: Sample, rows: Rows) -> float:
        """Return the loss of the averaged weights on the chosen rows, and keep the weights if it is the lowest."""
        predicted = predict_rows(self.average, sample, rows.chosen, self.stage.learning)
        score = redshift_loss(predicted, rows.truth, self.stage).item()
        if score < self._best_score:
            self._best_score = score
            for name, tensor in self._slow.items():
                self._best[name].copy_(tensor)
        return score

    def finish(self) -> float:
        """Put the best weights into the model."""
        with torch.no_grad():
            for name, tensor in self._best.items():
                self._fast[name].copy_(tensor)
        return self._best_score

    def keep(self, journal: Journal, name: str, step: int) -> None:
        journal.checkpoint(name, step, run=self, optimizer=self.optimizer, schedule=self.schedule)

    def resume(self, journal: Journal, name: str) -> int:
        return journal.resume(name, run=self, optimizer=self.optimizer, schedule=self.schedule)

    def state_dict(self) -> dict[str, object]:
        return {"fast": self._fast, "slow": self._slow, "best": self._best, "score": self._best_score}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        for name, kept in (("fast", self._fast), ("slow", self._slow), ("best", self._best)):
            for key, tensor in kept.items():
                tensor.copy_(state[name][key])
        self._best_score = float(state["score"])  # type: ignore[arg-type]


def _only(names: Sequence[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: state[name] for name in names}


def redshift_loss(predicted: Tensor, redshifts: Tensor, stage: Stage) -> Tensor:
    """Smooth absolute error of dz = (z_phot - z_spec) / (1 + z_spec), in units of the error to be expected."""
    dz = (predicted - redshifts) / (1 + redshifts) / stage.loss_unit
    return functional.smooth_l1_loss(dz, torch.zeros_like(dz), beta=stage.loss_beta)
