"""How the image is run: within the limits that Lambda gives a stage, and removed whatever happens."""

from pathlib import Path
from typing import Any

import pytest

from scripts.deployment.image.build import Image
from scripts.deployment.image.engine import EngineError
from scripts.local_aws import container
from scripts.local_aws.container import RIE_PATH, Container, image_variables
from scripts.local_aws.rie import Answer, Emulator

IMAGE = Image(
    name="redshift:arm64",
    id="ab" * 32,
    revision="abc-dirty",
    model="astromae",
    architecture="arm64",
    size_bytes=1,
    layers=(),
)
STAGE = {"handler": "handlers.infer.handler", "memory_mb": 3538, "timeout_s": 120, "ephemeral_mb": 512}


class FakeEngine:
    """Writes down what it is asked to run."""

    def __init__(self, program: str = "docker", *, is_running: bool = True) -> None:
        self.program = program
        self.asked: list[tuple[str, ...]] = []
        self.variables: dict[str, str] = {}
        self._is_running = is_running

    def run(self, *words: str, variables: dict[str, str] | None = None, with_stderr: bool = False) -> str:
        self.asked.append(words)
        self.variables |= variables or {}
        said = {"inspect": str(self._is_running).lower(), "logs": "said\n" + "log\n" * with_stderr, "exec": "1000"}
        if words[0] == "rm" and not self._is_running:
            raise EngineError("There is no such container.")
        return said.get(words[0], "")


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an emulator that listens as long as its container runs."""
    monkeypatch.setattr(container, "emulator", lambda: Path("/cache/rie"))
    monkeypatch.setattr(Emulator, "wait", lambda _place, is_running, _timeout_s: is_running())
    monkeypatch.setattr(Emulator, "invoke", lambda _place, event: Answer(None, event))


def make(engine: FakeEngine) -> Container:
    return Container(engine, IMAGE, stage=STAGE, environment={"MODEL": "m"}, name="infer")  # type: ignore[arg-type]


def test_a_function_has_the_limits_of_its_stage_and_is_removed_at_the_end() -> None:
    engine = FakeEngine()

    with make(engine) as running:
        assert running.invoke({"rank": 3}) == Answer(None, {"rank": 3})
        assert running.log() == "said\nlog\n"
        assert running.run("id", "-u") == "1000"
        url = running.url

    (name,) = {words[-1] for words in engine.asked if words[0] in ("logs", "rm", "inspect")}
    assert name.startswith("infer-")
    start, *_, end = engine.asked
    text = " ".join(start)
    assert text.startswith(f"run --detach --name {name} ")
    for words in (
        "--network host --read-only --tmpfs /tmp:rw,nosuid,nodev,size=512m,mode=1777",
        "--cap-drop ALL --security-opt no-new-privileges",
        "--memory 3538m --memory-swap 3538m --cpus 2.000 --pids-limit 1024",
        f"--volume /cache/rie:{RIE_PATH}:ro --entrypoint {RIE_PATH}",
        "--env MODEL",
        "redshift:arm64 --log-level info",
        url.split("/")[2],
    ):
        assert words in text
    assert text.endswith("/usr/local/bin/python -m awslambdaric handlers.infer.handler")
    assert end == ("rm", "--force", "--volumes", name)
    assert ("exec", name, "id", "-u") in engine.asked


def test_its_user_is_in_no_list_of_users() -> None:
    users = set()
    for _ in range(20):
        engine = FakeEngine()
        with make(engine):
            pass
        words = engine.asked[0]
        users.add(words[words.index("--user") + 1])

    assert len(users) > 1
    for user in users:
        number, _, group = user.partition(":")
        assert number == group
        assert 1000 <= int(number) < 60_000


def test_its_variables_are_those_of_lambda_and_never_words_of_a_command() -> None:
    engine = FakeEngine()
    with make(engine) as running:
        name = running.name

    assert engine.variables["MODEL"] == "m"
    assert engine.variables["AWS_LAMBDA_FUNCTION_NAME"] == "infer"
    assert engine.variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "3538"
    assert engine.variables["AWS_LAMBDA_LOG_STREAM_NAME"] == name
    assert engine.variables["AWS_LAMBDA_FUNCTION_TIMEOUT"] == "120"
    words = engine.asked[0]
    named = [words[place + 1] for place, word in enumerate(words) if word == "--env"]
    assert set(named) == engine.variables.keys()


@pytest.mark.parametrize(("program", "is_strict"), [("docker", False), ("podman", True)])
def test_podman_adds_no_writable_places_of_its_own(program: str, is_strict: bool) -> None:
    engine = FakeEngine(program)
    with make(engine):
        pass

    assert ("--read-only-tmpfs=false --tmpfs /sys:ro" in " ".join(engine.asked[0])) == is_strict


def test_a_container_that_does_not_start_is_removed_and_its_log_is_shown() -> None:
    engine = FakeEngine(is_running=False)

    with pytest.raises(EngineError, match="The container did not start:\nsaid\nlog"), make(engine):
        pytest.fail("it did not start")
    assert engine.asked[-1][0] == "rm"


def test_an_image_says_what_it_was_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(container, "function_variables", lambda stages, **facts: asked.update(facts, stages=stages))

    image_variables({"infer": STAGE}, IMAGE)

    assert asked == {
        "stages": {"infer": STAGE},
        "code_version": "abc-dirty",
        "image_digest": f"sha256:{'ab' * 32}",
    }
