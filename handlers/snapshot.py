"""What a snapshot of Infer holds, and what every process that Lambda restores from it makes anew (SnapStart).

A function with SnapStart starts once, when its version is published, and no rank pays for loading the engine. But what
is unique, or gets old, would be the same in all ranks.

References
----------
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
"""

import os
import random

from handlers import invocation, model, settings
from inference.contract import RunRequest

USUAL = RunRequest(bucket="")
"""A request that names neither engine nor precision."""


def prepare() -> None:
    """Load what most ranks predict with where Lambda is about to take a snapshot of this process; else do nothing."""
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        return
    # Imported here: AWS's runtime client brings it, and no other process needs it.
    from snapshot_restore_py import register_after_restore

    engine = model.engine(USUAL.engine, USUAL.precision, as_published=USUAL.profile)
    model.calibration(engine.weights_sha256)
    register_after_restore(_make_anew)


def _make_anew() -> None:
    settings.object_store.cache_clear()  # connections and credentials
    random.seed()  # how long ranks that cannot connect wait before they try again
    invocation.restored()
