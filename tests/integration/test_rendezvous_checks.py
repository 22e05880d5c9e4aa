"""What `make doctor` says of a deployed rendezvous, asked from here and from inside the Infer function."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from handlers import infer
from handlers.rendezvous.probe import probe
from inference.errors import InvalidRequestError
from scripts.deployment.finding import Finding
from scripts.deployment.rendezvous_checks import HERE, _seen, rendezvous_findings
from scripts.deployment.stack import Rendezvous
from tests.rendezvous import running
from tests.unit.test_doctor import make_stack


class OneLambda:
    """An account with the Infer function, which runs here."""

    def client(self, service: str) -> "OneLambda":
        assert service == "lambda"
        return self

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803 -- boto3's names
        assert FunctionName.endswith("-infer")
        try:
            return {"Payload": io.BytesIO(json.dumps(infer.handler(json.loads(Payload), None)).encode())}
        except Exception as error:  # as Lambda's runtime does
            said = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return {"Payload": io.BytesIO(json.dumps(said).encode()), "FunctionError": "Unhandled"}


def make_server(address: tuple[str, int]) -> Rendezvous:
    return Rendezvous(host=address[0], port=address[1], secret_arn="arn:secret", log_group="/ecs/x-rendezvous")


def findings(address: tuple[str, int]) -> list[Finding]:
    return list(rendezvous_findings(OneLambda(), make_stack(rendezvous=make_server(address))))


def test_a_server_that_answers_is_ok_from_here_and_from_a_lambda() -> None:
    with running(key=b"k" * 32) as server:
        here, from_lambda = findings(server.address)

        assert (here.verdict, from_lambda.verdict) == ("ok", "ok")
        assert "sees this machine as 127.0.0.1" in here.text
        assert "sees the function as 127.0.0.1" in from_lambda.text
        assert server.metric("rendezvous_checks_total") == 2


def test_a_server_that_is_not_there_is_one_line_each_with_what_to_do() -> None:
    with running() as server:
        address = server.address

    here, from_lambda = findings(address)

    expected = f"The rendezvous server 127.0.0.1:{address[1]} cannot be reached: Connection refused."
    assert (here.verdict, here.text) == (from_lambda.verdict, from_lambda.text) == ("warn", expected)
    assert "/ecs/x-rendezvous" in here.fix


def test_a_service_that_is_no_rendezvous_is_named_as_such() -> None:
    with running(expects_proxy_header=True) as server:
        here, _ = findings(server.address)

    assert here.verdict == "warn"
    assert "Connection reset" in here.text or "no rendezvous server" in here.text


def test_a_load_balancer_that_hides_its_clients_is_a_warning() -> None:
    with running() as server:
        sighting = probe(*server.address)

    sighting = replace(sighting, connect_s=0.02, answer_s=0.013)
    hidden = _seen(HERE, make_server(server.address), replace(sighting, seen_as=("10.0.0.5", 1234)))
    behind_nat = _seen(HERE, make_server(server.address), replace(sighting, seen_as=("203.0.114.5", 1)))

    assert (hidden.verdict, behind_nat.verdict) == ("warn", "ok")
    host, port = server.address
    assert hidden.text.startswith(
        f"{host}:{port} answers in 33 ms and sees this machine as 10.0.0.5, which is no public"
    )
    assert "changes ports" in behind_nat.text


def test_nothing_is_said_where_none_is_deployed() -> None:
    assert list(rendezvous_findings(OneLambda(), make_stack())) == []


@pytest.mark.parametrize("change", [{"port": 0}, {"host": ""}, {"check": "world"}, {"task": {}}])
def test_infer_refuses_a_check_that_is_none(change: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        infer.handler({"check": "rendezvous", "host": "127.0.0.1", "port": 1, **change}, None)


def test_a_host_that_has_no_address_is_one_clear_error() -> None:
    with pytest.raises(ConnectionError, match=r"nowhere\.invalid:10000 cannot be reached: .*[Nn]ame"):
        probe("nowhere.invalid", 10000)
