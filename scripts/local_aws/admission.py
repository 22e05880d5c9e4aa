"""Who may use the local AWS: programs that hold its key, and no web page.

Every user of the machine and every page in a browser reaches 127.0.0.1, and what answers there runs programs as the
user who started it. So each server has a random access key. It is a secret: who can name it is the user, and the
signature that clients make with it is not computed again. A browser adds ``Origin`` to what a page sends, and the name
by which the page reached the server to ``Host``.
"""

import hmac
import json
import re
import secrets
from email.message import Message
from typing import NamedTuple
from urllib.parse import unquote
from xml.sax.saxutils import escape

KEY_HEADER = "X-Local-Aws-Key"
"""For requests that no AWS client signs."""

CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/")
SIGNED_URL = re.compile(r"[?&](?:X-Amz-Credential|AWSAccessKeyId)=([^/&]+)")


class Refusal(NamedTuple):
    """An answer with status 403."""

    content_type: str
    body: bytes


def new_key() -> str:
    """Return an access key that no one can guess."""
    return f"LOCAL{secrets.token_hex(16).upper()}"


def refusal(target: str, headers: "Message[str, str]", *, key: str, port: int) -> Refusal | None:
    """Return why a request is not answered, or None where it is.

    Parameters
    ----------
    target : str
        Path and query as they came.
    headers : Message
        Of the request.
    key : str
        The server's access key.
    port : int
        The server's port.
    """
    if headers.get_all("host", []) not in ([f"127.0.0.1:{port}"], [f"localhost:{port}"]) or not target.startswith("/"):
        reason = "This server is called 127.0.0.1 and localhost, and answers to no other name."
    elif "origin" in headers:
        reason = "This server answers no web page."
    elif not hmac.compare_digest(_shown_key(target, headers).encode(), key.encode()):
        reason = "This server needs the access key that it was started with; `make emulate` prints it."
    else:
        return None
    if "x-amz-target" in headers or re.match(r"/\d{4}-\d\d-\d\d/", target):
        return Refusal("application/json", json.dumps({"__type": "AccessDeniedException", "message": reason}).encode())
    error = f"<Error><Code>AccessDenied</Code><Message>{escape(reason)}</Message></Error>"
    return Refusal("application/xml", error.encode())


def _shown_key(target: str, headers: "Message[str, str]") -> str:
    signed = CREDENTIAL.match(headers.get("authorization", "")) or SIGNED_URL.search(unquote(target))
    return signed[1] if signed else headers.get(KEY_HEADER, "")
