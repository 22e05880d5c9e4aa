"""`make doctor`: what could keep a run from working, looked at before anything is spent."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from inference.plan import Limits
from scripts.command.console import say
from scripts.command.errors import COMPLETE, FAILED
from scripts.command.program import start
from scripts.deployment.account_checks import account_findings, tool_findings
from scripts.deployment.finding import Finding
from scripts.deployment.stack import HOW_TO_DEPLOY, Stack, StackError, has_applied, read_stack
from scripts.deployment.stages import read_stages
from scripts.local_aws.machine_checks import machine_findings
from scripts.runs.fit import Ceiling, fit_findings
from scripts.runs.variables import RequestVariables

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}
NAME_WIDTH = 14


def main(variables: RequestVariables) -> int:
    """Look before anything is spent. Exit status: 0 nothing fails, 1 something does, 2 wrong usage."""
    console = Console(highlight=False)
    verdicts: Counter[str] = Counter()
    for title, findings in _sections(variables, Path()):
        say(console, Text(title, "bold"))
        for finding in findings:
            _print(console, finding)
            verdicts[finding.verdict] += 1
        console.print()
    say(console, f"{verdicts['ok']} ok, {verdicts['warn']} warn, {verdicts['fail']} fail, {verdicts['skip']} skipped")
    return FAILED if verdicts["fail"] else COMPLETE


def _sections(variables: RequestVariables, root: Path) -> Iterator[tuple[str, Iterator[Finding]]]:
    target, outputs = variables.target, variables.outputs
    is_deployed = bool(outputs) or has_applied(root / "terraform")
    is_aws = target == "aws" or (target != "local" and is_deployed)
    yield "This machine", machine_findings(root, is_local=not is_aws)
    stack, problem = _stack(root, outputs) if is_aws and is_deployed else (None, None)
    yield "The run", fit_findings(variables, _ceiling(stack, is_aws=is_aws), root=root)
    yield "AWS", _aws(stack, problem, variables.world) if is_aws else iter([_not_asked(is_deployed=is_deployed)])


def _stack(root: Path, outputs: str) -> tuple[Stack | None, StackError | None]:
    try:
        return read_stack(root / "terraform", outputs=outputs), None
    except StackError as error:
        return None, error


def _aws(stack: Stack | None, problem: StackError | None, world_size: int | None) -> Iterator[Finding]:
    yield from tool_findings()
    if stack:
        yield Finding("stack", "ok", f"{stack.name} in {stack.region}")
    else:
        text = str(problem) if problem else "nothing is deployed from this working copy"
        yield Finding("stack", "fail", text, "" if problem else HOW_TO_DEPLOY)
    yield from account_findings(stack, world_size=world_size)


def _not_asked(*, is_deployed: bool) -> Finding:
    why = "TARGET=local does not need it" if is_deployed else "nothing is deployed from this working copy"
    return Finding("account", "skip", f"{why}; TARGET=aws looks at it")


def _ceiling(stack: Stack | None, *, is_aws: bool) -> Ceiling:
    if stack is None:
        infer = read_stages()["infer"]
        limits = Limits(memory_mb=infer["memory_mb"], timeout_s=infer["timeout_s"])
        return Ceiling(limits) if is_aws else Ceiling(limits, child_type=None)
    infer_settings = stack.stages["infer"]
    limits = Limits(memory_mb=infer_settings.memory_mb, timeout_s=infer_settings.timeout_s)
    return Ceiling(limits, stack.map_child_type, stack.max_concurrency)


def _print(console: Console, finding: Finding) -> None:
    first = Text.assemble("  ", (f"{finding.verdict:<6}", STYLES[finding.verdict]), f"{finding.name:<{NAME_WIDTH}}")
    say(console, first.append(finding.text))
    if finding.fix:
        say(console, " " * (2 + 6 + NAME_WIDTH) + f"→ {finding.fix}")


if __name__ == "__main__":
    start(main)
