"""Where a catalog comes from: the cards of its header."""

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from inference.contract import RunRequest
from inference.run_folder import Inventory, name_lost
from scripts.catalogs.columns import flags_in_words
from scripts.command.repository import REPOSITORY

CREATOR = "serverless-redshift-inference"


@dataclass(frozen=True)
class Card:
    """One keyword of a FITS header; the other formats use the same names."""

    value: str | int | bool
    comment: str


def cards(
    run_id: str, request: RunRequest | None, found: Inventory, *, started_at: str, positions: str, images: str = ""
) -> dict[str, Card]:
    """Say what is known about how the redshifts came about.

    Parameters
    ----------
    run_id : str
        Name of the execution.
    request : RunRequest or None
        What was asked for, where a summary says so.
    found : Inventory
        What the run left.
    started_at : str
        When the run began, ISO 8601; empty when unknown.
    positions : str
        Where right ascension and declination come from; empty when nowhere.
    images : str
        Where the cutouts come from, as the dataset's card says; empty when unknown.
    """
    lost = tuple(found.lost.values())
    facts = {name: ", ".join(values) or "unknown" for name, values in found.facts.items()}
    weights = ", ".join(f"sha256:{value}" for value in found.facts["weights_sha256"]) or "unknown"
    shards = sorted({rows.key.rsplit("/", maxsplit=1)[0] + "/" for task in found.tasks for rows in task.rows})
    provenance = {
        "CREATOR": Card(CREATOR, "program that wrote this file"),
        "RUN_ID": Card(run_id, "the run"),
        "RUNDATE": Card(started_at or "unknown", "when the run began [UTC]"),
        "DATASET": Card(", ".join(shards), "folder of the shards"),
        "DATAHASH": Card(_data_hash(found), "sha256sum *.safetensors | sha256sum"),
        "IMAGES": Card(images or "unknown", "measured, rendered, or none"),
        "MODEL": Card(facts["model"], "name of the model"),
        "WEIGHTS": Card(weights, "checksum of the model's weights"),
        "ENGINE": Card(facts["engine"], "library that computed the redshifts"),
        "PRECISIO": Card(facts["precision"], "precision of its products"),
        "CODEVER": Card(facts["code_version"], "version of the code"),
        "COMMIT": Card(_commit(), "git commit of the copy that wrote this file"),
        "IMAGE": Card(facts["image_digest"], "digest of the container image"),
        "POSITION": Card(positions or "unknown", "where ra_deg, dec_deg and mag_r come from"),
        "NPREDICT": Card(found.num_predicted, "rows whose rank gave predictions"),
        "COMPLETE": Card(not lost, "True when no rank is lost"),
    }
    if request and request.file_limit:
        provenance["FILES"] = Card(request.file_limit, "shards asked for; the dataset may have more")
    if request and request.row_limit:
        provenance["ROWS"] = Card(request.row_limit, "galaxies asked for; the dataset may have more")
    if lost:
        provenance["NLOST"] = Card(len(lost), "ranks without predictions: flag 128")
        provenance["LOST"] = Card(name_lost(lost), "which, and why")
    return provenance | flag_cards()


def _data_hash(found: Inventory) -> str:
    """Return one checksum of all shards that were planned, where the dataset's card states theirs."""
    stated = {rows.key.rsplit("/", maxsplit=1)[-1]: rows.sha256 for task in found.tasks for rows in task.rows}
    if not all(stated.values()):
        return "unknown"
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(stated.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _commit() -> str:
    """Return the commit of this working copy, with a plus where files were changed since; unknown where git is not."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def flag_cards() -> dict[str, Card]:
    """Return the meaning of every bit of the column ``flags``."""
    return {f"FLAG_{bit}": Card(meaning, f"bit {bit} of flags") for bit, meaning in flags_in_words().items()}


def as_text(provenance: Mapping[str, Card]) -> dict[str, str]:
    """Return the cards as text, for formats whose metadata is text."""
    return {name: str(card.value) for name, card in provenance.items()}
