"""Names that prove that a rank belongs to a run, within the 100 bytes that TCPunch v1 has for a name.

The server's key stays with the server and with Initialize, which derives one key per run from it; ranks get that one
and sign the names under which they meet::

    run key  HMAC-SHA256(server key, "run|" run "|" exp)
    NAME     run "." LOW_HIGH "." base64url(HMAC-SHA256(run key, "name|" run "|" low "|" high "|" exp))[:22] "." exp

So the server checks a name without knowing any run, a rank can make the names of its own run only, and none is good
for anything after `exp` [s since 1970].
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field

from inference.fmi.wire import MAX_NAME_BYTES, ProtocolError, Status, pair_label

MIN_KEY_BYTES = 32
_SIGNATURE_CHARACTERS = 22
# "." LOW_HIGH "." signature "." exp, with the 10,000 ranks of the largest Map: 46 of 100 bytes.
_MAX_RUN_CHARACTERS = 48
_PLAIN_RUN = re.compile(rf"[A-Za-z0-9_.-]{{1,{_MAX_RUN_CHARACTERS}}}")
_NAME = re.compile(rb"([A-Za-z0-9_.-]+)\.(\d{1,10})_(\d{1,10})\.([A-Za-z0-9_-]{22})\.(\d{1,12})")


@dataclass(frozen=True, kw_only=True)
class RunToken:
    """What the ranks of one run share and no one else has."""

    run: str
    """The run as it stands in names; see `run_label`."""
    expires_at_s: int
    """When the server stops to accept the names [s since 1970]."""
    key: bytes = field(repr=False)
    """The key of the run, 32 bytes."""

    def name(self, rank: int, other: int) -> bytes:
        """Return the name under which two ranks of this run meet; the order of the two means nothing."""
        pair = pair_label(rank, other)
        signature = _sign_name(self.key, self.run, pair, self.expires_at_s)
        name = f"{self.run}.{pair}.{signature}.{self.expires_at_s}".encode()
        assert len(name) <= MAX_NAME_BYTES
        return name

    def peer_key(self) -> bytes:
        """Return the key by which two ranks prove to each other that they are of this run, 32 bytes."""
        return _hmac(self.key, "peer")

    def to_text(self) -> str:
        """Return the token as a payload carries it: ``RUN.EXP.KEY``. A secret of the run."""
        return f"{self.run}.{self.expires_at_s}.{_base64url(self.key)}"

    @classmethod
    def from_text(cls, text: str) -> "RunToken":
        """Read what `to_text` wrote.

        Raises
        ------
        ProtocolError
            If it is no token; the message does not repeat it.
        """
        found = re.fullmatch(r"([A-Za-z0-9_.-]+)\.(\d{1,12})\.([A-Za-z0-9_-]{43})", text)
        if not found or not _PLAIN_RUN.fullmatch(found[1]):
            raise ProtocolError("The token of the run is cut off or none at all. Start the run again.")
        return cls(run=found[1], expires_at_s=int(found[2]), key=base64.urlsafe_b64decode(found[3] + "="))


def mint(server_key: bytes, run_id: str, *, expires_at_s: int) -> RunToken:
    """Return the token of a run.

    Raises
    ------
    ProtocolError
        If the key has fewer than 32 bytes.
    """
    if len(server_key) < MIN_KEY_BYTES:
        raise ProtocolError(
            f"The key of the rendezvous has {len(server_key)} bytes; it needs at least {MIN_KEY_BYTES}."
        )
    run = run_label(run_id)
    return RunToken(run=run, expires_at_s=expires_at_s, key=_run_key(server_key, run, expires_at_s))


def run_label(run_id: str) -> str:
    """Return a run id as it stands in names: itself, or its checksum when it is too long or has other characters."""
    if _PLAIN_RUN.fullmatch(run_id):
        return run_id
    return hashlib.sha256(run_id.encode()).hexdigest()[:_MAX_RUN_CHARACTERS]


def check(server_key: bytes, name: bytes, *, now_s: float) -> Status:
    """Say whether a name was signed for a run of this server and is still good: OK, TOKEN_INVALID or TOKEN_EXPIRED."""
    found = _NAME.fullmatch(name)
    if not found:
        return Status.TOKEN_INVALID
    run, low, high, signature, expires = (part.decode() for part in found.groups())
    expected = _sign_name(_run_key(server_key, run, int(expires)), run, f"{low}_{high}", int(expires))
    if not hmac.compare_digest(signature, expected):
        return Status.TOKEN_INVALID
    return Status.OK if now_s <= int(expires) else Status.TOKEN_EXPIRED


def _run_key(server_key: bytes, run: str, expires_at_s: int) -> bytes:
    return _hmac(server_key, f"run|{run}|{expires_at_s}")


def _sign_name(run_key: bytes, run: str, pair: str, expires_at_s: int) -> str:
    low, high = pair.split("_")
    return _base64url(_hmac(run_key, f"name|{run}|{low}|{high}|{expires_at_s}"))[:_SIGNATURE_CHARACTERS]


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
