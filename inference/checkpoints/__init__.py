"""The trained weights this project ships; MODEL_CARD.md says where they come from."""

import hashlib
from pathlib import Path

CHECKPOINT = Path(__file__).parent / "astromae.safetensors"


def weights_sha256(path: Path = CHECKPOINT) -> str:
    """Fingerprint a weights file: what records and exported graphs are named by."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
