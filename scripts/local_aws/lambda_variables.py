"""The environment of a handler on this machine: this process's variables, and those that Lambda itself sets."""

import os
import re
from collections.abc import Mapping

from inference.models import SHIPPED

NEEDED = re.compile(r"PATH|HOME|TMPDIR|TZ|LANG|LC_\w+|LD_LIBRARY_PATH|PYTHON\w+|VIRTUAL_ENV")
"""Variables by which a program finds its files, its libraries and its language."""


def worker_environment(client: Mapping[str, str]) -> dict[str, str]:
    """Return what a handler needs of this process's variables, those of a client, and one thread per library.

    Tokens and passwords of the user are none of its business.
    The model is the shipped one, as in an image that was built without another; a deployment may name another.
    """
    inherited = {name: value for name, value in os.environ.items() if NEEDED.fullmatch(name)}
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {
        **inherited,
        **client,
        **dict.fromkeys(threads, "1"),
        "OMP_WAIT_POLICY": "PASSIVE",
        "MODEL_FOLDER": str(SHIPPED),
    }


def lambda_variables(name: str, *, memory_mb: int, log_stream: str, version: str = "$LATEST") -> dict[str, str]:
    """Return what Lambda sets in an execution environment; a function's own variables cannot override it.

    Parameters
    ----------
    name, version : str
        Of the function.
    memory_mb : int
        Its configured memory [MB].
    log_stream : str
        Name of the environment's own log.
    """
    return {
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
        "AWS_EXECUTION_ENV": "AWS_Lambda_Image",
    }
