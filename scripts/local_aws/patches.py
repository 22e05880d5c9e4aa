"""Corrections of moto 5.2.1, each in a function with its reason.

A wrong answer has a test in ``test_local_aws_patches.py`` and its correction can go when the test passes without it. A
slow one states what it saves.
"""

import copy
import functools
import json
import threading
import uuid
from collections.abc import Callable
from datetime import datetime
from types import NoneType
from typing import Any

import boto3
import botocore.loaders
from botocore.config import Config
from botocore.loaders import Loader
from moto import backends
from moto.awslambda.models import ImageConfig, LambdaFunction, LambdaStorage
from moto.core import utils as core_utils
from moto.core.responses import ActionResult
from moto.iam.access_control import PermissionResult
from moto.iam.responses import IamResponse
from moto.s3.models import FakeBucket, S3Backend
from moto.stepfunctions.exceptions import InvalidExecutionInput
from moto.stepfunctions.models import StateMachine
from moto.stepfunctions.parser.api import HistoryEventType
from moto.stepfunctions.parser.asl.component.common.error_name.error_equals_decl import ErrorEqualsDecl
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent, FailureEventException
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import StatesErrorNameType
from moto.stepfunctions.parser.asl.component.common.path import result_path
from moto.stepfunctions.parser.asl.component.common.string import string_expression
from moto.stepfunctions.parser.asl.component.state import state as common_state
from moto.stepfunctions.parser.asl.component.state.exec import execute_state
from moto.stepfunctions.parser.asl.component.state.exec.state_map import state_map
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration import distributed_iteration_component
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor import map_run_record
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor.distributed_item_processor_worker import (  # noqa: E501
    DistributedItemProcessorWorker,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.job import Job, JobPool
from moto.stepfunctions.parser.asl.component.state.exec.state_map.result_writer.result_writer_decl import ResultWriter
from moto.stepfunctions.parser.asl.component.state.exec.state_map.state_map import StateMap
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk import (
    StateTaskServiceAwsSdk,
)
from moto.stepfunctions.parser.asl.component.state.state import CommonStateField
from moto.stepfunctions.parser.asl.eval import environment, states
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser, ASLParserException
from moto.stepfunctions.parser.asl.parse.preprocessor import Preprocessor
from moto.stepfunctions.parser.asl.utils import boto_client, json_path
from moto.stepfunctions.parser.backend.execution import Execution
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker
from moto.stepfunctions.parser.models import StepFunctionsParserBackend
from moto.stepfunctions.responses import StepFunctionResponse

from scripts.command.aws_clients import DescriptionFinder, DescriptionReader

MAX_STATE_BYTES = 256 * 1024
"""Of what a state is given or returns: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""

MAX_MAP_THREADS = 256
"""Iterations a Map without MaxConcurrency runs at the same time; Lambda's workers limit it further."""


Correction = Callable[..., Any]
_corrections: list[Callable[[], None]] = []


def apply_all() -> None:
    """Apply every correction; once, before the first request."""
    for correct in _corrections:
        correct()


def _put(owner: Any, name: str, replacement: object) -> None:
    # Another version of moto may have renamed what is corrected here: fail at start, not in a run.
    assert hasattr(owner, name), f"moto has no {owner.__name__}.{name} any more"
    setattr(owner, name, replacement)


def _replaces(owner: Any, name: str = "") -> Callable[[Correction], Correction]:
    """Register what replaces the owner's function of the same or another name, and is given that one first."""

    def register(correction: Correction) -> Correction:
        replaced = name or correction.__name__

        def correct() -> None:
            original = getattr(owner, replaced, None)
            _put(owner, replaced, lambda *args, **kwargs: correction(original, *args, **kwargs))

        _corrections.append(correct)
        return correction

    return register


def _adds(owner: Any) -> Callable[[Correction], Correction]:
    """Register what the owner lacks."""

    def register(addition: Correction) -> Correction:
        def add() -> None:
            assert not hasattr(owner, addition.__name__), f"moto has a {owner.__name__}.{addition.__name__} of its own"
            setattr(owner, addition.__name__, addition)

        _corrections.append(add)
        return addition

    return register


# ---------------------------------------------------------------------------------------------------- wrong answers


_one_start = threading.Lock()


@_replaces(StepFunctionsParserBackend)
def start_execution(start: Any, self: Any, state_machine_arn: str, name: str | None, execution_input: str) -> Any:
    """Let two clients start a state machine at once, without names, and none with more input than a state may have.

    Without a name, every execution is called None and the second is taken for the first.
    """
    if len(execution_input) > MAX_STATE_BYTES:
        # https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
        raise InvalidExecutionInput(f"Input exceeds the maximum of {MAX_STATE_BYTES} bytes.")
    with _one_start:
        return start(self, state_machine_arn, name or str(uuid.uuid4()), execution_input)


@_adds(StateMachine)
def __deepcopy__(self: StateMachine, _memo: dict[int, Any]) -> StateMachine:  # noqa: N807 -- a method
    """Let a state machine be started again.

    StartExecution deep-copies the state machine with its executions, and a running one holds locks that cannot be
    copied. A shallow copy protects as well: an update replaces attributes.
    """
    return copy.copy(self)


@_replaces(FakeBucket)
def get_permission(_original: Any, *_: Any) -> Any:
    """Take no bucket policy into account.

    Conditions are not evaluated, so that a policy that denies plain HTTP denies everything.
    """
    return PermissionResult.NEUTRAL


@_replaces(distributed_iteration_component.DistributedIterationComponent)
def _map_run(_original: Any, self: Any, env: Environment, eval_input: Any) -> None:
    """Fail a Distributed Map when more iterations fail than it tolerates.

    A failed iteration becomes null and the Map succeeds, whatever ToleratedFailureCount and -Percentage say.
    """
    items = env.stack.pop()
    record = eval_input.map_run_record
    record.num_items = len(items)
    jobs = _TolerantJobPool(self._get_iteration_program(), items, env=env, record=record)
    for _ in range(min(record.max_concurrency or MAX_MAP_THREADS, len(items))):
        self._launch_worker(env=env, eval_input=eval_input, job_pool=jobs)
    jobs.await_jobs()
    exception = jobs.get_worker_exception()
    if exception is not None:
        raise exception
    closed = jobs.get_closed_jobs()
    if self.is_gathered:
        # A failed iteration counts with its input, whatever it returned.
        given = ((items[job.job_index], job.job_output) for job in closed)
        size_bytes = sum(len(json.dumps(item if output is None else output)) for item, output in given)
        if size_bytes > MAX_STATE_BYTES:
            raise _data_limit_exceeded(env, size_bytes)
    env.stack.append([job.job_output for job in closed])


@_replaces(StateMap)
def from_state_props(read: Any, self: Any, state_props: Any) -> None:
    """Tell the iterations whether their results are gathered in the state or written to S3."""
    read(self, state_props)
    self.iteration_component.is_gathered = self.result_writer is None


@_replaces(ResultWriter, "_eval_body")
def _write_results(write: Any, self: ResultWriter, env: Environment) -> None:
    """Let a ResultWriter find bucket and prefix in the state's input.

    It looks in the results instead, and what it does not find fails a Map whose iterations have all succeeded.
    """
    env.stack[-1] = env.states.get_input()
    write(self, env)


@_replaces(CommonStateField, "_eval_body")
def _enter_state(evaluate: Any, self: CommonStateField, env: Environment) -> None:
    """Refuse what a state is given beyond the limit; only what it returns is looked at."""
    self._verify_size_quota(env=env, value=env.states.get_input())
    evaluate(self, env)


def _data_limit_exceeded(env: Environment, size_bytes: int) -> FailureEventException:
    cause = f"The state returned {size_bytes} bytes, more than the maximum of {MAX_STATE_BYTES}."
    return _failure(env, StatesErrorNameType.StatesStatesDataLimitExceeded, HistoryEventType.ExecutionFailed, cause)


@_replaces(ErrorEqualsDecl)
def _eval_body(matches: Any, self: Any, env: Environment) -> None:
    """Let States.ALL not match States.DataLimitExceeded, which ends an execution.

    https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
    """
    limit = StatesErrorName(typ=StatesErrorNameType.StatesStatesDataLimitExceeded)
    if env.stack[-1] == limit and limit not in self.error_names:
        env.stack[-1] = False
    else:
        matches(self, env)


class _TolerantJobPool(JobPool):  # type: ignore[misc]
    """The iterations of one Map Run, handed out until too many have failed."""

    def __init__(self, program: Any, items: list[Any], *, env: Environment, record: Any) -> None:
        super().__init__(job_program=program, job_inputs=items)
        self._env = env
        self._record = record

    def close_job(self, job: Job) -> None:
        """Count a finished iteration and stop the Map Run if it was one failure too many."""
        super().close_job(job)
        num_failed = self._record.item_counter.failed.get() + self._record.item_counter.timed_out.get()
        if _exceeds(num_failed, self._jobs_number, self._record):
            with self._mutex:
                failure: Exception | None = self._worker_exception  # type: ignore[has-type]
                self._worker_exception = failure or _threshold_exceeded(self._env)
                self._notify_on_termination()


def _exceeds(num_failed: int, num_items: int, record: Any) -> bool:
    """Return whether the Map Run fails. A limit that is absent reads as 0 and counts only if both are."""
    count, percentage = record.tolerated_failure_count, record.tolerated_failure_percentage
    if not count and not percentage:
        return num_failed > 0
    return bool((count and num_failed > count) or (percentage and 100 * num_failed > percentage * num_items))


def _threshold_exceeded(env: Environment) -> FailureEventException:
    error = StatesErrorNameType.StatesExceedToleratedFailureThreshold
    return _failure(env, error, HistoryEventType.MapRunFailed, "The specified tolerated failure threshold was exceeded")


def _failure(env: Environment, error: Any, event_type: HistoryEventType, cause: str) -> FailureEventException:
    details: Any = {"executionFailedEventDetails": {"error": error.to_name(), "cause": cause}}
    event = FailureEvent(env=env, error_name=StatesErrorName(typ=error), event_type=event_type, event_details=details)
    return FailureEventException(event)


@_replaces(DistributedItemProcessorWorker)
def _eval_pool(_original: Any, self: Any, job: Job | None, worker_frame: Environment) -> None:
    """Run any number of iterations per thread.

    Each iteration calls the next one, so that the thousandth of a thread meets Python's recursion limit.
    """
    while job is not None:
        _wait_for_turn()
        frame = worker_frame.open_inner_frame()
        self._eval_job(env=frame, job=job)
        worker_frame.delete_frame(frame)
        is_last = isinstance(job.job_output, Exception) or self.stopped()
        finished, job = job, None if is_last else self._job_pool.next_job()
        self._job_pool.close_job(finished)


@_replaces(map_run_record.MapRunRecord)
def describe(described: Any, self: Any) -> Any:
    """Say in DescribeMapRun how many items there are and how many wait.

    ``total`` counts the iterations begun, ``pending`` is always 0 and failed child executions count as running.
    """
    answer = described(self)
    counts = answer["itemCounts"]
    ended = sum(counts[key] for key in ("succeeded", "failed", "timedOut", "aborted"))
    counts["total"] = getattr(self, "num_items", 0)
    counts["pending"] = max(0, counts["total"] - ended - counts["running"])
    # One child execution per item.
    answer["executionCounts"] = counts
    return answer


@_replaces(common_state)
def StateData(state_data: Any, EnteredTime: str, Name: str) -> Any:  # noqa: N802, N803 -- moto's names
    """Give EnteredTime as AWS writes it, 2026-01-31T12:00:00.123Z, instead of with microseconds and an offset."""
    return state_data(EnteredTime=_aws_time(datetime.fromisoformat(EnteredTime)), Name=Name)


@_replaces(Execution)
def get_start_execution_details(start_details: Any, self: Any) -> Any:
    """Give StartTime as text: as it is, it is not a JSON value and fails the state that reads it."""
    details = start_details(self)
    details.start_time = _aws_time(details.start_time)
    return details


def _aws_time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@_replaces(ExecutionWorker)
def _get_evaluation_environment(create: Any, self: ExecutionWorker) -> Any:
    """Let ListMapRuns, DescribeMapRun and StopExecution be called right after StartExecution.

    They read what the execution's thread creates some milliseconds later, after parsing the definition.
    """
    self.env = self.env or create(self)
    return self.env


@_replaces(ExecutionWorker)
def start(begin: Any, self: ExecutionWorker) -> None:
    """Create that before the thread starts."""
    self._get_evaluation_environment()
    begin(self)


@_replaces(StateTaskServiceAwsSdk)
def _normalise_parameters(_original: Any, self: Any, parameters: dict[str, Any], *_: Any, **__: Any) -> None:
    """Let an SDK integration take an object where the service takes bytes: Step Functions sends it as JSON.

    moto hands the object to boto3, which refuses it; RecordFailure could not write its note.
    """
    client = boto_client.boto_client_for(region="us-east-1", service=self._get_boto_service_name())
    operation = client.meta.method_to_api_mapping[self._get_boto_service_action()]
    for name, shape in client.meta.service_model.operation_model(operation).input_shape.members.items():
        if shape.type_name == "blob" and not isinstance(parameters.get(name, b""), bytes):
            parameters[name] = json.dumps(parameters[name], separators=(",", ":"), ensure_ascii=False).encode()


@_replaces(LambdaFunction)
def update_configuration(update: Any, self: LambdaFunction, config_updates: dict[str, Any]) -> Any:
    """Let UpdateFunctionConfiguration change the command, the ephemeral storage and the logging; all are ignored."""
    if config_updates.get("ImageConfig"):
        self.image_config = ImageConfig(config_updates["ImageConfig"])
    if config_updates.get("EphemeralStorage"):
        self.ephemeral_storage = config_updates["EphemeralStorage"]["Size"]
    if config_updates.get("LoggingConfig"):
        vars(self)["logging_config"] = config_updates["LoggingConfig"]
    return update(self, config_updates)


@_replaces(LambdaFunction)
def __init__(init: Any, self: LambdaFunction, *, spec: dict[str, Any], **others: Any) -> None:  # noqa: N807 -- a method
    """Keep a function's LoggingConfig, which is forgotten."""
    init(self, spec=spec, **others)
    vars(self)["logging_config"] = spec.get("LoggingConfig")


@_replaces(LambdaFunction)
def get_configuration(get: Any, self: LambdaFunction, **asked: Any) -> dict[str, Any]:
    """Return it: every plan of Terraform would add it again."""
    logging_config = vars(self).get("logging_config")
    found = {"LoggingConfig": logging_config} if logging_config else {}
    return {**get(self, **asked), **found}


@_replaces(LambdaStorage)
def publish_version(publish: Any, self: LambdaStorage, name_or_arn: str, *description: str) -> Any:
    """Give a new version of a function a number of its own, whatever was deleted.

    The number is that of the versions left plus one, which another may have; and when the newest was deleted, an older
    one with other settings is returned as if it were what is published.
    """
    function = self.get_function_by_name_or_arn_forbid_qualifier(name_or_arn)
    versions = self._functions[function.function_name]["versions"]
    num_published = vars(function).get("num_published", 0)
    if not versions or versions[-1].version != num_published:
        function.code_or_config_updated = True
    num_before = len(versions)
    version = publish(self, name_or_arn, *description)
    if len(versions) > num_before:
        vars(function)["num_published"] = num_published + 1
        function.code_or_config_updated = False
        version.set_version(num_published + 1)
        self._arns[version.function_arn] = version
    return version


# Calls that moto lacks: two of Terraform's provider, which retries them for minutes, and one of `make doctor`.


@_adds(StepFunctionResponse)
def validate_state_machine_definition(self: Any) -> ActionResult:
    """Answer ValidateStateMachineDefinition."""
    try:
        AmazonStateLanguageParser.parse(self._get_param("definition"))
    except (ASLParserException, ValueError) as error:
        problem = {"severity": "ERROR", "code": "SCHEMA_VALIDATION_FAILED", "message": str(error)}
        return ActionResult({"result": "FAIL", "diagnostics": [problem], "truncated": False})
    return ActionResult({"result": "OK", "diagnostics": [], "truncated": False})


@_adds(StepFunctionResponse)
def list_state_machine_versions(self: Any) -> ActionResult:
    """Answer ListStateMachineVersions, the newest first."""
    state_machine = self.stepfunction_backend.describe_state_machine(self._get_param("stateMachineArn"))
    newest_first = reversed(list(state_machine.versions.values()))
    versions = [{"stateMachineVersionArn": v.arn, "creationDate": v.creation_date} for v in newest_first]
    return ActionResult({"stateMachineVersions": versions})


@_adds(IamResponse)
def simulate_principal_policy(self: Any) -> ActionResult:
    """Answer SimulatePrincipalPolicy: whoever holds the key of this server may do everything here."""
    allowed = [{"EvalActionName": name, "EvalDecision": "allowed"} for name in self._get_param("ActionNames", [])]
    return ActionResult({"EvaluationResults": allowed, "IsTruncated": False})


# ------------------------------------------------------------------------------------ slow, with the same answers


def invoke_lambda_directly(invoke: Callable[..., dict[str, Any]]) -> None:
    """Run the Lambda tasks of a state machine by a call; boto3 and HTTP to ourselves cost more than the invocation."""
    _put(lambda_eval_utils, "_invoke_lambda_function", invoke)


def _wait_for_turn() -> None:
    """Start the next iteration of a Map at once; see `start_ranks_in_turn`."""


def start_ranks_in_turn(wait: Callable[[], None]) -> None:
    """Let every iteration of a Map begin when `wait` returns."""
    global _wait_for_turn
    _wait_for_turn = wait


def shorten_lists(num_keys: int) -> None:
    """Let no page of a list of objects have more keys than these."""
    cut = S3Backend._truncate_result

    def _truncate_result(self: S3Backend, keys: Any, max_keys: int) -> Any:
        return cut(self, keys, min(max_keys, num_keys))

    _put(S3Backend, "_truncate_result", _truncate_result)


class _ClientCache:
    """Stands in for boto3 inside the interpreter: a client per service; one per task takes longer than the task."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    def client(self, *, service_name: str, region_name: str, endpoint_url: str, config: Config, **_: str) -> Any:
        """Return the client of a service and region, with the server's key from the environment, not moto's."""
        with self._lock:
            if (service_name, region_name) not in self._clients:
                self._clients[service_name, region_name] = boto3.client(
                    service_name,
                    region_name=region_name,
                    # By address, boto3 puts the bucket into the path; bucket.localhost is not found everywhere.
                    endpoint_url=endpoint_url.replace("localhost", "127.0.0.1"),
                    config=config.merge(Config(max_pool_connections=MAX_MAP_THREADS)),
                )
            return self._clients[service_name, region_name]


class _JsonCopier:
    """Stands in for `copy` where what is copied is mostly JSON."""

    def deepcopy(self, value: Any) -> Any:
        """Return a copy that shares nothing with the value that can change."""
        kind = type(value)
        if kind is dict:
            return {name: self.deepcopy(part) for name, part in value.items()}
        if kind is list:
            return [self.deepcopy(part) for part in value]
        return value if kind in (str, int, float, bool, NoneType) else copy.deepcopy(value)


@_corrections.append
def _copy_json_fast() -> None:
    """Copy JSON by a function for it: copying a rank's input and state 30 times took a quarter of its time."""
    copier = _JsonCopier()
    for module in (environment, states, state_map, execute_state, string_expression, state_task_service, result_path):
        _put(module, "copy", copier)


@_corrections.append
def _reuse() -> None:
    """Make once what moto makes at every evaluation, request or start.

    A parsed JSONPath: an empty rank takes 4.5 ms instead of 8.6. The list of moto's own folder: two fifths of the time
    of a small GET. What botocore knows of all services: each of six readers looked for it in 400 folders. The tree of a
    state machine's definition, which is parsed to be checked and again at every start: 0.07 s of 0.09.

    The descriptions are read and found as by our own clients: a deployment takes a quarter less.
    """
    _put(boto_client, "boto3", _ClientCache())
    for module in (json_path, result_path):
        _put(module, "parse", functools.lru_cache(maxsize=4096)(module.parse))
    modules = frozenset(backends.list_of_moto_modules())
    _put(backends, "list_of_moto_modules", lambda: modules)
    _put(Loader, "FILE_LOADER_CLASS", DescriptionReader)
    _put(Loader, "list_available_services", DescriptionFinder.list_available_services)
    for module in (botocore.loaders, core_utils):  # moto's finds more than botocore's
        _put(module, "create_loader", functools.cache(module.create_loader))
    _keep_trees(AmazonStateLanguageParser.parse)


def _keep_trees(parse: Callable[[str], tuple[Any, Any]]) -> None:
    tree = functools.lru_cache(maxsize=8)(lambda definition: parse(definition)[1])

    def program_and_tree(definition: str) -> tuple[Any, Any]:
        # An execution changes its program, not the tree.
        return Preprocessor().visit(tree(definition)), tree(definition)

    _put(AmazonStateLanguageParser, "parse", program_and_tree)
