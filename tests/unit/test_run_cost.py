from typing import Any

import pytest

from inference.cost import Rates, itemise
from tests.unit.test_run_present import LOST, make_summary

MEMORY = {"initialize": 1024, "infer": 2048, "summarize": 1024}


def bill(summary: Any, **changes: Any) -> dict[str, Any]:
    rates = Rates(**{"memory_mb": MEMORY, "architecture": "x86_64", **changes})
    return {item.name: item for item in itemise(summary, rates)}


def test_lambda_time_is_the_configured_memory_times_the_billed_time() -> None:
    summary = make_summary()
    gb_s = 2 * summary.rank_seconds + summary.clock.initialize + summary.clock.summarize

    assert bill(summary)["Lambda time"].usd == pytest.approx(gb_s * 0.0000166667)
    assert bill(summary, architecture="arm64")["Lambda time"].usd == pytest.approx(gb_s * 0.0000133334)


def test_every_attempt_is_a_request_and_a_transition() -> None:
    found = bill(make_summary(num_records=8, num_retried_ranks=1))

    assert found["Lambda requests"].quantity == "11 invocations"
    assert found["Step Functions"].quantity == "12 transitions"
    assert found["Step Functions"].usd == pytest.approx(12 * 0.025 / 1000)


def test_a_lost_rank_enters_three_states() -> None:
    whole = bill(make_summary(num_records=8, num_retried_ranks=0))["Step Functions"]
    broken = bill(make_summary(num_records=7, num_retried_ranks=0, lost_ranks=(LOST,)))["Step Functions"]

    assert (whole.quantity, broken.quantity) == ("11 transitions", "13 transitions")


def test_express_ranks_are_paid_by_request_and_time_instead_of_transitions() -> None:
    found = bill(make_summary(), child_type="EXPRESS")

    assert found["Step Functions"].quantity == "3 transitions"
    assert found["Express ranks"].usd == pytest.approx(8 * 1e-6 + (3.2 + 61.9) / 16 * 0.00001667)
