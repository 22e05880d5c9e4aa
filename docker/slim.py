"""Make installed libraries small and quick to start: prune, strip, compile what the worker loads.

Runs inside the build as ``slim.py LAYER PACKAGES``: LAYER is a folder that becomes one layer of the image, PACKAGES the
folder of the libraries in the image. Needs nothing but the standard library and ``strip``. ``slim.py LAYER PACKAGES
native`` goes on with that layer, and takes out what the native engine computes without.
"""

import json
import os
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import cache_from_source
from pathlib import Path

UNUSED_FOLDERS = (
    *("bin", "share", "setuptools", "_distutils_hack"),
    *(f"onnxruntime/{name}" for name in ("backend", "datasets", "quantization", "tools", "transformers")),
    *(f"torch/{name}" for name in ("bin", "include", "share", "test", "onnx", "_vendor/quack")),
    # torch's compiler, and what only it imports: no worker compiles. `compile_loaded` fails if one of them is missed.
    *("torch/_dynamo", "torch/_inductor", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec", "filelock"),
    *(f"torch/distributed/{name}" for name in ("checkpoint", "elastic", "pipelining", "_tools", "optim", "launcher")),
    # What only ONNX Runtime's own converters import.
    *("protobuf", "google", "flatbuffers", "packaging", "numpy/f2py"),
)
# With these the other engines compute. The native one needs none of them.
OTHER_ENGINES = ("torch", "torchgen", "functorch", "onnxruntime")
# libonnxruntime is for programs in C: Python's module holds all of it once more.
UNUSED_PATTERNS = (
    *("tests/", "*.a", "*.c", "*.h", "*.hpp", "*.pxd", "*.pyi", "*.pyx", "distutils-precedence.pth"),
    *("libonnxruntime.so.*", "libtorchbind_test.so", "libjitbackend_test.so", "libbackend_with_compiler.so"),
)
KEPT = "torch/bin/torch_shm_manager"
"""torch does not import without it."""

MTIME_S = 315532800
"""The first second of 1980, for every file: the same content is the same layer, whenever it was built."""

# Everything a worker imports, and a small forward pass, as such and profiled: torch imports some modules late. What is
# imported only for a bucket of another region counts too.
WORK = """
import concurrent.futures.thread, json, logging.config, sys, urllib.request, zipfile
import awslambdaric.__main__, msgspec, numpy.typing, obstore.store, onnxruntime, safetensors.numpy, safetensors.torch
import torch

layers = torch.nn.Conv2d(5, 8, 8, 8), torch.nn.BatchNorm2d(8), torch.nn.GELU(), torch.nn.Flatten()
network = torch.nn.Sequential(*layers, torch.nn.Linear(128, 1)).eval()
with torch.inference_mode():
    network(torch.zeros(1, 5, 32, 32))
    with torch.autograd.profiler.profile(profile_memory=True) as trace:
        network(torch.zeros(1, 5, 32, 32))
    trace.key_averages()
files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
print(json.dumps(sorted(file for file in files if file and file.startswith("/") and file.endswith(".py"))))
"""


NATIVE_WORK = "import awslambdaric.__main__, msgspec, numpy.typing, obstore.store, safetensors.numpy"


def main() -> None:
    """Work on the layer in place."""
    layer, packages = Path(sys.argv[1]), Path(sys.argv[2])
    root = layer / packages.relative_to("/")
    if sys.argv[3:] == ["native"]:
        remove(root, OTHER_ENGINES)
        run(NATIVE_WORK, root)
    else:
        prune(root)
        for name in ("torch", "obstore"):
            strip(root / name)
        compile_loaded(layer, root)
    normalise(layer)


def prune(root: Path) -> None:
    """Remove what no worker reads: headers, stubs, test suites, programs."""
    kept = (root / KEPT).read_bytes()
    remove(root, UNUSED_FOLDERS)
    for pattern in UNUSED_PATTERNS:
        for path in list(root.rglob(pattern.rstrip("/"))):
            if pattern.endswith("/"):
                shutil.rmtree(path)
            else:
                path.unlink()
    (root / KEPT).parent.mkdir()
    (root / KEPT).write_bytes(kept)


def remove(root: Path, names: Iterable[str]) -> None:
    """Remove folders; with a whole library goes its entry in the list of what is installed."""
    for name in names:
        for path in (root / name, *root.glob(f"{name}-*.dist-info")):
            shutil.rmtree(path, ignore_errors=True)


def strip(root: Path) -> None:
    """Remove the symbols that only a debugger or a linker reads."""
    libraries = [path for path in root.rglob("*.so*") if path.is_file() and not path.is_symlink()]
    subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)  # noqa: S603, S607


def compile_loaded(layer: Path, root: Path) -> None:
    """Write byte code for every module a worker loads, of the libraries and of the standard library.

    The image's file system is read-only where it runs: what is not compiled now is compiled at every cold start.
    """
    for name in json.loads(run(WORK, root)):
        source = Path(name)
        inside = source if source.is_relative_to(layer) else layer / source.relative_to("/")
        target = Path(cache_from_source(str(inside)))
        target.parent.mkdir(parents=True, exist_ok=True)
        # Found valid by its name, not by the time of the source, which the layer sets.
        py_compile.compile(
            name,
            cfile=str(target),
            dfile="/" + str(inside.relative_to(layer)),
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def run(program: str, root: Path) -> bytes:
    """Run a program with the libraries in a folder and return what it prints; whatever it lacks ends the build."""
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout  # noqa: S603


def normalise(layer: Path) -> None:
    """Give every file the mode and time that no machine's habits change."""
    program = layer / "opt/packages" / KEPT
    if program.exists():
        program.chmod(0o755)
    for path in [layer, *layer.rglob("*")]:
        if not path.is_symlink():
            is_executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if is_executable else 0o644)
        os.utime(path, (MTIME_S, MTIME_S), follow_symlinks=False)


if __name__ == "__main__":
    main()
