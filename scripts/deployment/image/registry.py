"""Pushes an image to a registry, once per content."""

import base64
import contextlib
import json
import os
import re
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scripts.command.errors import UsageError
from scripts.deployment.image.build import Image
from scripts.deployment.image.engine import Engine, EngineError

MANIFEST_TYPES = ("application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json")
INDEX_TYPES = ("application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json")
ECR = re.compile(r"^(?P<account>\d{12})\.dkr\.ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/")
LOOPBACK = re.compile(r"^(127\.0\.0\.1|localhost)(:\d+)?/")


@dataclass(frozen=True)
class Login:
    """User and password of a registry."""

    user: str
    password: str


@dataclass(frozen=True)
class Pushed:
    """An image in a registry."""

    uri: str
    """By digest: ``REPOSITORY@sha256:…``."""

    was_there: bool
    """Whether the registry had this content already and nothing was sent."""


def push(engine: Engine, image: Image, repository: str, login: Login | None = None) -> Pushed:
    """Push an image under the tag of its content, unless the registry has it.

    Parameters
    ----------
    engine, image
        What to push and with what.
    repository : str
        Address of an existing repository, without tag.
    login : Login, optional
        None for a registry that asks for none.

    Raises
    ------
    EngineError
        If the registry refuses.
    """
    found = find_digest(repository, image.tag, login)
    if found:
        return Pushed(f"{repository}@{found}", was_there=True)
    target = f"{repository}:{image.tag}"
    with tempfile.TemporaryDirectory() as folder:
        # The login of Podman ends with this push; Docker keeps its own where the user configured it.
        session = engine
        if engine.program == "podman":
            logins = Path(folder) / "auth.json"
            logins.write_text("{}")
            session = replace(engine, environment=engine.environment | {"REGISTRY_AUTH_FILE": str(logins)})
        plain = ["--tls-verify=false"] if engine.program == "podman" and LOOPBACK.match(repository) else []
        # Whatever the user's containers.conf prefers, Lambda reads neither zstd nor an index.
        readable = ["--format", "v2s2", "--compression-format", "gzip"] if engine.program == "podman" else []
        host = repository.partition("/")[0]
        if login and not (engine.program == "docker" and has_helper(host)):
            session.run("login", *plain, "--username", login.user, "--password-stdin", host, secret=login.password)
        session.run("tag", image.name, target)
        session.show("push", *plain, *readable, target)
        session.run("rmi", target)
    there = _ask(repository, image.tag, login, "GET")
    if there is None:
        raise EngineError(f"{target} was pushed and yet is not in the registry.")
    digest, manifest = there
    if problem := why_unreadable(json.loads(manifest)):
        raise EngineError(f"{target} was pushed, and Lambda cannot read it: {problem}")
    return Pushed(f"{repository}@{digest}", was_there=False)


def has_helper(host: str) -> bool:
    """Return whether a credential helper logs Docker in to ECR: it keeps no password, so that `docker login` fails.

    https://github.com/awslabs/amazon-ecr-credential-helper
    """
    path = Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser() / "config.json"
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    helpers = (settings.get("credHelpers") or {}).get(host), settings.get("credsStore")
    return "ecr-login" in helpers


def why_unreadable(manifest: dict[str, Any]) -> str:
    """Say why Lambda cannot read an image with this manifest; empty if it can.

    https://docs.aws.amazon.com/lambda/latest/dg/images-create.html
    """
    if "manifests" in manifest:
        return "it is an index of images. Build it for one platform and without provenance."
    kinds = {str(layer.get("mediaType", "")) for layer in manifest.get("layers", ())}
    if unread := sorted(kind for kind in kinds if not kind.endswith(("tar.gzip", "tar+gzip"))):
        return f"its layers are {' and '.join(unread)}, not gzip."
    return ""


def stand_in(repository: str, host: str) -> str:
    """Return the repository of the same name in a registry of this machine, which takes ECR's place in a rehearsal.

    Raises
    ------
    UsageError
        If `host` is elsewhere: it would receive ECR's password.
    """
    there = f"{host}/{repository.partition('/')[2]}"
    if not LOOPBACK.match(there):
        raise UsageError(
            f"REGISTRY={host} is not on this machine. Rehearse with a registry at 127.0.0.1:PORT; "
            "without REGISTRY, `make push` goes to ECR."
        )
    return there


def find_digest(repository: str, tag: str, login: Login | None = None) -> str | None:
    """Return the digest of a tag in a registry; None if it has no such tag.

    Raises
    ------
    EngineError
        If the registry does not answer or refuses.
    """
    found = _ask(repository, tag, login, "HEAD")
    return found[0] if found else None


def _ask(repository: str, reference: str, login: Login | None, method: str) -> tuple[str, bytes] | None:
    """Return digest and manifest of a tag or digest in a registry; None if it has none."""
    host, _, name = repository.partition("/")
    scheme = "http" if LOOPBACK.match(repository) else "https"
    url = f"{scheme}://{host}/v2/{name}/manifests/{reference}"
    request = urllib.request.Request(url, method=method)  # noqa: S310
    request.add_header("Accept", ", ".join((*MANIFEST_TYPES, *INDEX_TYPES)))
    if login:
        basic = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {basic}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return str(answer.headers["Docker-Content-Digest"]), answer.read()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return None
        raise EngineError(f"{host} answered {error.code} for {name}:{reference}. Check the credentials.") from error
    except OSError as error:
        raise EngineError(f"{host} does not answer: {error}") from error


def keep(uri: str) -> None:
    """Give an image in ECR the tag ``deployed-…``, by which its registry keeps it when newer ones come.

    Parameters
    ----------
    uri : str
        By digest. An image that is not there is none that could be deleted.

    Raises
    ------
    ClientError
        If the credentials may not.
    """
    from scripts.command.aws_clients import new_client

    repository, _, digest = uri.partition("@")
    match = ECR.match(repository)
    assert match, f"{uri} is in ECR: Terraform accepts no other"
    ecr, name = new_client("ecr", region_name=match["region"]), repository.partition("/")[2]
    for image in ecr.batch_get_image(repositoryName=name, imageIds=[{"imageDigest": digest}])["images"]:
        kept = {key: image[key] for key in ("imageManifest", "imageManifestMediaType") if image.get(key)}
        kept["imageTag"] = f"deployed-{digest.partition(':')[2][:12]}"
        with contextlib.suppress(ecr.exceptions.ImageAlreadyExistsException):
            ecr.put_image(repositoryName=name, **kept)


def ecr_login(repository: str) -> Login:
    """Return the login that AWS gives for twelve hours to the credentials in use.

    Raises
    ------
    EngineError
        If `repository` is none of ECR, or AWS refuses.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    from scripts.command.aws_clients import new_client

    match = ECR.match(repository + "/")
    if match is None:
        raise EngineError(f"{repository} is not a repository of ECR: ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME.")
    try:
        answer = new_client("ecr", region_name=match["region"]).get_authorization_token()
    except (BotoCoreError, ClientError) as error:
        raise EngineError(f"AWS gives no login for {repository}: {error}") from error
    user, _, password = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode().partition(":")
    return Login(user, password)
