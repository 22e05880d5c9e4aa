import pytest
from botocore import exceptions
from botocore.exceptions import ClientError

from scripts.command.aws_errors import explain, is_denied, is_throttled


def refusal(code: str, message: str = "it said no", *, operation: str = "StartExecution") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (exceptions.NoCredentialsError(), "There are no AWS credentials here: `aws configure`"),
        (exceptions.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), "not complete"),
        (exceptions.ProfileNotFound(profile="work"), "(work) could not be found. AWS_PROFILE names a profile"),
        (exceptions.UnauthorizedSSOTokenError(), "`aws sso login` renews it"),
        (exceptions.TokenRetrievalError(provider="sso", error_msg="expired"), "`aws sso login` renews it"),
        (exceptions.NoRegionError(), "AWS_REGION=us-east-1 sets one"),
        (exceptions.EndpointConnectionError(endpoint_url="https://sts"), "Check the network, the proxy and the region"),
        (exceptions.SSLError(endpoint_url="https://sts", error="self-signed"), "AWS cannot be reached"),
        (refusal("ExpiredToken"), "have expired: `aws sso login`"),
        (refusal("ExpiredTokenException"), "have expired: `aws sso login`"),
        (refusal("InvalidClientTokenId"), "does not know these credentials (InvalidClientTokenId)"),
        (
            refusal("InvalidSignatureException", "Signature expired: 20260101 is now earlier"),
            "set this machine's clock",
        ),
        (refusal("RequestTimeTooSkewed"), "set this machine's clock"),
        (refusal("StateMachineDoesNotExist"), "The state machine of the stack does not exist here"),
        (refusal("NoSuchBucket", operation="PutObject"), "The bucket of the stack does not exist here (PutObject)"),
        (refusal("PermanentRedirect", operation="PutObject"), "in another region than the stack"),
        (refusal("ThrottlingException"), "throttling StartExecution (ThrottlingException): wait a minute"),
        (refusal("ExecutionLimitExceeded"), "`make stop RUN=…` ends one"),
        (refusal("400", operation="HeadBucket"), "S3 refuses the credentials (400)"),
        (refusal("400"), "StartExecution failed with 400: it said no."),
        (refusal("RequestExpired", "Signature not yet current"), "set this machine's clock"),
        (refusal("PermanentRedirect", "Use it there!"), "in another region than the stack. Use it there!"),
        (refusal("Strange", ""), "StartExecution failed with Strange: "),
        (ClientError({"Error": {"message": "small"}}, "X"), "X failed with {'message': 'small'}: small."),
        (ClientError({"ResponseMetadata": {"HTTPStatusCode": 503}}, "X"), "X failed with 503: "),
        (exceptions.ConnectTimeoutError(endpoint_url="https://sts"), "Check the network, the proxy and the region"),
        (exceptions.ReadTimeoutError(endpoint_url="https://sts"), "Check the network, the proxy and the region"),
        (exceptions.ProxyConnectionError(proxy_url="http://p"), "AWS cannot be reached: Failed to connect to proxy"),
        (exceptions.DataNotFoundError(data_path="x"), "Unable to load data for: x."),
        (exceptions.CredentialRetrievalError(provider="x", error_msg="y"), "There are no AWS credentials here"),
        (refusal("502", "<html>Bad gateway</html>"), "StartExecution failed with 502."),
        (refusal("Strange", "two\nlines"), "StartExecution failed with Strange: two lines."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, exceptions.BotoCoreError) else None,
)
def test_an_error_is_one_line_that_says_what_to_do(error: exceptions.BotoCoreError | ClientError, said: str) -> None:
    line = explain(error)

    assert said in line
    assert ".." not in line
    assert ": ." not in line
    assert ".." not in line
    assert ": ." not in line


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (
            "User: arn:aws:iam::1:user/a is not authorized to perform: states:StartExecution on resource: "
            "arn:aws:states:us-east-1:1:stateMachine:x because no identity-based policy allows it",
            "states:StartExecution on arn:aws:states:us-east-1:1:stateMachine:x",
        ),
        ("User is not authorized to perform: sts:GetCallerIdentity", "sts:GetCallerIdentity. Ask"),
        ("Access Denied", "StartExecution. Ask"),
    ],
    ids=["resource", "action", "S3 says neither"],
)
def test_a_lacking_permission_is_named(message: str, named: str) -> None:
    assert f"lack a permission: {named}" in explain(refusal("AccessDeniedException", message))


def test_denial_and_throttling_are_told_apart() -> None:
    assert is_denied(refusal("AccessDenied"))
    assert not is_denied(refusal("SlowDown"))
    assert is_throttled(refusal("SlowDown"))
    assert not is_throttled(ValueError("no answer of AWS"))
