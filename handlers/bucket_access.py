"""How a bucket is reached: obstore's client, and the region of a bucket that is elsewhere.

AWS's own variables are read here, as every client of AWS reads them: Lambda sets region and credentials.
"""

import json
import os
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from obstore.store import S3Store

from handlers.regions import dns_suffix
from inference.errors import AccessDeniedError, ObjectMissingError

if TYPE_CHECKING:
    from obstore.store import S3Credential

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
REQUEST_TIMEOUT = timedelta(minutes=15)
"""A whole answer may take as long as a function runs; a pause in it may not."""

CONTAINER_CREDENTIALS = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
"""Variable with the address where Lambda gives keys to functions with SnapStart."""

MAX_RETRIES = 7
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 20


def own_region() -> str:
    """Return the region this process runs in."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def connect(bucket: str, region: str, *, requester_pays: bool = False) -> S3Store:
    """Return obstore's client of a bucket, in whose requests this account may agree to pay for them.

    Raises
    ------
    AccessDeniedError
        If there are no credentials.
    ObjectMissingError
        If no bucket can have this name.
    """
    url = _bucket_url(bucket, region)
    own_keys = None
    if os.environ.get(CONTAINER_CREDENTIALS):
        own_keys = _container_credentials
    missing = [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not os.environ.get(name)]
    if missing and own_keys is None:
        # obstore would ask for some at EC2's metadata address, which Lambda has not.
        raise AccessDeniedError(f"The environment has no {' and no '.join(missing)}; Lambda sets them from the role.")
    return S3Store(
        bucket,
        region=region,
        # Beats the variables of the environment, which lack the bucket.
        aws_endpoint_url_s3=url,
        virtual_hosted_style_request=True,
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/ObjectsinRequesterPaysBuckets.html
        request_payer=requester_pays,
        credential_provider=own_keys,
        client_options={
            "allow_http": url.startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            "read_timeout": timedelta(seconds=READ_TIMEOUT_S),
            "timeout": REQUEST_TIMEOUT,
        },
        retry_config={
            "max_retries": MAX_RETRIES,
            "backoff": {
                "init_backoff": timedelta(seconds=FIRST_WAIT_S),
                "max_backoff": timedelta(seconds=LONGEST_WAIT_S),
                "base": 2,
            },
            "retry_timeout": timedelta(minutes=3),
        },
    )


def _container_credentials() -> "S3Credential":
    """Ask Lambda for the role's keys: a process restored from a snapshot has none in its environment, or old ones.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
    """
    from urllib.request import Request, urlopen

    headers = {"Authorization": os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")}
    request = Request(os.environ[CONTAINER_CREDENTIALS], headers=headers)  # noqa: S310 -- Lambda's own address
    with urlopen(request, timeout=CONNECT_TIMEOUT_S) as answer:  # noqa: S310
        keys = json.load(answer)
    return {
        "access_key_id": keys["AccessKeyId"],
        "secret_access_key": keys["SecretAccessKey"],
        "token": keys["Token"],
        "expires_at": datetime.fromisoformat(keys["Expiration"]),
    }


def find_region(bucket: str, region: str) -> str | None:
    """Ask S3 in `region` where a bucket is; it answers also those who may not read it. None if it does not say."""
    # Imported here: 50 ms of a cold start, for what hardly any run needs.
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(_bucket_url(bucket, region), method="HEAD"), timeout=CONNECT_TIMEOUT_S) as answer:  # noqa: S310
            found: str | None = answer.headers.get("x-amz-bucket-region")
    except HTTPError as error:
        found = error.headers.get("x-amz-bucket-region")
    except OSError:
        return None
    return found


def no_such_bucket(bucket: str) -> str:
    """Return what to say of a bucket that is not there."""
    return f"The bucket {bucket} does not exist. Check `bucket` and `data_bucket`."


def _bucket_url(bucket: str, region: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", bucket):
        raise ObjectMissingError(no_such_bucket(bucket))
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        return f"{endpoint.rstrip('/')}/{bucket}"
    host = f"s3.{region}.{dns_suffix(region)}"
    # The certificate covers one name before it, not two with a dot between.
    return f"https://{host}/{bucket}" if "." in bucket else f"https://{bucket}.{host}"
