"""Plain GETs of objects, answered from moto's S3 without moto's way there: 0.2 ms instead of 3.

What is not plain, and whatever is refused, is moto's to answer: its answers are the right ones, and a test compares
these with them.
"""

import re
import secrets
from email.message import Message
from typing import NamedTuple

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import FakeKey, s3_backends

# No character that a server decodes, no part that one removes.
TARGET = re.compile(
    r"/(?P<bucket>[a-z0-9-]+)/(?P<key>[A-Za-z0-9_=-][A-Za-z0-9._=-]*(?:/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*)"
)
RANGE = re.compile(r"bytes=(?P<start>\d+)-(?P<last>\d+)")
SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/us-[a-z]+-\d/s3/aws4_request\b")
"""With the server's key, as `admission` saw."""

PLAIN_HEADERS = frozenset(
    ("accept", "accept-encoding", "authorization", "connection", "host", "if-match", "range", "user-agent")
) | {"x-amz-content-sha256", "x-amz-date", "x-amz-security-token"}


class Found(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes


def plain_get(target: str, headers: "Message[str, str]") -> Found | None:
    """Return the answer to a GET, or None where moto has to answer.

    Parameters
    ----------
    target : str
        Path and query as they came.
    headers : Message
        Of the request.
    """
    named = TARGET.fullmatch(target)
    names = [name.lower() for name in headers]
    if not named or not PLAIN_HEADERS.issuperset(names) or len(set(names)) < len(names):
        return None
    if not SIGNED.match(headers.get("authorization", "")):
        return None
    s3 = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    bucket = s3.buckets.get(named["bucket"])
    if bucket is None or bucket.logging:
        return None
    found = s3.get_object(named["bucket"], named["key"])
    if found is None or found.version_id != "null" or found.storage_class != "STANDARD":
        return None
    if headers.get("if-match", found.etag) != found.etag:
        return None
    answer: dict[str, str] = {**found.response_dict, **found.metadata, "Accept-Ranges": "bytes"}
    # moto guesses a type where there is none, and one name in two cases is not plain.
    if "content-type" not in answer or len({name.lower() for name in answer}) < len(answer):
        return None
    answer["x-amzn-requestid"] = secrets.token_hex(26)
    answer["Access-Control-Allow-Origin"] = "*"
    return _cut(found, headers.get("range"), answer)


def _cut(found: FakeKey, wanted: str | None, headers: dict[str, str]) -> Found | None:
    if wanted is None:
        return Found(200, headers, found.value)
    limits = RANGE.fullmatch(wanted)
    if limits is None:
        return None
    size = found.size
    start, last = int(limits["start"]), min(int(limits["last"]), size - 1)
    if start > last:
        return None
    # Only what is wanted: moto reads the whole object for every range of it.
    with found.lock:
        found._value_buffer.seek(start)
        body: bytes = found._value_buffer.read(last - start + 1)
    return Found(
        206, headers | {"content-range": f"bytes {start}-{last}/{size}", "content-length": str(len(body))}, body
    )
