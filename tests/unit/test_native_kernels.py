"""Every kernel of the native engine against numpy in float64, at shapes that fill no tile, where undefined behaviour
and indices beyond an array end the program. Those for ARM run in an emulator where one is installed.
"""

import ctypes
import math
import platform
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.engines.native.compiler import compile_library, compile_source
from inference.engines.native.engine import NativeEngine
from inference.engines.native.library import INSTRUCTION_SETS, runnable
from inference.engines.native.pack import pack_path, read_pack
from inference.engines.native.prepare import can_prepare
from inference.models import SHIPPED, read_model

pytestmark = pytest.mark.skipif(not can_prepare(), reason="the native engine cannot be compiled for this machine")
CHECKS = "bounds,alignment,signed-integer-overflow,integer-divide-by-zero"
FLAGS = ("-fno-sanitize=all", f"-fsanitize={CHECKS}", f"-fsanitize-trap={CHECKS}")
rng = np.random.default_rng(0)
FIRST = rng.bit_generator.state
Call = Callable[..., None]


EMULATOR = "qemu-aarch64"
SOURCES = Path(__file__).parents[1]
PLACES = [one.name for one in runnable()] + ([] if platform.machine() == "aarch64" else [f"neon in {EMULATOR}"])


@pytest.fixture(scope="module", params=PLACES)
def kernel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Call a function of the kernels with arrays and numbers."""
    (instructions,) = (one for one in INSTRUCTION_SETS if one.name == request.param.split()[0])
    path = tmp_path_factory.mktemp("native") / "kernels"
    if EMULATOR in request.param:
        if shutil.which(EMULATOR) is None:
            pytest.skip(f"{EMULATOR} is not installed")
        compile_source(SOURCES / "native_program.cpp", instructions, path, "-O1", "-static", *FLAGS)
        return lambda name, *arguments: emulate(path, name, *arguments)
    # The engine's own -O3 compiles ten times as long; its library is compared with this one below.
    compile_library(instructions, path, "-O0", *FLAGS, source=SOURCES / "native_kernels.cpp")
    library = ctypes.CDLL(str(path))

    def call(name: str, *arguments: Any) -> None:
        function = getattr(library, f"test_{name}")
        given = [ctypes.c_void_p(one.ctypes.data) if isinstance(one, np.ndarray) else one for one in arguments]
        function.restype = None
        function(*given)

    return call


def emulate(program: Path, name: str, *arguments: Any) -> None:
    """Run one kernel in the emulator, and put what it wrote into the arrays; see `native_program.cpp`."""
    arrays = [one for one in arguments if isinstance(one, np.ndarray)]
    header = struct.pack("<32sq", name.encode(), len(arguments))
    for one in arguments:
        if isinstance(one, np.ndarray):
            header += struct.pack("<qq", 2, one.nbytes)
        elif isinstance(one, ctypes.c_float):
            header += struct.pack("<qf4x", 1, one.value)
        else:
            header += struct.pack("<qq", 0, one)
    sent = header.ljust(512, b"\0") + b"".join(one.tobytes().ljust(-(-one.nbytes // 64) * 64, b"\0") for one in arrays)

    done = subprocess.run([EMULATOR, program], input=sent, capture_output=True, check=True)

    assert len(done.stdout) == len(sent) - 512
    start = 0
    for one in arrays:
        np.copyto(one, np.frombuffer(done.stdout, one.dtype, one.size, start).reshape(one.shape))
        start += -(-one.nbytes // 64) * 64


@pytest.fixture(autouse=True)
def draw_anew() -> None:
    """Draw the same numbers whatever ran before."""
    rng.bit_generator.state = FIRST


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("num_rows", "inputs", "outputs"),
    [(1, 1, 16), (5, 16, 32), (6, 192, 64), (17, 192, 576), (13, 385, 48), (7, 1104, 1104), (136, 768, 16)],
)
def test_a_product_is_that_of_numpy(kernel: Call, num_rows: int, inputs: int, outputs: int) -> None:
    stride = inputs + 3
    rows, weights, bias = normal(num_rows + 7, stride), normal(inputs, outputs), normal(outputs)
    panels = np.ascontiguousarray(weights.reshape(inputs, -1, 16).transpose(1, 0, 2))
    out = np.full((num_rows + 1, outputs), np.nan, dtype=np.float32)

    kernel("multiply", rows, stride, num_rows, panels, bias, inputs, outputs, out)

    used = rows[:num_rows, :inputs].astype(np.float64)
    size = np.abs(used) @ np.abs(weights) + np.abs(bias)
    assert (np.abs(out[:num_rows] - (used @ weights + bias)) <= 1e-6 * size).all()
    assert np.isnan(out[num_rows]).all(), "rows beyond the last are not written"


def test_neighbours_do_not_change_a_row_of_a_product(kernel: Call) -> None:
    rows, panels, bias = normal(30, 400), normal(2, 400, 16), normal(32)
    together, alone = np.empty((20, 32), np.float32), np.empty((1, 32), np.float32)

    kernel("multiply", rows, 400, 20, panels, bias, 400, 32, together)
    kernel("multiply", rows[11:], 400, 1, panels, bias, 400, 32, alone)

    assert (together[11] == alone[0]).all()


@pytest.mark.parametrize(("num_rows", "inputs", "outputs"), [(1, 4, 16), (7, 192, 48), (6, 768, 32), (20, 36, 64)])
def test_a_product_in_8_bits_is_exact(kernel: Call, num_rows: int, inputs: int, outputs: int) -> None:
    stride = inputs + 4
    rows = rng.integers(0, 256, (num_rows + 7, stride)).astype(np.uint8)
    weights = rng.integers(-63, 64, (inputs, outputs)).astype(np.int8)
    rows[0], weights[:, 0], weights[:, 1] = 255, 63, -63  # the largest sums: nothing saturates
    panels = np.ascontiguousarray(weights.reshape(inputs // 4, 4, outputs // 16, 16).transpose(2, 0, 3, 1))
    ones, zeros = np.ones(outputs, np.float32), np.zeros(outputs, np.float32)
    out = np.full((num_rows + 1, outputs), np.nan, dtype=np.float32)

    kernel("multiply_codes", rows, stride, num_rows, panels, ones, zeros, inputs, outputs, out)

    assert (out[:num_rows] == rows[:num_rows, :inputs].astype(np.int64) @ weights).all()
    assert np.isnan(out[num_rows]).all(), "rows beyond the last are not written"


def test_a_sum_of_codes_is_scaled_and_gets_its_bias(kernel: Call) -> None:
    rows, panels = np.full((8, 4), 2, np.uint8), np.ones((1, 1, 16, 4), np.int8)
    scale, bias, out = normal(16), normal(16), np.empty((1, 16), np.float32)

    kernel("multiply_codes", rows, 4, 1, panels, scale, bias, 4, 16, out)

    np.testing.assert_allclose(out[0], 8 * scale.astype(np.float64) + bias, rtol=1e-6, atol=1e-6)


def test_numbers_become_the_nearest_code_and_stop_at_the_last(kernel: Call) -> None:
    x = np.array([-1e6, -2.0, -0.26, -0.24, 0, 0.24, 0.26, 1, 50, 1e6] * 8, np.float32)
    out = np.empty(80, np.uint8)

    kernel("codes", x, 80, ctypes.c_float(2.0), 4, out)

    assert out[:10].tolist() == [0, 0, 3, 4, 4, 4, 5, 6, 104, 255]


@pytest.mark.parametrize(
    ("which", "function", "low", "high"),
    [
        (0, np.exp, -80, 80),
        (1, np.log, 1e-30, 1e30),
        (2, np.arcsinh, -1e6, 1e6),
        (3, lambda x: x / (1 + np.exp(-x)), -60, 60),
        (4, lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2, -12, 12),
    ],
    ids=["exp", "log", "asinh", "silu", "gelu"],
)
def test_a_function_is_that_of_numpy(
    kernel: Call, which: int, function: Callable[[Any], Any], low: float, high: float
) -> None:
    x = np.linspace(low, high, 4096, dtype=np.float32)
    x[:32] = np.clip(np.linspace(-1e-3, 1e-3, 32), low, high)
    out = np.empty_like(x)

    kernel("function", which, x, len(x), out)

    wanted = function(x.astype(np.float64))
    assert np.abs(out - wanted).max() <= 4e-7 * np.maximum(np.abs(wanted), 1).max()
    assert (np.abs(out - wanted) <= 1e-6 * np.maximum(np.abs(wanted), 1)).all()


def test_functions_of_extreme_numbers_are_finite(kernel: Call) -> None:
    x = np.array([0, -0.0, 1e38, -1e38, 1e-38, -1e-38, 3e4, -3e4] * 2, dtype=np.float32)
    out = np.empty_like(x)

    for which in (0, 3, 4):
        kernel("function", which, x, len(x), out)

        assert np.isfinite(out).all()


def test_rows_become_columns(kernel: Call) -> None:
    square, out = normal(16, 16), np.empty((16, 16), np.float32)

    kernel("transpose", square, out)

    assert (out == square.T).all()


def test_a_row_is_normalised(kernel: Call) -> None:
    row, out = 5 + 3 * normal(192), np.empty(192, np.float32)

    kernel("normalise", row, out)

    wanted = (row - row.mean(dtype=np.float64)) / np.sqrt(row.var(dtype=np.float64) + 1e-6)
    assert np.abs(out - wanted).max() < 2e-6


@pytest.mark.parametrize("size", [1, 30], ids=["even shares", "one key has nearly all"])
def test_attention_is_that_of_numpy(kernel: Call, size: float) -> None:
    qkv, mixed = normal(17, 576), np.empty((17, 192), np.float32)
    qkv[:, :192] *= np.float32(size)

    kernel("attend", qkv, mixed)

    q, k, v = qkv.astype(np.float64).reshape(17, 3, 6, 32).transpose(1, 2, 0, 3)
    scores = q @ k.transpose(0, 2, 1)
    shares = np.exp(scores - scores.max(axis=2, keepdims=True))
    wanted = (shares / shares.sum(axis=2, keepdims=True) @ v).transpose(1, 0, 2).reshape(17, 192)
    # Scores are as large as 20, and their exponentials as inexact as they are.
    assert np.abs(mixed - wanted).max() < 2e-6 * size + 4e-6


def test_groups_are_those_of_numpy(kernel: Call) -> None:
    patches, expand, expand_bias = normal(16, 192), normal(48, 16, 4), normal(48, 16)
    reduce, reduce_bias = normal(48, 16, 4), normal(48, 4)
    out = patches.copy()

    kernel("groups", out, expand, expand_bias, reduce, reduce_bias)

    hidden = np.einsum("pgi,ghi->pgh", patches.reshape(16, 48, 4).astype(np.float64), expand) + expand_bias
    hidden = hidden / (1 + np.exp(-hidden))
    wanted = patches + (np.einsum("pgh,gho->pgo", hidden, reduce) + reduce_bias).reshape(16, 192)
    assert np.abs(out - wanted).max() < 1e-5


@pytest.mark.parametrize(("side", "size"), [(16, 3), (16, 5), (8, 5), (4, 3)])
def test_a_convolution_is_that_of_numpy(kernel: Call, side: int, size: int) -> None:
    width = side
    image, weights, bias = normal(side, side, width), normal(size, size, width, width), normal(width)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    out = np.empty((side, side, width), np.float32)

    kernel("convolve", side, size, padded, weights, bias, out)

    near = np.pad(image.astype(np.float64), ((size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(near, (size, size), axis=(0, 1))
    wanted = np.maximum(np.einsum("xyikl,klio->xyo", windows, weights) + bias, 0)
    assert np.abs(out - wanted).max() < 5e-5


def test_images_are_halved(kernel: Call) -> None:
    images, out = normal(3, 8, 8, 32), np.empty((3, 4, 4, 32), np.float32)

    kernel("halve", images, 3, 8, 32, out)

    assert np.abs(out - images.reshape(3, 4, 2, 4, 2, 32).mean(axis=(2, 4))).max() < 1e-6


def test_the_network_gives_the_same_bits_everywhere(kernel: Call) -> None:
    model = read_model(SHIPPED)
    sha256 = model.card.weights_sha256
    arrays = read_pack(pack_path(model.weights, sha256), sha256)[1]
    starts = np.cumsum([0, *(array.nbytes for array in arrays.values())])[:-1]
    packed = np.concatenate([array.ravel() for array in arrays.values()])
    image, magnitudes = 5 + 5 * normal(1, 5, 32, 32), np.full((1, 5), 18, np.float32)
    found = np.empty(1, np.float32)

    kernel("network", packed, starts, len(starts), image, magnitudes, 1, found)

    assert found == NativeEngine(model.weights, sha256, num_threads=1).predict(image, magnitudes)
