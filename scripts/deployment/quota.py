"""What the account may run at the same time."""

from botocore.exceptions import ClientError

from scripts.deployment.account import Account

USUAL_CONCURRENCY = 1000
RAISE_CONCURRENCY = "Service Quotas, AWS Lambda, Concurrent executions raises it."


def concurrency(account: Account) -> int:
    """Return how many invocations the account runs at the same time.

    Raises
    ------
    ClientError
        If the credentials may not ask.
    """
    limit: int = account.client("lambda").get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    return limit


def waves_note(account: Account, world_size: int | None) -> list[str]:
    """Return a sentence when the ranks of a run do not fit the account at the same time."""
    try:
        limit = concurrency(account)
    except ClientError:
        # Not knowing is no reason to stop a run.
        return []
    if world_size is None or world_size <= limit:
        return []
    return [
        f"The account runs {limit:,} invocations at a time: {world_size:,} ranks wait in turns. {RAISE_CONCURRENCY}"
    ]
