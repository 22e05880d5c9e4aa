"""The handlers of this clone as Lambda would run them: under the Runtime Interface Emulator."""

import subprocess
import sys

from scripts.command.repository import REPOSITORY
from scripts.deployment.stages import function_variables, read_stages
from scripts.local_aws.guardian import Guardian
from scripts.local_aws.lambda_variables import lambda_variables, worker_environment
from scripts.local_aws.rie import Answer, Emulator, EmulatorUnavailableError, emulator, readable_log
from scripts.local_aws.server import LocalAws

LISTEN_ALLOWANCE_S = 10.0


def answer_from_clone(aws: LocalAws, function: str, event: object) -> tuple[Answer, str]:
    """Invoke one handler of this clone; return its answer and its log, which ends with the REPORT line.

    Raises
    ------
    EmulatorUnavailableError
        If there is no emulator for this machine, or it does not start.
    """
    stages = read_stages()
    stage = stages[function]
    memory_mb, timeout_s = int(stage["memory_mb"]), int(stage["timeout_s"])
    log_path = aws.log_dir / f"{function}.log"
    environment = {
        **worker_environment(aws.environment),
        **function_variables(stages, code_version="local", image_digest="local"),
        **lambda_variables(function, memory_mb=memory_mb, log_stream=log_path.stem),
        # For the emulator, which counts init against it.
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout_s),
        "LAMBDA_TASK_ROOT": str(REPOSITORY),
    }
    place = Emulator()
    command = [str(emulator()), *place.arguments([sys.executable, "-m", "awslambdaric", str(stage["handler"])])]
    guardian = Guardian()
    try:
        with log_path.open("wb") as log:
            process = guardian.start(
                command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        if not place.wait(lambda: process.poll() is None, LISTEN_ALLOWANCE_S):
            raise EmulatorUnavailableError(f"The emulator did not start:\n{log_path.read_text(errors='replace')}")
        answer = place.invoke(event)
        process.terminate()  # takes the runtime along
        process.wait()
    finally:
        guardian.close()
    return answer, readable_log(log_path.read_text(errors="replace"))
