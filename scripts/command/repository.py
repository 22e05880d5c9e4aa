"""Where the working copy is."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
"""Folder of the Makefile; `datasets/`, `runs/`, `sweeps/` are in it."""
