"""What AWS does and a local one need not: refuse, wake slowly, fail now and then. None of it happens unasked.

That no state has more than 256 KiB is no rudeness: it is always so, see `patches`.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec


class Rudeness(msgspec.Struct, frozen=True, kw_only=True):
    """How rude, each kind as AWS documents it."""

    concurrency: int = 0
    """Invocations of all functions at the same time; Lambda refuses those beyond with 429. 0: any number.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html
    """

    inactive_s: float = 0.0
    """How long each function refuses with 409 from its first invocation on, as one that no one called for weeks [s].

    https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html
    """

    s3_failure_every: int = 0
    """Every which request S3 fails, in turn with 503 SlowDown, with 500, without any answer, and late; 0: none.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """

    starts_per_s: float = 0.0
    """Ranks that a Map starts in a second, as a STANDARD one starts 100; 0: any number.

    https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
    """

    environments_per_10_s: int = 0
    """New environments of a function in 10 s; Lambda starts 1,000 and refuses what needs more with 429. 0: any number.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html#scaling-rate
    """

    all_cold: bool = False
    """Every invocation starts an environment of its own, as the first of each rank in a large run.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
    """

    session_requests: int = 0
    """Requests after which the session of whoever runs the commands has expired; 0: never. Functions have their own.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """

    list_keys: int = 0
    """Keys of a page of a list of objects: S3 may return fewer than the 1,000 it is asked for; 0: as many as asked for.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
    """


NO_ANSWER = 0
"""In place of a status: the connection is closed."""

S3_FAILURES = (
    (503, "SlowDown", "Please reduce your request rate."),
    (500, "InternalError", "We encountered an internal error. Please try again."),
    (NO_ANSWER, "ConnectionReset", ""),
)
SLOW_ANSWER_S = 2.0
"""How late: many times what S3 usually takes."""


class RefusedError(Exception):
    """AWS does not do what it was asked for, this time.

    Parameters
    ----------
    status : int
        Of the HTTP answer, or `NO_ANSWER`.
    code : str
        Name of the error.
    message : str
        What AWS says.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def as_xml(self) -> tuple[str, bytes]:
        """Return content type and body of the answer, as S3 words it."""
        return "application/xml", f"<Error><Code>{self.code}</Code><Message>{self.message}</Message></Error>".encode()

    def as_json(self) -> tuple[str, bytes]:
        """Return the same as the other services word it."""
        return "application/json", json.dumps({"__type": f"{self.code}Exception", "message": self.message}).encode()


class Rude:
    """Refuses as often as it was asked to.

    Parameters
    ----------
    how : Rudeness
    now : callable
        A clock that only moves forward [s].
    sleep : callable
        Waits [s].
    """

    def __init__(
        self,
        how: Rudeness,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._how = how
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._environments: Counter[str] = Counter()
        self._started_at_s: dict[str, float] = {}
        self._next_start_s = 0.0
        self._num_session_requests = 0
        self._woken_at_s: dict[str, float] = {}
        self._num_s3_requests = 0

    @contextmanager
    def invocation(self, function: str) -> Iterator[None]:
        """Let one invocation of a function run inside.

        Raises
        ------
        RefusedError
            If the function is still waking up, or there is no room for it.
        """
        with self._lock:
            now_s = self._now()
            awake_at_s = self._woken_at_s.setdefault(function, now_s + self._how.inactive_s)
            if now_s < awake_at_s:
                raise RefusedError(409, "CodeArtifactUserPendingException", f"{function} is in the Pending state.")
            if self._how.concurrency and self._running.total() >= self._how.concurrency:
                raise RefusedError(429, "TooManyRequestsException", "Rate Exceeded.")
            self._take_environment(function, now_s)
            self._running[function] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[function] -= 1

    def _take_environment(self, function: str, now_s: float) -> None:
        """Take one that is idle, or a new one where there may be one."""
        if self._running[function] < self._environments[function]:
            return
        if self._how.environments_per_10_s:
            age_s = now_s - self._started_at_s.setdefault(function, now_s)
            if self._environments[function] >= self._how.environments_per_10_s * (1 + int(age_s / 10)):
                raise RefusedError(429, "TooManyRequestsException", "Rate Exceeded.")
        self._environments[function] += 1

    def start_rank(self) -> None:
        """Wait for the turn of one more iteration of a Map."""
        if not self._how.starts_per_s:
            return
        with self._lock:
            now_s = self._now()
            turn_s = max(now_s, self._next_start_s)
            self._next_start_s = turn_s + 1 / self._how.starts_per_s
        if turn_s > now_s:
            self._sleep(turn_s - now_s)

    def answer_session(self) -> None:
        """Count a request of whoever runs the commands.

        Raises
        ------
        RefusedError
            If the session has expired.
        """
        with self._lock:
            self._num_session_requests += 1
            if self._how.session_requests and self._num_session_requests > self._how.session_requests:
                raise RefusedError(400, "ExpiredToken", "The provided token has expired.")

    def answer_s3(self) -> None:
        """Count a request to S3, and wait if it is this one's turn to be answered late.

        Raises
        ------
        RefusedError
            If it is this one's turn to fail.
        """
        with self._lock:
            self._num_s3_requests += 1
            num_failures, rest = divmod(self._num_s3_requests, self._how.s3_failure_every or self._num_s3_requests + 1)
        if rest == 0:
            turn = (num_failures - 1) % (len(S3_FAILURES) + 1)
            if turn < len(S3_FAILURES):
                raise RefusedError(*S3_FAILURES[turn])
            self._sleep(SLOW_ANSWER_S)
