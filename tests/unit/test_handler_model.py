"""What Infer computes with follows from the function's memory and from the task, and is loaded once."""

from collections.abc import Iterator
from typing import Any

import pytest

from handlers import model
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
