"""`make build`, `push`, `sbom`, `emulate-image`, `lock`, `container-tools`: the worker's container image."""

import signal
import sys
import threading
from typing import Annotated

import typer

from scripts.command.errors import FAILED, WRONG_USAGE
from scripts.command.repository import REPOSITORY
from scripts.deployment.image import bare, registry, tools
from scripts.deployment.image import build as building
from scripts.deployment.image import lock as locking
from scripts.deployment.image.build import Image
from scripts.deployment.image.engine import Engine, EngineError, UsageError, find_engine
from scripts.deployment.stages import read_stages
from scripts.local_aws.container import Container, image_variables
from scripts.local_aws.deploy import deploy, upload_sample
from scripts.local_aws.rie import EmulatorUnavailableError
from scripts.local_aws.server import LocalAws, LocalAwsError

LOG_DIR = REPOSITORY / "runs" / "emulate-image"

app = typer.Typer(add_completion=False, no_args_is_help=True)
Architecture = Annotated[str, typer.Option(envvar="ARCH", help="x86_64 or arm64; this machine's when absent.")]
Program = Annotated[
    str, typer.Option(envvar="CONTAINER_ENGINE", help="docker or podman; the one that answers if absent.")
]


@app.command()
def build(
    arch: Architecture = "",
    engine: Program = "",
    base_image: Annotated[str, typer.Option(envvar="BASE_IMAGE", help="Another base: Python 3.11, glibc ≥ 2.28.")] = "",
    no_registry: Annotated[
        bool, typer.Option(envvar="NO_REGISTRY", help="Base from Debian's packages, wheels from this machine's pip.")
    ] = False,
) -> None:
    """Build the image and say how large it is."""
    architecture = _architecture(arch)
    program = _find(engine)
    arguments = {"BASE_IMAGE": base_image} if base_image else {}
    if no_registry:
        arguments = offline_arguments(program, architecture)
    image = building.build(program, architecture=architecture, arguments=arguments)
    _describe(program, image)


def offline_arguments(engine: Engine, architecture: str) -> dict[str, str]:
    """Get ready what a build needs where neither an image registry nor a package index answers the container."""
    if architecture != building.machine_architecture():
        raise EngineError(f"NO_REGISTRY=1 makes a base image for {building.machine_architecture()} only.")
    bare.fetch_wheels(architecture)
    return {"BASE_IMAGE": bare.make_base(engine), "PIP_NO_INDEX": "1", "PIP_EXTRA_INDEX_URL": ""}


@app.command()
def push(
    arch: Architecture = "",
    engine: Program = "",
    rehearsal: Annotated[
        str, typer.Option("--registry", envvar="REGISTRY", help="127.0.0.1:PORT in place of ECR, to rehearse.")
    ] = "",
) -> None:
    """Push the image to ECR, once per content, and record its digest for Terraform."""
    from scripts.deploy import ensure_registry, record_image
    from scripts.deployment.terraform import DeployError, Terraform

    if rehearsal:
        registry.stand_in("", rehearsal)  # refuses another machine before anything is made
    image_name = building.image_name(_architecture(arch))
    program = _find(engine)
    image = building.inspect(program, image_name)
    try:
        terraform = Terraform()
        repository = ensure_registry(terraform)
        login = registry.ecr_login(repository)
        target = registry.stand_in(repository, rehearsal) if rehearsal else repository
        pushed = registry.push(program, image, target, login)
        uri = pushed.uri.replace(target, repository, 1)
        is_new = record_image(terraform.folder, uri, image.revision)
    except DeployError as error:
        raise EngineError(str(error)) from error
    _say("The registry has this content already: nothing was sent." if pushed.was_there else "Pushed.")
    _say("Recorded for Terraform: `make apply` deploys it." if is_new else "Terraform knows this image already.")
    print(uri)


@app.command()
def sbom(arch: Architecture = "", engine: Program = "") -> None:
    """Write what the image contains as SPDX JSON."""
    architecture = _architecture(arch)
    program = _find(engine)
    path = REPOSITORY / "docker" / f"image-{architecture}.spdx.json"
    tools.write_sbom(program, building.inspect(program, building.image_name(architecture)), path)
    print(path.relative_to(REPOSITORY))


@app.command()
def lint() -> None:
    """Check the Dockerfile with hadolint."""
    if findings := tools.lint():
        print(findings)
        raise typer.Exit(1)


@app.command()
def lock() -> None:
    """Write docker/requirements.txt anew from pyproject.toml."""
    for wheel in locking.lock():
        _say(f"No index offers {wheel} here: its checksum was kept.")
    print(locking.REQUIREMENTS.relative_to(REPOSITORY))


@app.command()
def install() -> None:
    """Install Podman from Debian's packages where no container engine answers."""
    print(f"Ready: {bare.install_tools()}.")


@app.command()
def emulate(
    function: Annotated[str, typer.Option(envvar="FUNCTION", help="Stage: initialize, infer or summarize.")] = "",
    arch: Architecture = "",
    engine: Program = "",
) -> None:
    """Run the image as one function would run on Lambda, beside a local AWS, until Ctrl-C."""
    stages = read_stages()
    function = function or "infer"
    if function not in stages:
        raise UsageError(f"There is no function {function!r}. FUNCTION is one of: {', '.join(stages)}.")
    program = _find(engine)
    image = building.inspect(program, building.image_name(_architecture(arch)))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
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
            while aws.is_running() and not stop.wait(timeout=1):
                pass


def _architecture(wanted: str) -> str:
    architecture = wanted or building.machine_architecture()
    if architecture not in building.PLATFORMS:
        raise UsageError(f"ARCH={architecture} is none of: {', '.join(building.PLATFORMS)}.")
    return architecture


def _find(wanted: str) -> Engine:
    engine = find_engine(wanted)
    _say(f"Container engine: {engine}.")
    return engine


def _describe(engine: Engine, image: Image) -> None:
    compressed = building.compressed_bytes(engine, image)
    print(f"image       {image.name}")
    print(f"id          sha256:{image.id}")
    print(f"revision    {image.revision}")
    print(f"size        {image.size_bytes / 1e6:.0f} MB, {compressed / 1e6:.0f} MB compressed")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> None:
    """Run a command; what is wrong with the machine or the request ends it in one message."""
    try:
        app()
    except UsageError as error:
        _say(str(error))
        raise SystemExit(WRONG_USAGE) from error
    except (EngineError, EmulatorUnavailableError, LocalAwsError, locking.LockError) as error:
        _say(str(error))
        raise SystemExit(FAILED) from error


if __name__ == "__main__":
    main()
