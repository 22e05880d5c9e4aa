"""What every payload is: an immutable struct that refuses unknown keys."""

from typing import Annotated

import msgspec
from msgspec import Meta

NonEmpty = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = float


class Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all payloads: immutable, unknown keys refused."""
