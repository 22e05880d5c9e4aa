"""The results of a run on disk as they are written: moto's objects end with its process, however that ends."""

import logging
import threading
from pathlib import Path
from typing import NamedTuple

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from scripts.command.whole_file import leaves, write_whole

logger = logging.getLogger(__name__)


class _Kept(NamedTuple):
    """Objects that go into a folder."""

    start: str
    """Bucket and prefix, as a path begins."""

    folder: Path


class Keeper:
    """Writes what is put under a prefix into a folder, too."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []
        self._writing = threading.Lock()

    def keep(self, *, bucket: str, prefix: str, folder: str) -> None:
        """Keep from now on what is put under a prefix, which ends in ``/``."""
        self._kept.append(_Kept(f"/{bucket}/{prefix}", Path(folder)))

    def take(self, path: str) -> None:
        """Keep an object that moto has just stored, if it is one of those."""
        for start, folder in self._kept:
            relative = path.removeprefix(start)
            if relative not in (path, "") and not leaves(relative) and not relative.endswith("/"):
                self._write(path, folder / relative)

    def _write(self, path: str, target: Path) -> None:
        _, bucket, key = path.split("/", 2)
        stored = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_object(bucket, key)
        if stored is None:
            return
        try:
            # One at a time: a rank that was given up may write the same object as the next attempt.
            with self._writing:
                target.parent.mkdir(parents=True, exist_ok=True)
                write_whole(target, stored.value)
        except OSError:
            # The object is there; the download at the end of the run tries again, and says what is wrong.
            logger.exception("not kept: %s", target)
