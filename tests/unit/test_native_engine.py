"""The native engine: as torch at weights from chance, the same bits however it is called, and what it refuses."""

import json
import logging
import math
import mmap
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from inference import engines
from inference.checksum import file_sha256
from inference.engines import exported
from inference.engines.exported import Accuracy, Agreement, ExportCard, Rounding
from inference.engines.native import __main__ as command
from inference.engines.native import compiler, library, pack
from inference.engines.native import prepare as preparing
from inference.engines.native.engine import NativeEngine, rows_of_a_part
from inference.engines.native.library import INSTRUCTION_SETS, runnable
from inference.engines.native.pack import PackCard, pack_path, read_pack, write_pack
from inference.engines.native.packing import make_pack
from inference.engines.native.prepare import can_prepare
from inference.engines.unavailable import UnavailableError
from inference.errors import WeightsError
from inference.model.astromae import AstroMAE, Variant
from inference.model.weights import load_astromae, save_weights
from inference.models import shipped
from inference.models.card import Graph
from scripts.models.export.rounding import measure_ranges
from tests.factories import FakeEngine, write_model

pytestmark = pytest.mark.skipif(not can_prepare(), reason="the native engine cannot be compiled for this machine")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, statistics and scalings from chance, packed: nothing is one or zero that a fold could forget."""
    torch.manual_seed(3)
    model = AstroMAE()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.normal_(module.running_mean, std=0.2)  # type: ignore[arg-type]
    with torch.no_grad():
        model.image_softening.uniform_(0.5, 2)
        model.image_center.normal_()
        model.image_scale.uniform_(0.5, 2)
        model.magnitude_center.uniform_(16, 18)
        model.magnitude_scale.uniform_(1, 2)
        model.redshift_center.fill_(0.1)
        model.redshift_scale.fill_(100)  # layers from chance hardly change their outputs
        model.encoder.cls_token.normal_()
        model.encoder.position.normal_()
        for block in model.encoder.blocks:
            block.attention.query_bias.normal_()
            block.attention.value_bias.normal_()
    path = tmp_path_factory.mktemp("weights") / "astromae.safetensors"
    save_weights(model, path)
    make_pack(path, file_sha256(path), pack_path(path, file_sha256(path)))
    return path


def open_engine(checkpoint: Path, num_threads: int = 1, **settings: Any) -> NativeEngine:
    return NativeEngine(checkpoint, file_sha256(checkpoint), num_threads=num_threads, **settings)


def galaxies(num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    images = rng.normal(0.5, 3, (num_rows, 5, 32, 32)).astype(np.float32)
    return images, rng.uniform(14, 22, (num_rows, 5))


@pytest.mark.parametrize("instructions", [one.name for one in runnable()])
def test_the_network_is_that_of_torch(checkpoint: Path, instructions: str) -> None:
    images, magnitudes = galaxies(11)
    images[1], images[2], images[3], images[4, :, 10, 10] = 0, 1e6, -1e6, 1e5
    magnitudes[5], magnitudes[6] = 0, 40

    found = open_engine(checkpoint, instructions=instructions).predict(images, magnitudes)

    with torch.inference_mode():
        model = load_astromae(checkpoint).double()
        wanted = model(torch.from_numpy(images).double(), torch.from_numpy(magnitudes)).numpy()
    assert np.ptp(wanted) > 1, "weights from chance tell these galaxies apart"
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_neighbours_threads_and_repetitions_change_no_bit(checkpoint: Path) -> None:
    images, magnitudes = galaxies(150)
    one, two = open_engine(checkpoint), open_engine(checkpoint, num_threads=2)

    together = one.predict(images, magnitudes)

    assert (two.predict(images, magnitudes) == together).all()
    assert (one.predict(images[140:], magnitudes[140:]) == together[140:]).all()
    assert one.predict(images[137:138], magnitudes[137:138]) == together[137]
    assert one.predict(images[:0], magnitudes[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("num_rows", "num_threads", "step"),
    [(0, 1, 16), (1, 2, 16), (70, 2, 48), (128, 1, 128), (300, 2, 80), (512, 2, 128), (512, 6, 96)],
)
def test_threads_take_equal_parts(num_rows: int, num_threads: int, step: int) -> None:
    assert rows_of_a_part(num_rows, num_threads, 128) == step


@pytest.fixture(scope="module")
def rounding(checkpoint: Path) -> Rounding:
    """How the weights from chance are rounded; they are packed so."""
    images, magnitudes = galaxies(32)
    accuracy = Accuracy(engine="native", nmad=0.01, bias=0, outlier_005=0)
    ranges = measure_ranges(load_astromae(checkpoint), images, magnitudes.astype(np.float32))
    rounding = Rounding(num_rows=32, ranges=ranges, shift=0.0, accuracy=accuracy)
    sha256 = file_sha256(checkpoint)
    make_pack(checkpoint, sha256, pack_path(checkpoint, sha256, "int8"), rounding)
    return rounding


def test_in_8_bits_it_is_near_fp32_and_not_it(checkpoint: Path, rounding: Rounding) -> None:
    images, magnitudes = galaxies(40)
    images[0], images[1], magnitudes[2] = 0, 1e6, 40

    full, reduced = (open_engine(checkpoint, precision=one).predict(images, magnitudes) for one in ("fp32", "int8"))

    # 8 bits resolve 1/255 of a range; a few layers lose a few of them.
    assert 0 < np.abs(full - reduced).max() < 0.03 * np.ptp(full)


def test_in_8_bits_neighbours_and_threads_change_no_bit(checkpoint: Path, rounding: Rounding) -> None:
    images, magnitudes = galaxies(40)

    together = open_engine(checkpoint, precision="int8").predict(images, magnitudes)

    assert (open_engine(checkpoint, 2, precision="int8").predict(images, magnitudes) == together).all()
    assert (open_engine(checkpoint, precision="int8").predict(images[7:9], magnitudes[7:9]) == together[7:9]).all()


def test_the_shift_of_the_mean_is_taken_off(checkpoint: Path, rounding: Rounding) -> None:
    images, magnitudes = galaxies(3)
    before = open_engine(checkpoint, precision="int8").predict(images, magnitudes)
    sha256 = file_sha256(checkpoint)
    shifted = msgspec.structs.replace(rounding, shift=0.25)

    make_pack(checkpoint, sha256, pack_path(checkpoint, sha256, "int8"), shifted)

    after = open_engine(checkpoint, precision="int8").predict(images, magnitudes)
    np.testing.assert_allclose(before - after, 0.25, atol=1e-5)


def test_nothing_is_read_beyond_the_galaxies(checkpoint: Path) -> None:
    images, magnitudes = galaxies(3)
    wanted = open_engine(checkpoint).predict(images, magnitudes)
    # Pages end with the last pixel: the next one belongs to nobody.
    pages = mmap.mmap(-1, -(-images.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE)
    at_the_end = np.frombuffer(pages, np.float32)[-images.size :].reshape(images.shape)
    at_the_end[:] = images

    assert (open_engine(checkpoint).predict(at_the_end, magnitudes) == wanted).all()


def test_no_address_is_wrong(checkpoint: Path, rounding: Rounding, tmp_path: Path) -> None:
    found = shutil.which("gcc") and subprocess.check_output(["gcc", "-print-file-name=libasan.so"], text=True).strip()
    if not found or not Path(found).exists():
        pytest.skip("gcc's libasan is not installed")
    path = tmp_path / "watched.so"
    # `-Xclang`: ziglang itself knows no address sanitizer, its clang does. -O0 compiles in a fifth of the time.
    compiler.compile_library(runnable()[0], path, "-O0", "-fno-sanitize=all", "-Xclang", "-fsanitize=address")
    sha256 = file_sha256(checkpoint)
    packs = [pack_path(checkpoint, sha256, one) for one in ("fp32", "int8")]

    done = subprocess.run(
        [sys.executable, "-m", "tests.native_sanitized", path, *packs, sha256],
        env={**os.environ, "LD_PRELOAD": found, "ASAN_OPTIONS": "detect_leaks=0:symbolize=0"},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    full, reduced, beyond = done.stdout.split()
    assert math.isfinite(float(full))
    assert abs(float(full) - float(reduced)) < 1
    assert beyond == "seen"
    assert "heap-buffer-overflow" in done.stderr


def test_nothing_is_allocated_while_it_computes(checkpoint: Path) -> None:
    library_file = library.library_path(runnable()[0]).read_bytes()
    images, magnitudes = galaxies(16)
    engine = open_engine(checkpoint, num_threads=2)
    engine.predict(images, magnitudes)
    before = resident_bytes()

    for _ in range(10):
        engine.predict(images, magnitudes)

    assert resident_bytes() - before < 3 * images.nbytes, "ten batches would be more"
    # What a library calls it names.
    assert b"memset" in library_file
    assert not [name for name in (b"malloc", b"calloc", b"mmap", b"_Znwm", b"pthread") if name in library_file]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_two_engines_compute_at_the_same_time(checkpoint: Path, rounding: Rounding) -> None:
    images, magnitudes = galaxies(24)
    both = [open_engine(checkpoint, precision=precision) for precision in ("fp32", "int8")]
    alone = [engine.predict(images, magnitudes) for engine in both]

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda engine: engine.predict(images, magnitudes), both))

    for one, other in zip(alone, together, strict=True):
        assert (one == other).all()


def test_a_pack_needs_whole_panels_and_begins_on_lines(checkpoint: Path) -> None:
    sha256 = file_sha256(checkpoint)

    card, arrays = read_pack(pack_path(checkpoint, sha256), sha256)

    assert card.num_parameters == 15_902_889
    assert all(array.ctypes.data % pack.LINE_BYTES == 0 for array in arrays.values())
    assert not any(array.flags.writeable for array in arrays.values())


def test_published_variants_are_not_packed(tmp_path: Path) -> None:
    path = tmp_path / "astromae.safetensors"
    save_weights(AstroMAE(Variant(pools_first=True)), path)

    with pytest.raises(WeightsError, match="only torch can"):
        make_pack(path, "0", tmp_path / "pack")

    assert [one.name for one in tmp_path.iterdir()] == [path.name]


# ------------------------------------------------------------------------------------------------- bad packs


SMALL = {"weight": np.ones(32, np.float32), "bias": np.zeros(16, np.float32)}


def small_pack(folder: Path, **changes: object) -> Path:
    card = msgspec.structs.replace(PackCard(weights_sha256="a" * 64, num_parameters=1), **changes)
    path = folder / "small.native"
    write_pack(path, card, SMALL)
    return path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-64])


def cut_within_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:30])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"0" * 64)


def other_file(path: Path) -> None:
    path.write_bytes(b"\xff" * 300)


@pytest.mark.parametrize("damage", [cut, cut_within_the_header, empty, lengthen, other_file, Path.unlink])
def test_a_damaged_pack_is_refused_in_one_line(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = small_pack(tmp_path)
    assert list(read_pack(path, "a" * 64)[1]) == ["weight", "bias"]
    damage(path)

    with pytest.raises(UnavailableError, match="`make engines` packs") as refused:
        read_pack(path, "a" * 64)

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"weights_sha256": "b" * 64}, "of other weights"), ({"version": 0}, f"of version 0, not {pack.VERSION}")],
)
def test_another_pack_is_refused(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    with pytest.raises(UnavailableError, match=why):
        read_pack(small_pack(tmp_path, **changes), "a" * 64)


def test_a_pack_is_written_next_to_where_it_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "on another disk"))

    assert small_pack(tmp_path).exists()
    assert [one.name for one in tmp_path.iterdir()] == ["small.native"]


def test_a_pack_of_another_precision_is_refused(tmp_path: Path) -> None:
    small_pack(tmp_path, precision="int8")

    assert read_pack(tmp_path / "small.native", "a" * 64, "int8")[0].precision == "int8"
    with pytest.raises(UnavailableError, match=r"small\.native"):
        read_pack(tmp_path / "small.native", "a" * 64)


# ---------------------------------------------------------------------------------------- library and compiler


@pytest.mark.parametrize(
    ("machine", "line", "names"),
    [
        ("x86_64", f"flags\t: fpu {' '.join(sorted(library.AVX2_FLAGS))}", ["avx2"]),
        ("x86_64", f"flags\t: fpu {' '.join(sorted(library.AVX2_FLAGS - {'fma'}))}", []),
        ("x86_64", f"flags\t: {' '.join(sorted(library.AVX512_FLAGS))}", ["avx512", "avx2"]),
        ("x86_64", f"flags\t: {' '.join(sorted(library.AVX512_FLAGS))} avx512_vnni", ["avx512vnni", "avx512", "avx2"]),
        ("aarch64", "Features\t: fp asimd", ["neon"]),
        ("aarch64", f"flags\t: {' '.join(sorted(library.AVX2_FLAGS))}", []),
        ("x86_64", "model name\t: avx2", []),
    ],
)
def test_a_cpu_runs_what_it_has_the_fastest_first(
    machine: str, line: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    monkeypatch.setattr(library, "Path", lambda _place: tmp_path / "cpuinfo")
    monkeypatch.setattr(library.platform, "machine", lambda: machine)

    assert [one.name for one in runnable()] == names
    (tmp_path / "cpuinfo").unlink()
    assert runnable() == [], "not Linux"


def test_what_is_missing_is_compiled_and_what_other_sources_left_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.setattr(compiler, "FOLDER", tmp_path)
    monkeypatch.setattr(compiler, "compile_library", lambda one, path: compiled.append(f"{one.name} {path.name}"))
    there = {one.name: library.library_path(one) for one in INSTRUCTION_SETS}
    for name in ("avx512", "neon"):
        there[name].touch()
    for other in ("native-avx2-0123456789ab.so", "notes.txt"):
        (tmp_path / other).touch()

    found = compiler.compile_all("x86_64")

    assert found == [there[name] for name in ("avx512vnni", "avx512", "avx2")]
    assert sorted(compiled) == [f"{name} {there[name].name}" for name in ("avx2", "avx512vnni")]
    assert {path.name for path in tmp_path.iterdir()} == {there["avx512"].name, there["neon"].name, "notes.txt"}


@pytest.mark.parametrize(
    ("rejected", "precisions"), [(None, ["fp32"]), ("too coarse", ["fp32"]), ("", ["fp32", "int8"])]
)
def test_what_is_packed_already_is_not_packed_again(
    rejected: str | None, precisions: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    path = tmp_path / "astromae.safetensors"
    path.write_bytes(b"weights")

    def make(_checkpoint: Path, sha256: str, target: Path, rounding: Rounding | None) -> None:
        precision = "int8" if rounding else "fp32"
        done.append(precision)
        write_pack(target, PackCard(weights_sha256=sha256, num_parameters=1, precision=precision), SMALL)

    monkeypatch.setattr("inference.engines.native.packing.make_pack", make)
    monkeypatch.setattr(preparing, "compile_all", done.append)
    if rejected is not None:
        accuracy = Accuracy(engine="native", nmad=0.01, bias=0, outlier_005=0, rejected=rejected)
        card = ExportCard(
            weights_sha256=file_sha256(path),
            weights_name=path.name,
            num_parameters=1,
            engines={},
            precisions={},
            native_int8=Rounding(num_rows=1, ranges={}, shift=0.0, accuracy=accuracy),
        )
        exported.card_path(path, file_sha256(path)).write_bytes(msgspec.json.encode(card))
        exported.graph_path(path, file_sha256(path)).touch()

    for _ in range(2):
        preparing.prepare(path)

    assert done == [platform.machine(), *precisions, platform.machine()]


def test_only_weights_of_astromae_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    monkeypatch.setattr(command, "prepare", done.append)
    monkeypatch.setattr(command, "compile_all", done.append)
    mine = write_model(tmp_path / "mine")
    theirs = write_model(tmp_path / "theirs", kind="onnx", graph=Graph(output="z"))

    command.main()
    command.main(mine.folder)
    command.main(theirs.folder)

    assert done == [shipped().weights, mine.weights, platform.machine()]


def test_several_threads_are_given_several_parts_each(checkpoint: Path) -> None:
    one, three = open_engine(checkpoint), open_engine(checkpoint, 3)

    assert (one.num_threads, three.num_threads) == (1, 3)
    assert three.micro_batch // one.micro_batch > 3
    before = set(threading.enumerate())
    one.predict(*galaxies(1))
    assert set(threading.enumerate()) == before
    three.predict(*galaxies(100))
    assert {thread.name.rpartition("_")[0] for thread in set(threading.enumerate()) - before} == {"native"}
    assert rows_of_a_part(three.micro_batch, 3, one.micro_batch) == one.micro_batch
    assert one.name == f"native {library.VERSION}-{runnable()[0].name}"
    assert (one.num_parameters, one.weights_sha256, one.precision) == (15_902_889, file_sha256(checkpoint), "fp32")


def test_other_sources_never_meet_an_old_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = library.library_path(INSTRUCTION_SETS[0])
    (tmp_path / "engine.cpp").write_text("// another")
    monkeypatch.setattr(library, "SOURCE", tmp_path)

    assert library.library_path(INSTRUCTION_SETS[0]) != before
    with pytest.raises(UnavailableError, match="not compiled"):
        library.open_library(runnable()[0])


def test_a_damaged_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    library.library_path(runnable()[0]).write_bytes(b"not a library")

    with pytest.raises(UnavailableError, match="cannot be loaded"):
        library.open_library(runnable()[0])


def test_without_a_compiler_nothing_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "find_spec", lambda _name: None)

    with pytest.raises(UnavailableError, match="ziglang is not installed"):
        compiler.compile_library(INSTRUCTION_SETS[0], tmp_path / "library.so")


def test_what_the_compiler_refuses_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "wrong.cpp").write_text("int f() { return }")

    with pytest.raises(UnavailableError, match=r"(?s)not compiled.*wrong\.cpp:1"):
        compiler.compile_library(INSTRUCTION_SETS[0], tmp_path / "library.so", source=tmp_path / "wrong.cpp")

    assert [one.name for one in tmp_path.iterdir()] == ["wrong.cpp"]


def test_a_machine_without_these_instructions_is_refused(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "runnable", list)

    with pytest.raises(UnavailableError, match="this machine does not compute with AVX2 or NEON"):
        open_engine(checkpoint)


def test_int8_is_refused_where_it_would_be_slower(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (neon,) = (one for one in INSTRUCTION_SETS if one.name == "neon")
    monkeypatch.setattr(library, "runnable", lambda: [neon])

    with pytest.raises(UnavailableError, match="in fp32 with neon, not in int8"):
        open_engine(checkpoint, precision="int8")


# ------------------------------------------------------------------------------------------------- which engine


@pytest.mark.parametrize(
    ("compared_in", "damage", "why"),
    [
        (library.VERSION, Path.unlink, "are not packed"),
        (library.VERSION, lambda path: path.write_bytes(b"1" * 100), "was cut"),
        (library.VERSION, lambda path: small_pack(path.parent).replace(path), "of other weights"),
        (None, None, "native was not compared"),
        (0, None, f"native {library.VERSION} was not compared with torch, but 0"),
    ],
    ids=["no pack", "a cut pack", "other weights", "not compared", "another version"],
)
def test_another_engine_replaces_it_and_says_so(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    compared_in: int | None,
    damage: Callable[[Path], object] | None,
    why: str,
) -> None:
    class OnnxRuntime(FakeEngine):
        def __init__(self, *_arguments: object, **_settings: object) -> None:
            self.note = None

    module = type("module", (), {"OnnxRuntimeEngine": OnnxRuntime})
    monkeypatch.setitem(sys.modules, "inference.engines.onnxruntime", module)
    copy, sha256 = tmp_path / checkpoint.name, file_sha256(checkpoint)
    copy.symlink_to(checkpoint)
    pack_path(copy, sha256).symlink_to(pack_path(checkpoint, sha256))
    if damage:
        pack_path(copy, sha256).unlink()
        pack_path(copy, sha256).touch()
        damage(pack_path(copy, sha256))
    compared = {"onnxruntime": "1"} if compared_in is None else {"onnxruntime": "1", "native": f"{compared_in}-avx2"}
    card = ExportCard(
        weights_sha256=sha256,
        weights_name=copy.name,
        num_parameters=15_902_889,
        engines={name: Agreement(version=v, num_rows=1, max_abs=0, mean_abs=0) for name, v in compared.items()},
        precisions={},
    )
    exported.card_path(copy, sha256).write_bytes(msgspec.json.encode(card))
    exported.graph_path(copy, sha256).write_bytes(b"graph")

    with caplog.at_level(logging.WARNING):
        engine = engines.load("native", copy, num_threads=1)

    assert engine.name == "fake 1"
    assert "engine native fell back to onnxruntime: " in str(engine.note)
    assert why in str(engine.note)
    assert "engine fell back to onnxruntime" in caplog.text


def test_the_shipped_weights_were_compared_in_this_version() -> None:
    (path,) = (Path(engines.__file__).parents[1] / "models" / "astromae").glob("astromae-*.json")

    assert json.loads(path.read_bytes())["engines"]["native"]["version"].startswith(f"{library.VERSION}-")
