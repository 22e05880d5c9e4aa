"""A function with SnapStart: AWS's runtime client, forked where Lambda would take a snapshot of it.

Each child is a process restored from the same snapshot; one after the other, since AWS's client keeps the address of
the Runtime API.
"""

import os
import sys

from awslambdaric import __main__ as runtime
from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

NUM_RESTORED = 2

restore_next = LambdaRuntimeClient.restore_next


def fork(client: LambdaRuntimeClient) -> None:
    """Take the snapshot: return in every child, and never in the parent."""
    for number in range(NUM_RESTORED):
        if os.fork() == 0:
            # Lambda gives every environment a token of its own to ask for keys with.
            os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = f"token-{number}"
            restore_next(client)
            return
        os.wait()
    os._exit(0)


if __name__ == "__main__":
    LambdaRuntimeClient.restore_next = fork
    runtime.main(sys.argv)
