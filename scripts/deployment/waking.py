"""Functions that no one called for weeks: Lambda takes their image down, and fetches it again when they are called.

Until it is there every invocation is refused. So they are called before they are needed, all at the same time.
"""

import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import BotoCoreError, ClientError

from scripts.deployment.account import Account

INACTIVE = "Inactive"
"""Of a function: https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html"""


def wake(account: Account, functions: Iterable[str]) -> list[str]:
    """Call the functions that are asleep, without waiting for them; return their names.

    Nothing is known of one that the credentials may not look at.
    """
    client = account.client("lambda")

    def is_woken(function: str) -> bool:
        try:
            is_asleep: bool = client.get_function_configuration(FunctionName=function).get("State") == INACTIVE
        except (BotoCoreError, ClientError):
            return False
        if is_asleep:
            call(account, function)
        return is_asleep

    names = list(functions)
    with ThreadPoolExecutor(max(1, len(names))) as pool:
        return [name for name, woken in zip(names, pool.map(is_woken, names), strict=True) if woken]


def call(account: Account, function: str) -> None:
    """Call a function that is asleep: it refuses, and wakes."""
    with contextlib.suppress(BotoCoreError, ClientError):
        account.client("lambda").invoke(FunctionName=function, Payload=b"{}")


def waking_note(woken: list[str]) -> list[str]:
    """Return a sentence about functions that were asleep."""
    if not woken:
        return []
    are = "was asleep and wakes" if len(woken) == 1 else "were asleep and wake"
    return [f"{', '.join(woken)} {are}: no one called for weeks. The run waits for that, a minute or two."]
