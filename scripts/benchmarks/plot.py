"""Draws what `make bench` measured."""

from pathlib import Path
from typing import Any

BAR_COLORS = {
    "native int8": "#c6a8d8",
    "native": "#8a4fb0",
    "reference loop": "0.55",
    "torch": "#c2773f",
    "onnxruntime int8": "#9dbbe3",
    "onnxruntime": "#3f77c2",
    "openvino": "#3f9c5f",
}


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw speeds by batch size and threads, and time and memory of a whole rank."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (speed, rank) = pyplot.subplots(1, 2, figsize=(13, 6), layout="constrained")
    _draw_speeds(speed, [line for line in results["engines"] if line["instructions"] == "native"])
    _draw_ranks(rank, results["rank"])
    machine = results["machine"]
    load = f"load {machine['load_before']:.1f} to {machine['load_after']:.1f} on {machine['num_cpus']} CPUs"
    figure.suptitle(f"AstroMAE on {machine['cpu']}, {load}", fontsize=10)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw_speeds(axes: Any, lines: list[dict[str, Any]]) -> None:
    groups = sorted({(line["num_threads"], line["batch_size"]) for line in lines})
    programs = list(dict.fromkeys(line["program"] for line in lines if line["program"] != "fp32 GEMM"))
    width = 0.8 / len(programs)
    for i, program in enumerate(programs):
        heights = {
            (line["num_threads"], line["batch_size"]): line["cpu_ratio"]["median"]
            for line in lines
            if line["program"] == program
        }
        places = [groups.index(group) + (i - (len(programs) - 1) / 2) * width for group in heights]
        color = next(color for name, color in BAR_COLORS.items() if program.startswith(name))
        bars = axes.bar(places, list(heights.values()), width * 0.92, color=color, label=program)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.set_xticks(range(len(groups)), [f"{threads} thread(s)\nbatch {batch}" for threads, batch in groups])
    axes.set_ylabel("galaxies per CPU second, relative to the reference loop")
    axes.set_title("Same work, same run, paired medians")
    axes.margins(y=0.25)
    axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)


def _draw_ranks(axes: Any, lines: list[dict[str, Any]]) -> None:
    labels = [f"{line['program']}\n{line['shard_mb']} MB, peak {line['peak_memory_mb']:.0f} MB" for line in lines]
    left = [0.0] * len(lines)
    for phase, color in zip(
        ("start", "model_load", "download", "inference", "upload"),
        ("#888888", "#b59bd6", "#d6b656", "#3f77c2", "#c0504d"),
        strict=True,
    ):
        seconds = [line["phases_s"][phase] for line in lines]
        axes.barh(labels, seconds, left=left, color=color, label=phase.replace("_", " "))
        left = [before + more for before, more in zip(left, seconds, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("wall time of a whole rank in a fresh process [s]")
    axes.set_title("Start to predictions")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
