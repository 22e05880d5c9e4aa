"""The trained weights this project ships; MODEL_CARD.md says where they come from."""

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "astromae.safetensors"
