"""How a bucket is reached: obstore's client, and the two questions to S3 that it cannot ask.

AWS's own variables are read here, as every client of AWS reads them: Lambda sets region and credentials.

References
----------
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import reduce
from urllib.parse import quote, unquote_plus, urlsplit

from obstore.store import S3Store

from inference.errors import AccessDeniedError, ObjectMissingError

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
REQUEST_TIMEOUT = timedelta(minutes=15)
"""A whole answer may take as long as a function runs; a pause in it may not."""

MAX_RETRIES = 7
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 20


def own_region() -> str:
    """Return the region this process runs in."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def connect(bucket: str, region: str) -> S3Store:
    """Return obstore's client of a bucket.

    Raises
    ------
    AccessDeniedError
        If there are no credentials.
    ObjectMissingError
        If no bucket can have this name.
    """
    url = _bucket_url(bucket, region)
    _read_credentials()  # obstore would ask for some at EC2's metadata address, which Lambda has not
    return S3Store(
        bucket,
        region=region,
        # Beats the variables of the environment, which lack the bucket.
        aws_endpoint_url_s3=url,
        virtual_hosted_style_request=True,
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


def find_region(bucket: str, region: str) -> str | None:
    """Ask S3 in `region` where a bucket is; it answers also those who may not read it. None if it does not say."""
    # Imported here and below: 50 ms of a cold start, for what hardly any run needs.
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


def list_exactly(bucket: str, region: str, prefix: str) -> tuple[list[tuple[str, int, str]], list[str]]:
    """Return key, size and etag of the objects in a folder, and its subfolders, all named as S3 names them.

    obstore refuses a whole listing for one key like ``a//b`` or ``a/../b``, which it has no name for.

    Raises
    ------
    OSError
        If S3 refuses or does not answer.
    """
    from urllib.request import urlopen
    from xml.etree import ElementTree

    objects: list[tuple[str, int, str]] = []
    subfolders: list[str] = []
    query = {"delimiter": "/", "encoding-type": "url", "list-type": "2", "prefix": prefix}
    while True:
        url = _sign(_bucket_url(bucket, region), query, region=region, now=datetime.now(UTC))
        with urlopen(url, timeout=READ_TIMEOUT_S) as answer:  # noqa: S310 -- S3
            page = ElementTree.fromstring(answer.read())  # noqa: S314 -- its own answer
        for entry in page.findall("{*}Contents"):
            key, size, etag = (entry.findtext(f"{{*}}{name}", "") for name in ("Key", "Size", "ETag"))
            objects.append((unquote_plus(key), int(size), etag))
        subfolders += [unquote_plus(element.text or "") for element in page.findall("{*}CommonPrefixes/{*}Prefix")]
        token = page.findtext("{*}NextContinuationToken")
        if not token:
            return objects, subfolders
        query["continuation-token"] = token


def no_such_bucket(bucket: str) -> str:
    """Return what to say of a bucket that is not there."""
    return f"The bucket {bucket} does not exist. Check `bucket` and `data_bucket`."


def _bucket_url(bucket: str, region: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", bucket):
        raise ObjectMissingError(no_such_bucket(bucket))
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        return f"{endpoint.rstrip('/')}/{bucket}"
    host = f"s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
    # The certificate covers one name before it, not two with a dot between.
    return f"https://{host}/{bucket}" if "." in bucket else f"https://{bucket}.{host}"


def _read_credentials() -> tuple[str, str, str]:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise AccessDeniedError(f"The environment has no {' and no '.join(missing)}; Lambda sets them from the role.")
    return os.environ[names[0]], os.environ[names[1]], os.environ.get("AWS_SESSION_TOKEN", "")


def _sign(url: str, query: Mapping[str, str], *, region: str, now: datetime) -> str:
    """Return the URL of a GET with `query`, signed for five minutes."""
    key_id, secret, token = _read_credentials()
    date, scope = f"{now:%Y%m%dT%H%M%SZ}", f"{now:%Y%m%d}/{region}/s3/aws4_request"
    signed = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{key_id}/{scope}",
        "X-Amz-Date": date,
        "X-Amz-Expires": "300",
        "X-Amz-SignedHeaders": "host",
        **({"X-Amz-Security-Token": token} if token else {}),
        **query,
    }
    parameters = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(signed.items()))
    host, path = urlsplit(url).netloc, urlsplit(url).path or "/"
    request = f"GET\n{path}\n{parameters}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    to_sign = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = reduce(_hmac, scope.split("/"), f"AWS4{secret}".encode())
    return f"{urlsplit(url)._replace(path=path, query=parameters).geturl()}&X-Amz-Signature={_hmac(key, to_sign).hex()}"


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
