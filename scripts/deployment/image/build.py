"""Builds an image from this clone and describes the result."""

import hashlib
import json
import os
import platform
import subprocess
import tarfile
import tomllib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inference.models import Model
from scripts.command.machine import ARCHITECTURES
from scripts.command.repository import REPOSITORY
from scripts.deployment.image.engine import Engine, EngineError

PLATFORMS = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
MTIME_S = 315532800
"""Time of every file and of the image, the first second of 1980: the same content is the same image."""

SIZES = REPOSITORY / ".cache" / "image" / "compressed.json"
PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What an image is made from."""

    name: str
    dockerfile: str
    contents: tuple[str, ...]
    """Files and folders: a commit that changes none of them gives the same image."""


WORKER = Recipe(
    name="serverless-redshift-inference",
    dockerfile="docker/Dockerfile",
    contents=("LICENSE", "docker", "handlers", "inference"),
)
RENDEZVOUS = Recipe(
    name="serverless-redshift-inference-rendezvous",
    dockerfile="docker/rendezvous/Dockerfile",
    contents=(
        "LICENSE",
        "docker/rendezvous",
        "handlers/__init__.py",
        "handlers/invocation.py",
        "handlers/rendezvous",
        "inference/__init__.py",
        "inference/errors.py",
        "inference/text.py",
        "inference/fmi",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Image:
    """A built image."""

    name: str
    """Name and tag in the engine."""

    id: str
    """Digest of its configuration, hex."""

    revision: str
    """Commit that last changed its content; ends in ``-dirty`` with changes that are in no commit."""

    model: str
    """Name and beginning of the checksum of the model in it; empty where it has none."""

    architecture: str
    size_bytes: int
    """Uncompressed."""

    layers: tuple[str, ...]
    """Digest of every uncompressed layer, the base's first, the code last and the worker's weights before it."""

    @property
    def tag(self) -> str:
        """Name of this content in a registry: another content never has it."""
        return f"{self.revision[:12]}-{self.architecture}-{self.id[:12]}"


def image_name(architecture: str, recipe: Recipe = WORKER) -> str:
    """Return the name of an image in the engine."""
    return f"localhost/{recipe.name}:{architecture}"


def machine_architecture() -> str:
    """Return the architecture of this machine as Lambda names it."""
    return ARCHITECTURES.get(platform.machine().lower(), "x86_64")


def build(
    engine: Engine,
    recipe: Recipe = WORKER,
    *,
    architecture: str,
    model: Model | None = None,
    context: Path = REPOSITORY,
    arguments: Mapping[str, str] | None = None,
    name: str | None = None,
    log: Path | None = None,
) -> Image:
    """Build an image.

    Parameters
    ----------
    engine : Engine
    recipe : Recipe
        Which one.
    architecture : str
        ``x86_64`` or ``arm64``.
    model : Model, optional
        What the worker predicts with; its folder is in `context`. The Dockerfile takes the shipped one when absent.
    context : Path
        The clone to build.
    arguments : mapping, optional
        Build arguments in addition to those set here, for instance ``BASE_IMAGE``.
    name : str, optional
        Name and tag of the image.
    log : Path, optional
        File for the engine's progress; stderr when absent.

    Raises
    ------
    EngineError
        If the model's weights are missing or the build fails.
    """
    if model and not model.weights.exists():
        raise EngineError(f"{model.weights} is missing, which the image needs; make it with `make train`.")
    name = name or image_name(architecture, recipe)
    settings = {"REVISION": revision(context, recipe), "VERSION": _version(context), "SOURCE": _source(context)}
    if model:
        inside = model.folder.resolve().relative_to(context.resolve())
        settings |= {"MODEL": inside.as_posix(), "MODEL_IN_WORDS": model.in_words}
    settings |= {variable: os.environ[variable] for variable in PIP_VARIABLES if os.environ.get(variable)}
    settings |= dict(arguments or {})
    engine.show(
        "build",
        *_options(engine),
        *("--platform", PLATFORMS[architecture], "--tag", name, "--file", str(context / recipe.dockerfile)),
        *(word for variable, value in settings.items() for word in ("--build-arg", f"{variable}={value}")),
        str(context),
        log=log,
    )
    return inspect(engine, name)


def inspect(engine: Engine, name: str) -> Image:
    """Return what the engine knows of a built image.

    Raises
    ------
    EngineError
        If there is no such image.
    """
    try:
        (found,) = json.loads(engine.run("image", "inspect", name))
    except EngineError as error:
        # As Podman and Docker say it.
        if "image not known" in str(error) or "No such image" in str(error):
            raise EngineError(f"{name} is not on this machine: `make build` makes it.") from error
        raise
    return Image(
        name=name,
        id=found["Id"].removeprefix("sha256:"),
        revision=found["Config"]["Labels"]["org.opencontainers.image.revision"],
        model=found["Config"]["Labels"].get("model", ""),
        architecture=ARCHITECTURES[found["Architecture"]],
        size_bytes=int(found["Size"]),
        layers=tuple(found["RootFS"]["Layers"]),
    )


def compressed_bytes(engine: Engine, image: Image) -> int:
    """Return what a registry will hold of an image: the sum of its layers, each compressed [bytes].

    A layer is compressed once; the result is kept in the clone's cache.
    """
    known: dict[str, int] = json.loads(SIZES.read_text()) if SIZES.exists() else {}
    if not set(image.layers) <= known.keys():
        process = engine.start("save", image.name)
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            sizes = _layer_sizes(archive, skip=known)
        process.wait()
        known |= {layer: sizes.get(layer.removeprefix("sha256:"), 0) for layer in image.layers if layer not in known}
        SIZES.parent.mkdir(parents=True, exist_ok=True)
        SIZES.write_text(json.dumps(known, indent=1))
    return sum(known[layer] for layer in image.layers)


def revision(context: Path = REPOSITORY, recipe: Recipe = WORKER) -> str:
    """Return the commit that last changed what the image is made of."""
    commit = _git(context, "log", "-1", "--format=%H", "--", *recipe.contents) or "unknown"
    return f"{commit}-dirty" if _git(context, "status", "--porcelain", "--", *recipe.contents) else commit


def _options(engine: Engine) -> list[str]:
    if engine.program == "podman":
        # Docker's manifest, which every version of Lambda reads; one time for all files, whenever they are built.
        return ["--format", "docker", "--timestamp", str(MTIME_S), "--layers"]
    # Lambda refuses the index that provenance would make.
    return ["--provenance=false", "--build-arg", f"SOURCE_DATE_EPOCH={MTIME_S}"] if _has_buildx(engine) else []


def _has_buildx(engine: Engine) -> bool:
    try:
        engine.run("buildx", "version")
    except EngineError:
        return False
    return True


def _layer_sizes(archive: tarfile.TarFile, *, skip: Mapping[str, int]) -> dict[str, int]:
    """Return the compressed size of every layer of a saved image, by the digest of its uncompressed content."""
    sizes: dict[str, int] = {}
    for member in archive:
        file = archive.extractfile(member) if member.isfile() else None
        if file is None or member.name.endswith(".json"):
            continue
        digest, packer, size = hashlib.sha256(), zlib.compressobj(6), 0
        known = f"sha256:{Path(member.name).stem}" in skip
        while not known and (block := file.read(2**20)):
            digest.update(block)
            size += len(packer.compress(block))
        sizes[digest.hexdigest()] = size + len(packer.flush())
    return sizes


def _version(context: Path) -> str:
    return str(tomllib.loads((context / "pyproject.toml").read_text())["project"]["version"])


def _source(context: Path) -> str:
    """Return the address of the repository, without a name or password in it; empty if it has none."""
    address = _git(context, "config", "--get", "remote.origin.url")
    return address if address.startswith("https://") and "@" not in address else ""


def _git(context: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(context), *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    return done.stdout.strip() if done.returncode == 0 else ""
