"""An error of AWS in one line: what happened, and what to do."""

import re
from typing import Any

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError

LOG_IN = "`aws configure`, `aws sso login` or the variables AWS_PROFILE and AWS_ACCESS_KEY_ID set them"
THROTTLED = {
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
UNKNOWN_KEY = {
    "AuthFailure",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation", "403"}
ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
GONE = {
    "NoSuchBucket": "The bucket of the stack does not exist",
    "StateMachineDoesNotExist": "The state machine of the stack does not exist",
    "ResourceNotFoundException": "A function of the stack does not exist",
    "RepositoryNotFoundException": "The image registry of the stack does not exist",
}
NEEDED = re.compile(r"not authorized to perform:? (\S+?)[,.]?(?: on resource:? (\S+))?(?:\s|$)")


def explain(error: BotoCoreError | ClientError) -> str:
    """Return one line for an error of boto3."""
    return _explain_answer(error) if isinstance(error, ClientError) else _explain_client(error)


def is_denied(error: Exception) -> bool:
    """Return whether a permission is lacking."""
    return isinstance(error, ClientError) and _code(error) in DENIED


def is_throttled(error: Exception) -> bool:
    """Return whether AWS asks to come back later."""
    return isinstance(error, ClientError) and _code(error) in THROTTLED


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _explain_client(error: BotoCoreError) -> str:
    """Explain what went wrong before AWS answered."""
    match error:
        case exceptions.NoCredentialsError() | exceptions.CredentialRetrievalError():
            return f"There are no AWS credentials here: {LOG_IN}."
        case exceptions.PartialCredentialsError():
            return f"The AWS credentials are not complete ({error}): {LOG_IN}."
        case exceptions.ProfileNotFound():
            return f"{_sentence(str(error))} AWS_PROFILE names a profile that `aws configure list-profiles` shows."
        case exceptions.TokenRetrievalError() | exceptions.SSOError():
            return "The AWS sign-in has expired: `aws sso login` renews it."
        case exceptions.NoRegionError():
            return "No AWS region is set: AWS_REGION=us-east-1 sets one."
        case exceptions.EndpointConnectionError() | exceptions.ConnectTimeoutError() | exceptions.ReadTimeoutError():
            return f"{_sentence(str(error))} Check the network, the proxy and the region."
        case exceptions.SSLError() | exceptions.ProxyConnectionError() | exceptions.HTTPClientError():
            return f"AWS cannot be reached: {_sentence(str(error))} Check the network, the proxy and the region."
        case _:
            return _sentence(str(error))


def _explain_answer(error: ClientError) -> str:
    """Explain what AWS refused."""
    code, answer = _code(error), error.response.get("Error", {})
    message = _sentence(str(answer.get("Message") or answer.get("message") or ""))
    if code == "RequestTimeTooSkewed" or "Signature expired" in message or "Signature not yet current" in message:
        return "AWS refuses requests signed at the wrong time: set this machine's clock."
    if code in EXPIRED:
        return "The AWS credentials have expired: `aws sso login`, or a new session token, renews them."
    if code == "400" and error.operation_name.startswith("Head"):
        # An answer to HEAD has no body that could say so.
        return (
            "S3 refuses the credentials (400): most likely they have expired; `aws sso login`, or a new token, renews."
        )
    if code in UNKNOWN_KEY:
        return f"AWS does not know these credentials ({code}): {LOG_IN}."
    if code in DENIED:
        return _explain_denial(error, message)
    if code in THROTTLED:
        return f"AWS is throttling {error.operation_name} ({code}): wait a minute and try again."
    if code in ELSEWHERE:
        return f"{error.operation_name}: the bucket is in another region than the stack. {message}"
    if code in GONE:
        return f"{GONE[code]} here ({error.operation_name}). It was destroyed, or is in another region: `make apply`."
    if code == "ExecutionLimitExceeded":
        return "Too many executions run at the same time: `make stop RUN=…` ends one; the quota can be raised."
    # What is not an AWS, such as a proxy, answers with a page.
    said = "" if message.lstrip().startswith("<") else f": {message}"
    return f"{error.operation_name} failed with {code or _status(answer, error)}{said or '.'}"


def _explain_denial(error: ClientError, message: str) -> str:
    found = NEEDED.search(message)
    action = found[1] if found else error.operation_name
    where = f" on {found[2]}" if found and found[2] else ""
    ask = "Ask for it (docs/operator-policy.json has all), or use another AWS_PROFILE."
    return f"The credentials lack a permission: {action}{where}. {ask}"


def _status(answer: dict[str, Any], error: ClientError) -> str:
    return str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", answer))


def _sentence(text: str) -> str:
    """Return the text on one line, ending in a full stop."""
    line = " ".join(text.split())
    return line if not line or line.endswith((".", "!", "?")) else f"{line}."
