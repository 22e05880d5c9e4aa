"""The exported graph, kept from one run of the tests to the next: to export it takes torch 45 s of CPU.

Everything that the export is made from is in the name under which a graph is kept, so that a change of any of it
exports anew, and the checksum of the graph too, so that a damaged one is not believed.
"""

import hashlib
import platform
import sys
from importlib import metadata
from pathlib import Path

import torch

from inference.checksum import file_sha256
from inference.model.astromae import AstroMAE
from inference.predict import MICRO_BATCH
from scripts.command.repository import REPOSITORY
from scripts.command.whole_file import write_whole
from scripts.deployment.image.engine import CACHE
from scripts.models.export.graph import write_graph

FOLDER = CACHE / "graphs"
NUM_KEPT = 8
SOURCES = (
    "inference/engines/folded.py",
    "inference/model/astromae.py",
    "inference/model/weights.py",
    "scripts/models/export/checkpoint_weights.py",
    "scripts/models/export/graph.py",
)
"""What makes a graph of ours; a test follows their imports."""


def write_graph_once(model: AstroMAE, checkpoint: Path, target: Path, *, folder: Path = FOLDER) -> None:
    """Write the graph as `write_graph` does, or as it did for the same weights, code and libraries."""
    folder.mkdir(parents=True, exist_ok=True)
    key = origin_sha256(checkpoint)
    for kept in folder.glob(f"{key}-*.onnx"):
        content = kept.read_bytes()
        if kept.stem == f"{key}-{hashlib.sha256(content).hexdigest()}":
            target.write_bytes(content)
            return
    write_graph(model, checkpoint, target)
    write_whole(folder / f"{key}-{file_sha256(target)}.onnx", target.read_bytes())
    for old in sorted(folder.glob("*.onnx"), key=lambda path: path.stat().st_mtime)[:-NUM_KEPT]:
        old.unlink(missing_ok=True)


def origin_sha256(checkpoint: Path, root: Path = REPOSITORY) -> str:
    """Return a checksum of all that a graph is made from: weights, code, libraries, Python, processor."""
    parts = [
        *(checkpoint.name, file_sha256(checkpoint), str(MICRO_BATCH)),
        *(f"{source} {file_sha256(root / source)}" for source in SOURCES),
        *sorted(f"{package.name} {package.version}" for package in metadata.distributions()),
        *(sys.version, platform.machine(), torch.backends.cpu.get_cpu_capability()),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
