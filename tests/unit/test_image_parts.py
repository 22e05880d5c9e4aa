"""The engine that is found, the name of a content, what ECR's addresses look like."""

import base64
import io
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import boto3
import pytest
from moto import mock_aws

from scripts import image
from scripts.command.errors import UsageError
from scripts.command.program import exit_status, start_one_of
from scripts.command.repository import REPOSITORY
from scripts.deployment.image import bare, build, engine, registry
from scripts.deployment.image.build import Image
from scripts.deployment.image.engine import Engine, EngineError
from tests.factories import write_model

ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/redshift"


def make_image(**changes: Any) -> Image:
    fields: dict[str, Any] = {
        "name": "localhost/x:x86_64",
        "id": "ab" * 32,
        "revision": "c" * 40,
        "model": "astromae (808183bdec89)",
        "architecture": "x86_64",
        "size_bytes": 1,
        "layers": (),
    }
    return Image(**{**fields, **changes})


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_docker_is_preferred_when_its_server_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "docker", "echo 28.2.2")
    program(tmp_path, "podman", "echo 4.3.1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    assert str(engine.find_engine()) == "Docker 28.2.2"


def test_every_cache_has_a_short_folder_of_its_own_for_what_podman_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "podman", "echo 4.3.1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    folders = [tmp_path / name / "a_home_folder_with_a_name_as_long_as_companies_give" for name in ("one", "two")]
    runroots = []
    for folder in folders:
        for module in (bare, engine):
            monkeypatch.setattr(module, "CONFIGURATION", folder)
        bare._configure()
        runroots.append(tomllib.loads((folder / "storage.conf").read_text())["storage"]["runroot"])

    # A longer one is refused as an option: "the specified runroot is longer than 50 characters".
    assert max(map(len, runroots)) <= 50
    assert runroots[0] != runroots[1]


def test_podman_is_taken_when_dockers_server_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "docker", "echo Cannot connect >&2; exit 1")
    program(tmp_path, "podman", "echo 4.3.1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    assert str(engine.find_engine()) == "Podman 4.3.1"


def test_every_engine_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "docker", "echo Cannot connect >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(EngineError, match=r"docker: Cannot connect; podman: not installed.*make container-tools"):
        engine.find_engine()


def test_a_secret_is_never_an_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "podman", 'echo "$@"; cat')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    printed = Engine("podman", "4").run("login", "--password-stdin", secret="hidden")

    assert printed == "login --password-stdin\nhidden"


def test_the_tag_names_commit_architecture_and_content() -> None:
    assert make_image().tag == "cccccccccccc-x86_64-abababababab"


def test_uncommitted_changes_show_in_the_revision(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "a.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "code")
    committed = build.revision(tmp_path)
    (tmp_path / "README.md").write_text("text")
    git("add", ".")
    git("commit", "-m", "text")
    after_text = build.revision(tmp_path)
    (tmp_path / "handlers" / "a.py").write_text("2")

    assert len(committed) == 40
    assert after_text == committed
    assert build.revision(tmp_path) == f"{committed}-dirty"


def test_a_build_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="make train"):
        build.build(Engine("podman", "4"), architecture="x86_64", model=write_model(tmp_path), context=tmp_path)


def test_the_login_of_ecr_is_that_of_the_repositorys_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)

    with mock_aws():
        token = boto3.client("ecr", "eu-central-1").get_authorization_token()["authorizationData"][0]
        login = registry.ecr_login(ECR)

    assert base64.b64decode(token["authorizationToken"]).decode() == f"{login.user}:{login.password}"


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"}]}, ""),
        ({"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}]}, ""),
        ({"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd"}]}, "not gzip"),
        ({"manifests": []}, "an index of images"),
    ],
)
def test_an_image_that_lambda_cannot_read_is_refused_with_the_reason(manifest: dict[str, Any], said: str) -> None:
    found = registry.why_unreadable(manifest)

    assert said in found
    assert bool(found) == bool(said)


def test_a_deployed_image_gets_a_tag_by_which_its_registry_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    manifest = {"schemaVersion": 2, "mediaType": registry.MANIFEST_TYPES[0], "config": {"digest": "x", "size": 1}}

    with mock_aws():
        ecr, name = boto3.client("ecr", "eu-central-1"), ECR.partition("/")[2]
        ecr.create_repository(repositoryName=name)
        put = ecr.put_image(repositoryName=name, imageManifest=json.dumps({**manifest, "layers": []}), imageTag="v1")
        digest = put["image"]["imageId"]["imageDigest"]
        for _ in range(2):
            registry.keep(f"{ECR}@{digest}")
        registry.keep(f"{ECR}@sha256:{'0' * 64}")
        (found,) = ecr.describe_images(repositoryName=name)["imageDetails"]

    assert sorted(found["imageTags"]) == [f"deployed-{digest[7:19]}", "v1"]


HOST = ECR.partition("/")[0]


@pytest.mark.parametrize(
    ("program", "settings", "is_logged_in"),
    [
        ("docker", None, True),
        ("docker", "{", True),
        ("docker", {"credsStore": "desktop"}, True),
        ("docker", {"credHelpers": {"other.example.org": "ecr-login"}}, True),
        ("docker", {"credHelpers": {HOST: "ecr-login"}}, False),
        ("docker", {"credsStore": "ecr-login"}, False),
        # Podman gets a file of its own for this push.
        ("podman", {"credsStore": "ecr-login"}, True),
    ],
)
def test_where_a_credential_helper_logs_in_nothing_else_does(
    program: Any, settings: Any, is_logged_in: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    if settings:
        (tmp_path / "config.json").write_text(settings if isinstance(settings, str) else json.dumps(settings))
    said: list[str] = []
    monkeypatch.setattr(Engine, "run", lambda engine, *arguments, **_: said.append(arguments[0]))
    monkeypatch.setattr(Engine, "show", lambda engine, *arguments: said.append(arguments[0]))
    answers = iter([None, ("sha256:0", b"{}")])
    monkeypatch.setattr(registry, "_ask", lambda *_: next(answers))

    registry.push(Engine(program, "4"), make_image(), ECR, registry.Login("AWS", "secret"))

    assert said == [*(["login"] if is_logged_in else []), "tag", "push", "rmi"]


def test_only_ecr_gives_a_login() -> None:
    with pytest.raises(EngineError, match="is not a repository of ECR"):
        registry.ecr_login("example.org/redshift")


def test_a_registry_that_is_not_there_is_named() -> None:
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:9 does not answer"):
        registry.find_digest("127.0.0.1:9/redshift", "tag")


def test_a_rehearsal_sends_to_the_same_name_on_this_machine() -> None:
    assert registry.stand_in(ECR, "127.0.0.1:5000") == "127.0.0.1:5000/redshift"


@pytest.mark.parametrize("host", ["registry.example", "127.0.0.1.example", "192.168.0.1:5000"])
def test_a_password_of_ecr_never_leaves_for_another_machine(host: str) -> None:
    with pytest.raises(UsageError, match="is not on this machine"):
        registry.stand_in(ECR, host)


def test_an_image_that_was_not_built_says_how_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "podman", "echo 'Error: inspecting object: x: image not known' >&2; exit 125")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    with pytest.raises(EngineError, match="localhost/x:arm64 is not on this machine: `make build` makes it"):
        build.inspect(Engine("podman", "4.3.1"), "localhost/x:arm64")


@pytest.mark.parametrize(
    ("command", "variables", "said"),
    [
        ("emulate", {"FUNCTION": "predict"}, "There is no function 'predict'"),
        ("push", {"ARCH": "mips"}, "ARCH=mips is not valid: ARCH is x86_64 or arm64."),
        ("push", {"REGISTRY": "registry.example"}, "REGISTRY=registry.example is not on this machine"),
    ],
)
def test_a_variable_typed_wrong_is_told_before_anything_is_started(
    command: str,
    variables: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("FUNCTION", "ARCH", "REGISTRY"):
        monkeypatch.setenv(name, variables.get(name, ""))
    monkeypatch.setattr(sys, "argv", ["image", command])

    with pytest.raises(SystemExit) as ended:
        start_one_of(image.COMMANDS)

    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(said)


def test_wheels_are_downloaded_once_for_every_clone_and_lock_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "requirements.txt"
    monkeypatch.setattr(bare, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(bare, "REQUIREMENTS", lock)
    downloaded = []

    def download(_: str, folder: Path) -> None:
        # A rename from another file system would fail.
        assert folder.is_relative_to(tmp_path / "cache")
        downloaded.append(lock.read_text())
        folder.mkdir()
        (folder / "a.whl").write_text(lock.read_text())

    monkeypatch.setattr(bare, "_download_wheels", download)
    for clone, text in (("first", "a==1"), ("second", "a==1"), ("third", "a==2")):
        lock.write_text(text)
        monkeypatch.setattr(bare, "WHEELS", tmp_path / clone)
        (tmp_path / clone).mkdir()
        bare.fetch_wheels("x86_64")
        assert (tmp_path / clone / "a.whl").read_text() == text

    assert downloaded == ["a==1", "a==2"]
    assert len(list((tmp_path / "cache").iterdir())) == 1


# ---------------------------------------------------------------------------------------------------- the rendezvous


def test_the_image_of_the_rendezvous_holds_every_file_that_the_server_loads() -> None:
    program = (
        "import sys, handlers.rendezvous.__main__; print(*(getattr(m, '__file__', 0) for m in sys.modules.values()))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    folders = tuple(f"{REPOSITORY}/{folder}/" for folder in ("handlers", "inference"))
    ours = [Path(file).relative_to(REPOSITORY) for file in loaded.stdout.split() if file.startswith(folders)]
    dockerfile = (REPOSITORY / build.RENDEZVOUS.dockerfile).read_text()
    copied = {
        source for line in re.findall(r"^COPY (?!--)(.*) \S+$", dockerfile, re.MULTILINE) for source in line.split()
    }

    assert len(ours) > 8
    for file in ours:
        assert copied & {str(file), f"{file.parent}/"}, file
        assert {str(file), str(file.parent)} & {*build.RENDEZVOUS.contents}, file


def test_build_makes_the_image_of_the_worker_with_its_model_and_that_of_the_rendezvous_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[build.Recipe, bool]] = []

    def record(engine: Engine, recipe: build.Recipe, *, model: object, **_: object) -> Image:
        made.append((recipe, model is not None))
        return make_image()

    monkeypatch.setattr(image, "find_engine", lambda wanted: Engine("podman", "4"))
    monkeypatch.setattr(build, "build", record)
    monkeypatch.setattr(image, "_describe", lambda *_: None)

    image.build(image.BuildVariables())

    assert made == [(build.WORKER, True), (build.RENDEZVOUS, False)]


def test_another_machine_is_no_rehearsal_and_nothing_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image, "find_engine", lambda wanted: pytest.fail("nothing is looked for"))

    assert exit_status(image.push, {"REGISTRY": "10.0.0.1:5000"}) != 0
    assert "10.0.0.1:5000" in capsys.readouterr().err


def test_a_slim_image_computes_no_network_as_onnx(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = SimpleNamespace(kind="onnx", name="theirs")
    monkeypatch.setattr(image, "find_model", lambda name, *, root: SimpleNamespace(card=card))
    monkeypatch.setattr(image, "find_engine", lambda wanted: pytest.fail("nothing is looked for"))

    assert exit_status(image.build, {"SLIM": "1", "MODEL": "theirs"}) == 2
    assert capsys.readouterr().err.startswith("SLIM=1 leaves out ONNX Runtime, which computes theirs.")


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("rehearsal", ["", "127.0.0.1:5000"])
@pytest.mark.parametrize("is_deployed", [True, False])
def test_push_sends_the_image_of_the_rendezvous_only_where_one_is_deployed(
    is_deployed: bool,
    rehearsal: str,
    is_there: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent_to: list[tuple[str, object]] = []

    class FakeTerraform:
        folder = tmp_path

        def outputs(self) -> dict[str, str | None]:
            return {"rendezvous_repository_url": f"{ECR}-rendezvous" if is_deployed else None}

    def send(_: Engine, sent: Image, repository: str, login: object) -> registry.Pushed:
        sent_to.append((repository, login))
        return registry.Pushed(f"{repository}@sha256:{sent.id}", was_there=is_there)

    monkeypatch.setattr("scripts.deployment.terraform.Terraform", FakeTerraform)
    monkeypatch.setattr("scripts.deploy.ensure_registry", lambda terraform: ECR)
    monkeypatch.setattr(image, "find_engine", lambda wanted: Engine("podman", "4"))
    monkeypatch.setattr(
        build, "inspect", lambda engine, name: make_image(id=("bb" if "rendezvous" in name else "aa") * 32)
    )
    monkeypatch.setattr(registry, "ecr_login", lambda repository: f"into {repository}")
    monkeypatch.setattr(registry, "push", send)

    for _ in range(2):
        assert exit_status(image.push, {"REGISTRY": rehearsal}) == 0

    places = [ECR, *([f"{ECR}-rendezvous"] if is_deployed else [])]
    targets = [registry.stand_in(place, rehearsal) if rehearsal else place for place in places]
    assert sent_to == [(target, f"into {place}") for target, place in zip(targets, places, strict=True)] * 2
    said = capsys.readouterr()
    # Terraform deploys from ECR, also what was sent elsewhere.
    uris = [f"{ECR}@sha256:{'aa' * 32}", f"{ECR}-rendezvous@sha256:{'bb' * 32}"][: len(places)]
    assert said.out.splitlines() == uris * 2
    what = "The registry has this content already: nothing was sent." if is_there else "Pushed."
    found = f"Container engine: {Engine('podman', '4')}."
    assert said.err.splitlines() == [
        *(found, *[what] * len(places), "Recorded for Terraform: `make apply` deploys it."),
        *(found, *[what] * len(places), "Terraform knows this image already."),
    ]
    server = {"rendezvous_image_uri": f"{ECR}-rendezvous@sha256:{'bb' * 32}"} if is_deployed else {}
    recorded = json.loads((tmp_path / "image.auto.tfvars.json").read_text())
    assert recorded == {"image_uri": f"{ECR}@sha256:{'aa' * 32}", "code_version": "c" * 40, **server}


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Find Podman and an image of every name; return what they were asked for."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(build, "machine_architecture", lambda: "x86_64")
    monkeypatch.setattr(image, "find_engine", lambda wanted: found.append(("engine", wanted)) or Engine("podman", "4"))
    monkeypatch.setattr(build, "inspect", lambda engine, name: found.append(("image", name)) or make_image(name=name))
    return found


@pytest.mark.parametrize("variables", [{}, {"ARCH": "arm64", "CONTAINER_ENGINE": "docker"}])
def test_the_function_that_is_named_runs_next_to_a_local_aws_until_ctrl_c(
    variables: dict[str, str],
    found: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: dict[str, Any] = {}
    out: Any = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", out)

    class FakeAws:
        environment: ClassVar = {"AWS_REGION": "us-east-1"}

        def wait(self, stop: str) -> None:
            asked.update(waited=stop, said=out.buffer.getvalue().decode())

    @contextmanager
    def local_aws(**options: Any) -> Iterator[FakeAws]:
        asked["aws"] = options
        yield FakeAws()

    @contextmanager
    def container(engine: Engine, its_image: Image, **options: Any) -> Iterator[Any]:
        asked["container"] = (engine.program, its_image.name, options)
        yield SimpleNamespace(url="http://127.0.0.1:9/x", memory_mb=300)

    monkeypatch.setattr(image, "stop_signals", lambda: "Ctrl-C")
    monkeypatch.setattr(image, "LocalAws", local_aws)
    monkeypatch.setattr(image, "deploy", lambda aws: SimpleNamespace(bucket="b"))
    monkeypatch.setattr(image, "upload_sample", lambda aws, bucket: asked.update(sample=bucket))
    monkeypatch.setattr(image, "image_variables", lambda stages, its_image: {"IMAGE": its_image.name})
    monkeypatch.setattr(image, "Container", container)

    assert exit_status(image.emulate, {"FUNCTION": "infer", **variables}) == 0

    name = build.image_name(variables.get("ARCH", "x86_64"))
    assert found == [("engine", variables.get("CONTAINER_ENGINE", "")), ("image", name)]
    assert asked.pop("said").splitlines() == [
        "export AWS_REGION=us-east-1",
        "curl --data @tests/events/rank_task.json http://127.0.0.1:9/x",
    ]
    assert asked == {
        "aws": {"log_dir": image.LOG_DIR, "workers": 1},
        "sample": "b",
        "container": (
            "podman",
            name,
            {
                "stage": image.read_stages()["infer"],
                "environment": {"AWS_REGION": "us-east-1", "IMAGE": name},
                "name": "infer",
            },
        ),
        "waited": "Ctrl-C",
    }
    assert capsys.readouterr().err.endswith("infer within 300 MB at http://127.0.0.1:9/x; bucket b. Ctrl-C ends it.\n")


def test_what_an_image_contains_is_written_next_to_its_recipe(
    found: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        image.tools, "write_sbom", lambda engine, its_image, path: written.append((its_image.name, path))
    )

    assert exit_status(image.sbom, {"ARCH": "arm64"}) == 0

    assert written == [(build.image_name("arm64"), REPOSITORY / "docker" / "image-arm64.spdx.json")]
    said = capsys.readouterr()
    assert said.out == "docker/image-arm64.spdx.json\n"
    assert said.err.startswith("Container engine: ")


@pytest.mark.parametrize(("findings", "status"), [("", 0), ("Dockerfile:3 DL3006", 1)])
def test_what_is_wrong_with_a_dockerfile_is_printed(
    findings: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image.tools, "lint", lambda: findings)

    assert exit_status(image.lint, {}) == status
    assert capsys.readouterr().out == (f"{findings}\n" if findings else "")


def test_all_lists_of_packages_are_locked_and_what_no_index_offers_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled: list[bool] = []
    monkeypatch.setattr(image.locking, "lock_compiler", lambda: compiled.append(True))
    monkeypatch.setattr(image.locking, "lock", lambda: ["a.whl"])
    monkeypatch.setattr(image.packages, "lock", lambda: ["b.whl"])

    assert exit_status(image.lock, {}) == 0

    said = capsys.readouterr()
    assert compiled == [True]
    assert said.out.split() == ["scripts/requirements.txt", "docker/requirements.txt", "docker/compiler.txt"]
    assert said.err.splitlines() == [f"No index offers {one}.whl here: its checksum was kept." for one in "ab"]


def test_the_tools_of_containers_are_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bare, "install_tools", lambda: "podman 4")

    assert exit_status(image.install, {}) == 0
    assert capsys.readouterr().out == "Ready: podman 4.\n"


def test_an_image_is_described_with_its_sizes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "compressed_bytes", lambda engine, its_image: 99_600_000)
    for model in ("astromae (808183bdec89)", ""):
        image._describe(Engine("podman", "4"), make_image(size_bytes=292_400_000, model=model))

    described = [
        "image       localhost/x:x86_64",
        f"id          sha256:{'ab' * 32}",
        "model       astromae (808183bdec89)",
        f"revision    {'c' * 40}",
        "size        292 MB, 100 MB compressed",
    ]
    assert capsys.readouterr().out.splitlines() == [*described, *described[:2], *described[3:]]


@pytest.mark.parametrize(
    ("variables", "arguments"),
    [
        ({}, {}),
        ({"BASE_IMAGE": "mine:1", "SLIM": "1"}, {"BASE_IMAGE": "mine:1", "SLIM": "1"}),
        ({"NO_REGISTRY": "1"}, {"BASE_IMAGE": "bare", "PIP_NO_INDEX": "1", "PIP_EXTRA_INDEX_URL": ""}),
    ],
)
def test_a_build_is_told_where_its_parts_come_from(
    variables: dict[str, str],
    arguments: dict[str, str],
    found: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[tuple[str, dict[str, str]]] = []

    def record(
        engine: Engine, recipe: build.Recipe, *, architecture: str, arguments: dict[str, str], **_: Any
    ) -> Image:
        given.append((architecture, arguments))
        return make_image()

    monkeypatch.setattr(build, "build", record)
    monkeypatch.setattr(bare, "fetch_wheels", lambda architecture: found.append(("wheels", architecture)))
    monkeypatch.setattr(bare, "make_base", lambda engine: "bare")
    monkeypatch.setattr(image, "_describe", lambda *_: None)

    assert exit_status(image.build, variables) == 0

    assert given == [("x86_64", arguments)] * 2
    assert (("wheels", "x86_64") in found) == ("NO_REGISTRY" in variables)


def test_a_base_image_is_made_for_this_machine_only(
    found: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(image.build, {"ARCH": "arm64", "NO_REGISTRY": "1"}) == 1

    assert "NO_REGISTRY=1 makes a base image for x86_64 only." in capsys.readouterr().err
