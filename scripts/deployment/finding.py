"""One finding of `make doctor`: what was looked at, how it is, and what to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from botocore.exceptions import BotoCoreError, ClientError

from scripts.command.aws_errors import explain, is_denied
from scripts.deployment.stack import StackError

Verdict = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    name: str
    """What was looked at."""

    verdict: Verdict
    """``fail`` keeps a run from working, ``warn`` makes it slow or dear, ``skip`` was not looked at."""

    text: str
    """How it is."""

    fix: str = ""
    """What to do about it."""


def looked(name: str, look: Callable[[], Finding], *, worst: Verdict = "fail") -> Iterator[Finding]:
    """Yield what `look` finds; what AWS answers instead becomes a finding too.

    Parameters
    ----------
    name : str
        What is looked at.
    look : callable
        Looks.
    worst : str
        Verdict when AWS does not say: ``warn`` for what a run does not depend on.
    """
    try:
        yield look()
    except StackError as error:
        yield Finding(name, "fail", str(error))
    except (BotoCoreError, ClientError) as error:
        # Lacking the permission to look does not say that the run lacks one.
        yield Finding(name, "warn" if is_denied(error) else worst, explain(error))
