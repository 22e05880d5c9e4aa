"""Training curves: the loss of every stage over its steps, from the log of a run."""

import csv
from collections import defaultdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

SELECTION = " selection"
"""Ending of the log's lines that hold the loss on the selection rows."""


def draw_curves(log: Path, target: Path) -> None:
    """Draw `log.csv` of a training run as a PNG: pretraining beside the supervised stages.

    Parameters
    ----------
    log : Path
        Written by `scripts.models.training.journal.Journal`.
    target : Path
        The picture.
    """
    curves = _curves(log)
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw(left, {name: curve for name, curve in curves.items() if name == "pretrain"})
    _draw(right, _supervised(curves))
    left.set(title="Masked-autoencoder pretraining", ylabel="mean squared error of the hidden patches")
    right.set(title="Supervised training of the repeats", ylabel="loss (dots: on the selection galaxies)")
    figure.savefig(target, dpi=120)


def _supervised(curves: dict[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    """Put the joint stage of each repeat behind its heads stage."""
    heads = {name: curve for name, curve in curves.items() if name.startswith("heads ")}
    last = max((step for curve in heads.values() for step, _ in curve), default=0)
    joint = {
        name: [(last + step, loss) for step, loss in curve]
        for name, curve in curves.items()
        if name.startswith("joint ")
    }
    return heads | joint


def _curves(log: Path) -> dict[str, list[tuple[int, float]]]:
    """Return step and loss by stage; of a step that was repeated after a kill, the last."""
    steps: dict[str, dict[int, float]] = defaultdict(dict)
    with log.open(newline="") as file:
        for line in csv.DictReader(file):
            if line["step"].isdigit():
                steps[line["stage"]][int(line["step"])] = float(line["loss"])
    return {name: sorted(points.items()) for name, points in steps.items()}


def _draw(axes: Axes, curves: dict[str, list[tuple[int, float]]]) -> None:
    stages = sorted({name.removesuffix(SELECTION) for name in curves})
    for name, points in sorted(curves.items()):
        x, y = zip(*points, strict=True)
        color = f"C{stages.index(name.removesuffix(SELECTION))}"
        if name.endswith(SELECTION):
            axes.plot(x, y, "o", markersize=4, color=color)
        else:
            axes.plot(x, y, linewidth=1.2, color=color, label=name)
    axes.set(xlabel="step", yscale="log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.grid(alpha=0.3, which="both")
    if len(stages) > 1:
        axes.legend(frameon=False, fontsize="small", ncols=2)
