"""`make build`, `push`, `sbom`, `emulate-image`, `lock`, `container-tools`: the images of worker and rendezvous."""

import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from msgspec import Meta

from scripts.command.errors import COMPLETE, FAILED, UsageError
from scripts.command.model import ModelName, find_model
from scripts.command.program import start_one_of
from scripts.command.repository import REPOSITORY
from scripts.command.variables import Flag, Variables
from scripts.deployment import packages
from scripts.deployment.image import bare, registry, tools
from scripts.deployment.image import build as building
from scripts.deployment.image import lock as locking
from scripts.deployment.image.build import RENDEZVOUS, WORKER, Image
from scripts.deployment.image.engine import Engine, EngineError, find_engine
from scripts.deployment.stages import read_stages
from scripts.local_aws.container import Container, image_variables
from scripts.local_aws.deploy import deploy, upload_sample
from scripts.local_aws.server import LocalAws, stop_signals

LOG_DIR = REPOSITORY / "runs" / "emulate-image"


class MachineVariables(Variables, frozen=True, kw_only=True):
    """Where and what for images are made and run."""

    arch: Literal["x86_64", "arm64"] | None = None
    container_engine: Literal["docker", "podman"] | None = None


class BuildVariables(MachineVariables, frozen=True, kw_only=True):
    """The variables of `make build`."""

    base_image: Annotated[str, Meta(description="another base image, with Python 3.11 and glibc 2.28 or newer")] = ""
    no_registry: Flag = False
    """Base from Debian's packages, wheels from this machine's pip."""

    model: ModelName = ""
    slim: Flag = False
    """Without torch and ONNX Runtime: the native engine alone."""


class PushVariables(MachineVariables, frozen=True, kw_only=True):
    """The variables of `make push`."""

    registry: Annotated[str, Meta(description="127.0.0.1:PORT in place of ECR, to rehearse")] = ""


class EmulateVariables(MachineVariables, frozen=True, kw_only=True):
    """The variables of `make emulate-image`."""

    function: Annotated[str, Meta(description="initialize, infer or summarize")] = "infer"


def build(variables: BuildVariables) -> None:
    """Build the images and say how large they are."""
    model = find_model(variables.model, root=REPOSITORY)
    if variables.slim and model.card.kind != "astromae":
        raise UsageError(f"SLIM=1 leaves out ONNX Runtime, which computes {model.card.name}. Build without it.")
    architecture = _architecture(variables)
    program = _find(variables)
    arguments = {"BASE_IMAGE": variables.base_image} if variables.base_image else {}
    if variables.no_registry:
        arguments = offline_arguments(program, architecture)
    if variables.slim:
        arguments |= {"SLIM": "1"}
    for recipe, its_model in ((WORKER, model), (RENDEZVOUS, None)):
        image = building.build(program, recipe, architecture=architecture, model=its_model, arguments=arguments)
        _describe(program, image)


def offline_arguments(engine: Engine, architecture: str) -> dict[str, str]:
    """Get ready what a build needs where neither an image registry nor a package index answers the container."""
    if architecture != building.machine_architecture():
        raise EngineError(f"NO_REGISTRY=1 makes a base image for {building.machine_architecture()} only.")
    bare.fetch_wheels(architecture)
    return {"BASE_IMAGE": bare.make_base(engine), "PIP_NO_INDEX": "1", "PIP_EXTRA_INDEX_URL": ""}


def push(variables: PushVariables) -> None:
    """Push the images to ECR, once per content, and record their digests for Terraform.

    The rendezvous' own goes only where one is deployed.
    """
    from scripts.deploy import ensure_registry, record_image
    from scripts.deployment.terraform import Terraform

    rehearsal = variables.registry
    if rehearsal:
        registry.stand_in("", rehearsal)  # refuses another machine before anything is made
    architecture = _architecture(variables)
    program = _find(variables)
    image = building.inspect(program, building.image_name(architecture))
    terraform = Terraform()
    uri, server_uri = _push(program, image, ensure_registry(terraform), rehearsal), ""
    if server_repository := terraform.outputs().get("rendezvous_repository_url"):
        server = building.inspect(program, building.image_name(architecture, RENDEZVOUS))
        server_uri = _push(program, server, server_repository, rehearsal)
    is_new = record_image(terraform.folder, uri, image.revision, server_uri)
    _say("Recorded for Terraform: `make apply` deploys it." if is_new else "Terraform knows this image already.")


def _push(engine: Engine, image: Image, repository: str, rehearsal: str) -> str:
    """Push one image; print and return its address by digest."""
    login = registry.ecr_login(repository)
    target = registry.stand_in(repository, rehearsal) if rehearsal else repository
    pushed = registry.push(engine, image, target, login)
    _say("The registry has this content already: nothing was sent." if pushed.was_there else "Pushed.")
    uri = pushed.uri.replace(target, repository, 1)
    print(uri)
    return uri


def sbom(variables: MachineVariables) -> None:
    """Write what the image contains as SPDX JSON."""
    architecture = _architecture(variables)
    program = _find(variables)
    path = REPOSITORY / "docker" / f"image-{architecture}.spdx.json"
    tools.write_sbom(program, building.inspect(program, building.image_name(architecture)), path)
    print(path.relative_to(REPOSITORY))


def lint(_: MachineVariables) -> int:
    """Check the Dockerfiles with hadolint."""
    findings = tools.lint()
    if findings:
        print(findings)
    return FAILED if findings else COMPLETE


def lock(_: MachineVariables) -> None:
    """Write scripts/requirements.txt, docker/requirements.txt and docker/compiler.txt again from pyproject.toml."""
    locking.lock_compiler()
    for wheel in [*locking.lock(), *packages.lock()]:
        _say(f"No index offers {wheel} here: its checksum was kept.")
    for path in (packages.REQUIREMENTS, locking.REQUIREMENTS, locking.COMPILER):
        print(path.relative_to(REPOSITORY))


def install(_: MachineVariables) -> None:
    """Install Podman from Debian's packages where no container engine answers."""
    print(f"Ready: {bare.install_tools()}.")


def emulate(variables: EmulateVariables) -> None:
    """Run the image as one function would run on Lambda, next to a local AWS, until Ctrl-C."""
    stages = read_stages()
    function = variables.function
    if function not in stages:
        raise UsageError(f"There is no function {function!r}. FUNCTION is one of: {', '.join(stages)}.")
    program = _find(variables)
    image = building.inspect(program, building.image_name(_architecture(variables)))
    stop = stop_signals()
    with LocalAws(log_dir=LOG_DIR, workers=1) as aws:
        bucket = deploy(aws).bucket
        upload_sample(aws, bucket)
        environment = aws.environment | image_variables(stages, image)
        with Container(program, image, stage=stages[function], environment=environment, name=function) as container:
            for name, value in aws.environment.items():
                print(f"export {name}={value}")
            print(f"curl --data @tests/events/rank_task.json {container.url}")
            _say(f"{function} within {container.memory_mb} MB at {container.url}; bucket {bucket}. Ctrl-C ends it.")
            sys.stdout.flush()
            aws.wait(stop)


def _architecture(variables: MachineVariables) -> str:
    return variables.arch or building.machine_architecture()


def _find(variables: MachineVariables) -> Engine:
    engine = find_engine(variables.container_engine or "")
    _say(f"Container engine: {engine}.")
    return engine


def _describe(engine: Engine, image: Image) -> None:
    compressed = building.compressed_bytes(engine, image)
    print(f"image       {image.name}")
    print(f"id          sha256:{image.id}")
    if image.model:
        print(f"model       {image.model}")
    print(f"revision    {image.revision}")
    print(f"size        {image.size_bytes / 1e6:.0f} MB, {compressed / 1e6:.0f} MB compressed")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


COMMANDS: Mapping[str, Callable[..., int | None]] = {
    "build": build,
    "push": push,
    "sbom": sbom,
    "lint": lint,
    "lock": lock,
    "install": install,
    "emulate": emulate,
}

if __name__ == "__main__":
    start_one_of(COMMANDS)
