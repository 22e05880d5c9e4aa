"""The built image, run as Lambda runs it: read-only, as some user, within its stage's limits, against a local AWS."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest

from inference import contract, engines, fmi
from inference.contract import RankRecord, RunSummary
from inference.model.astromae import AstroMAE
from inference.model.weights import save_weights
from inference.models import SHIPPED, Model, read_model
from inference.pipeline import Predictions
from inference.plan import MB_PER_VCPU
from inference.predict import predict_values
from scripts.command.repository import REPOSITORY
from scripts.deployment.image import bare, build, registry
from scripts.deployment.image.build import Image
from scripts.deployment.image.engine import Engine, EngineError, find_engine
from scripts.deployment.stages import read_stages
from scripts.image import offline_arguments
from scripts.local_aws.container import Container, image_variables
from scripts.local_aws.deploy import deploy
from tests.certificates import make_certificates
from tests.factories import make_arrays, make_shard_bytes
from tests.fake_s3 import serve
from tests.forked import LocalAws
from tests.integration.test_terraform import copy_configuration
from tests.ranks import run_ranks

# The first test waits for the image: minutes, most of them for the libraries.
pytestmark = pytest.mark.timeout(1200)

STAGES = read_stages()
BUCKET = "redshift-local"
KEY = "datasets/tiny/10MB/0.safetensors"
NUM_ROWS = 70
LARGEST_IMAGE_BYTES = 770e6
LARGEST_SLIM_IMAGE_BYTES = 310e6
LARGEST_DOWNLOAD_BYTES = 150e6
"""Of the slim image, compressed as a registry holds it."""
LARGEST_RENDEZVOUS_BYTES = 60e6
WHOLE = fmi.types(fmi.datatypes.int)


@dataclass(frozen=True)
class Built:
    """The image and what made it."""

    engine: Engine
    image: Image
    context: Path
    arguments: dict[str, str]


def copy_context(source: Path, target: Path) -> Path:
    """Copy what the image is made of; a clone without trained weights gets random ones."""
    for name in (*build.WORKER.contents, "pyproject.toml"):
        subprocess.run(["cp", "-r", source / name, target], check=True)
    checkpoint = target / "inference" / "models" / "astromae" / "astromae.safetensors"
    if not checkpoint.exists():
        save_weights(AstroMAE(), checkpoint)
    return target


def shipped_in(context: Path) -> Model:
    return read_model(context / SHIPPED.relative_to(REPOSITORY))


def installed_engine() -> Engine:
    """Return the engine of this machine; where none answers, install it and whatever else the tests take from Debian.

    At once: each call of apt costs 7 s of CPU, half of it for the index of manual pages.
    """
    try:
        find_engine()
    except EngineError:
        bare.install_programs(*bare.PACKAGES)
    return bare.install_tools()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    try:
        engine = installed_engine()
        architecture = build.machine_architecture()
        arguments = offline_arguments(engine, architecture)
    except EngineError as error:
        pytest.skip(f"no image can be built on this machine: {error}")
    context = copy_context(REPOSITORY, tmp_path_factory.mktemp("context"))
    log = tmp_path_factory.mktemp("log") / "build.log"
    image = build.build(
        engine,
        architecture=architecture,
        model=shipped_in(context),
        context=context,
        arguments=arguments,
        name=f"localhost/worker:test-{os.getpid()}",
        log=log,
    )
    yield Built(engine, image, context, arguments)
    forget(engine, image.name)


@pytest.fixture(scope="module")
def rendezvous(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Return the image of the server at which ranks meet."""
    image = build.build(
        built.engine,
        build.RENDEZVOUS,
        architecture=built.image.architecture,
        context=built.context,
        arguments=built.arguments,
        name=f"localhost/rendezvous:test-{os.getpid()}",
        log=tmp_path_factory.mktemp("log") / "build.log",
    )
    yield image
    forget(built.engine, image.name)


@pytest.fixture(scope="module")
def slim(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Return the same content from another checkout, model and code built anew, without torch and ONNX Runtime."""
    again = copy_context(built.context, tmp_path_factory.mktemp("again"))
    # As another checkout would have it: other times, other modes.
    for folder in ("handlers", "inference"):
        for path in (again / folder).rglob("*.*"):
            path.chmod(0o600)
            os.utime(path, (1, 1))
    image = build.build(
        built.engine,
        architecture=built.image.architecture,
        model=shipped_in(again),
        context=again,
        # The libraries are before both layers and change neither: fewer of them are built and pushed sooner.
        arguments=built.arguments | {"REBUILD": "1", "SLIM": "1"},
        name=f"localhost/worker:again-{os.getpid()}",
        log=tmp_path_factory.mktemp("log") / "build.log",
    )
    yield image
    forget(built.engine, image.name)


def forget(engine: Engine, name: str) -> None:
    """Take the name away; the layers stay, so that the next build starts from them."""
    engine.run("rmi", "--no-prune", name)


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with LocalAws(log_dir=tmp_path_factory.mktemp("aws"), workers=1) as aws:
        deploy(aws, bucket=BUCKET)
        yield aws


@pytest.fixture(scope="module")
def s3(aws: LocalAws) -> Any:
    client = boto3.client("s3", **aws.credentials)
    client.put_object(Bucket=BUCKET, Key=KEY, Body=make_shard_bytes(NUM_ROWS, **make_arrays(NUM_ROWS)))
    return client


StartStage = Callable[..., AbstractContextManager[Container]]


@pytest.fixture(scope="module")
def start(built: Built, aws: LocalAws, s3: Any) -> StartStage:
    """Start the container of a stage; name a limit to change it, or a variable to add it."""

    def start(stage: str, *, variables: dict[str, str] | None = None, **limits: int) -> Container:
        environment = aws.environment | image_variables(STAGES, built.image) | (variables or {})
        return Container(built.engine, built.image, stage=STAGES[stage] | limits, environment=environment, name=stage)

    return start


@dataclass(frozen=True)
class Run:
    """One run through the three handlers of the image."""

    tasks: list[dict[str, Any]]
    answers: dict[str, Any]
    first_answer_s: float
    record: RankRecord
    summary: RunSummary
    predictions: Predictions
    probe: dict[str, str]


@pytest.fixture(scope="module")
def run(start: StartStage, s3: Any) -> Run:
    """Initialize, infer and summarize one rank, each in a container of its own."""

    def read(key: str) -> bytes:
        return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    request = {"bucket": BUCKET, "data_prefix": KEY.rpartition("/")[0], "engine": "torch"}
    with start("initialize") as container:
        _, plan = container.invoke({"execution_name": "image", "request": request})
    tasks = json.loads(read(plan["manifest_key"]))
    with start("infer") as container:
        began = time.monotonic()
        _, inferred = container.invoke({"task": tasks[0], "attempt": 0})
        first_answer_s = time.monotonic() - began
        probe = {name: container.run("sh", "-c", command) for name, command in PROBES.items()}
    with start("summarize") as container:
        _, result = container.invoke(plan)
    return Run(
        tasks=tasks,
        answers={"initialize": plan, "infer": inferred, "summarize": result},
        first_answer_s=first_answer_s,
        record=contract.decode(read(tasks[0]["record_key"]), RankRecord),
        summary=contract.decode(read(plan["run_prefix"] + "summary.json"), RunSummary),
        predictions=Predictions.from_npz(read(tasks[0]["predictions_key"])),
        probe=probe,
    )


# What is true inside a running worker.
PROBES = {
    "user": "id -u",
    "root": "touch /var/task/x 2>&1 || true",
    "packages": "touch /opt/packages/x 2>&1 || true",
    "tmp": "touch /tmp/x && echo written",
    "files": "cd /var/task && find . -name '*.py' -o -name '*.safetensors' | cut -d/ -f2 | sort -u | tr '\\n' ' '",
    # Whoever listens in this machine's network on all interfaces: none of the worker's two ports.
    "open": "cat /proc/1/cmdline | tr '\\0' ' '",
    "sys": "find /sys; touch /sys/x 2>&1 || true",
    # Of every process so far and of those it has waited for; control groups are below /sys.
    "cpu": "cat /proc/[0-9]*/stat",
}


# ------------------------------------------------------------------------------------------------ the three handlers


def test_the_three_handlers_of_the_image_complete_a_run(run: Run) -> None:
    assert run.answers["infer"] == {"rank": 0, "record_key": run.tasks[0]["record_key"]}
    assert run.answers["summarize"]["complete"] is True
    assert run.summary.num_samples == NUM_ROWS


def test_the_image_predicts_what_the_library_predicts(run: Run, built: Built) -> None:
    arrays = make_arrays(NUM_ROWS)
    checkpoint = built.context / "inference" / "models" / "astromae" / "astromae.safetensors"
    engine = engines.load("torch", checkpoint, num_threads=1)

    expected = predict_values(engine, arrays["images"], arrays["magnitudes"])

    # The same wheel on the same processor; another number of threads may round sums differently.
    np.testing.assert_allclose(run.predictions.z_phot, expected, rtol=0, atol=1e-6)
    assert run.predictions.object_id.tolist() == arrays["object_id"].tolist()


def test_the_record_names_the_image_and_its_code(run: Run, built: Built) -> None:
    assert run.record.image_digest == f"sha256:{built.image.id}"
    assert run.record.code_version == built.image.revision


def test_a_worker_is_a_user_no_one_knows_and_writes_to_tmp_only(run: Run) -> None:
    assert 1000 <= int(run.probe["user"]) < 60_000
    assert "Read-only file system" in run.probe["root"]
    assert "Read-only file system" in run.probe["packages"]
    assert run.probe["tmp"] == "written"


def test_a_worker_needs_nothing_below_sys_which_it_cannot_write_either(run: Run, built: Built) -> None:
    if built.engine.program != "podman":
        pytest.skip("Podman alone takes /sys away")
    *found, said = run.probe["sys"].splitlines()

    assert found == ["/sys", "/sys/fs", "/sys/fs/cgroup"]
    assert "Read-only file system" in said


def test_a_worker_listens_on_loopback_only(run: Run) -> None:
    addresses = [word for word in run.probe["open"].split() if ":" in word]

    assert len(addresses) == 2
    assert all(address.startswith("127.0.0.1:") for address in addresses)


def test_the_image_holds_the_handlers_the_library_and_nothing_else_of_the_clone(run: Run) -> None:
    assert run.probe["files"].split() == ["handlers", "inference", "model"]


# Wall time is for people. What a busy machine cannot change is the work, and a worker that compiles does it twice.
def test_the_first_answer_takes_seconds_of_cpu_with_torch(run: Run) -> None:
    # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: utime, stime, cutime, cstime
    times = [line.rpartition(")")[2].split()[11:15] for line in run.probe["cpu"].splitlines()]
    cpu_s = sum(int(ticks) for each in times for ticks in each) / os.sysconf("SC_CLK_TCK")
    print(f"first answer after {run.first_answer_s:.2f} s, {cpu_s:.2f} s of CPU")

    assert 0.5 < cpu_s < 8


def test_whatever_a_worker_loads_is_there_and_was_compiled_before(built: Built) -> None:
    assert run_python(built, USE_EVERYTHING) == "[]"


def run_python(built: Built, program: str, *options: str) -> str:
    return built.engine.run(
        *("run", "--rm", "--network", "host", "--entrypoint", "/usr/local/bin/python"),
        *("--env", "AWS_ACCESS_KEY_ID=none", "--env", "AWS_SECRET_ACCESS_KEY=none", *options),
        *(built.image.name, "-c", program),
    )


def test_a_worker_trusts_the_authorities_of_its_image_and_no_other(built: Built, tmp_path: Path) -> None:
    # The certificates are the base image's: obstore brings none.
    authority, server = make_certificates(tmp_path)
    with serve(server) as s3:
        endpoint = ("--env", f"AWS_ENDPOINT_URL={s3.url}")
        said = run_python(built, READ_ONE, *endpoint)
        trusted = ("--volume", f"{authority}:/authority.pem:ro", "--env", "SSL_CERT_FILE=/authority.pem")
        read = run_python(built, READ_ONE, *endpoint, *trusted)

    assert "UnknownIssuer" in said
    assert read == "b'content'"


READ_ONE = """
from handlers import bucket_access, storage
from inference.errors import StorageUnavailableError

bucket_access.MAX_RETRIES = 0
try:
    print(storage.ObjectStore("data").read("k"))
except StorageUnavailableError as error:
    print(error)
"""


def test_the_image_has_no_boto3(built: Built) -> None:
    program = "import importlib.util as i; print([n for n in ('boto3', 'botocore') if i.find_spec(n)])"

    assert run_python(built, program) == "[]"


# Every engine of the image predicts, also under the profiler; prints which modules had no byte code.
USE_EVERYTHING = """
import pathlib, sys, numpy, awslambdaric.__main__, handlers.infer, handlers.initialize, handlers.summarize
import urllib.request
from handlers import bucket_access
from inference import engines
from handlers import settings
from inference.engines.torch import profiler

bucket_access.connect("none", "us-east-1")
rows = numpy.ones((2, 5, 32, 32), numpy.float32), numpy.ones((2, 5))
assert engines.load("auto", settings.model().weights, num_threads=1, precision="int8").name.startswith("native ")
for name, as_published in (("auto", False), ("onnxruntime", False), ("torch", False), ("torch", True)):
    engine = engines.load(name, settings.model().weights, num_threads=1, as_published=as_published)
    assert engine.note is None and (name != "auto" or engine.name.startswith("native ")), engine.note
    with profiler() as profile:
        engine.predict(*rows)
assert profile.allocated_bytes > 0
modules = [m for m in sys.modules.values() if (getattr(m, "__file__", None) or "").endswith(".py")]
print([m.__name__ for m in modules if m.__spec__ and m.__spec__.cached
       and pathlib.Path(m.__file__).is_file() and not pathlib.Path(m.__spec__.cached).is_file()])
"""


# -------------------------------------------------------------------------------------------------------- limits


def test_the_memory_limit_ends_a_worker_and_the_answer_says_so(start: StartStage, run: Run) -> None:
    # Far below what importing torch needs: near it the kernel takes back and reads again the same pages for minutes.
    with start("infer", memory_mb=64) as container:
        error, answer = container.invoke({"task": run.tasks[0], "attempt": 0})
        log = container.log()

    assert error == "Runtime.ExitError"
    assert "signal: killed" in answer["errorMessage"]
    assert "signal: killed" in log


def test_the_timeout_ends_a_worker_and_the_answer_says_so(start: StartStage, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # Takes the connection and never answers.
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with start("summarize", timeout_s=4, variables={"AWS_ENDPOINT_URL": endpoint}) as container:
            error, answer = container.invoke(run.answers["initialize"])

    assert error == "Sandbox.Timedout"
    assert answer["errorMessage"] == "Task timed out after 4.00 seconds"


def test_tmp_holds_what_the_stage_says(start: StartStage) -> None:
    with start("infer", ephemeral_mb=16) as container:
        said = container.run(
            "sh", "-c", "head -c 20000000 /dev/zero 2>/dev/null | cat >/tmp/big || true; stat -c %s /tmp/big"
        )

    assert int(said) == 16 * 2**20


def test_a_worker_has_the_processor_share_of_its_memory(start: StartStage, built: Built) -> None:
    with start("infer", memory_mb=MB_PER_VCPU // 2) as container:
        pid = built.engine.run("inspect", "--format", "{{.State.Pid}}", container.name)
        quota = cpu_quota_us(int(pid))

    assert quota == pytest.approx(50_000, rel=0.01)


def cpu_quota_us(pid: int) -> int:
    """Return what a process of this machine may compute in 100 ms, by either version of control groups."""
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    if (old := next((names for names in groups if "cpu" in names.split(",")), None)) is not None:
        return int(Path(f"/sys/fs/cgroup/cpu{groups[old]}/cpu.cfs_quota_us").read_text())
    return int(Path(f"/sys/fs/cgroup{groups['']}/cpu.max").read_text().split()[0])


# ------------------------------------------------------------------------------------------- digests and the registry


def test_the_same_content_is_the_same_layers(built: Built, slim: Image) -> None:
    assert slim.layers[-2:] == built.image.layers[-2:]
    assert slim.layers[-3] != built.image.layers[-3]
    assert slim.size_bytes < LARGEST_SLIM_IMAGE_BYTES
    assert built.image.size_bytes < LARGEST_IMAGE_BYTES


@pytest.fixture(scope="module")
def local_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tmp_path = tmp_path_factory.mktemp("registry")
    try:
        program = bare.install_registry()
    except EngineError as error:
        pytest.skip(f"no registry on this machine: {error}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": address},
    }
    (tmp_path / "registry.json").write_text(json.dumps(settings))
    with (tmp_path / "registry.log").open("wb") as log:
        server = subprocess.Popen([program, "serve", tmp_path / "registry.json"], stdout=log, stderr=log)
    try:
        for _ in range(100):
            try:
                socket.create_connection(tuple_of(address), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=10)


def tuple_of(address: str) -> tuple[str, int]:
    host, _, port = address.partition(":")
    return host, int(port)


def compressed_bytes(repository: str, digest: str) -> int:
    host, _, name = repository.partition("/")
    request = urllib.request.Request(f"http://{host}/v2/{name}/manifests/{digest}")
    request.add_header("Accept", ", ".join(registry.MANIFEST_TYPES))
    with urllib.request.urlopen(request, timeout=30) as answer:
        return sum(layer["size"] for layer in json.load(answer)["layers"])


# ----------------------------------------------------------------------------------------------- as a user types it


@pytest.fixture(scope="module")
def clone(built: Built, slim: Image, rendezvous: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working copy of its own, in which the images built here have the names that the commands look for."""
    folder = tmp_path_factory.mktemp("clone")
    (REPOSITORY / "datasets").mkdir(exist_ok=True)
    for name in ("Makefile", "pyproject.toml", "scripts", "handlers", "inference", "tests", "datasets"):
        (folder / name).symlink_to(REPOSITORY / name)
    copy_configuration(folder / "terraform")
    architecture = built.image.architecture
    with (
        named(built.engine, slim, build.image_name(architecture)),
        named(built.engine, rendezvous, build.image_name(architecture, build.RENDEZVOUS)),
    ):
        yield folder


@contextlib.contextmanager
def named(engine: Engine, image: Image, name: str) -> Iterator[None]:
    """Give an image a name; the user's own image gets it back."""
    try:
        before = build.inspect(engine, name).id
    except EngineError:
        before = ""
    engine.run("tag", image.name, name)
    try:
        yield
    finally:
        engine.run(*(("tag", before, name) if before else ("rmi", name)))


def make_command(*arguments: str) -> list[str]:
    """Return the command line; the environment of the tests counts as set up."""
    ready = (*("-o", f"{sys.prefix}/.ready"), *("-o", "pyproject.toml"), *("-o", "scripts/setup.sh"))
    return ["make", "--no-print-directory", *ready, f"VENV={sys.prefix}", *arguments]


def user_environment(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_", "MAKE"))}
    return inherited | variables


def make(clone: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        make_command(*arguments),
        cwd=clone,
        env=user_environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_make_invoke_runs_a_handler_of_the_image(clone: Path) -> None:
    done = make(clone, "invoke", "IMAGE=1", "FUNCTION=initialize", "EVENT=tests/events/initialize_event.json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["manifest_key"] == "runs/example/manifest.json"
    (line,) = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert (line["message"], line["ranks_planned"]) == ("run planned", 8)


def test_make_emulate_image_serves_a_function_until_it_is_interrupted(clone: Path, built: Built) -> None:
    with subprocess.Popen(
        make_command("emulate-image", "FUNCTION=initialize"),
        cwd=clone,
        env=user_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C reaches everything that make started.
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        printed = iter(process.stdout.readline, "")
        command = next((line.split() for line in printed if line.startswith("curl ")), None)
        try:
            assert command, process.communicate()[1]
            event = (clone / "tests/events/initialize_event.json").read_bytes()
            with urllib.request.urlopen(urllib.request.Request(command[-1], event), timeout=60) as answer:
                plan = json.load(answer)
        finally:
            os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)

    assert plan["num_samples"] > 0
    assert "initialize-" not in built.engine.run("ps", "--all", "--format", "{{.Names}}")


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_make_push_makes_the_registries_sends_both_images_once_and_they_come_back_by_their_digests(
    clone: Path, built: Built, slim: Image, rendezvous: Image, aws: LocalAws, local_registry: str
) -> None:
    rehearsal = aws.environment | {"TF_VAR_local_endpoint": aws.endpoint_url, "TF_VAR_rendezvous": "true"}

    first = make(clone, "push", f"REGISTRY={local_registry}", **rehearsal)
    second = make(clone, "push", f"REGISTRY={local_registry}", **rehearsal)

    assert first.returncode == second.returncode == 0, first.stderr
    assert "There is no registry yet: making it and nothing else" in first.stderr
    assert first.stderr.count("Pushed.") == second.stderr.count("nothing was sent") == 2
    assert "Terraform knows this image already." in second.stderr
    assert second.stdout == first.stdout
    recorded = json.loads((clone / "terraform" / "image.auto.tfvars.json").read_text())
    assert [recorded.pop("image_uri"), recorded.pop("rendezvous_image_uri")] == first.stdout.split()
    assert recorded == {"code_version": slim.revision}
    images = {"": (slim, LARGEST_DOWNLOAD_BYTES), "-rendezvous": (rendezvous, LARGEST_RENDEZVOUS_BYTES)}
    for uri, (suffix, (image, largest_bytes)) in zip(first.stdout.split(), images.items(), strict=True):
        name, _, digest = uri.partition("@")
        assert name == f"123456789012.dkr.ecr.us-east-1.amazonaws.com/redshift-inference{suffix}"
        repository = f"{local_registry}/redshift-inference{suffix}"
        assert registry.find_digest(repository, image.tag) == digest
        assert compressed_bytes(repository, digest) < largest_bytes
        assert pulled(built.engine, f"{repository}@{digest}").id == image.id


def pulled(engine: Engine, uri: str) -> Image:
    plain = ["--tls-verify=false"] if engine.program == "podman" else []
    engine.run("pull", *plain, uri)
    found = build.inspect(engine, uri)
    forget(engine, uri)
    return found


def test_ranks_meet_in_the_rendezvous_as_fargate_runs_it(built: Built, rendezvous: Image) -> None:
    name = f"rendezvous-test-{os.getpid()}"
    (found,) = json.loads(built.engine.run("image", "inspect", rendezvous.name))
    confined = ("--read-only", "--read-only-tmpfs=false") if built.engine.program == "podman" else ("--read-only",)
    here = ("--host", "127.0.0.1", "--port", "0", "--health-host", "127.0.0.1", "--health-port", "0")
    with built.engine.start(
        *("run", "--rm", "--name", name, "--network", "host", "--cap-drop", "ALL", *confined),
        *(rendezvous.name, *here),
    ) as process:
        assert process.stdout is not None
        host, _, port = process.stdout.readline().split()[0].decode().rpartition(":")
        try:
            met = run_ranks(2, lambda comm: comm.allreduce(1, fmi.func(fmi.op.sum), WHOLE), (host, int(port)))
        finally:
            built.engine.run("stop", name)

    assert met == [2, 2]
    assert process.returncode == 0
    assert found["Config"]["User"] == "65534:65534"
