"""The program in a worker: AWS's own Python runtime, with init kept apart from the first invocation.

Run as ``python -m scripts.local_aws.runtime TIMEOUT_S FUNCTION_ARN WARM_UP_EVENT HANDLER`` by the emulator.
"""

import json
import os
import sys
import threading
import time
from typing import Any

from awslambdaric import bootstrap
from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

ORPHAN_CHECK_S = 0.5


class WarmableClient(LambdaRuntimeClient):  # type: ignore[misc]
    """Answers the warm-up event itself, so that by the first real invocation init is over."""

    def __init__(self, address: str, *, timeout_s: float, function_arn: str, warm_up_event: str) -> None:
        super().__init__(address)
        self._timeout_s = timeout_s
        self._function_arn = function_arn
        self._warm_up_events = (warm_up_event, warm_up_event.encode())

    def wait_next_invocation(self) -> Any:
        """Return the next real invocation, with the deadline and the ARN that Lambda would have given it."""
        while True:
            request = super().wait_next_invocation()
            if request.event_body not in self._warm_up_events:
                # The emulator counts init against its deadline and names every function test_function.
                request.deadline_time_in_ms = int((time.time() + self._timeout_s) * 1000)
                request.invoked_function_arn = self._function_arn
                return request
            self.post_invocation_result(request.invoke_id, json.dumps({"pid": os.getpid()}))


def _exit_with_parent() -> None:
    """End this process when the emulator is gone: killed with -9, it would leave its runtime running."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(ORPHAN_CHECK_S)
    os._exit(1)


def main() -> None:
    """Serve invocations until the emulator ends."""
    timeout_s, function_arn, warm_up_event, handler = sys.argv[1:]
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    client = WarmableClient(
        os.environ["AWS_LAMBDA_RUNTIME_API"],
        timeout_s=float(timeout_s),
        function_arn=function_arn,
        warm_up_event=warm_up_event,
    )
    bootstrap.run(handler, client)


if __name__ == "__main__":
    main()
