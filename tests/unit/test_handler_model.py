"""What Infer computes with follows from the function's memory and from the task, and is loaded once."""

import importlib
import random
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from handlers import infer, invocation, model, settings
from inference import engines
from inference.models import SHIPPED, Model, shipped
from tests.factories import FakeEngine


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Note what engines were asked for, instead of loading them."""
    asked: list[dict[str, Any]] = []

    def load(name: str, model: Model, **settings: Any) -> FakeEngine:
        asked.append({"name": name, "model": model, **settings})
        return FakeEngine()

    monkeypatch.setattr(engines, "load_model", load)
    monkeypatch.setenv("MODEL_FOLDER", str(SHIPPED))
    model.engine.cache_clear()
    yield asked
    model.engine.cache_clear()


@pytest.mark.parametrize(("memory_mb", "num_threads"), [(128, 1), (1769, 1), (3537, 1), (3538, 2), (10_240, 5)])
def test_a_rank_has_one_thread_per_vcpu_that_its_memory_buys(
    memory_mb: int, num_threads: int, loaded: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", str(memory_mb))

    model.engine("auto", "fp32", as_published=False)

    assert loaded[0]["num_threads"] == num_threads


def test_an_engine_is_loaded_as_the_task_says_and_once_per_process(
    loaded: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769")

    first, second = (model.engine("torch", "int8", as_published=True) for _ in range(2))

    assert first is second
    assert loaded == [
        {"name": "torch", "model": shipped(), "num_threads": 1, "precision": "int8", "as_published": True}
    ]


@pytest.mark.parametrize("how", ["on-demand", "provisioned-concurrency", "snap-start"])
def test_only_a_snapshot_holds_the_engine_and_what_is_unique_is_made_after_it(
    how: str, loaded: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    after_restore: list[Callable[[], None]] = []
    monkeypatch.setitem(
        sys.modules, "snapshot_restore_py", SimpleNamespace(register_after_restore=after_restore.append)
    )
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769")
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", how)
    monkeypatch.setattr(invocation, "_is_restored", False)
    model.calibration.cache_clear()
    store = settings.object_store("b")

    importlib.reload(infer)

    if how != "snap-start":
        assert (loaded, after_restore) == ([], [])
        return
    assert [(one["name"], one["precision"], one["as_published"]) for one in loaded] == [("auto", "fp32", False)]
    assert model.calibration.cache_info().currsize == 1
    (make_anew,) = after_restore
    drawn = []
    for _ in range(2):
        random.seed(1)
        make_anew()
        drawn.append(random.random())
    assert drawn[0] != drawn[1]
    assert settings.object_store("b") is not store
    assert invocation.init_s() == 0.0
    settings.object_store.cache_clear()
