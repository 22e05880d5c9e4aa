"""The account: clients in the stack's region, and whether the credentials belong to the stack."""

import os
from typing import Any

from botocore.config import Config

from scripts.command.aws_clients import new_session
from scripts.deployment.stack import Stack, StackError

NUM_CONNECTIONS = 16
CONFIG = Config(
    max_pool_connections=NUM_CONNECTIONS,
    retries={"mode": "standard", "total_max_attempts": 5},
    connect_timeout=5,
)


class Account:
    """Clients for the region of a stack, with the user's own credentials.

    Parameters
    ----------
    region : str or None
        Region of the stack; the user's own when None.
    """

    def __init__(self, region: str | None = None) -> None:
        self._session = new_session(region)
        self._clients: dict[str, Any] = {}

    @property
    def region(self) -> str | None:
        """Region of the clients."""
        region: str | None = self._session.region_name
        return region

    def client(self, service: str) -> Any:
        """Return the client of a service, one per account."""
        if service not in self._clients:
            self._clients[service] = self._session.client(service, config=CONFIG)
        return self._clients[service]

    def credentials(self) -> Any:
        """Return what gives obstore the same credentials, fresh ones when these expire."""
        from obstore.auth.boto3 import Boto3CredentialProvider

        return Boto3CredentialProvider(self._session)

    def identity(self) -> tuple[str, str]:
        """Return the account and the ARN of who is asking."""
        answer = self.client("sts").get_caller_identity()
        return answer["Account"], answer["Arn"]


def check_owner(stack: Stack, account_id: str) -> None:
    """Refuse credentials of another account than the stack's.

    Raises
    ------
    StackError
        Naming both accounts.
    """
    if account_id != stack.account_id:
        raise StackError(
            f"The credentials belong to account {account_id}, the stack {stack.name} to {stack.account_id}. Set "
            "AWS_PROFILE to a profile of that account."
        )


def other_region(stack: Stack) -> str:
    """Return a sentence when the user's environment names another region than the stack's, else nothing."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        asked = os.environ.get(name, "")
        if asked and asked != stack.region:
            return f"{name}={asked} is not where the stack is: {stack.region} is used."
    return ""
