"""An image goes to a registry once per content, with the login that it asks for and nothing Lambda cannot read."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError

from scripts.command import aws_clients
from scripts.deployment.image import registry
from scripts.deployment.image.engine import Engine, EngineError
from scripts.deployment.image.registry import Login, Pushed
from tests.unit.test_image_parts import ECR, make_image

DIGEST = f"sha256:{'1' * 64}"
READABLE = json.dumps({"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}]}).encode()
LOGIN = Login("AWS", "secret")


class Registry(BaseHTTPRequestHandler):
    """Has one tag, for who logs in, as far as `registry` asks."""

    def do_GET(self) -> None:
        expected = base64.b64encode(b"AWS:secret").decode()
        if self.headers["Authorization"] not in (None, f"Basic {expected}"):
            status = 401
        else:
            status = 200 if self.path == "/v2/some/name/manifests/there" else 404
        self.send_response(status)
        self.send_header("Docker-Content-Digest", DIGEST)
        self.send_header("X-Asked", self.headers["Accept"])
        self.end_headers()
        if status == 200 and self.command == "GET":
            self.wfile.write(f"{self.headers['Accept']} {self.headers['Authorization']}".encode())

    do_HEAD = do_GET  # noqa: N815 -- http.server names methods so

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def repository() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}/some/name"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("tag", "found"), [("there", DIGEST), ("elsewhere", None)])
def test_a_registry_says_which_content_has_a_tag(repository: str, tag: str, found: str | None) -> None:
    assert registry.find_digest(repository, tag) == found
    assert registry.find_digest(repository, tag, LOGIN) == found


def test_a_registry_is_asked_for_manifests_and_indexes_as_whoever_logs_in(repository: str) -> None:
    digest, manifest = registry._ask(repository, "there", LOGIN, "GET") or ("", b"")
    _, unnamed = registry._ask(repository, "there", None, "GET") or ("", b"")

    *kinds, scheme, _ = manifest.decode().replace(",", "").split()
    assert digest == DIGEST
    assert {*kinds} == {*registry.MANIFEST_TYPES, *registry.INDEX_TYPES}
    assert scheme == "Basic"
    assert unnamed.endswith(b"None")


def test_a_registry_that_refuses_a_login_says_so(repository: str) -> None:
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:\d+ answered 401 for some/name:there\. Check the credentials"):
        registry.find_digest(repository, "there", Login("AWS", "wrong"))


def test_a_registry_that_keeps_silent_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(_: object, *, timeout: float) -> None:
        raise TimeoutError(f"silent for {timeout} s")

    monkeypatch.setattr(registry.urllib.request, "urlopen", wait)

    with pytest.raises(EngineError, match=r"^example\.org does not answer: silent for \d+ s"):
        registry.find_digest("example.org/x", "tag")


# ---------------------------------------------------------------------------------------------------- pushing


class Pushing:
    """What an engine is asked in turn, and whether it had a file of logins of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        self.said: list[tuple[str, ...]] = []
        self.secrets: list[str | None] = []
        self.logins: list[bool] = []
        waiting = iter(answers)
        monkeypatch.setattr(registry, "_ask", lambda *_: next(waiting))

        def run(engine: Engine, *arguments: str, secret: str | None = None) -> None:
            self.said.append(arguments)
            self.secrets.append(secret)
            file = engine.environment.get("REGISTRY_AUTH_FILE")
            self.logins.append(bool(file) and json.loads(Path(file or "").read_text()) == {})

        monkeypatch.setattr(Engine, "run", run)
        monkeypatch.setattr(Engine, "show", run)


def test_what_the_registry_has_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pushing = Pushing(monkeypatch, (DIGEST, b""))

    assert registry.push(Engine("podman", "4"), make_image(), ECR) == Pushed(f"{ECR}@{DIGEST}", was_there=True)
    assert pushing.said == []


READ_BY_LAMBDA = ("--format", "v2s2", "--compression-format", "gzip")


@pytest.mark.parametrize(
    ("program", "repository", "plain", "format_"),
    [
        ("podman", "127.0.0.1:5000/x", ("--tls-verify=false",), READ_BY_LAMBDA),
        ("podman", ECR, (), READ_BY_LAMBDA),
        ("docker", "127.0.0.1:5000/x", (), ()),
    ],
)
def test_an_image_is_sent_under_the_tag_of_its_content_and_in_a_form_that_lambda_reads(
    program: Any, repository: str, plain: tuple[str, ...], format_: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "has_helper", lambda _: False)
    pushing = Pushing(monkeypatch, None, (DIGEST, READABLE))
    image = make_image()

    pushed = registry.push(Engine(program, "4"), image, repository, LOGIN)

    target, host = f"{repository}:{image.tag}", repository.partition("/")[0]
    assert pushing.said == [
        ("login", *plain, "--username", "AWS", "--password-stdin", host),
        ("tag", image.name, target),
        ("push", *plain, *format_, target),
        ("rmi", target),
    ]
    assert pushing.secrets == ["secret", None, None, None]
    assert pushing.logins == [program == "podman"] * 4
    assert pushed == Pushed(f"{repository}@{DIGEST}", was_there=False)


def test_a_registry_that_asks_for_no_login_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pushing = Pushing(monkeypatch, None, (DIGEST, READABLE))

    registry.push(Engine("podman", "4"), make_image(), ECR)

    assert "login" not in {words[0] for words in pushing.said}


@pytest.mark.parametrize(
    ("there", "said"),
    [(None, "was pushed and yet is not in the registry"), ((DIGEST, b'{"manifests": []}'), "Lambda cannot read it")],
)
def test_what_has_not_arrived_readable_is_told(there: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Pushing(monkeypatch, None, there)

    with pytest.raises(EngineError, match=said):
        registry.push(Engine("podman", "4"), make_image(), ECR)


def test_layers_of_two_unreadable_kinds_are_both_named() -> None:
    layers = [{"mediaType": "x.tar+zstd"}, {}, {"mediaType": "x.tar+gzip"}, {"mediaType": "x.tar+zstd"}]

    assert registry.why_unreadable({"layers": layers}) == "its layers are  and x.tar+zstd, not gzip."


def test_a_login_that_aws_does_not_give_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise NoCredentialsError

    monkeypatch.setattr(aws_clients, "new_client", lambda *_, **__: SimpleNamespace(get_authorization_token=refuse))

    with pytest.raises(EngineError, match=rf"^AWS gives no login for {ECR}: Unable to locate credentials"):
        registry.ecr_login(ECR)
