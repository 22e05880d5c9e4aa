"""A worker gets what a program needs, not what the user's shell happens to hold."""

import pytest

from scripts.local_aws.lambda_variables import worker_environment


def test_a_worker_inherits_neither_tokens_nor_settings_of_another_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "GITHUB_TOKEN", "AWS_PROFILE", "SSH_AUTH_SOCK", "MY_PASSWORD", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "secret")
    for name in ("PATH", "PYTHONPATH", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, f"of {name}")

    found = worker_environment({"AWS_REGION": "us-east-1"})

    assert "secret" not in found.values()
    assert {name for name, value in found.items() if value == f"of {name}"} == {
        "PATH",
        "PYTHONPATH",
        "LC_ALL",
        "TMPDIR",
        "LD_LIBRARY_PATH",
    }
    assert (found["AWS_REGION"], found["OMP_NUM_THREADS"]) == ("us-east-1", "1")
