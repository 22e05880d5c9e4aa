"""Compile the native engine for this machine, and pack the weights of a model: the shipped one when none is named."""

import platform
import sys
from pathlib import Path

from inference.engines.native.compiler import compile_all
from inference.engines.native.prepare import prepare
from inference.engines.unavailable import UnavailableError
from inference.errors import RunError
from inference.models import SHIPPED, read_model


def main(folder: Path = SHIPPED) -> None:
    """Make what is missing; a network as ONNX has no weights to pack."""
    model = read_model(folder)
    if model.card.kind == "astromae":
        prepare(model.weights)
    else:
        compile_all(platform.machine())


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:2]))
    except (UnavailableError, RunError) as error:
        sys.exit(f"error: {error}")
