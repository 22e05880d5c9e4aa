"""Checks of a deployed rendezvous: does it answer from here, does it answer a Lambda, and as whom does it see them."""

import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass

from handlers.rendezvous.probe import Sighting, from_builtins, probe
from inference.fmi.wire import ProtocolError
from scripts.deployment.account import Account
from scripts.deployment.finding import Finding, looked
from scripts.deployment.stack import Rendezvous, Stack


@dataclass(frozen=True)
class _Asked:
    """Who asked, in the words of a finding."""

    name: str
    who: str


HERE = _Asked("rendezvous", "this machine")
LAMBDA = _Asked("from a Lambda", "the function")


def rendezvous_findings(account: Account, stack: Stack) -> Iterator[Finding]:
    """Ask the server from here, and from inside the deployed Infer function; nothing where none is deployed."""
    server = stack.rendezvous
    if server is None:
        return
    yield from looked(HERE.name, lambda: _from_here(server), worst="warn")
    yield from looked(LAMBDA.name, lambda: _from_lambda(account, stack, server), worst="warn")


def _from_here(server: Rendezvous) -> Finding:
    try:
        return _seen(HERE, server, probe(server.host, server.port))
    except (ConnectionError, ProtocolError) as error:
        return _missing(HERE, server, str(error))


def _from_lambda(account: Account, stack: Stack, server: Rendezvous) -> Finding:
    event = {"check": "rendezvous", "host": server.host, "port": server.port}
    answer = account.client("lambda").invoke(
        FunctionName=stack.function_names["infer"], Payload=json.dumps(event).encode()
    )
    said = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        return _missing(LAMBDA, server, said.get("errorMessage", answer["FunctionError"]))
    return _seen(LAMBDA, server, from_builtins(said))


def _seen(asked: _Asked, server: Rendezvous, sighting: Sighting) -> Finding:
    host, port = sighting.seen_as
    times_ms = 1e3 * (sighting.connect_s + sighting.answer_s)
    text = f"{server.host}:{server.port} answers in {times_ms:.0f} ms and sees {asked.who} as {host}"
    address = ipaddress.ip_address(host)
    if address.is_private and not address.is_loopback:
        return Finding(
            asked.name, "warn", f"{text}, which is no public address", "`make apply` keeps the clients' own."
        )
    return Finding(asked.name, "ok", text if port == sighting.local[1] else f"{text}, behind a NAT that changes ports")


def _missing(asked: _Asked, server: Rendezvous, reason: str) -> Finding:
    fix = f"Its log is {server.log_group}; `make plan` shows what is missing."
    return Finding(asked.name, "warn", reason, fix)
