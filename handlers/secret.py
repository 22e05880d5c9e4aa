"""Reads a secret of AWS Secrets Manager: one signed request, in place of an SDK that would double Initialize's start.

References
----------
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import json
import os
import urllib.error
import urllib.request
from datetime import UTC, datetime
from urllib.parse import urlsplit

from handlers.regions import dns_suffix
from inference.errors import AccessDeniedError, RendezvousError

TIMEOUT_S = 10.0
_SERVICE, _ACTION = "secretsmanager", "secretsmanager.GetSecretValue"


def read_secret(arn: str) -> str:
    """Return the text of a secret of this region.

    Raises
    ------
    AccessDeniedError
        If the role of this stage may not read it, or it is not there.
    RendezvousError
        If Secrets Manager does not answer.
    """
    region = os.environ["AWS_REGION"]
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or f"https://{_SERVICE}.{region}.{dns_suffix(region)}"
    body = json.dumps({"SecretId": arn}).encode()
    request = urllib.request.Request(  # noqa: S310 -- the endpoint is the deployment's
        endpoint, data=body, headers=signed_headers(urlsplit(endpoint).netloc, region, body, now=datetime.now(UTC))
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return str(json.load(answer)["SecretString"])
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(500).decode(errors="replace")
        raise AccessDeniedError(f"The secret {arn} cannot be read ({error.code}: {said}). Deploy again.") from error
    except OSError as error:
        raise RendezvousError(f"Secrets Manager does not answer for {arn}: {error}.") from error


def signed_headers(host: str, region: str, body: bytes, *, now: datetime) -> dict[str, str]:
    """Return the headers of a request of Secrets Manager, signed with the credentials of this process (SigV4)."""
    moment, day = f"{now:%Y%m%dT%H%M%SZ}", f"{now:%Y%m%d}"
    headers = {
        "content-type": "application/x-amz-json-1.1",
        "host": host,
        "x-amz-date": moment,
        "x-amz-target": _ACTION,
    }
    if token := os.environ.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{day}/{region}/{_SERVICE}/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{os.environ['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in (day, region, _SERVICE, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    credential = f"{os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return headers
