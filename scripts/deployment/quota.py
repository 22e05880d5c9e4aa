"""What the account may run at the same time."""

from botocore.exceptions import BotoCoreError, ClientError

from scripts.deployment.account import Account

USUAL_CONCURRENCY = 1000
RAISE_CONCURRENCY = "Service Quotas, AWS Lambda, Concurrent executions raises it."
RAISE_RESERVATION = "infer_reserved_concurrency and `make apply` change it."


def concurrency(account: Account) -> int:
    """Return how many invocations the account runs at the same time.

    Raises
    ------
    ClientError
        If the credentials may not ask.
    """
    limit: int = account.client("lambda").get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    return limit


def reservation(account: Account, function_name: str) -> int | None:
    """Return how many invocations are reserved for a function; None where it shares those of the account.

    Raises
    ------
    ClientError
        If the credentials may not ask.
    """
    found = account.client("lambda").get_function_concurrency(FunctionName=function_name)
    reserved: int | None = found.get("ReservedConcurrentExecutions")
    return reserved


def room(account: Account, function_name: str) -> int | None:
    """Return how many invocations of a function run at the same time; None if the credentials may not ask.

    Those reserved for it where there are any, else those that the account has left. Lambda refuses what is beyond
    them, it does not queue: https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html
    """
    try:
        reserved = reservation(account, function_name)
        return concurrency(account) if reserved is None else reserved
    except (BotoCoreError, ClientError):
        # Not knowing is no reason to stop a run.
        return None


def waves_note(max_concurrency: int, world_size: int | None) -> list[str]:
    """Return a sentence when the ranks of a run do not fit the account at the same time."""
    if world_size is None or world_size <= max_concurrency:
        return []
    return [f"{max_concurrency:,} of {world_size:,} ranks run at a time, the others wait in turns. {RAISE_CONCURRENCY}"]
