"""Ranks that talk: the token of their run, the health of their server, and the bucket as their last resort."""

import secrets
from collections.abc import Sequence

from msgspec import structs

from handlers import settings
from handlers.rendezvous.probe import probe
from handlers.storage import ObjectStore
from inference import contract
from inference.contract import CommTask, RankTask
from inference.errors import RendezvousError
from inference.fmi import tokens
from inference.fmi.wire import ProtocolError, Status

TOKEN_MARGIN_S = 60
"""How much longer than ranks wait for each other their token is good: clocks differ."""


class Messages:
    """A bucket as ranks use it to talk: see `inference.fmi.meeting.Store`."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def read(self, key: str) -> bytes:
        """Return an object."""
        return self._store.read(key)

    def write(self, key: str, content: bytes) -> None:
        """Write an object."""
        self._store.write(key, content)

    def list(self, prefix: str) -> list[str]:
        """Return the keys directly under `prefix`."""
        return [info.key for info in self._store.list_folder(prefix).objects]


def with_comm(tasks: Sequence[RankTask], endpoint: str | None, meet_by_s: float) -> list[RankTask]:
    """Return the tasks of a run with what its ranks need to meet; the server has been asked whether it lets them in.

    Raises
    ------
    RendezvousError
        If there is no server, it does not answer, or refuses the run's token: before any rank is started.
    """
    endpoint = endpoint or settings.rendezvous_endpoint()
    if endpoint is None:
        raise RendezvousError(
            "fmi_enabled needs a rendezvous server and this deployment has none: set `rendezvous = true` in "
            "terraform.tfvars and `make apply`, or name one with rendezvous_endpoint."
        )
    host, port = contract.split_endpoint(endpoint)
    token = tokens.mint(_server_key(), tasks[0].run_id, expires_at_s=int(meet_by_s) + TOKEN_MARGIN_S)
    try:
        status = probe(host, port, name=token.name(0, 1)).status
    except (OSError, ProtocolError) as error:
        raise RendezvousError(
            f"The rendezvous server {host}:{port} does not answer: {error}. Check rendezvous_endpoint and that it runs "
            "(`make doctor`), or leave fmi_enabled out."
        ) from error
    if status is not Status.OK:
        raise RendezvousError(f"The rendezvous server {host}:{port} does not let this run in: {status.name}.")
    comm = CommTask(endpoint=f"{host}:{port}", token=token.to_text(), meet_by_s=meet_by_s)
    return [structs.replace(task, comm=comm) for task in tasks]


def _server_key() -> bytes:
    """Return the server's key; where it checks no names one for this run alone, by which ranks know each other."""
    arn = settings.rendezvous_secret_arn()
    if arn is None:
        return secrets.token_bytes(tokens.MIN_KEY_BYTES)
    from handlers.secret import read_secret

    return read_secret(arn).encode()
