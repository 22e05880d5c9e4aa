"""How two ranks prove to each other, on a new connection, that they are of one run; no payload travels before.

::

    both    HELLO   "FMI2" my rank u32, your rank u32, nonce 16 bytes
    both    PROOF   HMAC-SHA256(key, "proof" | my rank | your rank | your nonce | my nonce)
    lower   CHOICE  HMAC-SHA256(key, "choice" | as PROOF): this connection it is

Between two ranks several connections can arise: accepted ones and made ones, a stranger's, one through the relay. The
lower rank chooses one; what the higher rank receives CHOICE on is the connection, so that both agree.
"""

import hmac
import secrets
import struct

_MAGIC = b"FMI2"
_HELLO = struct.Struct("!4sII16s")
_DIGEST_BYTES = 32


class Handshake:
    """One side of the proof, on one connection: what to send, what to make of what came.

    Parameters
    ----------
    rank, other : int
        This side, and the rank it wants to meet.
    key : bytes
        What only the ranks of this run and communicator share.
    own_nonces : set of bytes
        Of all handshakes of this process: one that comes back is an echo, not a second process of the same rank.
    """

    def __init__(self, rank: int, other: int, key: bytes, own_nonces: set[bytes]) -> None:
        self.rank = rank
        self.other = other
        self._key = key
        self._nonce = secrets.token_bytes(16)
        self._own_nonces = own_nonces
        own_nonces.add(self._nonce)
        self._theirs = b""
        self._claimed = (other, rank)
        self._received = bytearray()
        self.is_proven = False
        """The other side is of this run."""
        self.is_chosen = False
        """This is the connection; both sides know."""
        self.refusal = ""
        """Why this is no connection to the other rank."""
        self.is_own_rank = False
        """The other side is of this run and claims to be this very rank."""

    @property
    def num_bytes_wanted(self) -> int:
        """How many bytes to read, and no more: what follows is the first message."""
        return self._size - len(self._received)

    @property
    def _size(self) -> int:
        return _DIGEST_BYTES if self._theirs else _HELLO.size

    def hello(self) -> bytes:
        """Return what to send first."""
        return _HELLO.pack(_MAGIC, self.rank, self.other, self._nonce)

    def feed(self, received: bytes) -> bytes:
        """Take what came, at most `num_bytes_wanted` of it; return what to answer."""
        self._received += received
        if len(self._received) < self._size:
            return b""
        message = bytes(self._received)
        self._received.clear()
        if not self._theirs:
            return self._read_hello(message)
        if not self.is_proven:
            self._read_proof(message)
        elif hmac.compare_digest(message, self._digest(b"choice", self.other, self.rank, self._nonce + self._theirs)):
            self.is_chosen = True
        else:
            self.refusal = "it chose without the key of this run"
        return b""

    def choose(self) -> bytes:
        """Return what makes this the connection; the lower rank's to say, once."""
        assert self.is_proven, "strangers are not chosen"
        assert self.rank < self.other, "the lower rank chooses"
        self.is_chosen = True
        return self._digest(b"choice", self.rank, self.other, self._theirs + self._nonce)

    def _read_hello(self, message: bytes) -> bytes:
        magic, rank, other, self._theirs = _HELLO.unpack(message)
        if magic != _MAGIC:
            self.refusal = f"it does not speak this protocol ({message[:4]!r})"
            return b""
        if self._theirs in self._own_nonces:
            self.refusal = "it sent back what this rank had sent"
            return b""
        self._claimed = (rank, other)
        # The prover's nonce comes last: a proof cannot be sent back to where it came from.
        return self._digest(b"proof", self.rank, self.other, self._theirs + self._nonce)

    def _read_proof(self, message: bytes) -> None:
        if not hmac.compare_digest(message, self._digest(b"proof", *self._claimed, self._nonce + self._theirs)):
            self.refusal = "it does not have the key of this run"
        elif self._claimed[0] == self.rank:
            self.refusal, self.is_own_rank = f"it claims to be rank {self.rank} too", True
        elif self._claimed != (self.other, self.rank):
            self.refusal = f"it is rank {self._claimed[0]} and looks for rank {self._claimed[1]}"
        else:
            self.is_proven = True

    def _digest(self, step: bytes, rank: int, other: int, nonces: bytes) -> bytes:
        return hmac.digest(self._key, b"%b|%d|%d|%b" % (step, rank, other, nonces), "sha256")
