"""The handlers in this process, over the proxy, with a small engine and no waits."""

import os
from collections.abc import Iterator

import pytest

from handlers import bucket_access, model, settings
from tests.factories import STAGE_VARIABLES, FakeEngine
from tests.fake_s3 import FakeS3, serve
from tests.faults.world import WORLD_SIZE, World

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def proxy() -> Iterator[FakeS3]:
    with serve() as fake:
        yield fake


@pytest.fixture(scope="module")
def functions(proxy: FakeS3) -> Iterator[FakeS3]:
    """Let the handlers of this process reach the proxy; one client for all rows."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("AWS_") or name.lower().endswith("_proxy"):
                patch.delenv(name)
        for name, value in {**KEYS, **STAGE_VARIABLES, "AWS_ENDPOINT_URL": proxy.url}.items():
            patch.setenv(name, value)
        patch.setattr(bucket_access, "FIRST_WAIT_S", 0.001)
        patch.setattr(bucket_access, "LONGEST_WAIT_S", 0.002)
        patch.setattr(bucket_access, "MAX_RETRIES", 2)
        patch.setattr(bucket_access, "READ_TIMEOUT_S", 0.2)
        patch.setattr(model, "engine", lambda *_name, **_mode: FakeEngine())
        settings.object_store.cache_clear()
        yield proxy
        settings.object_store.cache_clear()


@pytest.fixture(scope="module")
def undisturbed(functions: FakeS3) -> list[bytes]:
    """Return, per rank, what a run predicts in which nothing goes wrong."""
    world = World()
    functions.otherwise = world.bucket.answer
    assert world.run().words == "complete"
    return [world.bucket.objects[world.own(f"predictions/{rank:05d}.npz")] for rank in range(WORLD_SIZE)]
