"""How an image is built, described and weighed, by whichever engine."""

import hashlib
import io
import json
import subprocess
import tarfile
import zlib
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inference.models import read_model
from scripts.deployment.image import build, engine, tools
from scripts.deployment.image.engine import Engine, EngineError
from tests.factories import write_model
from tests.unit.test_image_parts import make_image, program

MODEL = "sdss"
INSPECTED = {
    "Id": f"sha256:{'ab' * 32}",
    "Config": {"Labels": {"org.opencontainers.image.revision": "c" * 40, "model": "astromae (808183bdec89)"}},
    "Architecture": "arm64",
    "Size": 240_000_000,
    "RootFS": {"Layers": ["sha256:base", "sha256:code"]},
}


@dataclass(frozen=True)
class RecordingEngine(Engine):
    """Remembers what it was asked, and has every image."""

    has_buildx: bool = True
    saved: bytes = b""
    said: list[tuple[str, ...]] = field(default_factory=list)

    def run(self, *arguments: str, **_: Any) -> str:
        self.said.append(arguments)
        if arguments[0] == "buildx" and not self.has_buildx:
            raise EngineError("no such command")
        return json.dumps([INSPECTED])

    def show(self, *arguments: str, log: Path | None = None) -> None:
        self.said.append((*arguments, str(log)))

    def start(self, *arguments: str) -> Any:
        self.said.append(arguments)
        return SimpleNamespace(stdout=io.BytesIO(self.saved), wait=lambda: self.said.append(("waited for",)))


def pairs(words: tuple[str, ...], flag: str) -> dict[str, str]:
    return dict(after.split("=", 1) for word, after in pairwise(words) if word == flag)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with a model, and this user's settings of pip."""
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    write_model(tmp_path / "models" / MODEL).weights.write_bytes(b"weights")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    return tmp_path


def test_an_image_is_built_of_this_clone_with_its_model_and_described(context: Path) -> None:
    podman = RecordingEngine("podman", "4")
    model = read_model(context / "models" / MODEL)

    image = build.build(
        podman,
        architecture="arm64",
        model=model,
        context=context,
        arguments={"BASE_IMAGE": "python", "VERSION": "2"},
        log=context / "log",
    )

    (asked, inspected) = podman.said
    assert (asked[0], *asked[-2:]) == ("build", str(context), str(context / "log"))
    assert {("--platform", "linux/arm64"), ("--tag", build.image_name("arm64"))} <= {*pairwise(asked)}
    assert ("--file", str(context / build.WORKER.dockerfile)) in pairwise(asked)
    assert pairs(asked, "--build-arg") == {
        "REVISION": "unknown",
        "VERSION": "2",
        "SOURCE": "",
        "MODEL": f"models/{MODEL}",
        "MODEL_IN_WORDS": model.in_words,
        "PIP_INDEX_URL": "https://index.example/simple",
        "BASE_IMAGE": "python",
    }
    assert inspected == ("image", "inspect", build.image_name("arm64"))
    assert image == make_image(
        name=build.image_name("arm64"),
        architecture="arm64",
        size_bytes=240_000_000,
        layers=("sha256:base", "sha256:code"),
    )


def test_without_a_model_the_dockerfile_decides_and_a_name_may_be_given(context: Path) -> None:
    podman = RecordingEngine("podman", "4")

    build.build(podman, build.RENDEZVOUS, architecture="x86_64", context=context, name="localhost/mine:1")

    assert not {"MODEL", "MODEL_IN_WORDS"} & pairs(podman.said[0], "--build-arg").keys()
    assert ("--tag", "localhost/mine:1") in pairwise(podman.said[0])
    assert podman.said[1][-1] == "localhost/mine:1"


@pytest.mark.parametrize(
    ("program", "has_buildx", "there", "not_there"),
    [
        ("podman", False, {"--layers", "docker", "315532800"}, {"--provenance=false"}),
        ("docker", True, {"--provenance=false", "SOURCE_DATE_EPOCH=315532800"}, {"--layers", "--timestamp"}),
        ("docker", False, set[str](), {"--provenance=false", "SOURCE_DATE_EPOCH=315532800", "--layers"}),
    ],
)
def test_an_engine_is_told_only_what_it_understands(
    program: Any, has_buildx: bool, there: set[str], not_there: set[str], context: Path
) -> None:
    asked = RecordingEngine(program, "4", has_buildx=has_buildx)

    build.build(asked, architecture="x86_64", context=context)

    (words,) = [words for words in asked.said if words[0] == "build"]
    assert there <= {*words}
    assert not not_there & {*words}


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("https://example.org/photo-z.git", "https://example.org/photo-z.git"),
        ("https://me:secret@example.org/photo-z.git", ""),
        ("git@example.org:photo-z.git", ""),
    ],
)
def test_the_address_of_the_repository_is_stated_without_a_password(address: str, source: str, tmp_path: Path) -> None:
    for words in (["init", "-q"], ["remote", "add", "origin", address]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)

    assert build._source(tmp_path) == source
    assert build.revision(tmp_path) == "unknown"


@pytest.mark.parametrize("said", ["No such image: x", "x: image not known", "disk is full"])
def test_only_an_image_that_is_missing_is_to_be_built(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise EngineError(said)

    monkeypatch.setattr(Engine, "run", refuse)

    with pytest.raises(EngineError) as refused:
        build.inspect(Engine("docker", "28"), "x")

    assert ("make build" in str(refused.value)) == ("full" not in said)


def test_the_image_of_the_rendezvous_has_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {"org.opencontainers.image.revision": "c" * 40}
    found = json.dumps([{**INSPECTED, "Config": {"Labels": labels}}])
    monkeypatch.setattr(Engine, "run", lambda *_: found)

    assert build.inspect(Engine("docker", "28"), "x").model == ""


# --------------------------------------------------------------------------------------------------- its weight


def saved(*layers: bytes) -> bytes:
    """Return an archive as engines save it: a folder, a link, a manifest and layers by the digest of their content."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("folder"))
        folder = tarfile.TarInfo("blobs")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        link = tarfile.TarInfo("layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "blobs"
        archive.addfile(link)
        for name, content in [("manifest.json", b"[]"), *((f"{digest(one)[7:]}.tar", one) for one in layers)]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_an_image_weighs_what_its_layers_are_compressed_and_each_is_compressed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "SIZES", tmp_path / "cache" / "image" / "compressed.json")
    base, code, newer = (Path(module.__file__ or "").read_bytes() for module in (build, engine, tools))
    first = RecordingEngine("podman", "4", saved=saved(base, code))
    second = RecordingEngine("podman", "4", saved=saved(base, newer))

    image = make_image(layers=(digest(base), digest(code)))
    sizes = [build.compressed_bytes(first, image) for _ in range(2)]
    build.SIZES.write_text(json.dumps({**json.loads(build.SIZES.read_text()), digest(base): 7}))
    changed = build.compressed_bytes(second, make_image(layers=(digest(base), digest(newer))))

    assert sizes == [sum(len(zlib.compress(one, 6)) for one in (base, code))] * 2
    assert first.said == [("save", image.name), ("waited for",)]
    assert changed == 7 + len(zlib.compress(newer, 6))


def test_a_layer_that_the_archive_lacks_weighs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SIZES", tmp_path / "compressed.json")
    podman = RecordingEngine("podman", "4", saved=saved(b"code"))

    assert build.compressed_bytes(podman, make_image(layers=("sha256:empty",))) == 0


# --------------------------------------------------------------------------------------------------- the engine


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine that prints where it works and what it was given, then fails where its first word is a number."""
    script = 'pwd; echo "$@ $ONE $TWO"; seq 20 >&2; exit $(($1 - 0)) 2>/dev/null'
    program(tmp_path, "podman", script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(engine, "CONFIGURATION", tmp_path / "cache" / "containers")
    return Engine("podman", "4", {"ONE": "1"})


LAST = "\n".join(map(str, range(6, 21)))


def test_a_command_prints_what_it_says_and_where_podman_may_leave_files(podman: Engine) -> None:
    for _ in range(2):
        where, words = podman.run("0", "x", variables={"TWO": "2"}).splitlines()

    assert (where, words) == (str(engine.CONFIGURATION), "0 x 1 2")
    assert podman.run("0", with_stderr=True).endswith(f"\n{LAST}")


def test_a_command_that_fails_shows_its_last_fifteen_lines(podman: Engine, tmp_path: Path) -> None:
    log = tmp_path / "log"

    for fail in (lambda: podman.run("3"), lambda: podman.run("3", with_stderr=True), lambda: podman.show("3", log=log)):
        with pytest.raises(EngineError) as failed:
            fail()
        assert str(failed.value) == f"`podman 3` failed:\n{LAST}"
    assert "3 1 " in log.read_text()


def test_progress_goes_to_stderr_where_no_log_is_kept(podman: Engine, capfd: pytest.CaptureFixture[str]) -> None:
    podman.show("0", "build")
    with pytest.raises(EngineError, match=r"^`podman 3` failed$"):
        podman.show("3")

    out, err = capfd.readouterr()
    assert out == ""
    assert "0 build 1" in err


def test_output_is_read_while_a_command_runs(podman: Engine) -> None:
    with podman.start("0", "save") as process:
        assert process.stdout is not None
        assert b"0 save 1" in process.stdout.read()


def test_an_engine_can_be_asked_for_and_podman_gets_the_settings_that_were_written_for_it(
    podman: Engine, tmp_path: Path
) -> None:
    program(tmp_path, "docker", "echo 28")
    engine.CONFIGURATION.mkdir(parents=True)
    (engine.CONFIGURATION / "storage.conf").touch()

    assert engine.find_engine("docker") == Engine("docker", "28")
    program(tmp_path, "podman", "echo 4.3.1")
    assert engine.find_engine("podman") == Engine(
        "podman", "4.3.1", {"CONTAINERS_STORAGE_CONF": str(engine.CONFIGURATION / "storage.conf")}
    )
    with pytest.raises(EngineError, match="rkt is neither docker nor podman"):
        engine.find_engine("rkt")
