"""What AWS does and a local one need not: refuse, wake slowly, fail now and then. None of it happens unasked."""

import threading
import time
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
    """Every which request S3 answers with 503 SlowDown; 0: none.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """


class RefusedError(Exception):
    """AWS does not do what it was asked for, this time.

    Parameters
    ----------
    status : int
        Of the HTTP answer.
    code : str
        Name of the error.
    message : str
        What AWS says.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Rude:
    """Refuses as often as it was asked to.

    Parameters
    ----------
    how : Rudeness
    now : callable
        A clock that only moves forward [s].
    """

    def __init__(self, how: Rudeness, *, now: Callable[[], float] = time.monotonic) -> None:
        self._how = how
        self._now = now
        self._lock = threading.Lock()
        self._num_running = 0
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
            if self._how.concurrency and self._num_running >= self._how.concurrency:
                raise RefusedError(429, "TooManyRequestsException", "Rate Exceeded.")
            self._num_running += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_running -= 1

    def answer_s3(self) -> None:
        """Count a request to S3.

        Raises
        ------
        RefusedError
            If it is this one's turn to fail.
        """
        with self._lock:
            self._num_s3_requests += 1
            if self._how.s3_failure_every and self._num_s3_requests % self._how.s3_failure_every == 0:
                raise RefusedError(503, "SlowDown", "Please reduce your request rate.")
